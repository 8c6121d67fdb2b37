//! Letting pods through a host whose own rules for forwarded packets drop them.
//!
//! A packet passes a hook when *every* chain there lets it: that a table of ours accepts it says nothing in another one. So
//! a few plain rules stand where the host's own are, each with a comment that says which table of ours it is for, and of a form
//! that `iptables` lists as one of its own.
//!
//! For a node's prefixes they are two for each ([`declare_prefixes`]): what comes from its pods, and what goes to them. No
//! chain of ours has to look at each packet for that.
//!
//! For single attachments ([`declare`]) it is one, however many there are: chains run by priority, and can tell each other
//! something by the packet's mark.
//!
//! ```text
//! table inet cni_…                                        -2       sets a bit of the mark of what it accepts
//! table ip filter { chain FORWARD { policy drop } }        0       accepts what bears the bit: our one plain rule
//! table inet cni_…                                         1       clears the bit
//! ```
//!
//! So the bit lives inside the forward hook alone, and what is accepted is decided in one place.
//!
//! The rules are put where there is a chain `FORWARD` that may drop: into the table `filter` that `iptables-nft` uses, and into
//! that of `iptables-legacy` where the namespace has one. A host whose rules are nftables' own needs the same rules in its own
//! chain, which is the operator's: `ip saddr 10.244.1.0/24 accept`, `ip daddr 10.244.1.0/24 accept`, and for attachments
//! `meta mark & 0x00001000 == 0x00001000 accept`. firewalld's own table is such a chain, and is told by what it listens to: a zone
//! ([`node::zones`](crate::node::zones) for a node's prefixes).

use ipnetwork::IpNetwork;

use crate::error::Result;
use crate::host::Host;
use crate::host::firewall::{
    Action, ChainKind, ChainSpec, Family, Field, FirewallChange, Hook, HookPoint, Match, Rule,
    Table,
};
use crate::host::legacy::{LegacyChange, LegacyMatch, LegacyRule};
use crate::plan::{Change, Desired, Object, Place, Plan, Step};

/// The bit of the packet's mark that says: accepted. It is not one of those that portmap (0x2000), kube-proxy (0x4000,
/// 0x8000), Flannel (0x4000) or Docker Swarm use.
pub const ACCEPTED: u32 = 0x1000;

/// Priority of the chain of attachments that are accepted or not: it clears the bit of what it does not accept.
pub const ATTACHMENTS: i32 = -2;

/// `NF_IP_PRI_FILTER`, where `FORWARD` is, and one more.
const BEHIND: i32 = 1;

/// The chain of `iptables` that decides what is forwarded.
const FORWARD: &str = "FORWARD";

/// The two families that `iptables` has a table for.
const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

/// What every comment of a plain rule begins with.
pub(crate) const COMMENT: &str = "cni: accepted by ";

/// The chain that clears the bit behind everybody's.
pub fn cleared() -> ChainSpec {
    let rules = vec![Rule::new([], Action::MarkClear(ACCEPTED))];
    ChainSpec::base("forwarded", hook(BEHIND), rules)
}

/// The forward hook at a priority.
pub fn hook(priority: i32) -> Hook {
    Hook {
        kind: ChainKind::Filter,
        point: HookPoint::Forward,
        priority,
    }
}

/// Declares that what `owner`, a table of ours, accepts passes the host's own rules for these families.
pub fn declare(desired: &mut Desired, owner: &Table, families: &[Family]) {
    for family in FAMILIES {
        if families.contains(&family) {
            let rule = (LegacyMatch::Mark(ACCEPTED), comment(owner));
            share(desired, owner, family, &[rule]);
        }
    }
}

/// Declares that what these addresses send and are sent passes the host's own rules, for `owner`, a table of ours. Rules for
/// others of its prefixes go, in the families that there are prefixes of.
pub fn declare_prefixes(desired: &mut Desired, owner: &Table, prefixes: &[IpNetwork]) {
    for family in FAMILIES {
        let of_family = |prefix: &&IpNetwork| prefix.is_ipv6() == (family == Family::Ip6);
        let of_family = prefixes.iter().filter(of_family);
        let both = of_family.flat_map(|prefix| {
            let owner = comment(owner);
            [
                (
                    LegacyMatch::Source(*prefix),
                    format!("{owner} from {prefix}"),
                ),
                (
                    LegacyMatch::Destination(*prefix),
                    format!("{owner} to {prefix}"),
                ),
            ]
        });
        let both: Vec<(LegacyMatch, String)> = both.collect();
        if !both.is_empty() {
            share(desired, owner, family, &both);
        }
    }
}

fn share(desired: &mut Desired, owner: &Table, family: Family, rules: &[(LegacyMatch, String)]) {
    let plain = |(accepts, comment): &(LegacyMatch, String)| (plain(*accepts), comment.clone());
    let legacy = |(accepts, comment): &(LegacyMatch, String)| LegacyRule {
        family,
        chain: FORWARD.to_owned(),
        accepts: *accepts,
        comment: comment.clone(),
    };
    let in_nftables = Object::HostRules {
        table: filter(family),
        chain: FORWARD.to_owned(),
        owner: comment(owner),
        rules: rules.iter().map(plain).collect(),
    };
    let in_legacy = Object::LegacyRules {
        family,
        chain: FORWARD.to_owned(),
        owner: comment(owner),
        rules: rules.iter().map(legacy).collect(),
    };
    desired.share(Place::Host, in_nftables);
    desired.share(Place::Host, in_legacy);
}

/// Whether a comment is one of the owner's.
pub(crate) fn is_of(owner: &str, comment: &str) -> bool {
    let rest = comment.strip_prefix(owner);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// Whether a table is one whose chains have our rules: a change of it is worth a look.
pub fn concerns(table: &Table) -> bool {
    FAMILIES.iter().any(|family| filter(*family) == *table)
}

/// What removes the plain rules for a table of ours, wherever they are.
///
/// # Errors
/// Where the host's chains cannot be read.
pub async fn removal(host: &Host, owner: &Table) -> Result<Plan> {
    let comment = comment(owner);
    let mut plan = Plan::new();
    for family in FAMILIES {
        let table = filter(family);
        let found = host.firewall.chain_rules(&table, FORWARD).await?;
        let rules = found.unwrap_or_default().rules.into_iter();
        let ours = rules.filter(|rule| {
            let found = rule.comment.as_deref();
            found.is_some_and(|found| is_of(&comment, found))
        });
        let deletions = ours.map(|rule| FirewallChange::RuleDel {
            table: table.clone(),
            chain: FORWARD.to_owned(),
            handle: rule.handle,
        });
        let deletions: Vec<FirewallChange> = deletions.collect();
        let step = |change| {
            let reason = format!("chain {FORWARD} of table {table} accepts what {owner} accepts");
            Step::new(Place::Host, change, reason).on_shared()
        };
        if !deletions.is_empty() {
            plan.push(step(Change::Firewall(deletions)));
        }
        let legacy = host.legacy.rules(family, FORWARD).await?;
        for rule in legacy.into_iter().flatten() {
            if is_of(&comment, &rule.comment) {
                plan.push(step(Change::Legacy(LegacyChange::Delete(rule))));
            }
        }
    }
    Ok(plan)
}

fn filter(family: Family) -> Table {
    Table {
        family,
        name: "filter".to_owned(),
    }
}

fn plain(accepts: LegacyMatch) -> Rule {
    let accepted = match accepts {
        LegacyMatch::Mark(bits) => Match::Bits {
            field: Field::Mark,
            bits,
            all: true,
        },
        LegacyMatch::Source(prefix) if prefix.is_ipv6() => Match::within(Field::Ipv6Source, prefix),
        LegacyMatch::Source(prefix) => Match::within(Field::Ipv4Source, prefix),
        LegacyMatch::Destination(prefix) if prefix.is_ipv6() => {
            Match::within(Field::Ipv6Destination, prefix)
        }
        LegacyMatch::Destination(prefix) => Match::within(Field::Ipv4Destination, prefix),
    };
    Rule::new([accepted], Action::Accept)
}

fn comment(owner: &Table) -> String {
    format!("{COMMENT}{owner}")
}
