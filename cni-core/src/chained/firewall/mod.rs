//! The plugin `firewall`: pods are let through where a host's rules drop what is forwarded, and kept apart where that is asked.
//!
//! It has the keys of the reference plugin of that name, and does in sets of nftables what that one does with rules for
//! each pod:
//!
//! ```text
//! table inet cni_firewall {
//!   set pods4 { type ipv4_addr }                          # addresses of attachments
//!   set pods6 { type ipv6_addr }
//!   set closed { type ifname }                            # what networks with an `ingressPolicy` are routed by
//!   set same { type ifname . ifname }                     # each of them twice: same-bridge
//!   set isolated { type ifname . ifname }                 # each of them twice: isolated
//!   map members { type ifname . ifname : verdict }        # who needs the elements above
//!   chain CNI-ADMIN { }                                   # the operator's
//!   chain admin { jump CNI-ADMIN }
//!   chain forward {
//!     type filter hook forward priority -2;
//!     meta mark set meta mark | 0x00001000
//!     jump admin
//!     ct status dnat goto pods                            # published ports
//!     iifname . oifname @isolated counter drop
//!     iifname . oifname @same goto pods
//!     iifname @closed oifname @closed counter drop
//!     goto pods
//!   }
//!   chain pods {
//!     ct state established,related ip daddr @pods4 accept
//!     ip saddr @pods4 accept
//!     ct status dnat ip daddr @pods4 accept
//!     ...                                                 # the same of IPv6
//!     meta mark set meta mark & 0xffffefff                # none of ours: as the host's own rules say
//!   }
//!   chain translated {
//!     type filter hook prerouting priority -99;
//!     ct status dnat iifname @closed meta mark set meta mark | 0x00001000
//!   }
//!   chain forwarded { type filter hook forward priority 1; meta mark set meta mark & 0xffffefff }
//! }
//! table bridge cni_firewall {
//!   set isolated { type ifname }                          # ports of isolated pods
//!   chain forward {
//!     type filter hook forward priority -200;
//!     meta mark & 0x00001000 == 0x00001000 return         # a published port, by way of br_netfilter
//!     iifname @isolated oifname @isolated counter drop
//!   }
//! }
//! ```
//!
//! What the mark is for is told in [`accept`](crate::accept). An element of one attachment bears its mark as the comment;
//! elements for a bridge are shared, and go with the last member that needs them.

mod backend;
mod config;
mod desired;
mod facts;
mod removal;
mod zones;

#[cfg(test)]
mod tests;

pub use backend::Firewall;
pub(crate) use config::zone;
pub use config::{Backend, FirewallConfig, IngressPolicy};
pub use desired::{Facts, Input, Routed, bridge_table, declare, table};
pub use zones::{Firewalld, Zones};
