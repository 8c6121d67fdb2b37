//! A node with a cable to the outside, and networks whose pods publish ports.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cni_core::host::Host;
use cni_core::host::firewall::{Element, Family, Table};
use cni_testkit::{
    Chain, Invocation, Outcome, Pod, Snapshot, TcpEcho, Turns, UdpEcho, workspace_plugin,
    workspace_plugin_dir,
};
use serde_json::{Value, json};

use crate::cable;
pub(crate) use crate::cable::{NODE4, NODE6, OTHER4, OUTSIDE4, OUTSIDE6, block, raise, wait_until};

/// A host outside that knows the node and no pod; the node sends to it what it knows no other way for.
pub(crate) fn outside() -> Pod {
    let outside = cable::lay();
    cable::route("0.0.0.0/0", OUTSIDE4, "uplink");
    outside
}

/// A bridge network with portmap behind the bridge.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) list: Value,
    ports: Value,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self::named("net", 9)
    }

    /// Subnets `10.NUMBER.0.0/24` and `fd00:NUMBER::/64`.
    pub(crate) fn named(name: &str, number: u8) -> Self {
        Self {
            list: json!({
                "cniVersion": "1.1.0",
                "name": name,
                "plugins": [
                    {
                        "type": "bridge",
                        "bridge": format!("br{number}"),
                        "isDefaultGateway": true,
                        "ipMasq": true,
                        "ipam": { "type": "host-local", "ranges": [
                            [{ "subnet": format!("10.{number}.0.0/24") }],
                            [{ "subnet": format!("fd00:{number}::/64") }],
                        ] },
                    },
                    { "type": "portmap", "capabilities": { "portMappings": true } },
                ],
            }),
            ports: json!([]),
        }
    }

    /// With keys of portmap.
    pub(crate) fn with(mut self, keys: Value) -> Self {
        for (key, value) in keys.as_object().expect("an object") {
            self.list["plugins"][1][key] = value.clone();
        }
        self
    }

    pub(crate) fn bridge_with(mut self, keys: Value) -> Self {
        for (key, value) in keys.as_object().expect("an object") {
            self.list["plugins"][0][key] = value.clone();
        }
        self
    }

    /// With these ports, such as `8080:80/tcp` or `192.0.2.1:8080:80/udp`.
    pub(crate) fn publishing(mut self, ports: &[&str]) -> Self {
        self.ports = ports.iter().map(|port| mapping(port)).collect();
        self
    }

    pub(crate) fn chain(&self) -> Chain {
        Chain::new(self.list.clone(), &[&workspace_plugin_dir() as &Path])
            .capabilities(json!({ "portMappings": self.ports }))
    }

    #[track_caller]
    pub(crate) fn add(&self, pod: &Pod) -> Value {
        self.add_as(pod, "eth0")
    }

    #[track_caller]
    pub(crate) fn add_as(&self, pod: &Pod, interface: &str) -> Value {
        match self.chain().add(pod, interface) {
            Ok(result) => result,
            Err(outcome) => panic!("{outcome}"),
        }
    }

    #[track_caller]
    pub(crate) fn del(&self, pod: &Pod) {
        if let Err(outcome) = self.chain().del(pod, "eth0", &Value::Null) {
            panic!("{outcome}");
        }
    }

    /// Portmap's configuration as the runtime hands it over, with this result.
    pub(crate) fn config(&self, result: &Value) -> Value {
        let mut config = self.list["plugins"][1].clone();
        config["cniVersion"] = self.list["cniVersion"].clone();
        config["name"] = self.list["name"].clone();
        config["runtimeConfig"] = json!({ "portMappings": self.ports });
        if !result.is_null() {
            config["prevResult"] = result.clone();
        }
        config
    }

    /// A run of portmap alone.
    pub(crate) fn portmap(&self, verb: &str, pod: &Pod, result: &Value) -> Invocation {
        Invocation::attachment(workspace_plugin("portmap"), verb, pod).config(&self.config(result))
    }

    /// The bridge's result alone.
    #[track_caller]
    pub(crate) fn attach(&self, pod: &Pod) -> Value {
        let mut bare = self.clone();
        bare.list["plugins"]
            .as_array_mut()
            .expect("a list")
            .truncate(1);
        bare.add(pod)
    }

    /// DEL of portmap with the names alone: no namespace, no result, no ports.
    pub(crate) fn bare_del(&self, pod: &Pod) -> Outcome {
        let mut config = self.config(&Value::Null);
        config
            .as_object_mut()
            .expect("an object")
            .remove("runtimeConfig");
        let run = Invocation::attachment(workspace_plugin("portmap"), "DEL", pod);
        run.without("CNI_NETNS").config(&config).run()
    }

    pub(crate) fn gc(&self, valid: &[&Pod]) -> Outcome {
        let mut config = self.config(&Value::Null);
        let valid = valid
            .iter()
            .map(|pod| json!({ "containerID": pod.id(), "ifname": "eth0" }));
        config["cni.dev/valid-attachments"] = valid.collect();
        Invocation::new(workspace_plugin("portmap"), "GC")
            .env("CNI_PATH", workspace_plugin_dir())
            .config(&config)
            .run()
    }
}

fn mapping(text: &str) -> Value {
    let (ports, protocol) = text.split_once('/').expect("a protocol");
    let mut parts = ports.rsplitn(3, ':');
    let port = |part: Option<&str>| part.expect("a port").parse::<u16>().expect("a port");
    let (container, host) = (port(parts.next()), port(parts.next()));
    json!({
        "hostPort": host,
        "containerPort": container,
        "protocol": protocol,
        "hostIP": parts.next().unwrap_or_default().trim_matches(['[', ']']),
    })
}

/// The addresses of a result: IPv4's, IPv6's.
pub(crate) fn ips(result: &Value) -> (String, String) {
    let ip = |index: usize| {
        let text = result["ips"][index]["address"]
            .as_str()
            .expect("an address");
        text.split('/').next().unwrap_or_default().to_owned()
    };
    (ip(0), ip(1))
}

/// Asks the TCP server at `target` from a pod: whom it sees.
pub(crate) fn tcp(from: &Pod, target: &str) -> io::Result<String> {
    from.run(|| TcpEcho::ask(target)).map(address)
}

/// Asks the UDP server at `target` from a pod: whom it sees.
pub(crate) fn udp(from: &Pod, target: &str) -> io::Result<String> {
    from.run(|| UdpEcho::ask(target)).map(address)
}

pub(crate) fn address(socket: SocketAddr) -> String {
    socket.ip().to_canonical().to_string()
}

#[track_caller]
pub(crate) fn sees(outcome: io::Result<String>, whom: &str) {
    match outcome {
        Ok(seen) => assert_eq!(seen, whom),
        Err(error) => panic!("no answer: {error}"),
    }
}

/// A UDP server that answers everything with its name, until it is dropped.
pub(crate) struct Named {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Named {
    pub(crate) fn here(address: &str, name: &'static str) -> Self {
        let socket = UdpSocket::bind(address).expect("a free address");
        let patience = Some(Duration::from_millis(20));
        socket.set_read_timeout(patience).expect("a timeout");
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 16];
            while !seen.load(Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(name.as_bytes(), from);
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One socket that asks again and again: one flow.
pub(crate) struct Client(UdpSocket);

impl Client {
    pub(crate) fn of(pod: &Pod, target: &str) -> Self {
        pod.run(|| Self::here(target))
    }

    pub(crate) fn here(target: &str) -> Self {
        let target: SocketAddr = target.parse().expect("an address");
        let any = if target.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(any).expect("a free port");
        socket.connect(target).expect("a route");
        Self(socket)
    }

    /// Who answers the next question.
    pub(crate) fn ask(&self) -> io::Result<String> {
        self.0.send(b"?")?;
        let mut buffer = [0; 16];
        for turn in Turns::of(Duration::from_millis(900)) {
            self.0.set_read_timeout(Some(turn))?;
            match self.0.recv(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                length => return Ok(String::from_utf8_lossy(&buffer[..length?]).into_owned()),
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().expect("an address").port()
    }
}

pub(crate) fn table() -> Table {
    Table {
        family: Family::Inet,
        name: "cni_portmap".to_owned(),
    }
}

/// How many rules the table has; 0 where there is none.
pub(crate) fn rules() -> usize {
    let host = Host::open().expect("the kernel");
    let state = block(host.firewall.table(&table())).expect("a look at the table");
    state.map_or(0, |state| {
        state.chains.iter().map(|chain| chain.rules.len()).sum()
    })
}

pub(crate) fn elements(set: &str) -> Vec<Element> {
    let host = Host::open().expect("the kernel");
    block(host.firewall.elements(&table(), set)).expect("a look at a set")
}

/// The state of the host's namespace. A link's own link-local address gets its routes two seconds after the link is up.
pub(crate) fn snapshot() -> Snapshot {
    Snapshot::take().without("dst fe80::")
}
