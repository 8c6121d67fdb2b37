//! One at a time: VERSION, ADD, CHECK, DEL.

use std::path::Path;
use std::process::{Command, Stdio};

use cni_testkit::{Invocation, Pod};
use serde_json::{Value, json};

use crate::contestants::{Contestant, Contestants};
use crate::floor::Floor;
use crate::measure::{Counts, Series, counts, peak};

/// A configuration whose plugins are measured.
struct Lane<'a> {
    who: &'a Contestant,
    pod: Pod,
    config: Value,
    add: Series,
    check: Series,
    del: Series,
}

pub(crate) fn run(contestants: &Contestants, runs: usize) {
    version(contestants, runs);
    let floor = Floor::new();
    for masquerade in [false, true] {
        chain(contestants, &floor, runs, masquerade);
    }
}

/// The bridge plugin's configuration for one contestant: bridges, networks and address ranges of their own.
pub(crate) fn bridge_config(who: &str, number: usize, masquerade: bool, name: &str) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": format!("{name}-{who}"),
        "type": "bridge",
        "bridge": format!("br{number}{}", if masquerade { "m" } else { "" }),
        "isGateway": true,
        "ipMasq": masquerade,
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": format!("10.{}.0.0/16", 200 + number) }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
            "dataDir": format!("/run/bench/{name}-{who}-{masquerade}")
        }
    })
}

fn version(contestants: &Contestants, runs: usize) {
    println!("\n== VERSION, ms");
    println!("{:<24} {:>8} {:>8} {:>8}", "", "p50", "p99", "CPU");
    let mut series: Vec<Series> = contestants.all.iter().map(|_| Series::default()).collect();
    let mut empty = Series::default();
    for _ in 0..runs {
        empty.time(empty_process);
        for (one, series) in contestants.all.iter().zip(&mut series) {
            let invocation = Invocation::new(one.directory.join("bridge"), "VERSION");
            series.run(&invocation.config(&json!({ "cniVersion": "1.0.0" })));
        }
    }
    row("an empty process", &empty);
    for (one, series) in contestants.all.iter().zip(&series) {
        row(one.name, series);
    }
    compare("VERSION", &series, None);
}

/// `/bin/true`, started and waited for.
fn empty_process() {
    let mut command = Command::new("/bin/true");
    command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = command.output().expect("/bin/true runs");
    assert!(output.status.success());
}

fn row(name: &str, series: &Series) {
    println!(
        "{name:<24} {:>8.2} {:>8.2} {:>8.2}",
        series.percentile(50),
        series.percentile(99),
        series.cpu()
    );
}

/// Ours against the reference, and against the floor.
fn compare(what: &str, series: &[Series], floor: Option<f64>) {
    let [ours, reference @ ..] = series else {
        return;
    };
    if let Some(reference) = reference.first() {
        let ratio = ours.percentile(50) / reference.percentile(50);
        println!("{what}: ours / reference = {ratio:.3} at p50");
    }
    if let Some(floor) = floor {
        println!(
            "{what}: ours / (kernel floor + an empty process) = {:.2}",
            ours.percentile(50) / floor
        );
    }
}

fn chain(contestants: &Contestants, floor: &Floor, runs: usize, masquerade: bool) {
    let title = if masquerade {
        "bridge + host-local, ipMasq"
    } else {
        "bridge + host-local"
    };
    println!("\n== {title}, ms");
    let mut lanes: Vec<Lane> = contestants
        .all
        .iter()
        .enumerate()
        .map(|(number, who)| Lane {
            who,
            pod: Pod::new(who.name),
            config: bridge_config(who.name, number, masquerade, "verbs"),
            add: Series::default(),
            check: Series::default(),
            del: Series::default(),
        })
        .collect();
    let (mut floor_add, mut floor_del, mut empty) =
        (Series::default(), Series::default(), Series::default());
    // The first of each makes the bridge; it does not count.
    for lane in &mut lanes {
        lane.warm_up();
    }
    for _ in 0..runs {
        empty.time(empty_process);
        floor_add.time(|| floor.add());
        floor_del.time(|| floor.del());
        for lane in &mut lanes {
            lane.round();
        }
    }
    println!(
        "{:<24} {:>8} {:>8} {:>8} {:>10} {:>10} {:>8}",
        "", "p50", "p99", "CPU", "peak KiB", "processes", "netlink"
    );
    row("an empty process", &empty);
    row("ADD   kernel floor", &floor_add);
    for lane in &lanes {
        lane.print("ADD", &lane.add, masquerade);
    }
    for lane in &lanes {
        row(&format!("CHECK {}", lane.who.name), &lane.check);
    }
    row("DEL   kernel floor", &floor_del);
    for lane in &lanes {
        lane.print("DEL", &lane.del, masquerade);
    }
    let of = |pick: for<'a> fn(&'a Lane<'_>) -> &'a Series| -> Vec<Series> {
        lanes.iter().map(|lane| pick(lane).clone()).collect()
    };
    let bottom = empty.percentile(50) + floor_add.percentile(50);
    compare(
        "ADD",
        &of(|lane| &lane.add),
        (!masquerade).then_some(bottom),
    );
    compare("CHECK", &of(|lane| &lane.check), None);
    compare("DEL", &of(|lane| &lane.del), None);
}

impl Lane<'_> {
    fn program(&self) -> std::path::PathBuf {
        self.who.directory.join("bridge")
    }

    fn invocation(&self, verb: &str) -> Invocation {
        Invocation::attachment(self.program(), verb, &self.pod).config(&self.config)
    }

    fn warm_up(&mut self) {
        self.round();
        (self.add, self.check, self.del) = Default::default();
    }

    fn round(&mut self) {
        let add = self.invocation("ADD");
        let result = self.add.run(&add).result();
        let mut config = self.config.clone();
        config["prevResult"] = result;
        let check = Invocation::attachment(self.program(), "CHECK", &self.pod).config(&config);
        self.check.run(&check);
        let del = Invocation::attachment(self.program(), "DEL", &self.pod).config(&config);
        self.del.run(&del);
    }

    /// One more pair of runs, for memory, and one under strace, for counts.
    fn print(&self, verb: &str, series: &Series, _masquerade: bool) {
        let (memory, counts) = self.inspect(verb);
        let text = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        println!(
            "{:<24} {:>8.2} {:>8.2} {:>8.2} {:>10} {:>10} {:>8}",
            format!("{verb:<5} {}", self.who.name),
            series.percentile(50),
            series.percentile(99),
            series.cpu(),
            text(memory),
            text(counts.as_ref().map(|counts| counts.processes as u64)),
            text(counts.as_ref().map(|counts| counts.netlink as u64)),
        );
    }

    fn inspect(&self, verb: &str) -> (Option<u64>, Option<Counts>) {
        let program = self.program().display().to_string();
        let stdin = self.config.to_string();
        let environment =
            |verb: &str| environment(verb, self.pod.id(), self.pod.path(), &self.who.directory);
        let run = |verb: &str| drop(self.invocation(verb).run());
        if verb == "DEL" {
            run("ADD");
        }
        let memory = peak(&environment(verb), &program, &stdin);
        run("DEL");
        if verb == "DEL" {
            run("ADD");
        }
        let counts = counts(&environment(verb), &program, &stdin);
        run("DEL");
        (memory, counts)
    }
}

/// The environment of an attachment's verb.
fn environment(verb: &str, id: &str, netns: &Path, directory: &Path) -> Vec<(String, String)> {
    [
        ("CNI_COMMAND", verb.to_owned()),
        ("CNI_CONTAINERID", id.to_owned()),
        ("CNI_NETNS", netns.display().to_string()),
        ("CNI_IFNAME", "eth0".to_owned()),
        ("CNI_PATH", directory.display().to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
