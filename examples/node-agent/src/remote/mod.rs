//! What the services have in common that are asked for the nodes of a cluster: connections, TLS, waits, and what this node
//! tells of itself.

pub mod backoff;
pub mod facts;
pub(crate) mod tls;
