//! Who reaches whom, how fast, and under which address.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use cni_testkit::{Ping, UdpEcho};
use ipnetwork::IpNetwork;

use super::node::Node;
use super::pods::Pods;
use crate::Result;
use crate::attached::Attached;
use crate::table::{self, Way};

pub(crate) struct Reach {
    pub(crate) ways: Vec<Way>,
}

const PINGS: usize = 5;
const PORT: u16 = 7000;

pub(crate) fn measure(node: &Node, pods: &Pods) -> Result<Reach> {
    let mut ways = Vec::new();
    for family in [0, 1] {
        ways.push(pod_to_pod(pods, family)?);
        ways.push(pod_to_node(node, pods, family)?);
        ways.push(node_to_pod(pods, family)?);
        ways.push(pod_to_outside(node, pods, family)?);
    }
    Ok(Reach { ways })
}

/// The address of one family.
fn of(addresses: &[IpNetwork], family: usize) -> Result<IpAddr> {
    addresses
        .get(family)
        .map(IpNetwork::ip)
        .ok_or("an address of each family".to_owned())
}

fn ping_from(pod: &Attached, target: IpAddr, times: &mut Vec<Duration>) -> Result<()> {
    for _ in 0..PINGS {
        let answer = pod.pod.run(|| Ping::to(&target.to_string()).send());
        times.push(
            answer.map_err(|error| format!("{} does not reach {target}: {error}", pod.name))?,
        );
    }
    Ok(())
}

fn pod_to_pod(pods: &Pods, family: usize) -> Result<Way> {
    let mut round_trips = Vec::new();
    for from in &pods.pods {
        for to in &pods.pods {
            ping_from(from, of(&to.addresses, family)?, &mut round_trips)?;
        }
    }
    let name = if family == 0 {
        "pod to pod, IPv4"
    } else {
        "pod to pod, IPv6"
    };
    let seen_as = seen(pods, |first, second| {
        let server = UdpEcho::start(&second.pod, &any(family));
        let target = of(&second.addresses, family)?;
        let seen = ask(first, target)?;
        drop(server);
        if seen == of(&first.addresses, family)? {
            return Ok("its own address".to_owned());
        }
        Err(format!(
            "{} is seen as {seen} by {}",
            first.name, second.name
        ))
    })?;
    Ok(Way {
        name: name.to_owned(),
        round_trips,
        seen_as,
    })
}

fn pod_to_node(node: &Node, pods: &Pods, family: usize) -> Result<Way> {
    let mut round_trips = Vec::new();
    for pod in &pods.pods {
        let gateway = pod.gateways.get(family).and_then(|text| text.parse().ok());
        let gateway = gateway.ok_or(format!("{} was told no gateway", pod.name))?;
        ping_from(pod, gateway, &mut round_trips)?;
        ping_from(pod, of(&node.addresses, family)?, &mut round_trips)?;
    }
    let name = if family == 0 {
        "pod to node, IPv4"
    } else {
        "pod to node, IPv6"
    };
    Ok(Way {
        name: name.to_owned(),
        round_trips,
        seen_as: None,
    })
}

fn node_to_pod(pods: &Pods, family: usize) -> Result<Way> {
    let mut round_trips = Vec::new();
    for pod in &pods.pods {
        let target = of(&pod.addresses, family)?;
        for _ in 0..PINGS {
            let answer = Ping::to(&target.to_string()).send();
            let failed =
                |error| format!("the node does not reach {} ({target}): {error}", pod.name);
            round_trips.push(answer.map_err(failed)?);
        }
    }
    let name = if family == 0 {
        "node to pod, IPv4"
    } else {
        "node to pod, IPv6"
    };
    Ok(Way {
        name: name.to_owned(),
        round_trips,
        seen_as: None,
    })
}

fn pod_to_outside(node: &Node, pods: &Pods, family: usize) -> Result<Way> {
    let mut round_trips = Vec::new();
    let target = of(&node.outside_addresses, family)?;
    for pod in &pods.pods {
        ping_from(pod, target, &mut round_trips)?;
    }
    let name = if family == 0 {
        "pod to outside, IPv4"
    } else {
        "pod to outside, IPv6"
    };
    let node_address = of(&node.addresses, family)?;
    let server = UdpEcho::start(&node.outside, &any(family));
    let seen_as = seen(pods, |first, _| {
        let seen = ask(first, target)?;
        if seen == node_address {
            return Ok("the node's address (masquerade)".to_owned());
        }
        Err(format!(
            "{} is seen as {seen} outside, not as the node",
            first.name
        ))
    })?;
    drop(server);
    Ok(Way {
        name: name.to_owned(),
        round_trips,
        seen_as,
    })
}

fn seen(
    pods: &Pods,
    check: impl Fn(&Attached, &Attached) -> Result<String>,
) -> Result<Option<String>> {
    match pods.pods.as_slice() {
        [first, second, ..] => check(first, second).map(Some),
        _ => Ok(None),
    }
}

/// Which address a server at `target` sees a pod under.
fn ask(pod: &Attached, target: IpAddr) -> Result<IpAddr> {
    let target = std::net::SocketAddr::new(target, PORT).to_string();
    let answer = pod.pod.run(|| UdpEcho::ask(&target));
    answer
        .map(|seen| seen.ip())
        .map_err(|error| format!("{} gets no answer from {target}: {error}", pod.name))
}

fn any(family: usize) -> String {
    if family == 0 {
        format!("0.0.0.0:{PORT}")
    } else {
        format!("[::]:{PORT}")
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table::write(&self.ways, f)
    }
}
