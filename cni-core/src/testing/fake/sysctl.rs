//! Kernel parameters: `net/ipv4/devinet.c`, `net/ipv6/addrconf.c`. Defaults are those of a new namespace.

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::host::sysctl::Sysctl;

use super::handle::Handle;
use super::state::Namespace;

/// `net/ipv4/conf/LINK/NAME`.
const IPV4: &[(&str, &str)] = &[
    ("accept_local", "0"),
    ("accept_redirects", "1"),
    ("arp_accept", "0"),
    ("arp_announce", "0"),
    ("arp_filter", "0"),
    ("arp_ignore", "0"),
    ("arp_notify", "0"),
    ("forwarding", "0"),
    ("promote_secondaries", "0"),
    ("proxy_arp", "0"),
    ("proxy_arp_pvlan", "0"),
    ("route_localnet", "0"),
    ("rp_filter", "0"),
    ("send_redirects", "1"),
    ("src_valid_mark", "0"),
];

/// `net/ipv6/conf/LINK/NAME`.
const IPV6: &[(&str, &str)] = &[
    ("accept_dad", "1"),
    ("accept_ra", "1"),
    ("accept_redirects", "1"),
    ("addr_gen_mode", "0"),
    ("autoconf", "1"),
    ("dad_transmits", "1"),
    ("disable_ipv6", "0"),
    ("enhanced_dad", "1"),
    ("forwarding", "0"),
    ("keep_addr_on_down", "0"),
    ("ndisc_notify", "0"),
    ("optimistic_dad", "0"),
    ("proxy_ndp", "0"),
    ("use_tempaddr", "0"),
];

/// Of all namespaces together, and shown in the first alone (`neigh_sysctl_register`).
const FIRST: &[(&str, &str)] = &[
    ("net/ipv4/neigh/default/gc_thresh1", "128"),
    ("net/ipv4/neigh/default/gc_thresh2", "512"),
    ("net/ipv4/neigh/default/gc_thresh3", "1024"),
    ("net/ipv6/neigh/default/gc_thresh1", "128"),
    ("net/ipv6/neigh/default/gc_thresh2", "512"),
    ("net/ipv6/neigh/default/gc_thresh3", "1024"),
];

/// Others.
const PLAIN: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/ip_nonlocal_bind", "0"),
    ("net/ipv4/ip_unprivileged_port_start", "1024"),
    ("net/ipv4/ping_group_range", "1\t0"),
    ("net/bridge/bridge-nf-call-arptables", "1"),
    ("net/bridge/bridge-nf-call-ip6tables", "1"),
    ("net/bridge/bridge-nf-call-iptables", "1"),
];

#[async_trait]
impl Sysctl for Handle {
    async fn read(&self, key: &str) -> Result<Option<String>> {
        check_key(key)?;
        let mut state = self.kernel.state();
        let no_ipv6 = state.no_ipv6;
        let namespace = state
            .namespace(self.ns)
            .map_err(|_| refused("read", key, "the namespace is gone"))?;
        if no_ipv6 && key.starts_with("net/ipv6/") {
            return Ok(None);
        }
        Ok(namespace.sysctl(key).map(str::to_owned))
    }

    async fn write(&self, key: &str, value: &str) -> Result<()> {
        check_key(key)?;
        if let Err(fault) = self.kernel.faults().count() {
            let error = std::io::Error::from_raw_os_error(fault.errno());
            return Err(refused("write", key, "it failed").with_source(error));
        }
        let mut state = self.kernel.state();
        let no_ipv6 = state.no_ipv6;
        let namespace = state
            .namespace(self.ns)
            .map_err(|_| refused("write", key, "the namespace is gone"))?;
        if namespace.sysctl(key).is_none() || (no_ipv6 && key.starts_with("net/ipv6/")) {
            return Err(refused("write", key, "the kernel has no such parameter"));
        }
        let value = value.trim_end_matches('\n');
        if value.is_empty()
            || value
                .split_ascii_whitespace()
                .any(|word| word.parse::<i64>().is_err())
        {
            let error = std::io::Error::from_raw_os_error(crate::host::netlink::errno::EINVAL);
            return Err(refused("write", key, "the kernel refused the value").with_source(error));
        }
        namespace.write_sysctl(key, value);
        Ok(())
    }
}

/// Keys are held below `net`, as by the kernel's handle.
fn check_key(key: &str) -> Result<()> {
    let mut parts = key.split('/');
    let is_below_net = parts.next() == Some("net");
    let mut parts = parts.peekable();
    let is_plain = parts.peek().is_some() && parts.all(|part| !matches!(part, "" | "." | ".."));
    if is_below_net && is_plain {
        return Ok(());
    }
    let message = format!("kernel parameter {key:?} must be a path below net");
    Err(Error::new(ErrorKind::InvalidConfig, message))
}

fn refused(verb: &str, key: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("could not {verb} the kernel parameter {key}: {why}"),
    )
}

/// Family, interface and name of a key `net/FAMILY/conf/INTERFACE/NAME`.
fn interface_key(key: &str) -> Option<(&str, &str, &str)> {
    let mut parts = key.split('/');
    match (parts.next()?, parts.next()?, parts.next()?) {
        ("net", family, "conf") => {
            let interface = parts.next()?;
            let name = parts.next()?;
            parts.next().is_none().then_some((family, interface, name))
        }
        _ => None,
    }
}

fn default_of(table: &'static [(&str, &str)], name: &str) -> Option<&'static str> {
    table
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

fn interface_default(family: &str, name: &str) -> Option<&'static str> {
    match family {
        "ipv4" => default_of(IPV4, name),
        "ipv6" => default_of(IPV6, name),
        _ => None,
    }
}

impl Namespace {
    pub(super) fn sysctl(&self, key: &str) -> Option<&str> {
        // Two names of one variable (`devinet_sysctl_forward`).
        if key == "net/ipv4/ip_forward" {
            return self.interface_sysctl("ipv4", "all", "forwarding");
        }
        match interface_key(key) {
            Some((family, interface, name)) => self.interface_sysctl(family, interface, name),
            None => match self.sysctls.get(key) {
                Some(value) => Some(value),
                None if self.is_first => default_of(PLAIN, key).or_else(|| default_of(FIRST, key)),
                None => default_of(PLAIN, key),
            },
        }
    }

    pub(super) fn interface_sysctl(
        &self,
        family: &str,
        interface: &str,
        name: &str,
    ) -> Option<&str> {
        let default = interface_default(family, name)?;
        if !matches!(interface, "all" | "default") {
            let device = self.device(interface)?;
            if family == "ipv6" && !device.has_ipv6() {
                return None;
            }
        }
        match self
            .sysctls
            .get(&format!("net/{family}/conf/{interface}/{name}"))
        {
            Some(value) => Some(value),
            None => Some(default),
        }
    }

    pub(super) fn set_interface_sysctl(
        &mut self,
        family: &str,
        interface: &str,
        name: &str,
        value: &str,
    ) {
        let key = format!("net/{family}/conf/{interface}/{name}");
        if interface_default(family, name) == Some(value) {
            self.sysctls.remove(&key);
        } else {
            self.sysctls.insert(key, value.to_owned());
        }
    }

    fn write_sysctl(&mut self, key: &str, value: &str) {
        let (family, interface, name) = match interface_key(key) {
            Some(parts) => parts,
            None if key == "net/ipv4/ip_forward" => ("ipv4", "all", "forwarding"),
            None => {
                self.sysctls.insert(key.to_owned(), value.to_owned());
                return;
            }
        };
        let everywhere = interface == "all"
            && (name == "forwarding" || (family == "ipv6" && name == "disable_ipv6"));
        let mut interfaces = vec![interface.to_owned()];
        if everywhere {
            interfaces.push("default".to_owned());
            interfaces.extend(self.links.values().map(|device| device.link.name.clone()));
        }
        for interface in interfaces {
            self.set_interface_sysctl(family, &interface, name, value);
            if family == "ipv6" && name == "disable_ipv6" && value == "1" {
                self.drop_ipv6(&interface);
            }
        }
    }

    /// A new link takes what `default` says.
    pub(super) fn inherit_sysctls(&mut self, link: &str) {
        for family in ["ipv4", "ipv6"] {
            self.inherit_sysctls_of(family, link);
        }
    }

    pub(super) fn inherit_sysctls_of(&mut self, family: &str, link: &str) {
        let table = if family == "ipv4" { IPV4 } else { IPV6 };
        for (name, _) in table {
            let value = self
                .interface_sysctl(family, "default", name)
                .map(str::to_owned);
            if let Some(value) = value {
                self.set_interface_sysctl(family, link, name, &value);
            }
        }
    }

    /// IPv6 ends on a link; should it begin again, then with what `default` says.
    pub(super) fn forget_ipv6_sysctls(&mut self, link: &str) {
        let prefix = format!("net/ipv6/conf/{link}/");
        self.sysctls.retain(|key, _| !key.starts_with(&prefix));
    }

    pub(super) fn forget_interface_sysctls(&mut self, link: &str) {
        self.sysctls
            .retain(|key, _| interface_key(key).is_none_or(|(_, interface, _)| interface != link));
    }
}
