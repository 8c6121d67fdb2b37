//! What must be set, and what DEL puts back: pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::netlink::{Link, LinkSettings, NetlinkChange};
use crate::plan::{Change, Desired, LinkSpec, Object, Place, Plan, Step, same_value};
use crate::spec::InterfaceName;

use super::backup::Backup;
use super::config::TuningConfig;

/// What the configuration asks for, but for the parameters that cannot be compared.
///
/// Each setting is one of its own: the kernel takes several in one message, and keeps those before one that it refuses.
pub fn desired(
    interface: &InterfaceName,
    config: &TuningConfig,
    write_only: &BTreeSet<String>,
) -> Desired {
    let mut desired = Desired::new();
    let parameters = config.parameters.iter();
    for parameter in parameters.filter(|parameter| !write_only.contains(&parameter.path)) {
        let object = Object::Sysctl {
            key: parameter.path.clone(),
            value: parameter.value.clone(),
        };
        desired.own(Place::Container, object);
    }
    let mut link = |set: &dyn Fn(&mut LinkSpec), wanted: bool| {
        if wanted {
            let mut spec = LinkSpec::new(interface.as_str(), None);
            // Whoever made it says whether it is up.
            spec.up = false;
            set(&mut spec);
            desired.own(Place::Container, Object::Link(spec));
        }
    };
    link(&|spec| spec.mac = config.mac, config.mac.is_some());
    link(
        &|spec| spec.promiscuous = config.promiscuous,
        config.promiscuous.is_some(),
    );
    link(&|spec| spec.mtu = config.mtu, config.mtu.is_some());
    link(
        &|spec| spec.all_multicast = config.all_multicast,
        config.all_multicast.is_some(),
    );
    link(
        &|spec| spec.tx_queue_len = config.tx_queue_len,
        config.tx_queue_len.is_some(),
    );
    desired
}

/// The writes of parameters that cannot be compared (`net.ipv4.route.flush`), which are made each time and not taken back.
pub(super) fn writes(config: &TuningConfig, write_only: &BTreeSet<String>) -> Plan {
    let parameters = config.parameters.iter();
    let parameters = parameters.filter(|parameter| write_only.contains(&parameter.path));
    parameters
        .map(|parameter| {
            let change = Change::Sysctl {
                key: parameter.path.clone(),
                value: parameter.value.clone(),
            };
            let reason = format!("{} can be written, and not compared", parameter.path);
            Step::new(Place::Container, change, reason)
        })
        .collect()
}

/// What puts back what was there before. `link` is the interface as it is, where it still is; `parameters` are those of the
/// backup that still exist, as they are.
pub fn restoration(
    backup: &Backup,
    link: Option<&Link>,
    parameters: &BTreeMap<String, String>,
) -> Plan {
    let mut plan = Plan::new();
    if let Some(link) = link {
        let mut back = |differs: bool, set: &dyn Fn(&mut LinkSettings)| {
            if differs {
                let mut settings = LinkSettings::default();
                set(&mut settings);
                let change = NetlinkChange::LinkSet {
                    link: link.name.clone(),
                    settings,
                };
                let reason = format!("link {} is as ADD has set it", link.name);
                plan.push(Step::new(Place::Container, change.into(), reason));
            }
        };
        let (mac, mtu) = (backup.mac, backup.mtu);
        back(mac.is_some() && mac != link.mac, &|set| set.mac = mac);
        back(mtu.is_some_and(|mtu| mtu != link.mtu), &|set| set.mtu = mtu);
        let (promiscuous, all) = (backup.promiscuous, backup.all_multicast);
        back(
            promiscuous.is_some_and(|on| on != link.promiscuous),
            &|set| {
                set.promiscuous = promiscuous;
            },
        );
        back(all.is_some_and(|on| on != link.all_multicast), &|set| {
            set.all_multicast = all;
        });
        let length = backup.tx_queue_len;
        back(
            length.is_some_and(|length| length != link.tx_queue_len),
            &|set| {
                set.tx_queue_len = length;
            },
        );
    }
    for (key, value) in &backup.parameters {
        let still_ours = parameters
            .get(key)
            .is_some_and(|now| same_value(now, &value.set) && !same_value(now, &value.was));
        if still_ours {
            let change = Change::Sysctl {
                key: key.clone(),
                value: value.was.clone(),
            };
            let reason = format!("{key} is as ADD has set it");
            plan.push(Step::new(Place::Container, change, reason));
        }
    }
    plan
}

#[cfg(test)]
#[path = "desired_tests.rs"]
mod tests;
