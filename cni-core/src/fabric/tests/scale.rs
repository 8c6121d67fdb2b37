//! What a pass costs, counted: what grows with the cluster grows with it in line, and what one node's change costs does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use crate::cluster::{Node, NodeUid, PeerEvent};
use crate::error::Result;
use crate::fabric::{Base, Census, Engine, Fabric, Facts, NextHopIds, Owner, Reach, Removal};
use crate::host::Host;
use crate::host::firewall::{Element, Firewall, FirewallChange, Table, TableState, Value};
use crate::host::forwarding::{Change, Entry, Failed, Forwarding, Scope};
use crate::host::netlink::NetlinkError;

use super::cluster::Cluster;
use super::engine::{node, view};
use super::tiny::{ALL, Tiny};

/// How often, by what is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts {
    /// Peers that were declared.
    declared: u64,
    /// Entries and elements that were read.
    read: u64,
    /// Changes of entries, and elements that were added or deleted.
    written: u64,
    /// Transactions of nftables, and writes of many entries.
    batches: u64,
}

#[derive(Debug, Default)]
struct Counters {
    declared: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
    batches: AtomicU64,
}

impl Counters {
    fn take(&self) -> Counts {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Counts {
            declared: take(&self.declared),
            read: take(&self.read),
            written: take(&self.written),
            batches: take(&self.batches),
        }
    }
}

#[derive(Debug)]
struct Counted {
    host: Host,
    fabric: Tiny,
    counters: Arc<Counters>,
}

impl Fabric for Counted {
    fn owner(&self) -> Owner {
        self.fabric.owner()
    }

    fn base(&self, me: &Node, census: &Census, facts: &Facts) -> Result<Base> {
        self.fabric.base(me, census, facts)
    }

    fn peer(
        &self,
        me: &Node,
        base: &Base,
        facts: &Facts,
        ids: &dyn NextHopIds,
        peer: &Node,
    ) -> Reach {
        self.counters.declared.fetch_add(1, Ordering::Relaxed);
        self.fabric.peer(me, base, facts, ids, peer)
    }
}

#[async_trait]
impl Forwarding for Counted {
    async fn read(
        &self,
        scope: &Scope<'_>,
        each: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), NetlinkError> {
        let read = &self.counters.read;
        let mut each = |entry| {
            read.fetch_add(1, Ordering::Relaxed);
            each(entry);
        };
        self.host.forwarding.read(scope, &mut each).await
    }

    async fn write(&self, changes: &[Change]) -> Vec<Failed> {
        let Counters {
            written, batches, ..
        } = &*self.counters;
        written.fetch_add(changes.len() as u64, Ordering::Relaxed);
        batches.fetch_add(1, Ordering::Relaxed);
        self.host.forwarding.write(changes).await
    }

    async fn has_next_hops(&self) -> Result<bool, NetlinkError> {
        self.host.forwarding.has_next_hops().await
    }
}

#[async_trait]
impl Firewall for Counted {
    async fn table(&self, table: &Table) -> Result<Option<TableState>, NetlinkError> {
        self.host.firewall.table(table).await
    }

    async fn elements(&self, table: &Table, set: &str) -> Result<Vec<Element>, NetlinkError> {
        let elements = self.host.firewall.elements(table, set).await?;
        let read = elements.len() as u64;
        self.counters.read.fetch_add(read, Ordering::Relaxed);
        Ok(elements)
    }

    async fn element(
        &self,
        table: &Table,
        set: &str,
        key: &[Value],
    ) -> Result<Option<Element>, NetlinkError> {
        self.host.firewall.element(table, set, key).await
    }

    async fn commit(&self, changes: &[FirewallChange]) -> Result<(), NetlinkError> {
        let elements = changes.iter().map(|change| match change {
            FirewallChange::ElementAdd { elements, .. }
            | FirewallChange::ElementDel { elements, .. } => elements.len() as u64,
            _ => 0,
        });
        let written = &self.counters.written;
        written.fetch_add(elements.sum(), Ordering::Relaxed);
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
        self.host.firewall.commit(changes).await
    }
}

fn peer(n: u32) -> Node {
    let mut peer = Node::new(NodeUid::new(&format!("uid-{n:05}")), &format!("n{n}"));
    let [_, high, low, _] = (n << 8).to_be_bytes();
    let prefixes = [
        format!("10.{high}.{low}.0/24"),
        format!("fd00:244:{n:x}::/64"),
    ];
    peer.prefixes = prefixes.map(|prefix| prefix.parse().unwrap()).into();
    peer.underlay = vec![std::net::Ipv4Addr::from(0xc612_0000 + n).into()];
    peer
}

/// What a cold start costs, a warm one, and then one node that moves.
async fn costs(fabric: Tiny, count: u32) -> [Counts; 3] {
    let (_, host) = node().await;
    let counters = Arc::<Counters>::default();
    let counted = Arc::new(Counted {
        host: host.clone(),
        fabric,
        counters: counters.clone(),
    });
    let host = Host {
        forwarding: counted.clone(),
        firewall: counted.clone(),
        ..host
    };
    let cluster: Cluster = (1..=count)
        .map(|n| (peer(n).uid.clone(), peer(n)))
        .collect();
    let mut view = view(&cluster);
    let mut engine = Engine::new(host, counted);
    let mut all = Vec::new();
    for pass in 0..2 {
        let report = engine.full(&view, Removal::Allowed).await;
        assert!(report.is_complete() && (report.changes() > 0) == (pass == 0));
        all.push(counters.take());
    }
    let mut moved = peer(7);
    moved.underlay = vec!["192.0.2.7".parse().unwrap()];
    let changes = view.apply(PeerEvent::Put(moved));
    assert!(engine.update(&view, &changes).await.is_complete());
    all.push(counters.take());
    all.try_into().unwrap()
}

#[tokio::test]
async fn a_pass_grows_in_line_with_the_cluster_and_a_change_not_at_all() {
    for fabric in ALL {
        let [cold, warm, change] = costs(fabric, 1_000).await;
        let [cold4, warm4, change4] = costs(fabric, 4_000).await;
        // Each peer is asked for what it needs, and for what of that is missing: once for the sets, once for the rest.
        assert_eq!((cold.declared, cold4.declared), (3_000, 12_000));
        assert_eq!((warm.declared, warm4.declared), (1_000, 4_000));
        let of_each = |few: u64, many: u64, base: u64| {
            let each = (many - few) / 3_000;
            assert_eq!(many - few, each * 3_000);
            assert!(few - each * 1_000 < base, "{few} {many}");
        };
        of_each(cold.written, cold4.written, 20);
        of_each(warm.read, warm4.read, 60);
        assert_eq!((warm.written, warm4.written), (0, 0));
        assert!(cold4.batches < 4_000 / 20, "{cold4:?}");

        assert_eq!(change, change4);
        assert_eq!((change.declared, change.read), (2, 0));
        assert!(change.written < 20 && change.batches < 8, "{change:?}");
    }
}
