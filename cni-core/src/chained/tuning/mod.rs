//! Kernel parameters and settings of the container's interface, as the reference's `tuning` plugin sets them.
//!
//! What is changed is written down before, so that DEL can put it back: an interface may outlive its attachment (a device of
//! the host that goes home), and so may a namespace. The file is the reference's, in its place and its format, with two more
//! members: whose it is, and the kernel parameters. DELs of either read ADDs of the other.
//!
//! ```text
//! /run/cni/tuning/CONTAINER_INTERFACE.json
//! {"mac": "02:00:00:00:00:01", "mtu": 1500,
//!  "mark": "cni:n/c1/eth0", "sysctl": {"net/core/somaxconn": {"was": "4096", "set": "512"}}}
//! ```
//!
//! A kernel parameter is put back only where it is still what ADD has set: another attachment of the same container, or the
//! container itself, may have set it since.

mod allow_list;
mod backend;
mod backup;
mod config;
mod desired;
mod parameter;

pub use allow_list::{ALLOW_LIST, AllowList};
pub use backend::TuningPlugin;
pub use backup::{Backup, DATA_DIR, Restored};
pub use config::{Parameter, TuningConfig};
pub use desired::{desired, restoration};
