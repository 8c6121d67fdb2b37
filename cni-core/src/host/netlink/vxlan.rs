//! VXLAN devices as values (RFC 7348, `drivers/net/vxlan/vxlan_core.c`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::display::Word;

/// What a VXLAN device is set to. Settings that are not here are the kernel's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Vxlan {
    /// VXLAN network identifier, below 2^24 (`id`). 0 for an `external` device, which has none.
    pub vni: u32,
    /// UDP port that it listens on and sends to (`dstport`).
    pub port: u16,
    /// Outer source address (`local`). `None`: the address that the route to the remote one has.
    pub local: Option<IpAddr>,
    /// Outer destination of frames that no forwarding entry knows (`remote`, `group`).
    pub remote: Option<IpAddr>,
    /// The link that outer packets leave by (`dev`), which also bounds the MTU: the device goes with it. On reading
    /// `None` where that link is in another namespace.
    pub lower: Option<String>,
    /// Forwarding entries are made from what arrives (`learning`).
    pub learning: bool,
    /// VNI and outer addresses come with each packet from its route (`external`, "collect metadata").
    pub external: bool,
    /// Packets are carried without an Ethernet header (`gpe`, draft-ietf-nvo3-vxlan-gpe). Only with `external`. Such a
    /// device has no hardware address, and one cannot be set.
    pub gpe: bool,
    /// Lowest and highest UDP source port (`srcport`). `None`: those of `net.ipv4.ip_local_port_range`.
    pub source_ports: Option<(u16, u16)>,
}

/// Changes to a VXLAN device that exists: what the kernel lets change. `None` leaves a setting alone.
///
/// An address is of the family that the device has ([`Vxlan::is_ipv6`]), else the kernel answers EOPNOTSUPP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VxlanSettings {
    /// Outer source address; an unspecified one removes it.
    pub local: Option<IpAddr>,
    /// Default outer destination; an unspecified one removes it.
    pub remote: Option<IpAddr>,
    /// The link that outer packets leave by. There is no way to release it.
    pub lower: Option<String>,
    /// Whether forwarding entries are made from what arrives.
    pub learning: Option<bool>,
}

/// Largest VNI.
#[cfg(any(feature = "kernel", feature = "testing", test))]
const VNI_MAX: u32 = 0xff_ffff;

impl Vxlan {
    /// A device of one VNI whose forwarding entries are programmed, not learnt.
    pub fn new(vni: u32, port: u16) -> Self {
        Self {
            vni,
            port,
            local: None,
            remote: None,
            lower: None,
            learning: false,
            external: false,
            gpe: false,
            source_ports: None,
        }
    }

    /// A collect-metadata device without Ethernet headers: VNI and outer destination come from each route.
    pub fn flow(port: u16) -> Self {
        Self {
            external: true,
            gpe: true,
            ..Self::new(0, port)
        }
    }

    /// Whether its outer addresses are IPv6 (`VXLAN_F_IPV6`). Without addresses they are IPv4; an `external` device has
    /// both whatever this says.
    pub fn is_ipv6(&self) -> bool {
        [self.local, self.remote]
            .iter()
            .flatten()
            .any(IpAddr::is_ipv6)
    }

    /// Outer headers and what they carry before the inner packet, in bytes (`vxlan_headroom`).
    pub fn overhead(&self) -> u32 {
        let ethernet = if self.gpe { 0 } else { 14 };
        let address = if self.is_ipv6() { 40 } else { 20 };
        address + 8 + 8 + ethernet
    }

    /// What makes a device of these settings into one of the `wanted` ones without a moment in which it is not there;
    /// `None` when the kernel does not change it like that.
    pub fn change_to(&self, wanted: &Self) -> Option<VxlanSettings> {
        let fixed = |vxlan: &Self| Self {
            local: None,
            remote: None,
            lower: None,
            learning: false,
            ..vxlan.clone()
        };
        let releases = self.lower.is_some() && wanted.lower.is_none();
        if fixed(self) != fixed(wanted) || self.is_ipv6() != wanted.is_ipv6() || releases {
            return None;
        }
        let none = match self.is_ipv6() {
            true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let address =
            |found, wanted: Option<IpAddr>| (found != wanted).then(|| wanted.unwrap_or(none));
        Some(VxlanSettings {
            local: address(self.local, wanted.local),
            remote: address(self.remote, wanted.remote),
            lower: wanted.lower.clone().filter(|_| self.lower != wanted.lower),
            learning: (self.learning != wanted.learning).then_some(wanted.learning),
        })
    }

    /// In which settings it is not what is `wanted`, in words.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        fn differs<T: PartialEq>(
            words: &mut Vec<String>,
            what: &str,
            (found, wanted): (T, T),
            text: impl Fn(&T) -> String,
        ) {
            if found != wanted {
                let (found, wanted) = (text(&found), text(&wanted));
                words.push(format!("{what} is {found}, should be {wanted}"));
            }
        }
        let on = |on: &bool| if *on { "on" } else { "off" }.to_owned();
        let address =
            |address: &Option<IpAddr>| address.map_or("unset".to_owned(), |a| a.to_string());
        let mut words = Vec::new();
        let w = &mut words;
        differs(w, "VNI", (self.vni, wanted.vni), u32::to_string);
        differs(w, "UDP port", (self.port, wanted.port), u16::to_string);
        differs(
            w,
            "outer source address",
            (self.local, wanted.local),
            address,
        );
        differs(
            w,
            "default remote address",
            (self.remote, wanted.remote),
            address,
        );
        let lowers = (self.lower.as_deref(), wanted.lower.as_deref());
        differs(w, "lower link", lowers, |lower| {
            lower.unwrap_or("unset").to_owned()
        });
        differs(w, "learning", (self.learning, wanted.learning), on);
        differs(w, "collect metadata", (self.external, wanted.external), on);
        differs(w, "GPE", (self.gpe, wanted.gpe), on);
        let ports = (self.source_ports, wanted.source_ports);
        differs(w, "source port range", ports, |ports| match ports {
            Some((low, high)) => format!("{low} to {high}"),
            None => "unset".to_owned(),
        });
        words
    }

    /// Why no such device can be; what the kernel would say less clearly.
    #[cfg(any(feature = "kernel", feature = "testing", test))]
    pub(crate) fn fault(&self) -> Option<String> {
        if self.vni > VNI_MAX {
            return Some(format!("VNI {} is not below 16777216", self.vni));
        }
        if self.port == 0 {
            return Some("a VXLAN device needs a UDP port".to_owned());
        }
        if self.external && self.vni != 0 {
            let vni = self.vni;
            return Some(format!(
                "an external VXLAN device has no VNI of its own, but {vni} is set"
            ));
        }
        None
    }
}

/// The words after `type vxlan` of `ip link add`.
impl fmt::Display for Vxlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.external {
            f.write_str("external")?;
        } else {
            write!(f, "id {}", self.vni)?;
        }
        if self.gpe {
            f.write_str(" gpe")?;
        }
        write!(f, " dstport {}", self.port)?;
        if let Some((low, high)) = self.source_ports {
            write!(f, " srcport {low} {high}")?;
        }
        let settings = VxlanSettings {
            local: self.local,
            remote: self.remote,
            lower: self.lower.clone(),
            // An external device does not learn unless it is told to, any other does unless it is told not to.
            learning: (self.learning == self.external).then_some(self.learning),
        };
        settings.fmt(f)
    }
}

/// The words after `type vxlan` of `ip link set`, each behind a space.
impl fmt::Display for VxlanSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(local) = self.local {
            write!(f, " local {local}")?;
        }
        match self.remote {
            Some(group) if group.is_multicast() => write!(f, " group {group}")?,
            Some(remote) => write!(f, " remote {remote}")?,
            None => {}
        }
        if let Some(lower) = &self.lower {
            write!(f, " dev {}", Word(lower))?;
        }
        match self.learning {
            Some(true) => f.write_str(" learning"),
            Some(false) => f.write_str(" nolearning"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classic() -> Vxlan {
        Vxlan {
            local: Some(IpAddr::from([192, 0, 2, 1])),
            lower: Some("eth0".to_owned()),
            ..Vxlan::new(1, 8472)
        }
    }

    #[test]
    fn devices_print_as_iproute2_takes_them() {
        assert_eq!(
            classic().to_string(),
            "id 1 dstport 8472 local 192.0.2.1 dev eth0 nolearning"
        );
        assert_eq!(Vxlan::flow(4790).to_string(), "external gpe dstport 4790");
        let mut other = classic();
        other.learning = true;
        other.source_ports = Some((1000, 2000));
        other.remote = Some(IpAddr::from([239, 0, 0, 1]));
        assert_eq!(
            other.to_string(),
            "id 1 dstport 8472 srcport 1000 2000 local 192.0.2.1 group 239.0.0.1 dev eth0"
        );
    }

    #[test]
    fn what_the_kernel_changes_is_changed_and_the_rest_is_not() {
        let mut wanted = classic();
        wanted.local = Some(IpAddr::from([192, 0, 2, 2]));
        wanted.lower = Some("eth1".to_owned());
        wanted.learning = true;
        let settings = classic().change_to(&wanted).unwrap();
        assert_eq!(settings.to_string(), " local 192.0.2.2 dev eth1 learning");
        let back = wanted.change_to(&Vxlan {
            lower: wanted.lower.clone(),
            ..Vxlan::new(1, 8472)
        });
        assert_eq!(back.unwrap().to_string(), " local 0.0.0.0 nolearning");
        for change in [
            |v: &mut Vxlan| v.vni = 2,
            |v: &mut Vxlan| v.port = 2,
            |v: &mut Vxlan| v.lower = None,
            |v: &mut Vxlan| v.external = true,
            |v: &mut Vxlan| v.source_ports = Some((1, 2)),
            |v: &mut Vxlan| v.local = Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ] {
            let mut wanted = classic();
            change(&mut wanted);
            assert_eq!(classic().change_to(&wanted), None, "{wanted}");
            assert_eq!(classic().differences(&wanted).len(), 1, "{wanted}");
        }
        assert_eq!(
            classic().change_to(&classic()),
            Some(VxlanSettings::default())
        );
    }

    #[test]
    fn the_overhead_is_that_of_the_outer_family_with_or_without_ethernet() {
        let overhead = |mut vxlan: Vxlan, local: &str| {
            vxlan.local = local.parse().ok();
            vxlan.overhead()
        };
        assert_eq!(overhead(classic(), "192.0.2.1"), 50);
        assert_eq!(overhead(classic(), "2001:db8::1"), 70);
        assert_eq!(overhead(Vxlan::flow(1), ""), 36);
        assert_eq!(overhead(Vxlan::flow(1), "2001:db8::1"), 56);
    }
}
