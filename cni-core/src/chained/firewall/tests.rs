//! On the fake kernel.
