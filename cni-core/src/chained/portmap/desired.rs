//! What must exist for one attachment. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::error::{Error, ErrorKind, Result};
use crate::host::firewall::{Action, ChainSpec, Element, Field, Match, Rule, TableSpec, Value};
use crate::plan::{Declared, Desired, Object, Owner, Place};
use crate::spec::{Attachment, Mark};

use super::config::PortmapConfig;
use super::publication::{Publication, marked};
use super::table::RECORDS;
use super::table::{
    HAIRPIN, HAIRPIN_PORTS, LOCALNET, Names, V4, V6, loopback, own_chain, table, table_spec,
};

/// What the declaration is made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Whose ports.
    pub attachment: &'a Attachment,
    /// The configuration.
    pub config: &'a PortmapConfig,
    /// The ports, as [`publications`] says.
    pub publications: &'a [Publication],
    /// What the host is like.
    pub facts: &'a Facts,
}

/// What the host is like, as far as the declaration depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The link that leads to the pod's IPv4 address.
    pub link4: Option<String>,
    /// The link that leads to the pod's IPv6 address.
    pub link6: Option<String>,
    /// Somebody else lets loopback addresses be routed on `link4` (`route_localnet`): then that is left as it is.
    pub localnet_is_open: bool,
    /// The pod's port of a bridge, where it needs hairpin mode for the pod to reach itself, and has not got it from somebody else.
    pub hairpin_port: Option<String>,
}

impl Facts {
    /// The link that leads to an address of the pod.
    pub(super) fn link(&self, names: &Names) -> Option<&str> {
        match names.family {
            crate::host::firewall::Family::Ip6 => self.link6.as_deref(),
            _ => self.link4.as_deref(),
        }
    }
}

/// The ports to publish, where the pod has these addresses: of each family the first counts.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] when one port is to lead to two of the pod's, or when the pod has no address.
pub fn publications(config: &PortmapConfig, addresses: &[IpAddr]) -> Result<Vec<Publication>> {
    let first = |v4: bool| addresses.iter().find(|ip| ip.is_ipv4() == v4).copied();
    let pods: Vec<IpAddr> = [first(true), first(false)].into_iter().flatten().collect();
    if pods.is_empty() && !config.mappings.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            "`runtimeConfig.portMappings` asks for ports, and `prevResult` has no address of this interface that they could \
             lead to",
        ));
    }
    let mut all = BTreeMap::new();
    for mapping in &config.mappings {
        for publication in pods.iter().filter_map(|pod| Publication::of(mapping, *pod)) {
            let key = (publication.pod, publication.place());
            match all.insert(key, publication) {
                Some(other) if other.port != publication.port => {
                    return Err(Error::new(
                        ErrorKind::InvalidConfig,
                        format!(
                            "`runtimeConfig.portMappings` has host port {publication} twice, for the container's ports {} \
                             and {}: it can lead to one",
                            other.port, publication.port
                        ),
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(all.into_values().collect())
}

/// Everything that the attachment's ports need.
pub fn declare(input: &Input<'_>) -> Desired {
    let mut desired = Desired::new();
    if input.publications.is_empty() {
        return desired;
    }
    desired.share(Place::Host, Object::Table(table_spec()));
    conditions(input, &mut desired);
    let hosts = input.publications.iter();
    let hosts: BTreeSet<_> = hosts
        .filter_map(|one| Some((one.names().addresses, one.host?)))
        .collect();
    for (set, host) in hosts {
        let element = Object::Element {
            table: table(),
            set: set.to_owned(),
            element: Element::new(vec![host.into()]),
        };
        desired.share(Place::Host, element);
    }
    // Set by set, so that the elements of each travel together.
    let mark = input.attachment.mark();
    for publication in input.publications {
        place(input, publication, &mark, &mut desired);
    }
    for publication in input.publications.iter().filter(|_| input.config.snat) {
        let names = publication.names();
        let set = match input.config.masq_all {
            true => names.masqueraded,
            false => names.published,
        };
        let element = marked(publication.connection(), None, &mark);
        let what = format!("what leads to {} of the pod", publication.target());
        claim(&mut desired, set, element, what);
    }
    for (number, publication) in (0..).zip(input.publications) {
        let record = publication.record(number, &mark);
        claim(&mut desired, RECORDS, record, "a record of published ports");
    }
    if input.config.snat {
        answers(input, &mut desired);
    }
    desired
}

/// Keys are the attachment's own and no two are alike, so that none has to be looked for among the others.
fn claim(desired: &mut Desired, set: &str, element: Element, what: impl Into<String>) {
    desired.items.push(Declared {
        place: Place::Host,
        owner: Owner::Attachment,
        object: Object::Claim {
            table: table(),
            set: set.to_owned(),
            element,
            what: what.into(),
        },
    });
}

fn place(input: &Input<'_>, publication: &Publication, mark: &Mark, desired: &mut Desired) {
    let names = publication.names();
    let what = || format!("host port {publication}");
    let (map, _) = publication.place();
    claim(desired, map, publication.element(mark), what());
    if has_chain(input, &names) {
        let (map, _) = publication.rule_place();
        let chain = own_chain(input.attachment, &names);
        claim(desired, map, publication.rule(&chain, mark), what());
    }
}

/// Whether the attachment needs rules of its own: they are what not every port has.
fn has_chain(input: &Input<'_>, names: &Names) -> bool {
    let conditions = input.config.conditions(names.family);
    conditions.iter().any(|all| !all.is_empty()) || marks(input)
}

fn marks(input: &Input<'_>) -> bool {
    input.config.mark_bit.is_some() && input.config.snat
}

/// The attachment's chain of each family.
fn conditions(input: &Input<'_>, desired: &mut Desired) {
    for names in [V4, V6] {
        let mut of_family = input
            .publications
            .iter()
            .filter(|publication| publication.names() == names)
            .peekable();
        if of_family.peek().is_none() || !has_chain(input, &names) {
            continue;
        }
        let (mut one, mut all) = (false, false);
        for publication in of_family {
            one |= publication.host.is_some();
            all |= publication.host.is_none();
        }
        let spec = TableSpec {
            table: table(),
            sets: Vec::new(),
            chains: vec![ChainSpec {
                name: own_chain(input.attachment, &names),
                hook: None,
                rules: rules(input, &names, (one, all)),
            }],
        };
        desired.own(Place::Host, Object::Table(spec));
    }
}

fn rules(input: &Input<'_>, names: &Names, (one, all): (bool, bool)) -> Vec<Rule> {
    let mut rules = Vec::new();
    for alternative in input.config.conditions(names.family) {
        let with = |more: Vec<Match>, action| Rule {
            matches: [alternative.clone(), more].concat(),
            action,
        };
        if let Some(bit) = input.config.mark_bit.filter(|_| marks(input)) {
            let action = || Action::MarkSet(1 << bit);
            let marked = masqueraded(input, names).into_iter();
            rules.extend(marked.map(|condition| with(condition, action())));
        }
        if one {
            rules.push(with(Vec::new(), names.lead(true)));
        }
        if all {
            rules.push(with(Vec::new(), names.lead(false)));
        }
    }
    rules
}

/// Which packets will be masqueraded, as far as that is seen before they are translated.
fn masqueraded(input: &Input<'_>, names: &Names) -> Vec<Vec<Match>> {
    if input.config.masq_all {
        return vec![Vec::new()];
    }
    let from = |link: &str| Match::Is {
        field: Field::InputInterface,
        value: Value::Interface(link.to_owned()),
        negated: false,
    };
    let mut all: Vec<Match> = input.facts.link(names).map(from).into_iter().collect();
    if *names == V4 {
        all.extend(loopback(Field::Ipv4Source));
    }
    all.into_iter().map(|one| vec![one]).collect()
}

/// That answers come back by this host.
fn answers(input: &Input<'_>, desired: &mut Desired) {
    for names in [V4, V6] {
        let published = |publication: &&Publication| publication.names() == names;
        let Some(link) = input.facts.link(&names) else {
            continue;
        };
        if input.publications.iter().any(|one| published(&one)) {
            interface(input, HAIRPIN, vec![link, link], desired);
        }
    }
    if let Some(port) = &input.facts.hairpin_port {
        let key = vec![Value::Interface(port.clone())];
        let element = marked(key, None, &input.attachment.mark());
        claim(desired, HAIRPIN_PORTS, element, format!("port {port}"));
    }
    let from_loopback = |publication: &Publication| match publication.host {
        Some(IpAddr::V4(host)) => host.is_loopback(),
        Some(IpAddr::V6(_)) => false,
        None => publication.pod.is_ipv4(),
    };
    if let Some(link) = &input.facts.link4
        && !input.facts.localnet_is_open
        && input.publications.iter().any(from_loopback)
    {
        interface(input, LOCALNET, vec![link], desired);
        let open = Object::Sysctl {
            key: localnet_key(link),
            value: "1".to_owned(),
        };
        desired.share_after(Place::Host, open);
    }
}

/// The kernel parameter that lets loopback addresses be routed on a link.
pub(super) fn localnet_key(link: &str) -> String {
    format!("net/ipv4/conf/{link}/route_localnet")
}

/// An element for an interface: the attachment's own where the interface is, as with `ptp`, and shared where that is a bridge.
fn interface(input: &Input<'_>, set: &str, links: Vec<&str>, desired: &mut Desired) {
    let own = input.attachment.host_name();
    let is_own = links.first() == Some(&own.as_str());
    let key = links
        .into_iter()
        .map(|link| Value::Interface(link.to_owned()));
    let mut element = Element::new(key.collect());
    let owner = match is_own {
        true => Owner::Attachment,
        false => Owner::Shared,
    };
    element.comment = is_own.then(|| input.attachment.mark().to_string());
    let object = Object::Element {
        table: table(),
        set: set.to_owned(),
        element,
    };
    match owner {
        Owner::Attachment => desired.own(Place::Host, object),
        Owner::Shared => desired.share(Place::Host, object),
    }
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
