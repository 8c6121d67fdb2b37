//! The fake kernel and the kernel, given the same random changes: they answer with the same errnos, and hold the same.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cni_core::host::Host;
use cni_core::host::firewall::Table;
use cni_core::host::netlink::{
    LinkFilter, NetlinkChange, NetlinkError, NetlinkExt, NewLink, NewLinkKind,
};
use cni_core::testing::{FakeKernel, snapshot};
use cni_testkit::{Pod, Test, tests};

use crate::contracts::{open, wait};

mod firewall;
mod forwarding;
mod netlink;

pub(crate) const TESTS: &[Test] = &tests![
    the_fake_and_the_kernel_agree_on_random_links_and_addresses,
    the_fake_and_the_kernel_agree_on_random_routes,
    the_fake_and_the_kernel_agree_on_random_forwarding,
    the_fake_and_the_kernel_agree_on_random_nftables,
];

const STEPS: usize = 60;
/// Sequences begin until then, and two at least.
const LIMIT: Duration = Duration::from_secs(3);

fn the_fake_and_the_kernel_agree_on_random_links_and_addresses() {
    agree(&Game {
        build: |_| {},
        step: |host, random| wait(netlink::link_step(host, random)),
        tables: &[],
    });
}

fn the_fake_and_the_kernel_agree_on_random_routes() {
    agree(&Game {
        build: netlink::build,
        step: |host, random| wait(netlink::route_step(host, random)),
        tables: &[],
    });
}

fn the_fake_and_the_kernel_agree_on_random_forwarding() {
    agree(&Game {
        build: forwarding::build,
        step: |host, random| wait(forwarding::step(host, random)),
        tables: &[],
    });
}

fn the_fake_and_the_kernel_agree_on_random_nftables() {
    agree(&Game {
        build: |_| {},
        step: |host, random| wait(firewall::step(host, random)),
        tables: &firewall::tables(),
    });
}

/// What both are given.
struct Game<'a> {
    /// What there is at the beginning.
    build: fn(&Host),
    /// A step is made from the numbers that it draws, and both draw the same ones.
    step: fn(&Host, &mut Random) -> Step,
    /// What is compared besides links, addresses, routes, next hops, neighbours, rules and parameters.
    tables: &'a [Table],
}

/// A change, as text, and what came of it.
type Step = (String, Result<(), NetlinkError>);

fn agree(game: &Game<'_>) {
    let begin = Instant::now();
    let mut sequences = 0;
    for seed in 1.. {
        // However slow the machine is, one sequence alone tells too little.
        if begin.elapsed() > LIMIT && sequences > 1 {
            break;
        }
        one_sequence(seed, game);
        sequences += 1;
    }
    println!("{sequences} sequences of {STEPS} steps");
}

fn one_sequence(seed: u64, game: &Game<'_>) {
    let kernel = match filters_vlans() {
        true => FakeKernel::new(),
        false => FakeKernel::new().without_vlan_filtering(),
    };
    let fake = kernel.host();
    netlink::prepare(&fake, seed);
    (game.build)(&fake);
    let pod = Pod::new("random");
    pod.run(|| {
        let real = open();
        netlink::prepare(&real, seed);
        (game.build)(&real);
        let mut history = String::new();
        let (mut one, mut other) = (Random::new(seed), Random::new(seed));
        compare(&fake, &real, game.tables, &history);
        for _ in 0..STEPS {
            let (change, of_fake) = (game.step)(&fake, &mut one);
            let (_, of_real) = (game.step)(&real, &mut other);
            history.push_str(&format!("{change}  # {}\n", brief(&of_real)));
            assert_eq!(
                brief(&of_fake),
                brief(&of_real),
                "seed {seed}: the fake (left) and the kernel (right) answer differently to the last of\n{history}\
                 {of_fake:?}\n{of_real:?}"
            );
            compare(&fake, &real, game.tables, &history);
        }
    });
}

/// Whether this kernel was built with it.
fn filters_vlans() -> bool {
    let kind = NewLinkKind::Bridge {
        vlan_filtering: true,
    };
    let change = NetlinkChange::LinkAdd(NewLink::new("br", kind));
    Pod::new("probe").run(|| wait(open().netlink.apply_one(change)).is_ok())
}

fn brief(outcome: &Result<(), NetlinkError>) -> i32 {
    outcome.as_ref().map_or_else(|error| error.errno, |()| 0)
}

fn compare(fake: &Host, real: &Host, tables: &[Table], history: &str) {
    // Asked for one by one, links settle: ports before the bridge, whose carrier is theirs.
    for name in ["a", "b", "c", "d", "br", "v", "a", "b", "c", "d", "br", "v"] {
        wait(real.netlink.links(LinkFilter::Name(name))).expect("a link can be read");
    }
    let of_fake = wait(snapshot(fake, tables)).expect("the fake's state");
    let of_real = wait(snapshot(real, tables)).expect("the kernel's state");
    let only = |these: &str, those: &str| {
        let those: BTreeSet<&str> = those.lines().collect();
        let lines: Vec<&str> = these.lines().filter(|line| !those.contains(line)).collect();
        lines.join("\n")
    };
    assert!(
        of_fake == of_real,
        "after\n{history}only the fake has\n{}\nonly the kernel has\n{}",
        only(&of_fake, &of_real),
        only(&of_real, &of_fake)
    );
}

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(number).expect("32 bits") % end
    }

    fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}
