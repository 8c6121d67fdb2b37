//! `node-agent`: see the library.
fn main() {}
