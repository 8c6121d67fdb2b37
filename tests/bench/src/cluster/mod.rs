//! A node with thousands of peers.

mod low;
mod messages;
mod peers;
mod scale;
mod site;
mod spent;
mod tools;

pub(crate) use scale::{HOLD, hold};

/// Runs the section.
pub(crate) fn run(runs: usize) {
    println!("\n== A node with thousands of peers");
    low::run(runs.min(11));
    scale::run(runs);
}

/// Runs the section of single changes and bursts.
pub(crate) fn run_changes() {
    scale::run_changes();
}

/// Runs a future to its end on this thread.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}
