//! The planner and the engine against a small model of the kernel, over random clusters.

mod cluster;
mod concerns;
mod engine;
mod kernel;
mod planner;
mod tiny;
