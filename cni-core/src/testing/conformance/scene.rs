//! One node with counted writes, and the verbs as a runtime asks them.

use std::fmt::Write as _;

use crate::backend::{
    AddRequest, Added, CheckRequest, Context, DelRequest, GcRequest, StatusRequest,
};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::host::{Host, NetnsPath, Sandbox};
use crate::ipam::IpamRequest;
use crate::plan::{Change, Place};
use crate::spec::ValidAttachments;
use crate::spec::config::{CniArgs, NetworkConfig};
use crate::spec::{AddResult, Attachment};
use crate::testing::{Faults, Faulty, snapshot, snapshot_sandbox};

use super::{Fixture, Node};

pub(super) struct Scene<'a> {
    fixture: &'a dyn Fixture,
    config: &'a NetworkConfig,
    node: Node,
    host: Host,
    ipam: std::sync::Arc<dyn crate::ipam::Ipam>,
    args: CniArgs,
    cancel: Cancel,
    pub(super) faults: Faults,
}

/// A container with the one attachment that is asked about.
pub(super) struct Pod {
    pub(super) attachment: Attachment,
    raw: Sandbox,
    sandbox: Sandbox,
}

impl Pod {
    pub(super) fn path(&self) -> NetnsPath {
        self.raw.path.clone()
    }
}

impl<'a> Scene<'a> {
    /// A new node.
    pub(super) async fn cold(fixture: &'a dyn Fixture, config: &'a NetworkConfig) -> Self {
        let node = fixture.node().await;
        let faults = Faults::new();
        Self {
            fixture,
            config,
            host: Faulty::host(&node.host, &faults),
            ipam: Faulty::ipam(&node.ipam, &faults),
            node,
            args: CniArgs::default(),
            cancel: Cancel::new(),
            faults,
        }
    }

    /// A node on which shared objects have been made: a pod came and went.
    pub(super) async fn warm(fixture: &'a dyn Fixture, config: &'a NetworkConfig) -> Self {
        let scene = Self::cold(fixture, config).await;
        let first = scene.pod("first").await;
        scene.attach(&first).await;
        scene.detach(&first).await;
        scene.node.pods.remove(&first.raw.path).await;
        scene.faults.reset();
        scene
    }

    pub(super) async fn pod(&self, name: &str) -> Pod {
        let raw = self.node.pods.create(&format!("conformance-{name}")).await;
        Pod {
            attachment: Attachment {
                network: self.config.name().clone(),
                container: format!("conformance-{name}").parse().expect("an ID"),
                interface: "eth0".parse().expect("a name"),
            },
            sandbox: Faulty::sandbox(&raw, &self.faults),
            raw,
        }
    }

    pub(super) async fn end(&self, pod: &Pod) {
        self.node.pods.remove(&pod.raw.path).await;
    }

    fn context(&self, dry_run: bool) -> Context<'_> {
        Context {
            host: &self.host,
            ipam: self.ipam.as_ref(),
            cancel: &self.cancel,
            dry_run,
        }
    }

    pub(super) async fn add(&self, pod: &Pod) -> Result<Added> {
        self.add_or_plan(pod, false).await
    }

    pub(super) async fn plan(&self, pod: &Pod) -> Result<Added> {
        self.add_or_plan(pod, true).await
    }

    async fn add_or_plan(&self, pod: &Pod, dry_run: bool) -> Result<Added> {
        let request = self.add_request(pod);
        let backend = self.fixture.backend();
        backend.add(&self.context(dry_run), &request).await
    }

    fn add_request<'b>(&'b self, pod: &'b Pod) -> AddRequest<'b> {
        AddRequest {
            attachment: &pod.attachment,
            sandbox: &pod.sandbox,
            config: self.config,
            args: &self.args,
            prev_result: None,
        }
    }

    pub(super) async fn seal(&self, pod: &Pod) -> Result<()> {
        let request = self.add_request(pod);
        let backend = self.fixture.backend();
        backend.seal(&self.context(false), &request).await
    }

    /// ADD to its end; it must succeed.
    pub(super) async fn attach(&self, pod: &Pod) -> Added {
        self.attach_as("ADD", pod).await
    }

    /// [`Scene::attach`], with other words for what fails.
    pub(super) async fn attach_as(&self, what: &str, pod: &Pod) -> Added {
        let added = match self.add(pod).await {
            Ok(added) => added,
            Err(error) => panic!("{}{what} failed: {}", self.rule(), error.chain()),
        };
        if let Err(error) = self.seal(pod).await {
            panic!("{}sealing failed: {}", self.rule(), error.chain());
        }
        added
    }

    pub(super) async fn del(
        &self,
        pod: &Pod,
        netns: Option<&NetnsPath>,
        prev_result: Option<&AddResult>,
    ) -> Result<()> {
        let request = DelRequest {
            attachment: &pod.attachment,
            netns,
            config: self.config,
            args: &self.args,
            prev_result,
        };
        let backend = self.fixture.backend();
        backend.del(&self.context(false), &request).await
    }

    /// DEL as a runtime asks it after a failed ADD: with the namespace, without a result. It must succeed.
    pub(super) async fn detach(&self, pod: &Pod) {
        self.detach_as("DEL", pod).await;
    }

    /// [`Scene::detach`], with other words for what fails.
    pub(super) async fn detach_as(&self, what: &str, pod: &Pod) {
        if let Err(error) = self.del(pod, Some(&pod.raw.path), None).await {
            panic!("{}{what} failed: {}", self.rule(), error.chain());
        }
    }

    pub(super) async fn check(&self, pod: &Pod, prev_result: &AddResult) -> Result<()> {
        let request = CheckRequest {
            attachment: &pod.attachment,
            sandbox: &pod.sandbox,
            config: self.config,
            args: &self.args,
            prev_result,
        };
        let backend = self.fixture.backend();
        backend.check(&self.context(false), &request).await
    }

    /// CHECK; it must pass and write nothing.
    pub(super) async fn passes(&self, pod: &Pod, prev_result: &AddResult) {
        let writes = self.faults.writes();
        if let Err(error) = self.check(pod, prev_result).await {
            panic!("{}CHECK failed: {}", self.rule(), error.chain());
        }
        assert_eq!(self.faults.writes(), writes, "{}CHECK wrote", self.rule());
    }

    pub(super) async fn gc(&self, valid: &[&Pod]) -> Result<()> {
        let pairs = valid.iter().map(|pod| {
            let attachment = pod.attachment.clone();
            (attachment.container, attachment.interface)
        });
        let request = GcRequest {
            network: self.config.name(),
            config: self.config,
            valid: &ValidAttachments::new(pairs),
        };
        let backend = self.fixture.backend();
        backend.gc(&self.context(false), &request).await
    }

    pub(super) async fn status(&self) -> Result<()> {
        let request = StatusRequest {
            network: self.config.name(),
            config: self.config,
        };
        let backend = self.fixture.backend();
        backend.status(&self.context(false), &request).await
    }

    /// What the host's namespace holds.
    pub(super) async fn host_state(&self) -> String {
        let tables = self.fixture.tables();
        snapshot(&self.node.host, &tables)
            .await
            .expect("a snapshot")
    }

    /// What the host's namespace, the pods' and the address store hold.
    pub(super) async fn state(&self, pods: &[&Pod]) -> String {
        let mut text = self.host_state().await;
        for pod in pods {
            let inside = snapshot_sandbox(&pod.raw).await.expect("a snapshot");
            let _ = writeln!(text, "inside {}:\n{inside}", pod.attachment.container);
            let _ = writeln!(text, "holds {}", self.holds(pod).await);
        }
        text
    }

    /// What the address store has for the pod, as text; `[]` when nothing.
    pub(super) async fn holds(&self, pod: &Pod) -> String {
        let request = IpamRequest {
            attachment: &pod.attachment,
            netns: None,
            config: self.config,
            args: &self.args,
            cancel: &self.cancel,
        };
        let held = self.node.ipam.held(&request).await.expect("what is held");
        format!("{:?}", held.unwrap_or_default())
    }

    /// Makes a change as another program would.
    pub(super) async fn disturb(&self, pod: &Pod, place: Place, change: &Change) {
        let host = &self.node.host;
        let (netlink, sysctl) = match place {
            Place::Host => (&host.netlink, &host.sysctl),
            Place::Container => (&pod.raw.netlink, &pod.raw.sysctl),
        };
        match change {
            Change::Netlink(one) => netlink
                .apply(std::slice::from_ref(one))
                .await
                .expect("the drift is possible"),
            Change::Sysctl { key, value } => {
                sysctl
                    .write(key, value)
                    .await
                    .expect("the drift is possible");
            }
            Change::Legacy(change) => {
                host.legacy
                    .apply(change)
                    .await
                    .expect("the drift is possible");
            }
            Change::Firewall(all) => {
                host.firewall
                    .commit(all)
                    .await
                    .expect("the drift is possible");
            }
        }
    }

    /// The beginning of every message: which configuration broke the contract.
    pub(super) fn rule(&self) -> String {
        format!("with the network {:?}: ", self.config.name().as_str())
    }
}
