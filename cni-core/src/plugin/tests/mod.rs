//! Requests through [`dispatch`](super::dispatch), each with an environment and streams of its own.

mod answers;
mod attach;
mod kit;
mod refusals;
