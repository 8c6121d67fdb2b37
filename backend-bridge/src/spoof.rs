//! `macspoofchk`: a container sends frames only under the hardware address it was given.
//!
//! ```text
//! table bridge cni_spoof {
//!   set allowed { type ifname . ether_addr }
//!   set guarded { type ifname }
//!   chain prerouting {
//!     type filter hook prerouting priority -300;
//!     iifname . ether saddr @allowed accept
//!     iifname @guarded counter drop
//!   }
//! }
//! ```
//!
//! As in the reference plugin it is the frame's source that is judged, not what an ARP or ND packet inside says.

use cni_core::host::firewall::{
    Action, ChainKind, ChainSpec, Element, Family, Field, Hook, HookPoint, Match, Rule, SetSpec,
    Table, TableSpec, Value, ValueType,
};
use cni_core::host::netlink::MacAddr;
use cni_core::plan::{Desired, Object, Place};
use cni_core::spec::Attachment;

/// The set of ports and the hardware addresses behind them.
pub(crate) const ALLOWED: &str = "allowed";
/// The set of ports that are guarded.
pub(crate) const GUARDED: &str = "guarded";

/// The table that all networks share.
pub(crate) fn table() -> Table {
    Table {
        family: Family::Bridge,
        name: "cni_spoof".to_owned(),
    }
}

/// Declares that only frames from `mac` come in by the attachment's port.
pub(crate) fn declare(desired: &mut Desired, attachment: &Attachment, mac: MacAddr) {
    desired.share(Place::Host, Object::Table(table_spec()));
    let port = attachment.host_name().to_string();
    let keys = [
        (ALLOWED, allowed_key(&port, mac)),
        (GUARDED, guarded_key(&port)),
    ];
    for (set, key) in keys {
        let mut element = Element::new(key);
        element.comment = Some(attachment.mark().to_string());
        let element = Object::Element {
            table: table(),
            set: set.to_owned(),
            element,
        };
        desired.own(Place::Host, element);
    }
}

/// The key of a port and the hardware address behind it.
pub(crate) fn allowed_key(port: &str, mac: MacAddr) -> Vec<Value> {
    vec![Value::Interface(port.to_owned()), Value::Mac(mac)]
}

/// The key of a guarded port.
pub(crate) fn guarded_key(port: &str) -> Vec<Value> {
    vec![Value::Interface(port.to_owned())]
}

fn table_spec() -> TableSpec {
    let set = |name: &str, key: Vec<ValueType>| SetSpec::new(name, key);
    let in_set = |fields, set: &str, action| Rule {
        matches: vec![Match::InSet {
            fields,
            set: set.to_owned(),
            negated: false,
        }],
        action,
    };
    TableSpec {
        table: table(),
        sets: vec![
            set(ALLOWED, vec![ValueType::Interface, ValueType::Mac]),
            set(GUARDED, vec![ValueType::Interface]),
        ],
        chains: vec![ChainSpec {
            name: "prerouting".to_owned(),
            hook: Some(Hook {
                kind: ChainKind::Filter,
                point: HookPoint::Prerouting,
                // The reference's, NF_BR_PRI_NAT_DST_BRIDGED: before anything else that a bridge does with a frame.
                priority: -300,
            }),
            rules: vec![
                in_set(
                    vec![Field::InputInterface, Field::EtherSource],
                    ALLOWED,
                    Action::Accept,
                ),
                in_set(
                    vec![Field::InputInterface],
                    GUARDED,
                    Action::Drop { counter: true },
                ),
            ],
        }],
    }
}
