//! What the facilities over rtnetlink share: the socket, and reading attributes.

mod socket;
pub(in crate::host) mod wire;

pub(in crate::host) use socket::{Connection, Failure};
