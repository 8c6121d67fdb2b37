//! firewalld, where it rules the host: what it has to know of the network.

use std::time::Duration;

use cni_core::cluster::View;
use cni_core::node::StateDir;
use cni_core::node::zones::{self, Changes, Input, Keeper, Passed, Record, Wanted};
use ipnetwork::IpNetwork;

use crate::programmer::Connection;

/// For how long the first comparison waits for firewalld: until then pods' packets may be rejected though the node is connected.
const FIRST: Duration = Duration::from_secs(1);

/// What is told where the rules are there, and nobody who could be asked.
const UNREACHED: &str = "firewalld's rules are in force here and may reject what pods send, and this process does not reach firewalld on \
                         the system's message bus: see whether it runs; in a container this process needs /run/dbus; or tell firewalld yourself";

/// What the configuration says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zoning {
    /// `firewalldZone`.
    pub zone: String,
    /// What peers' pods send may come by the uplink.
    pub direct: bool,
}

impl Zoning {
    /// What a node that is connected so needs to be in the zone.
    pub fn wanted(&self, view: &View, cluster: &[IpNetwork], connection: &Connection) -> Wanted {
        let own = view.me().map(|me| me.prefixes.as_slice());
        let input = Input {
            zone: &self.zone,
            own: own.unwrap_or_default(),
            entrance: &connection.entrance,
            direct: self.direct,
            cluster,
        };
        zones::wanted(&input, view.peers().map(|peer| &**peer))
    }

    /// What a node needs to be in the zone that is connected as an earlier process has left it; `None` where firewalld did not rule
    /// it then.
    pub fn former(&self, dir: &StateDir) -> Option<Wanted> {
        let record = Record::read(dir).unwrap_or_else(|error| {
            tracing::warn!("{}", error.chain());
            None
        });
        record.map(|record| Wanted {
            zone: self.zone.clone(),
            ..record.wanted
        })
    }
}

/// Who sees to it.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    keeper: Option<Keeper>,
    /// The first look has been asked for.
    begun: bool,
    /// There has been one.
    seen: bool,
    /// firewalld's rules are in force.
    ruled: bool,
    /// That it is not reached has been told.
    unreached: bool,
}

impl Zones {
    pub(crate) fn kept(keeper: Keeper) -> Self {
        Self {
            keeper: Some(keeper),
            ..Self::default()
        }
    }

    /// Has firewalld told, where it runs; and what it knows looked at where `look` says so. The first look is waited for, a moment.
    pub(crate) async fn want(
        &mut self,
        wanted: impl FnOnce() -> Wanted,
        removal: bool,
        look: bool,
    ) {
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        let first = !std::mem::replace(&mut self.begun, true);
        if first {
            keeper.watch();
            self.seen |= tokio::time::timeout(FIRST, keeper.looked()).await.is_ok();
        }
        // What has been told once is kept up to date: it may come again at any time.
        match keeper.last().running || keeper.is_told() {
            true => keeper.want(wanted(), removal, look),
            false if look && !first => keeper.watch(),
            false => {}
        }
        if first && keeper.last().running {
            let _ = tokio::time::timeout(FIRST, keeper.looked()).await;
        }
    }

    /// firewalld's rules are in force, or not.
    pub(crate) fn see(&mut self, ruled: bool) {
        self.ruled = ruled;
    }

    /// firewalld has come, and waits to be told.
    pub(crate) fn is_ignorant(&self) -> bool {
        let waits = |keeper: &Keeper| keeper.last().running && !keeper.is_told();
        self.keeper.as_ref().is_some_and(waits)
    }

    /// Why firewalld may reject what pods send. That it cannot be asked is logged and no flaw: the operator may have told it.
    pub(crate) fn flaws(&mut self) -> Vec<String> {
        let last = self.last();
        let unreached = self.is_unreached(&last);
        if unreached && !self.unreached {
            tracing::warn!("{UNREACHED}");
        }
        self.unreached = unreached;
        last.flaws
    }

    /// Before it is told that firewalld is not reached it is to be looked at whether its rules are still in force: one that has ended
    /// has taken them along.
    pub(crate) fn is_doubtful(&self) -> bool {
        !self.unreached && self.is_unreached(&self.last())
    }

    fn is_unreached(&self, last: &Passed) -> bool {
        self.ruled && self.seen && !last.running && last.flaws.is_empty()
    }

    fn last(&self) -> Passed {
        self.keeper.as_ref().map(Keeper::last).unwrap_or_default()
    }

    /// What firewalld has been told, and told to forget, since this was asked last.
    pub(crate) fn changes(&self) -> Changes {
        self.keeper
            .as_ref()
            .map(Keeper::changes)
            .unwrap_or_default()
    }

    /// Waits until there has been a look.
    pub(crate) async fn looked(&mut self) {
        match &mut self.keeper {
            Some(keeper) => keeper.looked().await,
            None => std::future::pending().await,
        }
        self.seen = true;
    }
}

#[cfg(test)]
mod tests {
    use cni_core::host::zones::ZoneMember;
    use cni_core::node::NodeConfig;
    use cni_core::spec::NetworkConfig;

    use super::*;

    #[test]
    fn what_was_wanted_before_is_wanted_in_the_zone_that_is_configured_now() {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            r#"{{"cniVersion":"1.1.0","name":"pods","cluster":{{"file":"/c"}},"stateDir":"{}"}}"#,
            directory.path().display()
        );
        let config = NetworkConfig::parse(text.as_bytes()).unwrap();
        let dir = StateDir::of(&NodeConfig::parse(&config).unwrap());
        let zoning = Zoning {
            zone: "pods".to_owned(),
            direct: false,
        };
        assert_eq!(zoning.former(&dir), None);
        std::fs::create_dir_all(dir.path()).unwrap();
        let file = r#"{"zone":"trusted","wanted":{"interfaces":["vxlan.1"],"sources":[],"ports":[]},"port":null,"added":[]}"#;
        std::fs::write(dir.path().join("zones.json"), file).unwrap();
        let wanted = Wanted {
            zone: "pods".to_owned(),
            members: [ZoneMember::Interface("vxlan.1".to_owned())].into(),
            ..Wanted::default()
        };
        assert_eq!(zoning.former(&dir), Some(wanted));
    }
}
