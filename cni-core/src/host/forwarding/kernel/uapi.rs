//! Numbers of the kernel's interface that no crate names (`include/uapi/linux/{rtnetlink,nexthop,neighbour,fib_rules,
//! lwtunnel,if_link}.h`).

pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_GETROUTE: u16 = 26;
pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_DELNEIGH: u16 = 29;
pub(super) const RTM_GETNEIGH: u16 = 30;
pub(super) const RTM_NEWRULE: u16 = 32;
pub(super) const RTM_DELRULE: u16 = 33;
pub(super) const RTM_GETRULE: u16 = 34;
pub(super) const RTM_NEWNEXTHOP: u16 = 104;
pub(super) const RTM_DELNEXTHOP: u16 = 105;
pub(super) const RTM_GETNEXTHOP: u16 = 106;

pub(super) const AF_UNSPEC: u8 = 0;
pub(super) const AF_INET: u8 = 2;
pub(super) const AF_BRIDGE: u8 = 7;
pub(super) const AF_INET6: u8 = 10;

pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_EXT_MASK: u16 = 29;
pub(super) const RTEXT_FILTER_SKIP_STATS: u32 = 8;

pub(super) const RTN_UNICAST: u8 = 1;
pub(super) const RTN_UNREACHABLE: u8 = 7;
pub(super) const RT_SCOPE_UNIVERSE: u8 = 0;
pub(super) const RT_SCOPE_LINK: u8 = 253;
pub(super) const RT_SCOPE_NOWHERE: u8 = 255;
pub(super) const RT_TABLE_LOCAL: u32 = 255;
pub(super) const RTM_F_CLONED: u32 = 0x200;
pub(super) const RTNH_F_ONLINK: u32 = 4;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
pub(super) const RTA_PREFSRC: u16 = 7;
pub(super) const RTA_METRICS: u16 = 8;
pub(super) const RTA_MULTIPATH: u16 = 9;
pub(super) const RTA_FLOW: u16 = 11;
pub(super) const RTA_TABLE: u16 = 15;
pub(super) const RTA_VIA: u16 = 18;
pub(super) const RTA_ENCAP_TYPE: u16 = 21;
pub(super) const RTA_ENCAP: u16 = 22;
pub(super) const RTA_NH_ID: u16 = 30;

pub(super) const NHA_ID: u16 = 1;
pub(super) const NHA_GROUP: u16 = 2;
pub(super) const NHA_BLACKHOLE: u16 = 4;
pub(super) const NHA_OIF: u16 = 5;
pub(super) const NHA_GATEWAY: u16 = 6;
pub(super) const NHA_ENCAP_TYPE: u16 = 7;
pub(super) const NHA_ENCAP: u16 = 8;
pub(super) const NHA_FDB: u16 = 11;

pub(super) const LWTUNNEL_ENCAP_IP: u16 = 2;
pub(super) const LWTUNNEL_ENCAP_IP6: u16 = 4;
/// Of `enum lwtunnel_ip_t` and `enum lwtunnel_ip6_t` alike.
pub(super) const LWTUNNEL_IP_ID: u16 = 1;
pub(super) const LWTUNNEL_IP_DST: u16 = 2;
pub(super) const LWTUNNEL_IP_SRC: u16 = 3;
pub(super) const LWTUNNEL_IP_TTL: u16 = 4;
pub(super) const LWTUNNEL_IP_TOS: u16 = 5;
pub(super) const LWTUNNEL_IP_FLAGS: u16 = 6;
pub(super) const LWTUNNEL_IP_OPTS: u16 = 8;
pub(super) const TUNNEL_CSUM: u16 = 1;

pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
pub(super) const NDA_PORT: u16 = 6;
pub(super) const NDA_VNI: u16 = 7;
pub(super) const NDA_IFINDEX: u16 = 8;
pub(super) const NDA_SRC_VNI: u16 = 11;
pub(super) const NDA_NH_ID: u16 = 13;
pub(super) const NUD_PERMANENT: u16 = 0x80;
pub(super) const NTF_SELF: u8 = 2;
pub(super) const NTF_PROXY: u8 = 8;

pub(super) const FR_ACT_TO_TBL: u8 = 1;
pub(super) const FIB_RULE_INVERT: u32 = 2;
pub(super) const FRA_DST: u16 = 1;
pub(super) const FRA_SRC: u16 = 2;
pub(super) const FRA_IIFNAME: u16 = 3;
pub(super) const FRA_GOTO: u16 = 4;
pub(super) const FRA_PRIORITY: u16 = 6;
pub(super) const FRA_FWMARK: u16 = 10;
pub(super) const FRA_SUPPRESS_IFGROUP: u16 = 13;
pub(super) const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
pub(super) const FRA_TABLE: u16 = 15;
pub(super) const FRA_FWMASK: u16 = 16;
pub(super) const FRA_OIFNAME: u16 = 17;
pub(super) const FRA_L3MDEV: u16 = 19;
pub(super) const FRA_UID_RANGE: u16 = 20;
pub(super) const FRA_PROTOCOL: u16 = 21;
pub(super) const FRA_IP_PROTO: u16 = 22;
pub(super) const FRA_DSCP_MASK: u16 = 30;
