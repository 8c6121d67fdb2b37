//! Mocks by `mockall`, for a handful of expectations: an errno at one call, or the order of calls.
//!
//! The mocks' own methods are not `async`; the traits' methods, which answer through them, are.

use async_trait::async_trait;
use ipnetwork::IpNetwork;
use mockall::mock;

use crate::error::Result;
use crate::host::firewall::{Element, Firewall, FirewallChange, Table, TableState, Value};
use crate::host::netlink::{
    Address, ApplyError, Link, LinkFilter, Neighbour, Netlink, NetlinkChange, NetlinkError, Route,
    Vlan,
};
use crate::host::sysctl::Sysctl;
use crate::ipam::{Ipam, IpamRequest};
use crate::spec::ValidAttachments;
use crate::spec::config::NetworkConfig;
use crate::spec::{AddResult, NetworkName};

mock! {
    /// A [`Netlink`] that answers as it is told.
    #[derive(Debug)]
    pub Netlink {
        /// What [`Netlink::links`] answers.
        pub fn links<'a>(&self, filter: LinkFilter<'a>) -> Result<Vec<Link>, NetlinkError>;
        /// What [`Netlink::addresses`] answers.
        pub fn addresses<'a>(&self, link: Option<&'a str>) -> Result<Vec<Address>, NetlinkError>;
        /// What [`Netlink::routes`] answers.
        pub fn routes<'a>(&self, link: Option<&'a str>) -> Result<Vec<Route>, NetlinkError>;
        /// What [`Netlink::neighbours`] answers.
        pub fn neighbours<'a>(&self, link: Option<&'a str>) -> Result<Vec<Neighbour>, NetlinkError>;
        /// What [`Netlink::vlans`] answers.
        pub fn vlans(&self, link: &str) -> Result<Vec<Vlan>, NetlinkError>;
        /// What [`Netlink::apply`] answers.
        pub fn apply(&self, changes: &[NetlinkChange]) -> Result<(), ApplyError>;
    }
}

#[async_trait]
impl Netlink for MockNetlink {
    async fn links(&self, filter: LinkFilter<'_>) -> Result<Vec<Link>, NetlinkError> {
        MockNetlink::links(self, filter)
    }

    async fn addresses(&self, link: Option<&str>) -> Result<Vec<Address>, NetlinkError> {
        MockNetlink::addresses(self, link)
    }

    async fn routes(&self, link: Option<&str>) -> Result<Vec<Route>, NetlinkError> {
        MockNetlink::routes(self, link)
    }

    async fn neighbours(&self, link: Option<&str>) -> Result<Vec<Neighbour>, NetlinkError> {
        MockNetlink::neighbours(self, link)
    }

    async fn vlans(&self, link: &str) -> Result<Vec<Vlan>, NetlinkError> {
        MockNetlink::vlans(self, link)
    }

    async fn apply(&self, changes: &[NetlinkChange]) -> Result<(), ApplyError> {
        MockNetlink::apply(self, changes)
    }
}

mock! {
    /// A [`Firewall`] that answers as it is told.
    #[derive(Debug)]
    pub Firewall {
        /// What [`Firewall::table`] answers.
        pub fn table(&self, table: &Table) -> Result<Option<TableState>, NetlinkError>;
        /// What [`Firewall::elements`] answers.
        pub fn elements(&self, table: &Table, set: &str) -> Result<Vec<Element>, NetlinkError>;
        /// What [`Firewall::element`] answers.
        pub fn element(&self, table: &Table, set: &str, key: &[Value]) -> Result<Option<Element>, NetlinkError>;
        /// What [`Firewall::commit`] answers.
        pub fn commit(&self, changes: &[FirewallChange]) -> Result<(), NetlinkError>;
    }
}

#[async_trait]
impl Firewall for MockFirewall {
    async fn table(&self, table: &Table) -> Result<Option<TableState>, NetlinkError> {
        MockFirewall::table(self, table)
    }

    async fn elements(&self, table: &Table, set: &str) -> Result<Vec<Element>, NetlinkError> {
        MockFirewall::elements(self, table, set)
    }

    async fn element(
        &self,
        table: &Table,
        set: &str,
        key: &[Value],
    ) -> Result<Option<Element>, NetlinkError> {
        MockFirewall::element(self, table, set, key)
    }

    async fn commit(&self, changes: &[FirewallChange]) -> Result<(), NetlinkError> {
        MockFirewall::commit(self, changes)
    }
}

mock! {
    /// A [`Sysctl`] that answers as it is told.
    #[derive(Debug)]
    pub Sysctl {
        /// What [`Sysctl::read`] answers.
        pub fn read(&self, key: &str) -> Result<Option<String>>;
        /// What [`Sysctl::write`] answers.
        pub fn write(&self, key: &str, value: &str) -> Result<()>;
    }
}

#[async_trait]
impl Sysctl for MockSysctl {
    async fn read(&self, key: &str) -> Result<Option<String>> {
        MockSysctl::read(self, key)
    }

    async fn write(&self, key: &str, value: &str) -> Result<()> {
        MockSysctl::write(self, key, value)
    }
}

mock! {
    /// A [`Ipam`] that answers as it is told.
    #[derive(Debug)]
    pub Ipam {
        /// What [`Ipam::allocate`] answers.
        pub fn allocate<'a>(&self, request: &IpamRequest<'a>) -> Result<AddResult>;
        /// What [`Ipam::preview`] answers.
        pub fn preview<'a>(&self, request: &IpamRequest<'a>) -> Result<Option<AddResult>>;
        /// What [`Ipam::held`] answers.
        pub fn held<'a>(&self, request: &IpamRequest<'a>) -> Result<Option<Vec<IpNetwork>>>;
        /// What [`Ipam::release`] answers.
        pub fn release<'a>(&self, request: &IpamRequest<'a>) -> Result<()>;
        /// What [`Ipam::check`] answers.
        pub fn check<'a>(&self, request: &IpamRequest<'a>) -> Result<()>;
        /// What [`Ipam::gc`] answers.
        pub fn gc(&self, network: &NetworkName, config: &NetworkConfig, valid: &ValidAttachments) -> Result<()>;
        /// What [`Ipam::status`] answers.
        pub fn status(&self, network: &NetworkName, config: &NetworkConfig) -> Result<()>;
    }
}

#[async_trait]
impl Ipam for MockIpam {
    async fn allocate(&self, request: &IpamRequest<'_>) -> Result<AddResult> {
        MockIpam::allocate(self, request)
    }

    async fn preview(&self, request: &IpamRequest<'_>) -> Result<Option<AddResult>> {
        MockIpam::preview(self, request)
    }

    async fn held(&self, request: &IpamRequest<'_>) -> Result<Option<Vec<IpNetwork>>> {
        MockIpam::held(self, request)
    }

    async fn release(&self, request: &IpamRequest<'_>) -> Result<()> {
        MockIpam::release(self, request)
    }

    async fn check(&self, request: &IpamRequest<'_>) -> Result<()> {
        MockIpam::check(self, request)
    }

    async fn gc(
        &self,
        network: &NetworkName,
        config: &NetworkConfig,
        valid: &ValidAttachments,
    ) -> Result<()> {
        MockIpam::gc(self, network, config, valid)
    }

    async fn status(&self, network: &NetworkName, config: &NetworkConfig) -> Result<()> {
        MockIpam::status(self, network, config)
    }
}
