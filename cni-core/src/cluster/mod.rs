//! Who the nodes of the cluster are.
//!
//! A [`PeerSource`] tells of them as a stream of events; a [`View`] is what is known by them: it decides on present and
//! value, never on the kind of event, keeps what it knows while the source is away, and settles which of two nodes a
//! prefix belongs to.

mod block;
pub mod file;
mod index;
mod node;
mod runs;
mod source;
mod view;

#[cfg(feature = "kernel")]
pub use file::FileSource;
pub use file::{ClusterFile, FileError};
pub use node::{Capability, Node, NodeUid};
pub use source::{PeerEvent, PeerSource};
pub use view::{Conflict, Identity, NodeChange, View};
