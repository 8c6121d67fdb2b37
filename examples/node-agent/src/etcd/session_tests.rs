use cni_core::cluster::{Node, NodeUid};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::etcd::api::KeyValue;
use crate::etcd::layout::{Layout, Tunnel};

fn node(name: &str, prefix: &str) -> Node {
    let mut node = Node::new(NodeUid::new(name), name);
    node.prefixes.push(prefix.parse().unwrap());
    node.underlay.push("192.0.2.9".parse().unwrap());
    node
}

/// A node's claim and entry, as of a revision.
fn keys(layout: &Layout, node: &Node, revision: i64) -> [KeyValue; 2] {
    let kv = |key: String, value: String| KeyValue {
        key: key.into_bytes(),
        value: value.into_bytes(),
        create_revision: revision,
        mod_revision: revision,
        lease: 7,
    };
    [
        kv(layout.claim_key(node.prefixes[0]), layout.claim_value(node)),
        kv(layout.node_key(node), layout.node_value(node)),
    ]
}

/// A message of the watch.
fn told(kvs: &[KeyValue], revision: i64) -> String {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let event = |kv: &KeyValue| {
        json!({ "kv": {
            "key": encode(&kv.key), "value": encode(&kv.value), "lease": kv.lease.to_string(),
            "create_revision": kv.create_revision.to_string(), "mod_revision": kv.mod_revision.to_string(),
        } })
    };
    let events: Vec<_> = kvs.iter().map(event).collect();
    let header = json!({ "cluster_id": "1", "revision": revision.to_string() });
    json!({ "result": { "header": header, "created": kvs.is_empty(), "events": events } })
        .to_string()
}

/// A server of one watch, which says what a test has it say.
async fn serve(listener: TcpListener, mut lines: UnboundedReceiver<String>) {
    // The first connection is for requests, of which there are none.
    let (_requests, _) = listener.accept().await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    while let Some(line) = lines.recv().await {
        stream
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }
}

/// Someone who looks on, and whose connection is made anew while nodes that seem to have gone are kept.
struct Looking {
    events: UnboundedReceiver<PeerEvent>,
    lines: UnboundedSender<String>,
    layout: Layout,
}

impl Looking {
    /// Node `far` is kept; its time has passed while nobody was heard.
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let section = json!({
            "endpoints": [format!("http://{}", listener.local_addr().unwrap())],
            "podNetworks": [{ "prefix": "10.244.0.0/16" }],
        });
        let config = EtcdConfig::parse(&section.to_string(), "net").unwrap();
        let layout = Layout::new(&config, Tunnel::None);
        let mut table = Table::new(Layout::new(&config, Tunnel::None));
        for kv in keys(&layout, &node("far", "10.244.9.0/24"), 5) {
            table.put(&kv);
        }
        assert_eq!(table.events().len(), 1);
        table.hold(true);
        table.reset(Vec::new());
        assert_eq!(table.events(), []);
        let (sender, events) = unbounded_channel();
        let client = Client::new(config.access.clone());
        let mut session = Session::new(client, table, sender, None, config);
        session.holding = Some(Instant::now());
        session.away = true;
        session.seen = Seen {
            revision: Some(5),
            highest: 5,
            cluster: "1".to_owned(),
        };
        let (lines, to_say) = unbounded_channel();
        lines.send(told(&[], 5)).unwrap();
        tokio::spawn(serve(listener, to_say));
        tokio::spawn(session.run());
        Self {
            events,
            lines,
            layout,
        }
    }

    /// What comes up to an event.
    async fn up_to(&mut self, last: impl Fn(&PeerEvent) -> bool) -> Vec<PeerEvent> {
        let mut events = Vec::new();
        while !events.last().is_some_and(&last) {
            events.push(self.events.recv().await.unwrap());
        }
        events
    }

    /// Whether `far` is removed before a node is told that is written now.
    async fn removes_before(&mut self, name: &str, prefix: &str, revision: i64) -> bool {
        let kvs = keys(&self.layout, &node(name, prefix), revision);
        self.lines.send(told(&kvs, revision)).unwrap();
        let is_told =
            |event: &PeerEvent| matches!(event, PeerEvent::Put(node) if &*node.name == name);
        let events = self.up_to(is_told).await;
        events.iter().any(is_removal)
    }
}

fn is_removal(event: &PeerEvent) -> bool {
    *event == PeerEvent::Remove(NodeUid::new("far"))
}

#[tokio::test]
async fn who_seems_to_have_gone_is_kept_for_ten_seconds_in_which_it_could_be_heard() {
    let mut looking = Looking::start().await;
    let events = looking.up_to(|event| *event == PeerEvent::InSync).await;
    assert!(!events.iter().any(is_removal), "{events:?}");
    assert!(!looking.removes_before("one", "10.244.1.0/24", 6).await);
    // A process that was stopped wakes up late.
    tokio::time::pause();
    tokio::time::advance(TO_RETURN * 2).await;
    tokio::time::resume();
    assert!(!looking.removes_before("two", "10.244.2.0/24", 7).await);
    // By now it could have made itself known.
    tokio::time::pause();
    looking.up_to(is_removal).await;
}
