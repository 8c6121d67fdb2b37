//! Connect nodes: write a fabric.
//!
//! A [`Fabric`] connects this node with the others of its cluster. As a backend does for a container, it says what must exist,
//! and the [`Engine`] makes it so: for three peers or for ten thousand. `backend-vxlan` and `backend-host-gw` are two; a
//! product with a network of its own (WireGuard, a cloud's routes, a router's protocol) writes another one and keeps the
//! agent, the plugin, the repairs and the tests.
//!
//! # Three pure functions
//!
//! * [`Fabric::owner`]: by what our objects are known: a route protocol number, names of devices, an nftables table.
//! * [`Fabric::base`]: what the node needs whoever its peers are: a device, its addresses, parameters, the table with its
//!   sets, entries that are no peer's. It knows this node, the [`Census`] (what depends on all nodes together: lengths of
//!   prefixes, what everybody can do) and [`Facts`] about the host (uplinks, what the kernel has).
//! * [`Fabric::peer`]: what one peer needs: a few [`Item`]s, and in words why it cannot be reached, where it cannot.
//!
//! They read no file, no clock and no kernel: the same arguments give the same items, in the plugin, in the agent, in a test
//! and in a dry run. The engine asks again for what it has forgotten, so they should be quick: no more than the values.
//!
//! ```
//! use std::sync::Arc;
//!
//! use cni_core::Result;
//! use cni_core::cluster::Node;
//! use cni_core::fabric::{Base, Census, Fabric, Facts, Item, NextHopIds, Owner, Reach, tables};
//! use cni_core::host::forwarding::{Entry, Hop, NextHop, Route, Via};
//!
//! /// Each peer is a gateway in the segment of `eth0`.
//! #[derive(Debug)]
//! struct Segment;
//!
//! impl Fabric for Segment {
//!     fn owner(&self) -> Owner {
//!         let network = "pods".parse().expect("a name");
//!         Owner { protocol: 170, devices: Vec::new(), table: tables::table(&network), network }
//!     }
//!
//!     fn base(&self, _me: &Node, _census: &Census, _facts: &Facts) -> Result<Base> {
//!         Ok(Base { mtu: 1500, ..Base::default() })
//!     }
//!
//!     fn peer(
//!         &self,
//!         _me: &Node,
//!         _base: &Base,
//!         _facts: &Facts,
//!         ids: &dyn NextHopIds,
//!         peer: &Node,
//!     ) -> Reach {
//!         let mut reach = Reach::default();
//!         let Some(gateway) = peer.underlay(false) else {
//!             reach.missing.push("it has no IPv4 address in the underlay".to_owned());
//!             return reach;
//!         };
//!         let id = ids.id(peer, false);
//!         let link: Arc<str> = "eth0".into();
//!         let hop = Hop { link, gateway: Some(gateway), onlink: false, encap: None };
//!         reach.items.push(Item::Entry(Entry::NextHop(NextHop { id, protocol: 170, hop })));
//!         for destination in peer.prefixes.iter().copied().filter(|prefix| prefix.is_ipv4()) {
//!             reach.items.push(Item::Entry(Entry::Route(Route {
//!                 destination,
//!                 table: 254,
//!                 metric: 0,
//!                 protocol: 170,
//!                 via: Via::NextHop(id),
//!             })));
//!         }
//!         reach
//!     }
//! }
//! ```
//!
//! # What belongs to whom
//!
//! The engine removes what is ours and not wanted, and touches nothing else. Ours are
//!
//! * routes, next hops and policy rules of the owner's protocol number;
//! * devices with the owner's names, or VXLAN devices, that bear the network's alias
//!   ([`NetworkName::shared_alias`](crate::spec::NetworkName::shared_alias));
//! * permanent neighbours and forwarding entries of the device, and its addresses;
//! * the owner's nftables table, with all that is in it.
//!
//! Two fabrics on one node need two protocol numbers and two networks. Another program's route to a pod prefix stays where it
//! is: an IPv4 route of ours is put ahead of it (`ip route prepend`); an IPv6 route of ours wins by its metric, 128, over
//! the usual 1024. Where another program's wins all the same, the [`Report`] says so and names the peer.
//!
//! Next hops have ids that follow from node and protocol ([`NextHopIds`]), and where [`Base::hops_by_address`] says so from the
//! node's addresses, so that every process finds the same ones and nobody stores any.
//!
//! # What happens on a change
//!
//! | what | becomes |
//! |---|---|
//! | a node comes, goes, moves | [`Engine::update`]: what it needed before is compared with what it needs now, and the difference written. Nothing is read, and nothing depends on how many others there are. |
//! | a change that concerns the base (a new prefix length, this node's own entry) | `update` does a full pass by itself |
//! | an event of the kernel that [`Engine::concerns`] | [`Engine::full`]: everything is read, compared and put right |
//! | a beginning, or a sweep from time to time | [`Engine::full`]; where all is right, nothing is written |
//! | a write fails | a full pass at once; what still fails is reported by the peer's name, everything else is done |
//! | nodes are not all known yet | [`Removal::Withheld`]: what is missing is made, nothing is taken away, and the table keeps rules for prefixes that others may have |
//!
//! A full pass never holds the kernel's state. What is wanted is an index of hashes, 24 bytes for each item; the kernel's entries
//! are streamed past it; and for what turns out to be missing the fabric is asked once more.
//!
//! [`Engine::compare`] tells what a pass would do, as commands and reasons, and changes nothing: CHECK and a dry run are that.
//! [`Engine::cleanup`] removes all that is ours and needs to know no node.
//!
//! # Order
//!
//! There is no moment in which traffic that had a way has none:
//!
//! 1. the device, its addresses and parameters;
//! 2. members of sets, and with the last of them the table's rules, in one transaction: what a rule refuses must not be led
//!    there, and a rule must not refuse what its sets will hold in a moment;
//! 3. forwarding entries, then neighbours, then next hops, then routes: what others lead to comes first;
//! 4. policy rules, which lead to a table that is full by then;
//! 5. then what goes, the other way round, and sets that no rule looks into any more.
//!
//! A prefix that moves from one peer to another is the replacement of one route. A peer that moves is the replacement of one next hop
//! (in the classic data path, of one forwarding entry), and all its prefixes follow. Removing a next hop takes its routes along, so
//! that routes go before.
//!
//! One thing the kernel forbids on that way. An IPv6 next hop may not have a gateway that another device's route leads to, not
//! even `onlink`: but the address of a VTEP is inside its node's pod prefix, which leads by the old device until the next hop by
//! the new one is there. The engine then makes a route to the gateway alone, by the right device, for as long as it takes
//! to make the next hop and to lead the prefix there.
//!
//! # Test it
//!
//! The functions are pure: compare their items. Then give [`FakeKernel`](crate::testing)'s host to an [`Engine`] and look at
//! what [`Engine::full`] and [`Engine::update`] leave behind, with faults and deaths at every write
//! ([`Faults`](crate::testing)). The real kernel is worth a test of its own for each kind of entry: what it accepts is
//! not always what its documentation says.
//!
//! [`Fabric`]: crate::fabric::Fabric
//! [`Fabric::owner`]: crate::fabric::Fabric::owner
//! [`Fabric::base`]: crate::fabric::Fabric::base
//! [`Fabric::peer`]: crate::fabric::Fabric::peer
//! [`Engine`]: crate::fabric::Engine
//! [`Engine::update`]: crate::fabric::Engine::update
//! [`Engine::full`]: crate::fabric::Engine::full
//! [`Engine::compare`]: crate::fabric::Engine::compare
//! [`Engine::cleanup`]: crate::fabric::Engine::cleanup
//! [`Engine::concerns`]: crate::fabric::Engine::concerns
//! [`Removal::Withheld`]: crate::fabric::Removal::Withheld
//! [`Census`]: crate::fabric::Census
//! [`Facts`]: crate::fabric::Facts
//! [`Item`]: crate::fabric::Item
//! [`Base::hops_by_address`]: crate::fabric::Base::hops_by_address
//! [`NextHopIds`]: crate::fabric::NextHopIds
//! [`Report`]: crate::fabric::Report
