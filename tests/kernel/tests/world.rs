//! A node with a cable to the outside, and bridge networks on it.

use std::future::Future;
use std::time::Duration;

use cni_core::host::Host;
use cni_core::host::netlink::{
    Address, Link, LinkSettings, MacAddr, NetlinkChange, NetlinkExt, NewLink, NewLinkKind, Route,
};
use cni_core::host::netns::NetnsPath;
use cni_testkit::{Invocation, Outcome, Ping, Pod, workspace_plugin_dir};
use serde_json::{Value, json};

use crate::crash::wait_until;

/// Drives a future to its end on this thread, so that it acts in this thread's namespace.
pub(crate) fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an async runtime")
        .block_on(future)
}

/// Makes changes in the calling thread's namespace, as an operator would.
#[track_caller]
pub(crate) fn apply(changes: &[NetlinkChange]) {
    let host = Host::open().expect("the kernel");
    if let Err(error) = block(host.netlink.apply(changes)) {
        panic!("{error:?}");
    }
}

/// Changes a link in the calling thread's namespace.
#[track_caller]
pub(crate) fn set(link: &str, change: impl FnOnce(&mut LinkSettings)) {
    let mut settings = LinkSettings::default();
    change(&mut settings);
    let link = link.to_owned();
    apply(&[NetlinkChange::LinkSet { link, settings }]);
}

/// A link of the calling thread's namespace.
pub(crate) fn link(name: &str) -> Option<Link> {
    let host = Host::open().expect("the kernel");
    block(host.netlink.link(name)).expect("a look at a link")
}

/// The routes of the calling thread's namespace that go through a link.
pub(crate) fn routes(link: &str) -> Vec<Route> {
    let host = Host::open().expect("the kernel");
    block(host.netlink.routes(Some(link))).expect("a look at routes")
}

/// The addresses of a link of the calling thread's namespace.
pub(crate) fn addresses(link: &str) -> Vec<Address> {
    let host = Host::open().expect("the kernel");
    block(host.netlink.addresses(Some(link))).expect("a look at addresses")
}

pub(crate) fn mac(text: &str) -> MacAddr {
    text.parse().expect("a hardware address")
}

/// The node's side of the cable, and the far side.
pub(crate) const NODE4: &str = "192.0.2.1";
pub(crate) const NODE6: &str = "2001:db8:1::1";
pub(crate) const OUTSIDE4: &str = "192.0.2.254";
pub(crate) const OUTSIDE6: &str = "2001:db8:1::fe";

/// Lays a cable `uplink` of this MTU from the calling thread's namespace to a host that knows the node and no pod.
pub(crate) fn outside(mtu: u32) -> Pod {
    let outside = Pod::new("outside");
    let mut cable = NewLink::new(
        "uplink",
        NewLinkKind::Veth {
            peer: "eth0".to_owned(),
            peer_mac: None,
            peer_netns: Some(NetnsPath::new(outside.path())),
        },
    );
    cable.mtu = Some(mtu);
    apply(&[NetlinkChange::LinkAdd(cable)]);
    outside.run(|| raise("eth0", [OUTSIDE4, OUTSIDE6]));
    raise("uplink", [NODE4, NODE6]);
    for (all, gateway) in [("0.0.0.0/0", OUTSIDE4), ("::/0", OUTSIDE6)] {
        let mut route = Route::new(all.parse().expect("a prefix"), "uplink");
        route.gateway = Some(gateway.parse().expect("an address"));
        apply(&[NetlinkChange::RouteAdd(route)]);
    }
    // An address that is tentative is none to send from, and the first packet may be lost.
    let works = |target| Ping::to(target).timeout(Duration::from_secs(1)).send();
    wait_until(|| works(OUTSIDE4).is_ok() && works(OUTSIDE6).is_ok());
    outside
}

fn raise(link: &str, [v4, v6]: [&str; 2]) {
    set(link, |settings| settings.up = Some(true));
    for address in [format!("{v4}/24"), format!("{v6}/64")] {
        let address = address.parse().expect("an address");
        apply(&[NetlinkChange::AddressAdd(Address::new(link, address))]);
    }
}

/// A bridge network: its configuration, and the verbs on it.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) config: Value,
    interface: &'static str,
    environment: Vec<(String, String)>,
}

impl Network {
    /// Layer 2 only.
    pub(crate) fn bare() -> Self {
        Self {
            config: json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0" }),
            interface: "eth0",
            environment: Vec::new(),
        }
    }

    /// With a gateway and masquerade, of both families.
    pub(crate) fn dual() -> Self {
        Self::of(&["10.9.0.0/24", "fd00:9::/64"])
    }

    /// With a default gateway, masquerade, and these subnets.
    pub(crate) fn of(subnets: &[&str]) -> Self {
        let ranges: Vec<Value> = subnets
            .iter()
            .map(|subnet| json!([{ "subnet": subnet }]))
            .collect();
        Self::bare().with(json!({
            "isDefaultGateway": true,
            "ipMasq": true,
            "ipam": { "type": "host-local", "ranges": ranges },
        }))
    }

    /// With some keys replaced; `null` takes one away.
    pub(crate) fn with(mut self, keys: Value) -> Self {
        for (key, value) in keys.as_object().expect("an object") {
            self.config[key] = value.clone();
        }
        self
    }

    pub(crate) fn interface(mut self, name: &'static str) -> Self {
        self.interface = name;
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A run of a verb, ready to be changed.
    pub(crate) fn run(&self, verb: &str, pod: &Pod) -> Invocation {
        let kind = self.config["type"].as_str().expect("a type");
        let run = Invocation::attachment(workspace_plugin_dir().join(kind), verb, pod)
            .env("CNI_IFNAME", self.interface)
            .config(&self.config);
        let variables = self.environment.iter();
        variables.fold(run, |run, (name, value)| run.env(name, value))
    }

    /// ADD, which must succeed; the result.
    #[track_caller]
    pub(crate) fn add(&self, pod: &Pod) -> Value {
        let add = self.run("ADD", pod).start();
        add.finish_or_try_again().result()
    }

    /// DEL, which must succeed, with nothing but the names.
    #[track_caller]
    pub(crate) fn del(&self, pod: &Pod) {
        let run = self.run("DEL", pod).without("CNI_NETNS");
        run.run().silent_success();
    }

    pub(crate) fn check(&self, pod: &Pod, result: &Value) -> Outcome {
        let config = self.clone().with(json!({ "prevResult": result })).config;
        self.run("CHECK", pod).config(&config).run()
    }

    pub(crate) fn gc(&self, valid: Value) -> Outcome {
        let config = self
            .clone()
            .with(json!({ "cni.dev/valid-attachments": valid }));
        Invocation::new(workspace_plugin_dir().join("bridge"), "GC")
            .env("CNI_PATH", workspace_plugin_dir())
            .config(&config.config)
            .run()
    }
}

/// The addresses of a result, without their prefix lengths.
pub(crate) fn ips(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().expect("addresses");
    ips.iter()
        .map(|ip| {
            let text = ip["address"].as_str().expect("an address");
            text.split('/').next().unwrap_or_default().to_owned()
        })
        .collect()
}

/// The host's end of the pair.
pub(crate) fn port(result: &Value) -> String {
    result["interfaces"][1]["name"]
        .as_str()
        .expect("a host-side interface")
        .to_owned()
}

/// Asserts that one packet gets through from a pod, now, at the first try.
#[track_caller]
pub(crate) fn reaches(pod: &Pod, target: &str) {
    let outcome = pod.run(|| Ping::to(target).send());
    assert!(outcome.is_ok(), "{} to {target}: {outcome:?}", pod.id());
}

/// Asserts that a packet does not get through.
#[track_caller]
pub(crate) fn misses(pod: &Pod, target: &str) {
    let ping = || Ping::to(target).timeout(Duration::from_millis(400)).send();
    let outcome = pod.run(ping);
    assert!(outcome.is_err(), "{} reaches {target}", pod.id());
}
