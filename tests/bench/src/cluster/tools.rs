//! The usual work with the usual tools: `ip -batch` and `bridge -batch`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::peers::{CLASSIC, FLOW, VNI, mac, prefix, underlay, vtep};
use super::site::DataPath;

/// Programs and the files of commands that they read.
pub(super) struct Tools(Vec<(&'static str, PathBuf)>);

impl Tools {
    /// Writes the files: routes with gateways, as Flannel makes them, with neighbours and forwarding entries where the data path
    /// is the classic one; routes with outer headers where it is the flow.
    pub(super) fn new(path: DataPath, peers: u32) -> Self {
        let mut routes = String::new();
        let mut entries = String::new();
        for peer in 1..=peers {
            let to = prefix(peer);
            let (vtep, remote) = (vtep(peer), underlay(peer));
            let mac = mac(peer).map(|byte| format!("{byte:02x}")).join(":");
            let _ = match path {
                DataPath::Classic => {
                    let _ = writeln!(
                        entries,
                        "fdb add {mac} dev {CLASSIC} dst {remote} self permanent"
                    );
                    writeln!(
                        routes,
                        "neigh add {vtep} lladdr {mac} dev {CLASSIC} nud permanent\n\
                         route add {to}/24 via {vtep} dev {CLASSIC} onlink"
                    )
                }
                DataPath::Flow => writeln!(
                    routes,
                    "route add {to}/24 encap ip id {VNI} dst {remote} dev {FLOW}"
                ),
                DataPath::HostGw => writeln!(routes, "route add {to}/24 via {remote} dev eth0"),
            };
        }
        let mut all = vec![("ip", routes)];
        if !entries.is_empty() {
            all.push(("bridge", entries));
        }
        let files = all.into_iter().map(|(program, commands)| {
            let file = PathBuf::from(format!("/run/{program}-{}-{peers}", path.name()));
            fs::write(&file, commands).expect("/run is this process's own");
            (program, file)
        });
        Self(files.collect())
    }

    /// Runs the programs in the thread's namespace.
    pub(super) fn run(&self) {
        for (program, file) in &self.0 {
            let output = Command::new(program).arg("-batch").arg(file).output();
            let output = output.expect("iproute2 is installed");
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}: {error}");
        }
    }
}
