//! The network between nodes, on the real kernel. All of it is in `tests/`.
