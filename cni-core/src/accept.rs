//! Letting pods through a host whose own rules for forwarded packets drop them.
//!
//! A packet passes a hook when *every* chain there lets it: that a table of ours accepts it says nothing in another one. But
//! chains run by priority, and can tell each other something by the packet's mark:
//!
//! ```text
//! table inet cni_…                                        -2, -1   sets a bit of the mark of what it accepts
//! table ip filter { chain FORWARD { policy drop } }        0       accepts what bears the bit: our one plain rule
//! table inet cni_…                                         1       clears the bit
//! ```
//!
//! So the bit lives inside the forward hook alone, the plain rule is one for each family, however many pods and networks there
//! are, and what is accepted is decided in one place. The rule bears a comment that says which table of ours it is for, and
//! is of a form that `iptables` lists as one of its own.
//!
//! The rule is put where there is a chain `FORWARD` that may drop: into the table `filter` that `iptables-nft` uses, and into
//! that of `iptables-legacy` where the namespace has one. A host whose rules are nftables' own needs the same rule in its own
//! chain, which is the operator's: `meta mark & 0x00001000 == 0x00001000 accept`.

use crate::error::Result;
use crate::host::Host;
use crate::host::firewall::{
    Action, ChainKind, ChainSpec, Family, Field, FirewallChange, Hook, HookPoint, Match, Rule,
    Table,
};
use crate::host::legacy::{LegacyChange, LegacyRule};
use crate::plan::{Change, Desired, Object, Place, Plan, Step};

/// The bit of the packet's mark that says: accepted. It is not one of those that portmap (0x2000), kube-proxy (0x4000,
/// 0x8000), Flannel (0x4000) or Docker Swarm use.
pub const ACCEPTED: u32 = 0x1000;

/// Priority of the chain of attachments that are accepted or not: it clears the bit of what it does not accept.
pub const ATTACHMENTS: i32 = -2;
/// Priority of chains that accept whole prefixes: they only set the bit, after the others.
pub const PREFIXES: i32 = -1;

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
        if !families.contains(&family) {
            continue;
        }
        let rule = Object::HostRule {
            table: filter(family),
            chain: FORWARD.to_owned(),
            rule: plain(),
            comment: comment(owner),
        };
        desired.share(Place::Host, rule);
        desired.share(Place::Host, Object::LegacyRule(legacy(family, owner)));
    }
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
        let ours = rules.filter(|rule| rule.comment.as_deref() == Some(&comment));
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
        let rule = legacy(family, owner);
        if host.legacy.has(&rule).await? == Some(true) {
            plan.push(step(Change::Legacy(LegacyChange::Delete(rule))));
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

fn plain() -> Rule {
    let accepted = Match::Bits {
        field: Field::Mark,
        bits: ACCEPTED,
        all: true,
    };
    Rule::new([accepted], Action::Accept)
}

fn comment(owner: &Table) -> String {
    format!("{COMMENT}{owner}")
}

fn legacy(family: Family, owner: &Table) -> LegacyRule {
    LegacyRule {
        family,
        chain: FORWARD.to_owned(),
        mark: ACCEPTED,
        comment: comment(owner),
    }
}
