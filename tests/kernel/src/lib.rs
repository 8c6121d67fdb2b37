//! The plugin binaries on the real kernel, run as a runtime runs them. All of it is in `tests/`.
