//! What the chain has come to, from real sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};

use cni_testkit::{Flow, Pod, TcpEcho};
use ipnetwork::IpNetwork;

use super::network::{PORT, Pods, RATE};
use crate::Result;
use crate::attached::Attached;
use crate::one::Node;

/// Who asks.
enum From<'a> {
    Outside(&'a Pod),
    Node,
    Pod(&'a Attached),
}

impl From<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Outside(_) => "outside",
            Self::Node => "the node",
            Self::Pod(pod) => &pod.name,
        }
    }

    fn ask(&self, target: &str) -> io::Result<SocketAddr> {
        match self {
            Self::Outside(pod) => pod.run(|| TcpEcho::ask(target)),
            Self::Node => TcpEcho::ask(target),
            Self::Pod(pod) => pod.pod.run(|| TcpEcho::ask(target)),
        }
    }
}

/// Asks for the site in every way, and tells whom it saw; what should get no answer is tried as well.
pub(crate) fn answers(node: &Node, pods: &Pods<'_>) -> Result<()> {
    let [published, inside] = PORT;
    let _server = TcpEcho::start(&pods.site.pod, &format!("[::]:{inside}"));
    println!("{:<10} {:<28} {:<8} the site sees", "from", "to", "answer");
    for family in [0, 1] {
        let own = node.addresses.get(family).map(IpNetwork::ip);
        let own = own.ok_or("the node has an address of each family")?;
        let outside = node.outside_addresses.get(family).map(IpNetwork::ip);
        let at_the_node = SocketAddr::new(own, published);
        let itself = SocketAddr::new(pods.site.address(family)?, inside);
        let unpublished = SocketAddr::new(own, published + 1);
        let seen = expect_answer(&From::Outside(&node.outside), at_the_node)?;
        if Some(seen) != outside {
            return Err(format!("the site sees {seen}, and not who asked"));
        }
        for from in [
            From::Node,
            From::Pod(&pods.site),
            From::Pod(&pods.neighbour),
            From::Pod(&pods.guest),
        ] {
            expect_answer(&from, at_the_node)?;
        }
        if family == 0 {
            let loopback = SocketAddr::new([127, 0, 0, 1].into(), published);
            expect_answer(&From::Node, loopback)?;
        }
        expect_answer(&From::Pod(&pods.neighbour), itself)?;
        expect_none(&From::Outside(&node.outside), unpublished, "not published")?;
        expect_none(&From::Pod(&pods.guest), itself, "closed to other networks")?;
    }
    Ok(())
}

fn expect_answer(from: &From<'_>, target: SocketAddr) -> Result<IpAddr> {
    let seen = from.ask(&target.to_string());
    let seen =
        seen.map_err(|error| format!("{} gets no answer of {target}: {error}", from.name()))?;
    let seen = seen.ip().to_canonical();
    println!(
        "{:<10} {:<28} {:<8} {seen}",
        from.name(),
        target.to_string(),
        "yes"
    );
    Ok(seen)
}

fn expect_none(from: &From<'_>, target: SocketAddr, why: &str) -> Result<()> {
    if let Ok(seen) = from.ask(&target.to_string()) {
        return Err(format!(
            "{} gets an answer of {target} as {seen}, and should not: {why}",
            from.name()
        ));
    }
    println!(
        "{:<10} {:<28} {:<8} ({why})",
        from.name(),
        target.to_string(),
        "no"
    );
    Ok(())
}

/// What a connection carries, each way.
pub(crate) fn limits(pods: &Pods<'_>) -> Result<()> {
    println!("{:<10} {:>14} {:>14}", "pod", "into it", "out of it");
    for (pod, limited) in [(&pods.site, true), (&pods.neighbour, false)] {
        let gateway = pod.gateways.first().ok_or("the pod was told no gateway")?;
        let address = pod.address(0)?.to_string();
        // Beyond buffers and the burst.
        let bytes = if limited { 4 << 20 } else { 64 << 20 };
        let rates = [
            Flow::into(&pod.pod, &address).rate(bytes / 2, bytes),
            Flow::out_of(&pod.pod, gateway).rate(bytes / 2, bytes),
        ];
        let [into, out] = rates.map(|rate| format!("{:.1} Mbit/s", rate / 1e6));
        println!("{:<10} {into:>14} {out:>14}", pod.name);
        let most = RATE as f64 * 1.05;
        if limited && rates.iter().any(|rate| *rate > most) {
            return Err(format!("{} has more than its limit", pod.name));
        }
    }
    Ok(())
}
