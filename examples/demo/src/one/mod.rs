//! One node: what an attachment is, from the plan to the last trace of it.

mod drawing;
mod node;
mod picture;
mod pods;
mod reach;

use std::path::PathBuf;

pub(crate) use node::Node;
use pods::Pods;

use crate::svg::File;
use crate::{Result, heading};

/// What it runs, and the packages that it comes from.
pub(crate) const PROGRAMS: [&str; 3] = ["bridge", "host-local", "loopback"];
pub(crate) const PACKAGES: [&str; 1] = ["cni-plugins"];

pub(crate) fn run(pods: usize, binaries: PathBuf, drawing: Option<File>) -> Result<()> {
    heading("A throwaway node");
    let node = Node::build()?;
    println!("{}", node.describe());
    let before = cni_testkit::Snapshot::take();

    let mut pods = Pods::new(binaries, pods)?;
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
        file.write(drawing::draw(&node, &pods, &reach))?;
    }

    heading("Detaching");
    pods.detach()?;
    pods.nothing_left(&before)?;
    println!("\nNothing is left.");
    Ok(())
}
