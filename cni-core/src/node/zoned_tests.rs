use std::sync::{Arc, Mutex};

use super::*;
use crate::cluster::Node;
use crate::fabric::{Base, Census, Fabric, Facts, NextHopIds, Owner, Reach, tables};
use crate::host::Host;
use crate::node::state::AgentLock;
use crate::node::zones::fake::{Dir, Fake, needs};
use crate::node::{Network, StateDir};
use crate::testing::FakeKernel;

/// A node of which nothing but its zone is to be seen to.
#[derive(Debug)]
struct Nothing;

impl Fabric for Nothing {
    fn owner(&self) -> Owner {
        let network = "n".parse().unwrap();
        Owner {
            table: tables::table(&network),
            network,
            protocol: 167,
            devices: Vec::new(),
        }
    }

    fn base(&self, _: &Node, _: &Census, _: &Facts) -> Result<Base> {
        Ok(Base::default())
    }

    fn peer(&self, _: &Node, _: &Base, _: &Facts, _: &dyn NextHopIds, _: &Node) -> Reach {
        Reach::default()
    }
}

/// A node with this directory and this firewalld.
async fn put_back(dir: &Dir, zones: &Arc<Fake>, cancel: &Cancel) -> Result<()> {
    let host = Host {
        zones: zones.clone(),
        ..FakeKernel::new().host()
    };
    let network = Network {
        node: dir.config.clone(),
        fabric: Arc::new(Nothing),
        direct: false,
    };
    let updater = Updater {
        host: &host,
        network: &network,
        dir: dir.state.clone(),
    };
    updater.put_back(cancel).await
}

#[tokio::test]
async fn what_firewalld_has_forgotten_is_put_back_unless_an_agent_has_come_meanwhile() {
    let (dir, mut zones) = (Dir::new(), Fake::default());
    let wanted = needs(&["10.1.0.0/24"]);
    dir.pass(&zones, &wanted);
    zones.members = Mutex::default();
    // It comes while firewalld is asked.
    let agent: Arc<Mutex<Option<AgentLock>>> = Arc::default();
    let state: StateDir = dir.state.clone();
    zones.asked = Some(Box::new({
        let agent = Arc::clone(&agent);
        move || {
            let mut agent = agent.lock().unwrap();
            agent.get_or_insert_with(|| state.agent_lock().unwrap());
        }
    }));
    let zones = Arc::new(zones);
    put_back(&dir, &zones, &Cancel::new()).await.unwrap();
    assert_eq!(zones.members_of("trusted"), [""; 0]);
    agent.lock().unwrap().take().unwrap();
    let mut zones = Arc::into_inner(zones).unwrap();
    zones.asked = None;
    let zones = Arc::new(zones);
    put_back(&dir, &zones, &Cancel::new()).await.unwrap();
    assert_eq!(zones.members_of("trusted"), ["10.1.0.0/24"]);
}

#[tokio::test]
async fn who_knows_that_firewalld_does_not_answer_waits_for_nobody() {
    let (dir, mut zones) = (Dir::new(), Fake::default());
    zones.silent_at = Some((1, false));
    dir.pass(&zones, &needs(&["10.1.0.0/24"]));
    zones.calls = 0.into();
    let _other = dir.state.update_lock(&Cancel::new()).unwrap();
    let no_time = Cancel::new().with_deadline(Instant::now());
    let outcome = put_back(&dir, &Arc::new(zones), &no_time).await;
    let error = outcome.unwrap_err();
    assert!(error.chain().contains("no answer"), "{}", error.chain());
}
