//! The planner and the engine against a small model of the kernel, over random clusters.

mod base;
mod cluster;
mod concerns;
mod death;
mod engine;
mod facts;
mod kernel;
mod left;
mod locked;
mod observer;
mod planner;
mod scale;
mod tiny;
