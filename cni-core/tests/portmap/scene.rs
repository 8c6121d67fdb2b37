//! A node on the fake kernel, and the verbs on it.

use std::net::SocketAddr;

use cni_core::backend::{AddRequest, Added, CheckRequest, Context, DelRequest, GcRequest};
use cni_core::chained::portmap::{Portmap, table};
use cni_core::host::conntrack::{Flow, FlowFilter};
use cni_core::host::netlink::{Address, LinkSettings, NetlinkChange, NewLink, NewLinkKind};
use cni_core::host::{Host, Sandbox};
use cni_core::spec::{
    AddResult, Attachment, CniArgs, NetworkConfig, SpecVersion, ValidAttachments,
};
use cni_core::testing::{FakeIpam, FakeKernel, snapshot};
use cni_core::{Cancel, NetworkBackend, Result};

pub(crate) const KEYS: &str = r#","conditionsV4":["!","-s","198.51.100.0/24"],"markMasqBit":3"#;
pub(crate) const PORTS: &str = r#"{"hostPort":8080,"containerPort":80},{"hostPort":53,"containerPort":5353,"protocol":"UDP"},
    {"hostPort":8443,"containerPort":443,"hostIP":"192.0.2.1"}"#;

/// A node with a bridge `cni0`, an uplink, and one pod's port on the bridge.
pub(crate) struct Scene {
    pub(crate) kernel: FakeKernel,
    pub(crate) host: Host,
    pub(crate) sandbox: Sandbox,
    pub(crate) config: NetworkConfig,
    pub(crate) attachment: Attachment,
    pub(crate) result: AddResult,
}

pub(crate) fn config(keys: &str, ports: &str) -> NetworkConfig {
    let text = format!(
        r#"{{"cniVersion":"1.1.0","name":"n","type":"portmap"{keys},"runtimeConfig":{{"portMappings":[{ports}]}}}}"#
    );
    NetworkConfig::parse(text.as_bytes()).unwrap()
}

pub(crate) fn attachment(container: &str) -> Attachment {
    Attachment {
        network: "n".parse().unwrap(),
        container: container.parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    }
}

pub(crate) fn result(v4: &str, v6: &str) -> AddResult {
    let text = format!(
        r#"{{"cniVersion":"1.1.0","interfaces":[{{"name":"eth0","sandbox":"/run/netns/c1"}}],
            "ips":[{{"address":"{v4}/24","interface":0}},{{"address":"{v6}/64","interface":0}}]}}"#
    );
    AddResult::parse(&text, SpecVersion::V1_1_0).unwrap()
}

pub(crate) fn up(link: &str) -> NetlinkChange {
    let mut settings = LinkSettings::default();
    settings.up = Some(true);
    NetlinkChange::LinkSet {
        link: link.to_owned(),
        settings,
    }
}

impl Scene {
    pub(crate) async fn new(keys: &str, ports: &str) -> Self {
        let kernel = FakeKernel::new();
        let host = kernel.host();
        let sandbox = kernel.sandbox("/run/netns/c1");
        let attachment = attachment("c1");
        let mut pair = NewLink::new(
            attachment.host_name().as_str(),
            NewLinkKind::Veth {
                peer: "eth0".to_owned(),
                peer_mac: None,
                peer_netns: Some(sandbox.path.clone()),
            },
        );
        pair.master = Some("cni0".to_owned());
        let bridge = NewLinkKind::Bridge {
            vlan_filtering: false,
        };
        let changes = [
            NetlinkChange::LinkAdd(NewLink::new("cni0", bridge)),
            NetlinkChange::LinkAdd(NewLink::new("up0", NewLinkKind::Dummy)),
            NetlinkChange::LinkAdd(pair),
            up("cni0"),
            up("up0"),
            up(attachment.host_name().as_str()),
            NetlinkChange::AddressAdd(Address::new("cni0", "10.88.0.1/24".parse().unwrap())),
            NetlinkChange::AddressAdd(Address::new("cni0", "fd00::1/64".parse().unwrap())),
            NetlinkChange::AddressAdd(Address::new("up0", "192.0.2.1/24".parse().unwrap())),
        ];
        host.netlink.apply(&changes).await.unwrap();
        Self {
            host,
            sandbox,
            config: config(keys, ports),
            attachment,
            result: result("10.88.0.5", "fd00::5"),
            kernel,
        }
    }

    pub(crate) fn cx<'a>(
        &'a self,
        cancel: &'a Cancel,
        ipam: &'a FakeIpam,
        dry_run: bool,
    ) -> Context<'a> {
        Context {
            host: &self.host,
            ipam,
            cancel,
            dry_run,
        }
    }

    pub(crate) async fn add(&self) -> Result<Added> {
        self.add_as(&self.config, &self.attachment, Some(&self.result))
            .await
    }

    pub(crate) async fn add_as(
        &self,
        config: &NetworkConfig,
        attachment: &Attachment,
        prev_result: Option<&AddResult>,
    ) -> Result<Added> {
        let (cancel, ipam) = (Cancel::new(), FakeIpam::new([]));
        let request = AddRequest {
            attachment,
            sandbox: &self.sandbox,
            config,
            args: &CniArgs::default(),
            prev_result,
        };
        Portmap.add(&self.cx(&cancel, &ipam, false), &request).await
    }

    /// DEL with the names alone.
    pub(crate) async fn del(&self) -> Result<()> {
        let (cancel, ipam) = (Cancel::new(), FakeIpam::new([]));
        let request = DelRequest {
            attachment: &self.attachment,
            netns: None,
            config: &config("", ""),
            args: &CniArgs::default(),
            prev_result: None,
        };
        Portmap.del(&self.cx(&cancel, &ipam, false), &request).await
    }

    pub(crate) async fn check(&self) -> Result<()> {
        let (cancel, ipam) = (Cancel::new(), FakeIpam::new([]));
        let request = CheckRequest {
            attachment: &self.attachment,
            sandbox: &self.sandbox,
            config: &self.config,
            args: &CniArgs::default(),
            prev_result: &self.result,
        };
        Portmap
            .check(&self.cx(&cancel, &ipam, false), &request)
            .await
    }

    pub(crate) async fn gc(&self, valid: &[&Attachment]) -> Result<()> {
        let (cancel, ipam) = (Cancel::new(), FakeIpam::new([]));
        let pairs = valid
            .iter()
            .map(|one| (one.container.clone(), one.interface.clone()));
        let request = GcRequest {
            network: self.config.name(),
            config: &self.config,
            valid: &ValidAttachments::new(pairs),
        };
        Portmap.gc(&self.cx(&cancel, &ipam, false), &request).await
    }

    pub(crate) async fn state(&self) -> String {
        snapshot(&self.host, &[table()]).await.unwrap()
    }

    /// With the table made by another attachment.
    pub(crate) async fn warm(keys: &str, ports: &str) -> Self {
        let scene = Self::new(keys, ports).await;
        let other = config(
            "",
            r#"{"hostPort":1,"containerPort":1},{"hostPort":2,"containerPort":2,"hostIP":"192.0.2.1"}"#,
        );
        let result = result("10.88.0.9", "fd00::9");
        scene
            .add_as(&other, &attachment("other"), Some(&result))
            .await
            .unwrap();
        scene
    }

    pub(crate) fn flow(&self, source: &str, destination: &str, reply: &str) -> Flow {
        let socket = |text: &str| text.parse::<SocketAddr>().unwrap();
        self.kernel.track(Flow {
            protocol: 17,
            source: socket(source),
            destination: socket(destination),
            reply_source: socket(reply),
            reply_destination: socket(source),
            zone: 0,
            id: 0,
        })
    }

    pub(crate) async fn flows(&self) -> Vec<Flow> {
        let mut all = Vec::new();
        for is_ipv6 in [false, true] {
            all.extend(
                self.host
                    .conntrack
                    .flows(&FlowFilter::of(is_ipv6, 17))
                    .await
                    .unwrap(),
            );
        }
        all
    }
}
