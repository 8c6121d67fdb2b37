//! The other side: running plugins.

pub mod exec;
