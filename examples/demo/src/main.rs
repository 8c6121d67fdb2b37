//! A node, or a cluster, in a box: what the plugins do, shown on the real kernel, with nothing left afterwards.
//!
//! Everything happens in network and mount namespaces of this process's own, and, for an ordinary user, in a user
//! namespace; the host's network is not touched.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

mod args;
mod attached;
mod chain;
mod cluster;
mod one;
mod plugins;
mod svg;
mod table;

use args::{Args, Scene};

/// What can go wrong is told to a person, in a sentence.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let outcome = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => sentence(|| run(&args)),
        Ok(None) => {
            println!("{}", args::HELP);
            Ok(())
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let Scene::Cluster(args) = &args.scene {
        cluster::possible(args)?;
    }
    // What needs the host's file system comes first: inside, /run and /var/lib are empty and paths may be covered.
    let binaries = match &args.scene {
        Scene::Node(_) => plugins::directory(&one::PACKAGES, &one::PROGRAMS)?,
        Scene::Chain => plugins::directory(&chain::PACKAGES, &chain::PROGRAMS)?,
        Scene::Cluster(args) => plugins::directory(&cluster::PACKAGES, &cluster::programs(args))?,
    };
    let drawing = args.svg.as_ref().map(svg::File::create).transpose()?;
    cni_testkit::enter(&[&binaries]).map_err(|error| error.to_string())?;
    match &args.scene {
        Scene::Node(pods) => one::run(*pods, binaries, drawing),
        Scene::Chain => chain::run(binaries),
        Scene::Cluster(args) => cluster::run(args, &binaries, drawing),
    }
}

/// The test kit, which builds the world around the nodes, panics where the kernel refuses; here that is an error as any
/// other, and what runs beside is ended on the way.
fn sentence(run: impl FnOnce() -> Result<()>) -> Result<()> {
    panic::set_hook(Box::new(|_| {}));
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(text.unwrap_or("it went wrong without a word").to_owned())
    })
}

fn heading(text: &str) {
    println!("\n== {text}");
}
