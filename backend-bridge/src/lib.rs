//! Pods on a Linux bridge.

mod config;
mod spoof;

pub use config::{BridgeConfig, VlanRange};
