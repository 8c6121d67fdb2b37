//! The agent's client of etcd by itself, against a real one.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;

use async_trait::async_trait;
use cni_core::cluster::{Node, NodeUid, PeerEvent, PeerSource};
use cni_core::testing::conformance::{PeerStore, peer_source};
use cni_testkit::etcd::Etcd;
use cni_testkit::{Pod, Test, tests};
use node_agent::etcd::layout::Tunnel;
use node_agent::etcd::member::Member;
use node_agent::etcd::{EtcdConfig, EtcdSource};
use node_agent::remote::facts::{Facts, Knows};
use node_agent::tenure::{Standing, Tenure};
use serde_json::json;

pub(crate) const TESTS: &[Test] = &tests![
    it_keeps_what_a_source_of_nodes_promises,
    nodes_that_claim_at_once_get_all_prefixes_and_none_twice,
    the_next_server_is_asked_where_one_does_not_answer,
    a_server_that_answers_nonsense_is_not_believed,
];

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn config(endpoints: &[String], networks: serde_json::Value) -> EtcdConfig {
    let section = json!({ "endpoints": endpoints, "podNetworks": networks });
    EtcdConfig::parse(&section.to_string(), "net").expect("a configuration")
}

/// Runs something of tokio's in a pod.
fn in_pod<T: Send>(pod: &Pod, body: impl AsyncFnOnce() -> T + Send) -> T {
    pod.run(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().expect("a runtime");
        runtime.block_on(body())
    })
}

/// An etcd whose keys a test writes.
struct Store<'a> {
    etcd: Etcd<'a>,
    config: EtcdConfig,
    /// What it is to hold when it is there again.
    then: Option<Vec<Node>>,
}

impl Store<'_> {
    fn write(&self, nodes: &[Node]) {
        let mut wanted = Vec::new();
        for node in nodes {
            for prefix in &node.prefixes {
                let key = format!("/cni/net/claims/{}", prefix.to_string().replace('/', "-"));
                wanted.push((
                    key,
                    json!({ "uid": node.uid.as_str(), "name": *node.name }).to_string(),
                ));
            }
        }
        for node in nodes {
            let texts = |all: Vec<String>| all;
            let entry = json!({
                "name": *node.name, "uid": node.uid.as_str(),
                "podPrefixes": texts(node.prefixes.iter().map(ToString::to_string).collect()),
                "addresses": texts(node.underlay.iter().map(ToString::to_string).collect()),
            });
            wanted.push((format!("/cni/net/nodes/{}", node.uid), entry.to_string()));
        }
        let held = self.etcd.keys("/cni/net/");
        for (key, value) in &wanted {
            if held
                .iter()
                .all(|kept| kept.key != *key || kept.value != *value)
            {
                self.etcd.put(key, value, 0);
            }
        }
        for kept in held.iter().rev() {
            if wanted.iter().all(|(key, _)| *key != kept.key) {
                self.etcd.delete(&kept.key);
            }
        }
    }
}

#[async_trait]
impl PeerStore for Store<'_> {
    async fn source(&mut self) -> Box<dyn PeerSource> {
        Box::new(EtcdSource::observer(&self.config, Tunnel::Vxlan(1)))
    }

    async fn hold(&mut self, nodes: &[Node]) {
        match self.etcd.is_dead() {
            true => self.then = Some(nodes.to_vec()),
            false => self.write(nodes),
        }
    }

    async fn spoil(&mut self) -> bool {
        self.etcd.put("/cni/net/nodes/node-2", "{", 0);
        true
    }

    async fn go_away(&mut self) -> bool {
        self.etcd.kill();
        true
    }

    async fn come_back(&mut self) {
        self.etcd.restart();
        if let Some(nodes) = self.then.take() {
            self.write(&nodes);
        }
    }
}

fn it_keeps_what_a_source_of_nodes_promises() {
    let pod = Pod::new("etcd");
    let etcd = Etcd::start(&pod, LOOPBACK);
    let networks = json!([{ "prefix": "10.244.0.0/16" }, { "prefix": "fd00:244::/32" }]);
    let config = config(&[etcd.url()], networks);
    let mut store = Store {
        etcd,
        config,
        then: None,
    };
    in_pod(&pod, async || peer_source(&mut store).await);
}

/// A node with an address of its own.
#[derive(Debug)]
struct Somewhere(u8);

#[async_trait]
impl Knows for Somewhere {
    async fn facts(&self, _local: Option<IpAddr>) -> Result<Facts, String> {
        Ok(Facts {
            addresses: vec![IpAddr::from([192, 0, 2, self.0])],
            ..Facts::default()
        })
    }
}

fn member(config: &EtcdConfig, number: u8) -> (EtcdSource, Tenure) {
    let name = format!("node-{number}");
    let member = Member::new(config.clone(), NodeUid::new(&name), name, Vec::new()).with_vtep();
    let tenure = Tenure::new("not yet");
    let source = EtcdSource::member(
        config,
        Tunnel::Vxlan(1),
        member,
        Arc::new(Somewhere(number)),
        tenure.clone(),
    );
    (source, tenure)
}

fn nodes_that_claim_at_once_get_all_prefixes_and_none_twice() {
    let pod = Pod::new("etcd");
    let etcd = Etcd::start(&pod, LOOPBACK);
    // As many prefixes as nodes, so that they meet again and again.
    let networks = json!([{ "prefix": "10.9.0.0/19" }, { "prefix": "fd00:9::/59" }]);
    let config = config(&[etcd.url()], networks);
    let all = in_pod(&pod, async || {
        let mut members: Vec<_> = (1..=32).map(|number| member(&config, number)).collect();
        let mut all = Vec::new();
        for (source, tenure) in &mut members {
            loop {
                let _event = source.next().await;
                if let Standing::Holds(prefixes) = tenure.standing() {
                    all.extend(prefixes);
                    break;
                }
            }
        }
        all
    });
    assert_eq!(all.len(), 64);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 64, "{all:?}");
    assert_eq!(etcd.keys("/cni/net/").len(), 96);
}

/// A server that answers every request so, and goes on with the next.
fn serve(pod: &Pod, answer: &'static str) -> String {
    let listener = pod.run(|| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else {
                return;
            };
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|length| length > 0) {
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

fn a_server_that_answers_nonsense_is_not_believed() {
    let pod = Pod::new("etcd");
    let etcd = Etcd::start(&pod, LOOPBACK);
    let networks = json!([{ "prefix": "10.244.0.0/16" }]);
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"result\":{}}",
        "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>",
        "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n{",
    ] {
        let bad = serve(&pod, answer);
        // By itself it is away, and tells of no node and of no lack of nodes.
        let config = config(std::slice::from_ref(&bad), networks.clone());
        let event = in_pod(&pod, async || {
            EtcdSource::observer(&config, Tunnel::Vxlan(1)).next().await
        });
        assert!(
            matches!(event, PeerEvent::Disconnected(_)),
            "{answer}: {event:?}"
        );
        // With another server beside, that one is asked.
        let config = self::config(&[bad, etcd.url()], networks.clone());
        in_pod(&pod, async || {
            let (mut source, tenure) = member(&config, 1);
            while !matches!(tenure.standing(), Standing::Holds(_)) {
                let _event = source.next().await;
            }
        });
    }
}

fn the_next_server_is_asked_where_one_does_not_answer() {
    let pod = Pod::new("etcd");
    let etcd = Etcd::start(&pod, LOOPBACK);
    let nobody = "http://127.0.0.1:1".to_owned();
    let config = config(
        &[nobody, etcd.url()],
        json!([{ "prefix": "10.244.0.0/16" }]),
    );
    let standing = in_pod(&pod, async || {
        let (mut source, tenure) = member(&config, 1);
        loop {
            let _event = source.next().await;
            if let Standing::Holds(prefixes) = tenure.standing() {
                return prefixes;
            }
        }
    });
    assert_eq!(standing.len(), 1);
}
