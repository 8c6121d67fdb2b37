//! firewalld, on the system's message bus.

pub(crate) mod bus;
