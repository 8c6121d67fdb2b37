//! What the facilities over rtnetlink share: the socket, writing messages, reading attributes.

mod message;
mod socket;
pub(in crate::host) mod wire;

pub(in crate::host) use message::{Batch, Writer, Written};
pub(in crate::host) use socket::{Connection, Failure};
