//! What the plugin binaries of this package are made of where no other crate has it: the loopback backend.

mod loopback;

pub use loopback::Loopback;
