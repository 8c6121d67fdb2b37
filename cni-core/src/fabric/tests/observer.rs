//! A host on which every single change is looked at.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::cluster::Node;
use crate::fabric::tables;
use crate::host::Host;
use crate::host::firewall::{Element, Firewall, FirewallChange, Table, TableState, Value};
use crate::host::forwarding::{Change, Entry, Failed, Forwarding, Kind, Scope, Via};
use crate::host::netlink::NetlinkError;

use super::cluster::Cluster;

/// Nodes that must be reached after each change.
#[derive(Clone, Default)]
pub(super) struct Watched(Arc<Mutex<Vec<Node>>>);

impl Watched {
    /// From now on these peers, in which both clusters agree.
    pub(super) fn set(&self, before: &Cluster, after: &Cluster) {
        let both = before
            .iter()
            .filter(|(uid, node)| after.get(*uid) == Some(*node));
        *self.0.lock().unwrap() = both.map(|(_, node)| node.clone()).collect();
    }

    /// The host with handles that look after each change.
    pub(super) fn host(&self, host: &Host) -> Host {
        let observed = Arc::new(Observed {
            host: host.clone(),
            watched: self.clone(),
        });
        Host {
            forwarding: observed.clone(),
            firewall: observed,
            ..host.clone()
        }
    }
}

struct Observed {
    host: Host,
    watched: Watched,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observed")
    }
}

impl Observed {
    async fn check(&self, after: &str) {
        let nodes = self.watched.0.lock().unwrap().clone();
        let scope = Scope {
            kind: Kind::Route,
            protocol: None,
            link: None,
        };
        let mut routes = Vec::new();
        let mut each = |entry| routes.push(entry);
        self.host.forwarding.read(&scope, &mut each).await.unwrap();
        let leads = |prefix: &IpNetwork| {
            routes.iter().any(|entry| match entry {
                Entry::Route(route) => {
                    route.destination == *prefix && route.table == 254 && route.via != Via::Other
                }
                _ => false,
            })
        };
        for prefix in nodes.iter().flat_map(|node| &node.prefixes) {
            assert!(leads(prefix), "no route to {prefix} after {after}");
        }
        let state = self
            .table(&tables::table(&"pods".parse().unwrap()))
            .await
            .unwrap();
        for node in &nodes {
            self.spared(node, state.as_ref(), after).await;
        }
    }

    /// What is for the node's pods is not masqueraded, and what they send is let in: wherever such rules are in force.
    async fn spared(&self, node: &Node, state: Option<&TableState>, after: &str) {
        let rules = |chain: &str| -> Option<String> {
            let mut chains = state?.chains.iter();
            let chain = chains.find(|other| other.name == chain)?;
            let words = chain.rules.iter().filter_map(|rule| rule.comment.clone());
            Some(words.collect::<Vec<_>>().join("\n"))
        };
        let outer = node.underlay(false).unwrap();
        for prefix in &node.prefixes {
            let (family, length) = (if prefix.is_ipv6() { 6 } else { 4 }, prefix.prefix());
            let pods = format!("pods{family}_{length}");
            if let Some(rules) = rules("postrouting").filter(|rules| rules.contains("masquerade")) {
                assert!(rules.contains(&pods), "{pods} after {after}:\n{rules}");
                self.has(&pods, &[prefix.network()], after).await;
            }
            let from = format!("from4{family}_{length}");
            if let Some(rules) = rules("input").filter(|rules| rules.contains("drop")) {
                assert!(rules.contains(&from), "{from} after {after}:\n{rules}");
                self.has("from44_32", &[outer, outer], after).await;
                self.has(&from, &[outer, prefix.network()], after).await;
            }
        }
    }

    async fn has(&self, set: &str, key: &[IpAddr], after: &str) {
        let value = |address: &IpAddr| match address {
            IpAddr::V4(address) => Value::Ipv4(*address),
            IpAddr::V6(address) => Value::Ipv6(*address),
        };
        let key: Vec<Value> = key.iter().map(value).collect();
        let table = tables::table(&"pods".parse().unwrap());
        let found = self.host.firewall.element(&table, set, &key).await.unwrap();
        assert!(found.is_some(), "{key:?} is not in {set} after {after}");
    }
}

#[async_trait]
impl Forwarding for Observed {
    async fn read(
        &self,
        scope: &Scope<'_>,
        each: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), NetlinkError> {
        self.host.forwarding.read(scope, each).await
    }

    async fn write(&self, changes: &[Change]) -> Vec<Failed> {
        let mut all = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let failed = self
                .host
                .forwarding
                .write(std::slice::from_ref(change))
                .await;
            all.extend(failed.into_iter().map(|failed| Failed { index, ..failed }));
            self.check(&change.to_string()).await;
        }
        all
    }

    async fn has_next_hops(&self) -> Result<bool, NetlinkError> {
        self.host.forwarding.has_next_hops().await
    }
}

#[async_trait]
impl Firewall for Observed {
    async fn table(&self, table: &Table) -> Result<Option<TableState>, NetlinkError> {
        self.host.firewall.table(table).await
    }

    async fn elements(&self, table: &Table, set: &str) -> Result<Vec<Element>, NetlinkError> {
        self.host.firewall.elements(table, set).await
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
        let outcome = self.host.firewall.commit(changes).await;
        let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
        self.check(&words.join("\n")).await;
        outcome
    }
}
