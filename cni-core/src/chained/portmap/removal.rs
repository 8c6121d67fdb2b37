//! Taking an attachment's ports away, by its names alone.

use crate::attach::Elements;
use crate::backend::Context;
use crate::chained::flow;
use crate::error::{Error, Result};
use crate::host::firewall::{Element, FirewallChange, Value};
use crate::host::netlink::{NetlinkError, errno};
use crate::host::{Firewall, Host};
use crate::plan::{Change, Handles, Place, Plan, Step, remove};
use crate::spec::{Attachment, Mark};

use super::publication::{Publication, record_key};
use super::table::{HAIRPIN, HAIRPIN_PORTS, LOCALNET, RECORDS, V4, V6, own_chain, table};
use super::{flows, hairpin};

/// What is to be removed, in the order in which it is safe to die between two steps.
#[derive(Debug, Default)]
pub(super) struct Removal {
    /// Everything but the records.
    pub(super) ports: Vec<FirewallChange>,
    /// The records, last: they say which flows are the attachment's.
    pub(super) records: Vec<FirewallChange>,
    /// What the records say.
    pub(super) publications: Vec<Publication>,
}

impl Removal {
    /// Ports of bridges whose hairpin mode goes with their elements.
    fn hairpin_ports(&self) -> impl Iterator<Item = &str> {
        let elements = self.ports.iter().flat_map(|change| match change {
            FirewallChange::ElementDel { set, elements, .. } if set == HAIRPIN_PORTS => {
                elements.as_slice()
            }
            _ => &[],
        });
        elements.filter_map(|element| match element.key.as_slice() {
            [Value::Interface(port)] => Some(port.as_str()),
            _ => None,
        })
    }
}

/// Clears away what an ADD of this attachment that died has left, or one that was never followed by a DEL.
pub(super) async fn leftover(cx: &Context<'_>, attachment: &Attachment) -> Result<()> {
    let mark = attachment.mark();
    let first = record(cx.host.firewall.as_ref(), 0, &mark).await?;
    match first {
        Some(_) => of(cx, attachment).await?.carry_out(cx).await,
        None => Ok(()),
    }
}

/// What is to be removed of an attachment: its records say where to look.
pub(super) async fn of(cx: &Context<'_>, attachment: &Attachment) -> Result<Removal> {
    let mark = attachment.mark();
    let mut records = Vec::new();
    for number in 0.. {
        match record(cx.host.firewall.as_ref(), number, &mark).await? {
            Some(element) => records.push(element),
            None => break,
        }
    }
    if records.is_empty() {
        return Ok(Removal::default());
    }
    let publications: Vec<Publication> =
        records.iter().filter_map(Publication::of_record).collect();
    let mut ports = flow::elements_of(cx, attachment, &places(&publications, attachment)).await?;
    ports.extend(own_chains(attachment, &ports));
    Ok(Removal {
        ports,
        records: deletion(RECORDS, records),
        publications,
    })
}

impl Removal {
    /// Whether flows have to be forgotten between ports and records.
    fn has_flows(&self) -> bool {
        self.publications.iter().any(Publication::is_connectionless)
    }

    /// The steps, for people too.
    pub(super) fn plan(&self) -> Plan {
        let step = |changes: Vec<FirewallChange>| {
            let reason = "published ports";
            Step::new(Place::Host, Change::Firewall(changes), reason)
        };
        let groups = match self.has_flows() {
            true => vec![self.ports.clone(), self.records.clone()],
            false => vec![[self.ports.clone(), self.records.clone()].concat()],
        };
        let groups = groups.into_iter().filter(|changes| !changes.is_empty());
        groups.map(step).collect()
    }

    /// Everything but the records, and but the elements that say of these ports of bridges that their hairpin mode is ours.
    fn ports_without(&self, kept: &[&str]) -> Vec<FirewallChange> {
        let is_kept = |element: &Element| match element.key.as_slice() {
            [Value::Interface(port)] => kept.contains(&port.as_str()),
            _ => false,
        };
        let mut changes = self.ports.clone();
        changes.retain_mut(|change| match change {
            FirewallChange::ElementDel { set, elements, .. } if set == HAIRPIN_PORTS => {
                elements.retain(|element| !is_kept(element));
                !elements.is_empty()
            }
            _ => true,
        });
        changes
    }

    /// Removes it. A process that dies after the ports are gone leaves the records, by which the next DEL forgets the flows. So
    /// does one that could not reset hairpin mode, with the element that says so.
    pub(super) async fn carry_out(&self, cx: &Context<'_>) -> Result<()> {
        let handles = Handles {
            host: cx.host,
            sandbox: None,
        };
        let (mut errors, mut kept) = (Vec::new(), Vec::new());
        for port in self.hairpin_ports() {
            if let Err(error) = hairpin::set(cx.host, port, false).await {
                errors.push(error);
                kept.push(port);
            }
        }
        if errors.is_empty() && !self.has_flows() {
            let errors = remove(&self.plan(), &handles).await;
            return Error::join(errors).map_or(Ok(()), Err);
        }
        let reason = "published ports";
        let step = |changes: &[FirewallChange]| -> Plan {
            let change = Change::Firewall(changes.to_vec());
            let filled = Some(Step::new(Place::Host, change, reason));
            filled.filter(|_| !changes.is_empty()).into_iter().collect()
        };
        let failed = remove(&step(&self.ports_without(&kept)), &handles).await;
        if failed.is_empty() {
            errors.extend(self.forget(cx.host).await.err());
        }
        errors.extend(failed);
        if errors.is_empty() {
            errors.extend(remove(&step(&self.records), &handles).await);
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    async fn forget(&self, host: &Host) -> Result<()> {
        flows::forget_after(host, &self.publications).await
    }
}

async fn record(firewall: &dyn Firewall, number: u32, mark: &Mark) -> Result<Option<Element>> {
    let key = record_key(number, mark);
    let found = match firewall.element(&table(), RECORDS, &key).await {
        Err(error) if is_unknown(&error) => None,
        found => found?,
    };
    Ok(found.filter(|element| element.comment.as_deref() == Some(mark.as_str())))
}

/// The kernel has no nftables: then there is nothing in it.
pub(super) fn is_unknown(error: &NetlinkError) -> bool {
    [errno::EOPNOTSUPP, errno::EPROTONOSUPPORT].contains(&error.errno)
}

/// Where elements of these ports may be, by key.
fn places(publications: &[Publication], attachment: &Attachment) -> Vec<Elements> {
    let mut all: Vec<Elements> = Vec::new();
    let mut put = |set: &str, key: Vec<Value>| match all.iter_mut().find(|place| place.set == set) {
        Some(place) => place.keys.get_or_insert_default().push(key),
        None => all.push(Elements {
            table: table(),
            set: set.to_owned(),
            keys: Some(vec![key]),
        }),
    };
    for publication in publications {
        let names = publication.names();
        let (set, key) = publication.place();
        put(set, key);
        let (set, key) = publication.rule_place();
        put(set, key);
        put(names.published, publication.connection());
        put(names.masqueraded, publication.connection());
    }
    let link = || Value::Interface(attachment.host_name().to_string());
    put(HAIRPIN, vec![link(), link()]);
    put(HAIRPIN_PORTS, vec![link()]);
    put(LOCALNET, vec![link()]);
    all
}

/// The attachment's chains, where elements lead to them.
fn own_chains(attachment: &Attachment, elements: &[FirewallChange]) -> Vec<FirewallChange> {
    let mut changes = Vec::new();
    for names in [V4, V6] {
        let leads = elements.iter().any(|change| {
            matches!(change, FirewallChange::ElementDel { set, .. }
                if set == names.rules || set == names.host_rules)
        });
        if leads {
            changes.extend(chain_deletion(&own_chain(attachment, &names)));
        }
    }
    changes
}

/// What deletes a chain with its rules.
pub(super) fn chain_deletion(chain: &str) -> [FirewallChange; 2] {
    let chain = chain.to_owned();
    [
        FirewallChange::ChainFlush {
            table: table(),
            chain: chain.clone(),
        },
        FirewallChange::ChainDel {
            table: table(),
            chain,
        },
    ]
}

/// What deletes elements.
pub(super) fn deletion(set: &str, elements: Vec<Element>) -> Vec<FirewallChange> {
    match elements.is_empty() {
        true => Vec::new(),
        false => vec![FirewallChange::ElementDel {
            table: table(),
            set: set.to_owned(),
            elements,
        }],
    }
}
