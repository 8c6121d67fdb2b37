//! Our plugins, the reference ones and the kernel's own time for the same objects, interleaved in one run.
//!
//! ```sh
//! cargo run --release -p cni-bench                 # everything, some minutes
//! cargo run --release -p cni-bench -- verbs --runs 200
//! ```
//!
//! Every plugin run is a whole process, from spawn to exit, as a runtime sees it; a pause of 40 ms before each lets the
//! kernel clean up after the one before. All of it happens in namespaces of this
//! process's own. Ours are built statically linked where the C library's archive is there, as they are meant to be shipped;
//! `--dynamic` measures the default build, and `CNI_TEST_BIN_DIR` names a directory of plugins to be measured instead.

use std::process::ExitCode;

mod chain;
mod cluster;
mod contestants;
mod etcd;
mod floor;
mod follow;
mod gc;
mod heal;
mod kube;
mod measure;
mod node;
mod parallel;
mod ports;
mod requests;
mod store;
mod throughput;
mod verbs;
mod wire;

use contestants::Contestants;

const HELP: &str = "\
Usage: bench [SECTION ...] [--runs N] [--dynamic]

Sections (default: all):
  size        size of the binaries
  verbs       VERSION, ADD, CHECK and DEL one at a time: time, CPU, memory, processes, netlink messages
  requests    single requests to the kernel
  parallel    32 ADDs at once, then 32 DELs
  chain       bridge, portmap, firewall and bandwidth as one chain: one at a time, and 30 at once
  ports       portmap with no port and with 10,000 published: one more, and a new connection
  store       host-local with 0 and with 65,000 reservations
  gc          GC of 2,000 stale among 4,000 attachments
  cluster     a node with 1,000, 10,000 and 40,000 peers: beside ip and bridge, and beside messages encoded before
  changes     among 10,000 peers: one that moves, and a thousand at once
  node        ADD on a node of a cluster of 10 and of 10,000 nodes, beside the bridge's
  etcd        1,000 nodes that claim a prefix at once, beside Flannel's algorithm, on a real etcd; 500, 1,000 and 5,000 nodes
              that follow it: memory, load, and how soon a change is everywhere
  kube        the same 500, 1,000 and 5,000 nodes on the test kit's server of the Kubernetes API
  heal        from damage to repair by the agent, for all that a node can suffer
  throughput  from pod to pod on another node, beside the same way made by hand
";

/// What the command line asks for.
struct Options {
    sections: Vec<String>,
    runs: usize,
    dynamic: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            sections: Vec::new(),
            runs: 100,
            dynamic: false,
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--runs" => {
                    let number = words.next().and_then(|text| text.parse().ok());
                    options.runs = number.filter(|number| *number > 0).ok_or(HELP)?;
                }
                "--dynamic" => options.dynamic = true,
                "size" | "requests" | "verbs" | "parallel" | "chain" | "ports" | "store" | "gc"
                | "node" | "cluster" | "changes" | "etcd" | "kube" | "heal" | "throughput" => {
                    options.sections.push(word)
                }
                _ => return Err(HELP.to_owned()),
            }
        }
        Ok(options)
    }

    fn wants(&self, section: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == section)
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.peek().is_some_and(|word| word == measure::PEAK) {
        return measure::peak_of_one_run(words.skip(1));
    }
    if words.peek().is_some_and(|word| word == cluster::HOLD) {
        return cluster::hold(words.skip(1));
    }
    match run(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: impl Iterator<Item = String>) -> Result<(), String> {
    let options = Options::parse(words)?;
    // Only what measures the plugins needs them built.
    let of_the_library = |section: &String| section == "cluster" || section == "changes";
    if options.sections.iter().all(of_the_library) && !options.sections.is_empty() {
        cni_testkit::enter(&[]).map_err(|error| error.to_string())?;
        run_clusters(&options);
        return Ok(());
    }
    let contestants = Contestants::find(options.dynamic)?;
    let keep: Vec<_> = contestants
        .all
        .iter()
        .map(|one| one.directory.as_path())
        .collect();
    cni_testkit::enter(&keep).map_err(|error| error.to_string())?;
    contestants.introduce();
    if options.wants("size") {
        contestants.sizes();
    }
    if options.wants("verbs") {
        verbs::run(&contestants, options.runs);
    }
    if options.wants("requests") {
        requests::run();
    }
    if options.wants("parallel") {
        parallel::run(&contestants);
    }
    if options.wants("chain") {
        chain::run(&contestants, options.runs);
    }
    if options.wants("ports") {
        ports::run(&contestants, options.runs);
    }
    if options.wants("store") {
        store::run(&contestants, options.runs.min(50));
    }
    if options.wants("gc") {
        gc::run(&contestants);
    }
    run_clusters(&options);
    if options.wants("node") {
        node::run(&contestants, options.runs);
    }
    if options.wants("etcd") {
        etcd::run(&contestants);
    }
    if let (true, Some(ours)) = (options.wants("kube"), contestants.all.first()) {
        kube::run(&ours.directory);
    }
    if options.wants("heal") {
        heal::run(&contestants, options.runs);
    }
    if options.wants("throughput") {
        throughput::run(&contestants, options.runs);
    }
    Ok(())
}

fn run_clusters(options: &Options) {
    if options.wants("cluster") {
        cluster::run(options.runs);
    }
    if options.wants("changes") {
        cluster::run_changes();
    }
}
