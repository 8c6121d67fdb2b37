//! Chains of plugins, on the real kernel. All of it is in `tests/`.
