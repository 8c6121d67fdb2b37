//! What must exist, as plain values.

use crate::host::firewall::{Element, Family, Rule, Table, TableSpec};
use crate::host::legacy::LegacyRule;
use crate::host::netlink::{Address, MacAddr, NewLinkKind, PortSettings, Route, Tbf, Vlan};

use super::Place;

/// What must exist for one attachment, in the order in which it has to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// The declarations.
    pub items: Vec<Declared>,
    /// What must not be made before the nftables objects among [`Desired::items`] are there.
    pub after: Vec<Declared>,
}

/// One declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Whose namespace.
    pub place: Place,
    /// Whose it is.
    pub owner: Owner,
    /// What.
    pub object: Object,
}

/// Whose an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Made for one attachment: ADD creates it exclusively, DEL removes it.
    Attachment,
    /// Shared by attachments: ADD makes it when it is missing and mends it when it drifted; DEL leaves it.
    Shared,
}

/// An object of the kernel, and how it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// A link.
    Link(LinkSpec),
    /// The settings of a bridge port.
    Port {
        /// Name of the port's link.
        link: String,
        /// Settings. `forwarding` is not compared, and hairpin mode only where it is asked for: a later plugin of a chain may need it.
        settings: PortSettings,
    },
    /// Exactly these VLANs on a port, or on the bridge itself.
    Vlans {
        /// Name of the link.
        link: String,
        /// On the bridge device itself rather than on a port.
        on_bridge: bool,
        /// The VLANs.
        vlans: Vec<Vlan>,
        /// Others are left alone rather than removed.
        keep_others: bool,
    },
    /// An address.
    Address(Address),
    /// A gateway's address: of its link's IPv4 addresses the only one, of its IPv6 addresses the only one whose prefix
    /// overlaps its own. Another one in its place is an error, or is removed.
    Gateway {
        /// The address.
        address: Address,
        /// Remove others rather than fail (`forceAddress`).
        replace: bool,
        /// Among several gateways: of the IPv4 addresses, too, only those whose prefixes overlap its own are in its place.
        beside_others: bool,
    },
    /// A route.
    Route(Route),
    /// A route that must not be there.
    NoRoute(Route),
    /// A kernel parameter.
    Sysctl {
        /// Path below `/proc/sys`.
        key: String,
        /// Value.
        value: String,
    },
    /// An nftables table with its sets, chains and rules; it may hold more sets and chains than these.
    Table(TableSpec),
    /// An element of a set or map.
    Element {
        /// Its table.
        table: Table,
        /// Its set or map.
        set: String,
        /// The element.
        element: Element,
    },
    /// A chain that is only jumped to, and whose rules are the operator's: it is made where it is missing, and never emptied.
    /// To be declared ahead of a table whose rules lead to it.
    Chain {
        /// Its table.
        table: Table,
        /// Name.
        chain: String,
    },
    /// Rules of ours, known by their comments, at the head of another program's base chain; nothing where there is no such chain
    /// or it has neither a policy nor a rule that could drop. Others of this owner go.
    HostRules {
        /// The chain's table.
        table: Table,
        /// The chain.
        chain: String,
        /// What the owner's comments are or begin with, ahead of a space.
        owner: String,
        /// The rules, each with its comment.
        rules: Vec<(Rule, String)>,
    },
    /// The same in a legacy table; nothing where there is no such table.
    LegacyRules {
        /// [`Family::Ip`] or [`Family::Ip6`].
        family: Family,
        /// The chain of the table `filter`.
        chain: String,
        /// As of [`Object::HostRules`].
        owner: String,
        /// The rules.
        rules: Vec<LegacyRule>,
    },
    /// What goes out by a link is held to a rate.
    Tbf {
        /// Name of the link.
        link: String,
        /// The token bucket.
        tbf: Tbf,
    },
    /// What comes in by a link is led to another one.
    Redirect {
        /// Name of the link by which it comes in.
        link: String,
        /// Name of the link to which it is led.
        to: String,
    },
    /// An element that one attachment alone may have, by its comment: under the same comment it is replaced where it differs;
    /// under another one it is somebody else's, and an error that names the holder.
    Claim {
        /// Its table.
        table: Table,
        /// Its set or map.
        set: String,
        /// The element. Its comment is the holder's mark.
        element: Element,
        /// What the key stands for, as an error begins: `host port 8080/tcp`.
        what: String,
    },
}

/// A link, and how it must be. `None` leaves a property to whatever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkSpec {
    /// Name.
    pub name: String,
    /// How it is created when missing; `None` for a link that another one's creation brings (a veth's peer).
    pub create: Option<NewLinkKind>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Hardware address that it must have.
    pub mac: Option<MacAddr>,
    /// Hardware address that it is created with; what it has later is not compared.
    pub initial_mac: Option<MacAddr>,
    /// The bridge it must be a port of, by name.
    pub master: Option<String>,
    /// Whether it must be up.
    pub up: bool,
    /// Promiscuous mode.
    pub promiscuous: Option<bool>,
    /// All-multicast mode.
    pub all_multicast: Option<bool>,
    /// Transmit queue length in packets.
    pub tx_queue_len: Option<u32>,
    /// Alias. Compared, but not set by ADD's plan where the owner is the attachment: sealing sets it.
    pub alias: Option<String>,
    /// Write the hardware address that a link is found with back to it, or the initial one where that is zero. This pins
    /// it: a bridge's address follows its ports until it has been set once (`br_stp_recalculate_bridge_id`), and the
    /// kernel does not tell over netlink whether it has been.
    pub pin_mac: bool,
    /// Announce its IPv4 addresses when it comes up or its hardware address is set.
    pub arp_notify: bool,
    /// Whether the kernel gives it an IPv6 link-local address when it is created.
    pub ipv6_link_local: bool,
}

impl LinkSpec {
    /// A link that must be there and up, with nothing else asked of it.
    pub fn new(name: impl Into<String>, create: Option<NewLinkKind>) -> Self {
        Self {
            name: name.into(),
            create,
            mtu: None,
            mac: None,
            initial_mac: None,
            master: None,
            up: true,
            promiscuous: None,
            all_multicast: None,
            tx_queue_len: None,
            alias: None,
            pin_mac: false,
            arp_notify: false,
            ipv6_link_local: true,
        }
    }
}

impl Desired {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares an object of the attachment. Declaring one twice is declaring it once.
    pub fn own(&mut self, place: Place, object: Object) {
        self.declare(place, Owner::Attachment, object);
    }

    /// Declares an object that attachments share. Declaring one twice is declaring it once.
    pub fn share(&mut self, place: Place, object: Object) {
        self.declare(place, Owner::Shared, object);
    }

    /// Declares an object that attachments share, and that is made after everything else: what would be dangerous without the
    /// nftables rules beside it.
    pub fn share_after(&mut self, place: Place, object: Object) {
        let declared = Declared {
            place,
            owner: Owner::Shared,
            object,
        };
        if !self.after.contains(&declared) {
            self.after.push(declared);
        }
    }

    fn declare(&mut self, place: Place, owner: Owner, object: Object) {
        let declared = Declared {
            place,
            owner,
            object,
        };
        if !self.items.contains(&declared) {
            self.items.push(declared);
        }
    }
}
