//! Writes that fail, and processes that die.

use std::sync::Arc;

use async_trait::async_trait;
use cni_core::fabric::{Engine, Removal};
use cni_core::host::forwarding::*;
use cni_core::host::netlink::NetlinkError;

use crate::support::*;
use crate::tiny::{ALL, Tiny, fabric};

const EIO: i32 = 5;

/// Nothing of ours is there, nor a parameter as we want it.
fn begin_anew(world: &World, tiny: Tiny) {
    wait(world.engine(tiny).cleanup());
    shell("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
    world.faults.reset();
}

pub(crate) fn a_write_that_fails_once_is_made_good() {
    let world = World::new();
    for way in ALL {
        let tiny = Tiny::new(way);
        begin_anew(&world, tiny);
        full(&mut world.engine(tiny), &peers(2));
        let all = world.faults.writes();
        let wanted = world.state();
        assert!(all > 12, "{all}");
        for n in 1..=all {
            begin_anew(&world, tiny);
            world.faults.fail_write(n, EIO);
            full(&mut world.engine(tiny), &peers(2));
            assert_eq!(world.faults.fired(), 1, "{way:?}: write {n} of {all}");
            world.state().assert_unchanged_since(&wanted);
        }
        world.faults.reset();
        wait(world.engine(tiny).cleanup());
    }
}

/// A kernel that refuses one entry.
#[derive(Debug)]
struct Refusing {
    inner: Arc<dyn Forwarding>,
    key: Key,
}

#[async_trait]
impl Forwarding for Refusing {
    async fn read(
        &self,
        scope: &Scope<'_>,
        each: &mut (dyn FnMut(Entry) + Send),
    ) -> Result<(), NetlinkError> {
        self.inner.read(scope, each).await
    }

    async fn write(&self, changes: &[Change]) -> Vec<Failed> {
        let mut failed = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            if change.entry().key() == self.key {
                let error = NetlinkError::new(change.to_string(), EIO);
                failed.push(Failed { index, error });
                continue;
            }
            let made = self.inner.write(std::slice::from_ref(change)).await;
            failed.extend(made.into_iter().map(|failed| Failed { index, ..failed }));
        }
        failed
    }

    async fn has_next_hops(&self) -> Result<bool, NetlinkError> {
        self.inner.has_next_hops().await
    }
}

pub(crate) fn what_cannot_be_written_is_named_and_keeps_nothing_else_back() {
    let world = World::new();
    for way in ALL {
        let tiny = Tiny::new(way);
        full(&mut world.engine(tiny), &peers(3));
        let wanted = world.state();
        let entries = world.entries(tiny);
        for entry in &entries {
            wait(world.engine(tiny).cleanup());
            let mut host = world.host.clone();
            host.forwarding = Arc::new(Refusing {
                inner: host.forwarding.clone(),
                key: entry.key(),
            });
            let mut engine = Engine::new(host, fabric(tiny));
            let report = wait(engine.full(&view(&peers(3)), Removal::Allowed));
            // The entry, and of a next hop the routes by it.
            let name = crate::damage::owner(entry);
            let words: Vec<&str> = report.errors.iter().map(|(words, _)| &**words).collect();
            assert!(!words.is_empty(), "{entry:?}");
            for words in &words {
                let named = name.as_ref().is_none_or(|name| words.contains(name));
                assert!(named, "{entry:?}: {words}");
            }
            let lost = match entry {
                Entry::NextHop(hop) => entries.iter().filter(|other| matches!(other, Entry::Route(route) if route.via == Via::NextHop(hop.id))).count(),
                _ => 0,
            };
            assert_eq!(words.len(), 1 + lost, "{entry:?}: {words:?}");
            assert_eq!(world.entries(tiny).len(), entries.len() - 1 - lost);
            full(&mut world.engine(tiny), &peers(3));
            world.state().assert_unchanged_since(&wanted);
        }
        wait(world.engine(tiny).cleanup());
    }
}

pub(crate) fn a_process_that_dies_at_any_write_is_taken_over_from() {
    let world = World::new();
    for way in ALL {
        let tiny = Tiny::new(way);
        // From nothing, and from a cluster half of which stays as it is.
        let mut after = peers(5);
        peer(&mut after, 3).underlay = underlay(8);
        remove(&mut after, 4);
        full(&mut world.engine(tiny), &after);
        let wanted = world.state();
        for warm in [false, true] {
            for n in 1.. {
                wait(world.engine(tiny).cleanup());
                if warm {
                    full(&mut world.engine(tiny), &peers(4));
                }
                let stream = warm.then(|| {
                    Stream::to(&["10.244.1.5", "fd00:244:1::5", "10.244.2.5", "10.244.3.5"])
                });
                let mut engine = world.engine(tiny);
                world.faults.reset();
                world.faults.crash_at(n);
                wait(engine.full(&view(&after), Removal::Allowed));
                let died = world.faults.fired() > 0;
                world.faults.reset();
                full(&mut world.engine(tiny), &after);
                world.state().assert_unchanged_since(&wanted);
                assert_eq!(full(&mut world.engine(tiny), &after).changes(), 0);
                if let Some(stream) = stream {
                    stream.end();
                }
                if !died {
                    assert!(n > 5, "{n}");
                    break;
                }
            }
        }
        wait(world.engine(tiny).cleanup());
    }
}
