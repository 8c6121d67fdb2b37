//! This node's own part: its Node, from which its prefixes are, its `NodeNetwork`, and the conditions of both.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cni_core::cluster::{Node, NodeUid};
use cni_core::fabric::vtep_mac;
use cni_core::host::netlink::MacAddr;
use ipnetwork::IpNetwork;
use tokio::sync::watch;
use tokio::time::Instant;

use super::api::{LABEL, NodeNetwork, NodeObject, Spec};
use super::client::{Client, Trouble};
use super::layout::{Layout, overwritten};
use super::table::Table;
use super::{patches, time};
use crate::remote::Failure;
use crate::remote::facts::{Facts, Knows, by_told};
use crate::remote::pods::{Pods, why_to_wait};
use crate::telling::Told;
use crate::tenure::Standing;

/// From one word of readiness to the next at least.
const BETWEEN_WORDS: Duration = Duration::from_secs(2);

/// This node among the others.
#[derive(Debug)]
pub struct Member {
    name: String,
    uid: NodeUid,
    knows: Arc<dyn Knows>,
    pods: Arc<dyn Pods>,
    readiness: watch::Receiver<Told>,
    /// The hardware address of its tunnel's end: that of the device which the first look found, else one that follows from its name.
    /// Whatever becomes of the device, it stays.
    vtep: Option<MacAddr>,
    /// The Node, as it was read last.
    node: Option<NodeObject>,
    /// What it has to say of itself, as a node and in its `NodeNetwork`.
    wanted: Option<(Node, Spec)>,
    /// What of its readiness has been told, and when.
    said: Option<(Told, Instant)>,
}

impl Member {
    /// A node of this name, which tells of itself what the others say.
    pub fn new(
        name: &str,
        knows: Arc<dyn Knows>,
        pods: Arc<dyn Pods>,
        readiness: watch::Receiver<Told>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            uid: NodeUid::new(name),
            knows,
            pods,
            readiness,
            vtep: None,
            node: None,
            wanted: None,
            said: None,
        }
    }

    /// What it is known by.
    pub fn uid(&self) -> &NodeUid {
        &self.uid
    }

    /// Returns when its readiness is another than it was.
    pub(super) async fn news(&mut self) {
        if self.readiness.changed().await.is_err() {
            // Nobody tells any more.
            std::future::pending().await
        }
    }

    /// Who knows where others reach it.
    pub(super) fn knows(&self) -> Arc<dyn Knows> {
        Arc::clone(&self.knows)
    }

    /// Whether others reach it by other addresses, or with another MTU, than it has told; or it has told nothing yet.
    ///
    /// # Errors
    /// A sentence: this host has no such addresses any more.
    pub(super) async fn has_moved(
        &self,
        layout: &Layout,
        local: Option<IpAddr>,
    ) -> Result<bool, String> {
        let (Some(object), Some((told, _))) = (&self.node, &self.wanted) else {
            return Ok(true);
        };
        let facts = self.facts(object, layout, local).await?;
        Ok((&facts.addresses, facts.mtu) != (&told.underlay, told.mtu))
    }

    /// Whether its `NodeNetwork` is as it should be, as far as has been seen.
    pub(super) fn is_intact(&self, table: &Table) -> bool {
        let Some((node, spec)) = &self.wanted else {
            return true;
        };
        if table.layout().is_flannel() {
            let same = |seen: &Node| {
                let is = (&seen.prefixes, &seen.underlay, seen.vtep_mac);
                is == (&node.prefixes, &node.underlay, node.vtep_mac)
            };
            return table.seen().is_some_and(same);
        }
        table.own().is_some_and(|own| is_so(own, &self.name, spec))
    }

    /// Reads the Node, and sees to it that everything of this node's says what is so. Writes nothing where that is the case.
    ///
    /// # Errors
    /// [`Trouble`]: it may have been done or not, and is to be tried again.
    pub(super) async fn keep(
        &mut self,
        client: &mut Client,
        table: &mut Table,
    ) -> Result<Standing, Trouble> {
        self.node = self.read(client).await?;
        self.wanted = None;
        let Some(object) = self.node.clone() else {
            return Ok(Standing::Withheld(format!(
                "Node {} is not there: its kubelet registers it, under the name that --node, `cluster.node` or the host's name \
                 has to be",
                self.name
            )));
        };
        let prefixes = match table.layout().prefixes(&object) {
            Ok(prefixes) => prefixes,
            Err(reason) => return Ok(Standing::Withheld(reason)),
        };
        let facts = match self.facts(&object, table.layout(), client.local()).await {
            Ok(facts) => facts,
            Err(reason) => return Ok(Standing::Withheld(reason)),
        };
        table.be(&self.uid, &facts.addresses);
        let node = self.itself(prefixes, facts, table.layout());
        let spec = table.layout().spec(&node, &object.metadata.uid);
        self.wanted = Some((node.clone(), spec));
        self.publish(client, table).await?;
        if table.layout().is_flannel() {
            self.annotate(client, table, &object, &node).await?;
        }
        Ok(self.standing(node.prefixes))
    }

    /// As it is now, not as a cache has it, where it seems to have gone or to be another one.
    async fn read(&self, client: &mut Client) -> Result<Option<NodeObject>, Trouble> {
        let path = Layout::node(&self.name);
        let known = self.node.as_ref().map(|node| &node.metadata.uid);
        match self.get(client, &format!("{path}?resourceVersion=0")).await {
            Ok(node) if known.is_none_or(|known| *known == node.metadata.uid) => {
                return Ok(Some(node));
            }
            Err(trouble) if !trouble.is_absence() => return Err(trouble),
            _ => {}
        }
        match self.get(client, &path).await {
            Ok(node) => Ok(Some(node)),
            Err(trouble) if trouble.is_absence() => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// The Node, and nothing that is none: that would be one without prefixes.
    async fn get(&self, client: &mut Client, path: &str) -> Result<NodeObject, Trouble> {
        let node: NodeObject = client.get(path).await?;
        match node.metadata.name == self.name {
            true => Ok(node),
            false => Err(Trouble::Failed(Failure::Nonsense(format!(
                "{} answers with something else than Node {}",
                client.server(),
                self.name
            )))),
        }
    }

    /// By the Node's internal addresses, as far as this host has them, else by the way to the server.
    async fn facts(
        &self,
        object: &NodeObject,
        layout: &Layout,
        local: Option<IpAddr>,
    ) -> Result<Facts, String> {
        if layout.is_flannel()
            && let Some(address) = overwritten(object)
        {
            return self.knows.facts(Some(address)).await;
        }
        let internal = object.status.addresses.iter();
        let internal = internal.filter(|address| address.kind == "InternalIP");
        let internal = internal.filter_map(|address| address.address.parse().ok());
        match by_told(self.knows.as_ref(), internal.collect()).await {
            Some(facts) => Ok(facts),
            None => self.knows.facts(local).await,
        }
    }

    fn itself(&mut self, prefixes: Vec<IpNetwork>, facts: Facts, layout: &Layout) -> Node {
        let mut node = Node::new(self.uid.clone(), &self.name);
        node.prefixes = prefixes;
        node.underlay = facts.addresses;
        node.mtu = facts.mtu;
        node.capabilities = facts.capabilities;
        if layout.way().vni.is_some() {
            let first = || facts.vtep_mac.unwrap_or_else(|| vtep_mac(&node));
            node.vtep_mac = Some(*self.vtep.get_or_insert_with(first));
        }
        node
    }

    async fn publish(&mut self, client: &mut Client, table: &mut Table) -> Result<(), Trouble> {
        let Some((_, spec)) = &self.wanted else {
            return Ok(());
        };
        // In Flannel's layout nothing tells what has become of the object: it is written again, which changes nothing.
        let is_flannel = table.layout().is_flannel();
        if !is_flannel && self.is_intact(table) {
            return Ok(());
        }
        let body = patches::node_network(&self.name, spec).to_string();
        match client
            .apply::<NodeNetwork>(&Layout::object(&self.name), body)
            .await
        {
            Ok(object) => table.see_own(object),
            // Nobody follows it yet.
            Err(Trouble::No { words, .. }) if is_flannel => tracing::warn!("{words}"),
            Err(trouble) => return Err(trouble),
        }
        Ok(())
    }

    async fn annotate(
        &self,
        client: &mut Client,
        table: &Table,
        object: &NodeObject,
        node: &Node,
    ) -> Result<(), Trouble> {
        let wanted = table.layout().annotations(node);
        let have = &object.metadata.annotations;
        if wanted
            .iter()
            .all(|(key, value)| have.get(key) == Some(value))
        {
            return Ok(());
        }
        let body = patches::annotations(&self.name, &object.metadata.uid, &wanted);
        let path = Layout::node(&self.name);
        let _node: NodeObject = client.apply(&path, body.to_string()).await?;
        Ok(())
    }

    /// New pods have to wait for those that have addresses of another Node's prefixes, or of an earlier one's of this name.
    fn standing(&self, prefixes: Vec<IpNetwork>) -> Standing {
        let subject = format!("Node {} has other podCIDRs", self.name);
        match why_to_wait(&*self.pods, &prefixes, &subject) {
            None => Standing::Holds(prefixes),
            Some(reason) => Standing::Withheld(reason),
        }
    }

    /// When its readiness may be told next; `None`: there is nothing to tell.
    pub(super) fn word_due(&self) -> Option<Instant> {
        let now = self.readiness.borrow();
        if !now.known {
            return None;
        }
        match &self.said {
            None => Some(Instant::now()),
            Some((said, at)) => (*said != *now).then(|| *at + BETWEEN_WORDS),
        }
    }

    /// Tells its readiness: in its `NodeNetwork`, and, while it is ready, in the condition of its Node.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn say(
        &mut self,
        client: &mut Client,
        table: &mut Table,
    ) -> Result<(), Trouble> {
        let told = self.readiness.borrow().clone();
        if !told.known {
            return Ok(());
        }
        self.said = Some((told.clone(), Instant::now()));
        self.say_ready(client, table, &told).await?;
        if told.ready {
            self.say_available(client).await?;
        }
        Ok(())
    }

    async fn say_ready(
        &self,
        client: &mut Client,
        table: &mut Table,
        told: &Told,
    ) -> Result<(), Trouble> {
        let Some(own) = table.own() else {
            return Ok(());
        };
        let status = if told.ready { "True" } else { "False" };
        let message = patches::message(&told.reason);
        let conditions = own.status.conditions.iter();
        let before = conditions
            .clone()
            .find(|condition| condition.kind == "Ready");
        if before.is_some_and(|before| before.status == status && before.message == message) {
            return Ok(());
        }
        let since = before.filter(|before| before.status == status);
        let since = since.map(|before| before.last_transition_time.clone());
        let since = since
            .filter(|since| !since.is_empty())
            .unwrap_or_else(time::now);
        let body = patches::readiness(
            &self.name,
            told.ready,
            &message,
            own.metadata.generation,
            &since,
        );
        let path = format!("{}/status", Layout::object(&self.name));
        match client.apply::<NodeNetwork>(&path, body.to_string()).await {
            Ok(object) => table.see_own(object),
            // It has been deleted a moment ago, and is made anew.
            Err(trouble) if trouble.is_absence() => {}
            Err(trouble) => return Err(trouble),
        }
        Ok(())
    }

    async fn say_available(&mut self, client: &mut Client) -> Result<(), Trouble> {
        let Some(node) = &self.node else {
            return Ok(());
        };
        let conditions = node.status.conditions.iter();
        let mut ours = conditions.filter(|condition| condition.kind == "NetworkUnavailable");
        if ours.any(|condition| condition.status == "False" && condition.reason == patches::IS_UP) {
            return Ok(());
        }
        let body = patches::available(&self.name, &node.metadata.uid, &time::now());
        let path = format!("{}/status", Layout::node(&self.name));
        self.node = Some(client.apply(&path, body.to_string()).await?);
        Ok(())
    }

    /// Its readiness has to be told again, as somebody may have changed what was told.
    pub(super) fn doubt(&mut self) {
        self.said = None;
    }
}

/// Removes what is a node's own on the server: what that was, and why the rest has been left.
pub async fn withdraw(
    client: &mut Client,
    name: &str,
    network: &str,
) -> (Vec<String>, Vec<Trouble>) {
    let (mut done, mut left) = (Vec::new(), Vec::new());
    let mut note = |what: Result<Option<String>, Trouble>| match what {
        Ok(what) => done.extend(what),
        Err(trouble) => left.push(trouble),
    };
    note(withdraw_object(client, name, network).await);
    match there(client.get::<NodeObject>(&Layout::node(name)).await) {
        Err(trouble) => note(Err(trouble)),
        Ok(None) => {}
        Ok(Some(node)) => {
            note(withdraw_condition(client, name, &node).await);
            note(withdraw_annotations(client, name, &node).await);
        }
    }
    (done, left)
}

async fn withdraw_object(
    client: &mut Client,
    name: &str,
    network: &str,
) -> Result<Option<String>, Trouble> {
    let path = Layout::object(name);
    let object = there(client.get::<NodeNetwork>(&path).await)?;
    let Some(object) = object.filter(|object| object.spec.network == network) else {
        return Ok(None);
    };
    let body = patches::deletion(&object.metadata.uid).to_string();
    let deleted = there(client.delete(&path, body).await)?;
    Ok(deleted.map(|()| format!("NodeNetwork {name}")))
}

async fn withdraw_condition(
    client: &mut Client,
    name: &str,
    node: &NodeObject,
) -> Result<Option<String>, Trouble> {
    if !has_condition(node) {
        return Ok(None);
    }
    let path = format!("{}/status", Layout::node(name));
    let body = patches::nothing(name, &node.metadata.uid).to_string();
    let after: NodeObject = client.apply(&path, body).await?;
    let gone = !has_condition(&after);
    Ok(gone.then(|| format!("condition NetworkUnavailable of Node {name}")))
}

async fn withdraw_annotations(
    client: &mut Client,
    name: &str,
    node: &NodeObject,
) -> Result<Option<String>, Trouble> {
    let before = node.metadata.annotations.len();
    if before == 0 {
        return Ok(None);
    }
    let body = patches::nothing(name, &node.metadata.uid).to_string();
    let after: NodeObject = client.apply(&Layout::node(name), body).await?;
    // Flannel's own, if it was here before, stay.
    let gone = before.saturating_sub(after.metadata.annotations.len());
    Ok((gone > 0).then(|| format!("{gone} annotations of Node {name}")))
}

/// What is not there has been removed by somebody else.
fn there<T>(answer: Result<T, Trouble>) -> Result<Option<T>, Trouble> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(trouble) if trouble.is_absence() => Ok(None),
        Err(trouble) => Err(trouble),
    }
}

fn has_condition(node: &NodeObject) -> bool {
    let mut conditions = node.status.conditions.iter();
    conditions.any(|condition| {
        condition.kind == "NetworkUnavailable" && condition.reason == patches::IS_UP
    })
}

fn is_so(own: &NodeNetwork, name: &str, wanted: &Spec) -> bool {
    let meta = &own.metadata;
    own.spec == *wanted
        && meta.labels.get(LABEL) == Some(&wanted.network)
        && meta
            .owner_references
            .contains(&patches::owner(name, &wanted.node_uid))
}
