//! A node in a box: what the plugins do, shown on the real kernel, with nothing left afterwards.
//!
//! Everything happens in network and mount namespaces of this process's own, and, for an ordinary user, in a user
//! namespace; the host's network is not touched.

use std::process::ExitCode;

mod args;
mod attached;
mod one;
mod plugins;
mod svg;
mod table;

use args::Args;

/// What can go wrong is told to a person, in a sentence.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let outcome = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => run(&args),
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
    // What needs the host's file system comes first: inside, /run and /var/lib are empty and paths may be covered.
    let binaries = plugins::directory(&one::PACKAGES, &one::PROGRAMS)?;
    let drawing = args.svg.as_ref().map(svg::File::create).transpose()?;
    cni_testkit::enter(&[&binaries]).map_err(|error| error.to_string())?;
    one::run(args.pods, binaries, drawing)
}

fn heading(text: &str) {
    println!("\n== {text}");
}
