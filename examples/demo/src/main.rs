//! A node in a box: what the plugins do, shown on the real kernel, with nothing left afterwards.
//!
//! Everything happens in network and mount namespaces of this process's own, and, for an ordinary user, in a user
//! namespace; the host's network is not touched.

use std::process::ExitCode;

mod args;
mod node;
mod picture;
mod plugins;
mod pods;
mod reach;
mod svg;

use args::Args;
use node::Node;
use pods::Pods;

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
    let binaries = plugins::directory()?;
    let drawing = args.svg.as_ref().map(svg::File::create).transpose()?;
    cni_testkit::enter(&[&binaries]).map_err(|error| error.to_string())?;

    heading("A throwaway node");
    let node = Node::build()?;
    println!("{}", node.describe());
    let before = cni_testkit::Snapshot::take();

    let mut pods = Pods::new(binaries, args.pods)?;
    heading("What an attachment is: the plan of the first ADD (CNI_DRY_RUN=1)");
    println!("{}", pods.plan()?.trim_end());
    pods.untouched(&before)?;

    heading("Attaching");
    pods.attach()?;
    heading("Checking");
    pods.check()?;

    heading("Who reaches whom");
    let reach = reach::measure(&node, &pods)?;
    println!("{reach}");

    heading("What was built");
    println!("{}", picture::draw(&node, &pods));
    if let Some(file) = drawing {
        file.write(&svg::draw(&node, &pods, &reach))?;
    }

    heading("Detaching");
    pods.detach()?;
    pods.nothing_left(&before)?;
    println!("\nNothing is left.");
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}");
}
