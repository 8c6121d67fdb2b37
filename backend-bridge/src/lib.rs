//! Pods on a Linux bridge.

mod config;

pub use config::{BridgeConfig, VlanRange};
