//! The contract of every backend, on the fake kernel, for each kind of configuration; and the drifts that CHECK sees.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use backend_bridge::Bridge;
use cni_core::host::firewall::{Element, Family, FirewallChange, Table};
use cni_core::host::netlink::{Address, LinkSettings, NetlinkChange, PortSettings};
use cni_core::nat;
use cni_core::plan::{Change, Place};
use cni_core::spec::{AddResult, Attachment, NetworkConfig};
use cni_core::testing::conformance::{self, Drift, FakeFixture};

fn config(more: &str) -> NetworkConfig {
    let text = format!(r#"{{"cniVersion":"1.1.0","name":"n","type":"bridge"{more}}}"#);
    NetworkConfig::parse(text.as_bytes()).unwrap()
}

fn spoof() -> Table {
    Table {
        family: Family::Bridge,
        name: "cni_spoof".to_owned(),
    }
}

fn fixture(configs: impl IntoIterator<Item = &'static str>) -> FakeFixture {
    let configs: Vec<NetworkConfig> = configs.into_iter().map(config).collect();
    FakeFixture::new(Bridge, configs).with_tables([nat::table(), spoof()])
}

fn host(change: NetlinkChange) -> (Place, Change) {
    (Place::Host, change.into())
}

fn set(link: &str, settings: LinkSettings) -> NetlinkChange {
    NetlinkChange::LinkSet {
        link: link.to_owned(),
        settings,
    }
}

#[tokio::test]
async fn a_gateway_with_masquerade_keeps_the_contract() {
    let more = r#","isDefaultGateway":true,"ipMasq":true,"ipam":{"type":"fake"}"#;
    conformance::backend(&fixture([more])).await;
}

#[tokio::test]
async fn a_bare_layer_two_keeps_the_contract() {
    let down = r#","disableContainerInterface":true"#;
    conformance::backend(&fixture([r#","hairpinMode":true"#, down])).await;
}

#[tokio::test]
async fn vlans_keep_the_contract() {
    let access = r#","vlan":100,"isGateway":true,"ipam":{"type":"fake"}"#;
    let trunk = r#","vlanTrunk":[{"minID":10,"maxID":20}],"preserveDefaultVlan":true"#;
    conformance::backend(&fixture([access, trunk])).await;
}

#[tokio::test]
async fn the_spoof_check_and_isolation_keep_the_contract() {
    let more = r#","macspoofchk":true,"portIsolation":true,"mtu":1400,"ipam":{"type":"fake"}"#;
    conformance::backend(&fixture([more])).await;
}

#[tokio::test]
async fn check_names_every_drift_in_what_add_made() {
    let more = r#","isGateway":true,"ipMasq":true,"macspoofchk":true,"hairpinMode":true,"portIsolation":true,"mtu":1400,"ipam":{"type":"fake"}"#;
    let fixture = fixture([more])
        .with_drift(port("hairpin", false, true))
        .with_drift(port("isolation", true, false))
        .with_drift(on_host_end("mtu", |settings| settings.mtu = Some(1300)))
        .with_drift(on_host_end("down", |settings| settings.up = Some(false)))
        .with_drift(on_host_end("port", |settings| {
            settings.master = Some(String::new());
        }))
        .with_drift(Drift::new(&["ip_forward"], |_, _| {
            let (key, value) = ("net/ipv4/ip_forward".to_owned(), "0".to_owned());
            vec![(Place::Host, Change::Sysctl { key, value })]
        }))
        .with_drift(Drift::new(&["address", "cni0"], |_, result| {
            let ip = &result.ips[0];
            let gateway =
                cni_core::ipnetwork::IpNetwork::new(ip.gateway.unwrap(), ip.address.prefix());
            let address = Address::new("cni0", gateway.unwrap());
            vec![host(NetlinkChange::AddressDel(address))]
        }))
        .with_drift(Drift::new(&["address", "missing"], |attachment, result| {
            let address = Address::new(attachment.interface.as_str(), result.ips[0].address);
            let change = NetlinkChange::AddressDel(address);
            vec![(Place::Container, change.into())]
        }))
        .with_drift(Drift::new(&["cni_masquerade"], |_, result| {
            let (set, key) = nat::key(result.ips[0].address.ip());
            vec![element_del(nat::table(), set, Element::new(key))]
        }))
        .with_drift(Drift::new(&["cni_spoof"], |attachment, _| {
            let port = attachment.host_name().to_string();
            let key = vec![cni_core::host::firewall::Value::Interface(port)];
            vec![element_del(spoof(), "guarded", Element::new(key))]
        }));
    conformance::backend(&fixture).await;
}

fn element_del(table: Table, set: &str, element: Element) -> (Place, Change) {
    let change = FirewallChange::ElementDel {
        table,
        set: set.to_owned(),
        elements: vec![element],
    };
    (Place::Host, Change::Firewall(vec![change]))
}

fn port(word: &'static str, hairpin: bool, isolated: bool) -> Drift {
    Drift::new(&[word], move |attachment, _| {
        let settings = PortSettings {
            hairpin,
            isolated,
            ..PortSettings::default()
        };
        let link = attachment.host_name().to_string();
        vec![host(NetlinkChange::PortSet { link, settings })]
    })
}

fn on_host_end(word: &'static str, change: fn(&mut LinkSettings)) -> Drift {
    Drift::new(&[word], move |attachment: &Attachment, _: &AddResult| {
        let mut settings = LinkSettings::default();
        change(&mut settings);
        vec![host(set(attachment.host_name().as_str(), settings))]
    })
}
