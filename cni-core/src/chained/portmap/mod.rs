//! Published ports: what reaches a port of the host is led to a pod (destination NAT).
//!
//! The table's rules are constant in number; what changes with each port are elements of hash maps, so that the first packet
//! of a connection costs the same at one published port and at ten thousand:
//!
//! ```text
//! table inet cni_portmap {
//!   map ports4 { type inet_proto . inet_service : ipv4_addr . inet_service
//!     elements = { tcp . 8080 comment "cni:podman/c1/eth0" : 10.88.0.5 . 80 } }
//!   map host_ports4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//!   map rules4 { type inet_proto . inet_service : verdict }
//!   map host_rules4 { type ipv4_addr . inet_proto . inet_service : verdict }
//!   set published4 { type ipv4_addr . inet_proto . inet_service . inet_service }
//!   chain prerouting {
//!     type nat hook prerouting priority dstnat;
//!     meta nfproto ipv4 fib daddr type local goto translate4
//!   }
//!   chain output { type nat hook output priority dstnat; … }
//!   chain translate4 {
//!     ip daddr . meta l4proto . th dport vmap @host_rules4
//!     dnat ip to ip daddr . meta l4proto . th dport map @host_ports4
//!     meta l4proto . th dport vmap @rules4
//!     dnat ip to meta l4proto . th dport map @ports4
//!   }
//!   chain postrouting {
//!     type nat hook postrouting priority srcnat;
//!     ct status dnat goto answers
//!   }
//!   chain answers {
//!     meta l4proto tcp ip daddr . meta l4proto . th dport . ct original proto-dst @published4 goto hairpin
//!     …
//!   }
//!   chain hairpin {
//!     iifname . oifname @hairpin masquerade
//!     iif 0 oifname . oifname @hairpin fib saddr type != local masquerade
//!     ip saddr 127.0.0.0/8 masquerade
//!   }
//! }
//! ```
//!
//! and the same for IPv6. Only an attachment with conditions, or with `markMasqBit`, has a chain of its own, which `rules4`
//! leads to.
//!
//! Each attachment has numbered records (`map records`), keyed by a hash of its mark. They say what it has published, so that
//! DEL finds it by a few lookups, whatever else is published, and forgets its flows even after a DEL that died.

mod backend;
mod conditions;
mod config;
mod desired;
mod facts;
mod flows;
mod gc;
mod hairpin;
mod publication;
mod removal;
mod table;

pub use backend::Portmap;
pub use conditions::Alternatives;
pub use config::PortmapConfig;
pub use desired::{Facts, Input, declare, publications};
pub use publication::Publication;
pub use table::table;
