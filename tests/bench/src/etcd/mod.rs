//! Nodes that claim a prefix at once on a real etcd: our algorithm, and Flannel's, replayed over the same client.

mod follow;

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cni_core::cluster::NodeUid;
use cni_testkit::Pod;
use cni_testkit::etcd::Etcd;
use ipnetwork::IpNetwork;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use node_agent::etcd::EtcdConfig;
use node_agent::etcd::api::{Guard, LeaseAnswer, Put, RangeAnswer, TxnAnswer, encode, end_of, txn};
use node_agent::etcd::client::{Client, Failure};
use node_agent::etcd::layout::{Layout, Tunnel, dashed};
use node_agent::etcd::list::list;
use node_agent::etcd::member::Member;
use node_agent::etcd::table::Table;
use node_agent::remote::facts::Facts;
use node_agent::tenure::Standing;
use serde_json::json;
use tokio::sync::Barrier;

use crate::contestants::Contestants;

const NODES: usize = 1000;
/// 4,096 prefixes: a quarter of them is wanted.
const NETWORK: &str = "10.16.0.0/12";

/// What came of one node's claim.
#[derive(Debug, Clone, Copy)]
struct Claimed {
    prefix: Option<IpNetwork>,
    transactions: u64,
    took: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Algorithm {
    Ours,
    Flannels,
}

pub(crate) fn run(contestants: &Contestants) {
    if !["/usr/bin/etcd", "/usr/local/bin/etcd"]
        .iter()
        .any(|path| std::path::Path::new(path).is_file())
    {
        println!("etcd: not measured, as etcd (Debian: etcd-server) is not installed");
        return;
    }
    // A connection for each node.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    println!("\n== etcd as the source of nodes");
    println!(
        "{NODES} nodes claim one of the 4,096 prefixes of {NETWORK} at once, each after it has listed what there is:"
    );
    for algorithm in [
        Algorithm::Ours,
        Algorithm::Flannels,
        Algorithm::Ours,
        Algorithm::Flannels,
    ] {
        measure(algorithm);
    }
    if let Some(ours) = contestants.all.first() {
        follow::run(&ours.directory);
    }
}

fn measure(algorithm: Algorithm) {
    let pod = Pod::new("etcd");
    let etcd = Etcd::start(&pod, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let layout = if algorithm == Algorithm::Ours {
        "nodes"
    } else {
        "flannel"
    };
    let section = json!({
        "endpoints": [etcd.url()], "layout": layout, "podNetworks": [{ "prefix": NETWORK }],
    });
    let config = EtcdConfig::parse(&section.to_string(), "bench").expect("a configuration");
    let (all, whole) = pod.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .expect("a runtime")
            .block_on(claim_all(algorithm, &config))
    });
    let distinct: BTreeSet<IpNetwork> = all.iter().filter_map(|claimed| claimed.prefix).collect();
    let failed = all
        .iter()
        .filter(|claimed| claimed.prefix.is_none())
        .count();
    let transactions: u64 = all.iter().map(|claimed| claimed.transactions).sum();
    let most = all
        .iter()
        .map(|claimed| claimed.transactions)
        .max()
        .unwrap_or_default();
    let mut times: Vec<Duration> = all.iter().map(|claimed| claimed.took).collect();
    times.sort_unstable();
    let name = if algorithm == Algorithm::Ours {
        "ours"
    } else {
        "Flannel's"
    };
    println!(
        "  {name:<10} {} distinct prefixes, {failed} without; {transactions} transactions, {:.2} each, {most} at most; {:.2} s for all, {:.2} s in the middle",
        distinct.len(),
        transactions as f64 / NODES as f64,
        whole.as_secs_f64(),
        times
            .get(times.len() / 2)
            .copied()
            .unwrap_or_default()
            .as_secs_f64(),
    );
}

async fn claim_all(algorithm: Algorithm, config: &EtcdConfig) -> (Vec<Claimed>, Duration) {
    let barrier = Arc::new(Barrier::new(NODES + 1));
    let taken = Taken::default();
    let mut tasks = Vec::new();
    for number in 0..NODES {
        let (config, barrier, taken) = (config.clone(), Arc::clone(&barrier), Arc::clone(&taken));
        tasks.push(tokio::spawn(async move {
            let mut client = Client::new(config.access.clone());
            let mut table = Table::new(Layout::new(&config, Tunnel::Vxlan(1)));
            // A thousand at once, on a machine that does all of it: some wait for longer than a node does.
            while client.connect().await.is_err() {}
            list(&mut client, &mut table).await.expect("a list");
            barrier.wait().await;
            let begin = Instant::now();
            let claimed = match algorithm {
                Algorithm::Ours => ours(number, &config, &mut client, &mut table).await,
                Algorithm::Flannels => flannels(number, &config, &mut client, &taken).await,
            };
            let (prefix, transactions) =
                claimed.unwrap_or_else(|failure| panic!("node {number}: {failure}"));
            Claimed {
                prefix,
                transactions,
                took: begin.elapsed(),
            }
        }));
    }
    barrier.wait().await;
    let begin = Instant::now();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.expect("a claim"));
    }
    (all, begin.elapsed())
}

fn address(number: usize) -> IpAddr {
    let number = u32::try_from(number).expect("a small number");
    IpAddr::V4(Ipv4Addr::from(
        u32::from(Ipv4Addr::new(198, 18, 0, 1)) + number,
    ))
}

async fn ours(
    number: usize,
    config: &EtcdConfig,
    client: &mut Client,
    table: &mut Table,
) -> Result<(Option<IpNetwork>, u64), Failure> {
    let name = format!("node-{number}");
    let mut member = Member::new(config.clone(), NodeUid::new(&name), name, Vec::new()).with_vtep();
    let facts = Facts {
        addresses: vec![address(number)],
        ..Facts::default()
    };
    let prefix = match member.ensure(client, table, &facts).await? {
        Standing::Holds(prefixes) => prefixes.first().copied(),
        Standing::Withheld(_) => None,
    };
    Ok((prefix, member.transactions()))
}

/// What Flannel's daemons would read in a list at this moment.
type Taken = Arc<Mutex<BTreeSet<IpNetwork>>>;

/// As `pkg/subnet/etcd/local_manager.go` of flannel-io/flannel allocates: list, take one of the first hundred free by chance, create
/// it if it is not there, at most ten times. Lists are asked for and not read: a thousand of them on one machine would be what
/// is measured. That, and the request that Flannel makes for each key's lease, is left out in its favour.
async fn flannels(
    number: usize,
    config: &EtcdConfig,
    client: &mut Client,
    taken: &Taken,
) -> Result<(Option<IpNetwork>, u64), Failure> {
    let range = config.networks.first().expect("a network");
    let base = format!("{}/subnets/", config.prefix);
    let list =
        json!({ "key": encode(&base), "range_end": encode(end_of(&base)), "count_only": true });
    let taken = || taken.lock().unwrap_or_else(PoisonError::into_inner);
    let mut seen = BTreeSet::new();
    for attempt in 1..=10 {
        // The first list was before the others had begun.
        if attempt > 1 {
            let _counted: RangeAnswer = client.call("/v3/kv/range", &list).await?;
            seen = taken().clone();
        }
        let free = (0..range.count()).filter_map(|number| range.nth(number));
        let free: Vec<IpNetwork> = free
            .filter(|prefix| !seen.contains(prefix))
            .take(100)
            .collect();
        let chance = RandomState::new().hash_one(number) as usize % free.len();
        let prefix = free[chance];
        let lease: LeaseAnswer = client
            .call("/v3/lease/grant", &json!({ "TTL": "86400" }))
            .await?;
        let key = format!("{base}{}", dashed(prefix));
        let value = format!(
            r#"{{"PublicIP":"{}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0e:00:00:00:00:01"}}}}"#,
            address(number)
        );
        let guard = Guard {
            key: key.clone(),
            mod_revision: 0,
        };
        let put = Put {
            key,
            value,
            lease: lease.id,
        };
        let answer: TxnAnswer = client.call("/v3/kv/txn", &txn(&[guard], &[put])).await?;
        if answer.succeeded {
            taken().insert(prefix);
            return Ok((Some(prefix), attempt));
        }
    }
    Ok((None, 10))
}
