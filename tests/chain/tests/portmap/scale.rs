//! Ten thousand published ports, fifty thousand flows: what one more costs.

use std::net::UdpSocket;

use cni_core::backend::{AddRequest, Context, DelRequest};
use cni_core::chained::portmap::Portmap;
use cni_core::host::Host;
use cni_core::host::conntrack::FlowFilter;
use cni_core::host::netns::NetnsPath;
use cni_core::spec::{AddResult, Attachment, CniArgs, NetworkConfig};
use cni_core::testing::{FakeIpam, Faults, Faulty};
use cni_core::{Cancel, NetworkBackend};
use cni_testkit::{Pod, TcpEcho, Test, tests};
use serde_json::{Value, json};

use super::world::*;

pub(crate) const TESTS: &[Test] = &tests![
    one_more_port_is_as_many_requests_among_ten_thousand_as_alone,
    a_dump_of_flows_brings_those_of_the_port_alone,
];

/// Reads and writes of an ADD and of a DEL in this process.
fn requests(network: &Network, pod: &Pod, result: &Value) -> [(u64, u64); 2] {
    let config = NetworkConfig::parse(network.config(result).to_string().as_bytes()).unwrap();
    let result = AddResult::parse(&result.to_string(), config.version()).unwrap();
    let (args, cancel, ipam) = (CniArgs::default(), Cancel::new(), FakeIpam::new([]));
    let attachment = Attachment {
        network: config.name().clone(),
        container: pod.id().parse().unwrap(),
        interface: "eth0".parse().unwrap(),
    };
    ["ADD", "DEL"].map(|verb| {
        let faults = Faults::new();
        let host = Faulty::host(&Host::open().unwrap(), &faults);
        let cx = Context {
            host: &host,
            ipam: &ipam,
            cancel: &cancel,
            dry_run: false,
        };
        block(async {
            if verb == "ADD" {
                let netns = NetnsPath::new(pod.path());
                let sandbox = host.namespaces.open(&netns).await.unwrap();
                let request = AddRequest {
                    attachment: &attachment,
                    sandbox: &sandbox,
                    config: &config,
                    args: &args,
                    prev_result: Some(&result),
                };
                Portmap.add(&cx, &request).await.unwrap();
            } else {
                let request = DelRequest {
                    attachment: &attachment,
                    netns: None,
                    config: &config,
                    args: &args,
                    prev_result: None,
                };
                Portmap.del(&cx, &request).await.unwrap();
            }
        });
        (faults.reads(), faults.writes())
    })
}

fn one_more_port_is_as_many_requests_among_ten_thousand_as_alone() {
    let outside = outside();
    let network = Network::new();
    let (first, crowd, pod) = (Pod::new("first"), Pod::new("crowd"), Pod::new("pod"));
    network.clone().publishing(&["1:1/tcp"]).add(&first);
    let result = network.attach(&pod);
    let one = network.clone().publishing(&["65000:80/tcp"]);
    let alone = requests(&one, &pod, &result);
    let of_crowd = network.attach(&crowd);
    let mut config = network.config(&of_crowd);
    let mappings = (0..10_000).map(|n| json!({ "hostPort": 2000 + n, "containerPort": 80 }));
    config["runtimeConfig"] = json!({ "portMappings": mappings.collect::<Vec<_>>() });
    network
        .portmap("ADD", &crowd, &of_crowd)
        .config(&config)
        .run()
        .result();
    assert_eq!(requests(&one, &pod, &result), alone);
    let _server = TcpEcho::start(&crowd, "[::]:80");
    for port in [2000, 11_999] {
        sees(tcp(&outside, &format!("192.0.2.1:{port}")), OUTSIDE4);
    }
    network.bare_del(&crowd).silent_success();
    assert_eq!(elements("records").len(), 2, "those of the first pod");
}

fn a_dump_of_flows_brings_those_of_the_port_alone() {
    let pod = Pod::new("pod");
    // Its masquerade turns connection tracking on.
    Network::new().publishing(&["5353:53/udp"]).add(&pod);
    // None lapses meanwhile, however slow the machine is.
    crate::net::flows_last();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..1000_u16 {
        socket.send_to(b"x", ("127.0.0.1", 10_000 + n)).unwrap();
    }
    let host = Host::open().unwrap();
    let of = |port| FlowFilter {
        destination_port: port,
        ..FlowFilter::of(false, 17)
    };
    let all = block(host.conntrack.flows(&of(None))).unwrap();
    assert!(all.len() >= 1000, "{}", all.len());
    let one = block(host.conntrack.flows(&of(Some(10_500)))).unwrap();
    assert_eq!(one.len(), 1, "{one:?}");
    block(host.conntrack.delete(&one)).unwrap();
    // What is gone already is none to be deleted.
    block(host.conntrack.delete(&one)).unwrap();
    assert_eq!(
        block(host.conntrack.flows(&of(None))).unwrap().len(),
        all.len() - 1
    );
}
