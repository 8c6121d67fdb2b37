//! Addresses of our device: of a former prefix, say.

use std::net::IpAddr;

use crate::error::Result;
use crate::host::netlink::{Address, NetlinkChange, NetlinkExt};
use crate::plan::Object;

use super::super::Base;
use super::super::diff::Act;
use super::super::report::{DifferenceStep, Report, Thing};
use super::Engine;
use super::write::is_gone;

impl Engine {
    /// Removes those that the base does not have. All addresses of the device are ours, but for what the kernel gives it.
    pub(super) async fn remove_addresses(&self, base: &Base, drift: bool, report: &mut Report) {
        let surplus = match self.surplus_addresses(base).await {
            Ok(surplus) => surplus,
            Err(error) => return report.failed("the device's addresses", error),
        };
        for address in surplus {
            let what = words(&address);
            match self
                .host
                .netlink
                .apply_one(NetlinkChange::AddressDel(address))
                .await
            {
                Ok(()) => {
                    report.count(Thing::Base, Act::Del);
                    if drift {
                        report.drift(|| format!("{what} is not wanted any more"));
                    }
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => report.failed(what, error),
            }
        }
    }

    /// What [`Engine::remove_addresses`] would do.
    pub(super) async fn addresses_to_remove(&self, base: &Base) -> Result<Vec<DifferenceStep>> {
        let surplus = self.surplus_addresses(base).await?;
        let steps = surplus.into_iter().map(|address| DifferenceStep {
            reason: format!("{} is not wanted any more", words(&address)),
            command: NetlinkChange::AddressDel(address).to_string(),
            surplus: true,
        });
        Ok(steps.collect())
    }

    async fn surplus_addresses(&self, base: &Base) -> Result<Vec<Address>> {
        let Some(device) = base.device.as_deref() else {
            return Ok(Vec::new());
        };
        let found = match self.host.netlink.addresses(Some(device)).await {
            Err(error) if is_gone(&error) => Vec::new(),
            found => found?,
        };
        let wanted = |address: &Address| {
            base.desired
                .items
                .iter()
                .any(|declared| match &declared.object {
                    Object::Address(wanted) => {
                        wanted.link == address.link && wanted.address == address.address
                    }
                    _ => false,
                })
        };
        let is_the_kernels = |address: IpAddr| match address {
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        let surplus = found
            .into_iter()
            .filter(|address| !wanted(address) && !is_the_kernels(address.address.ip()));
        Ok(surplus.collect())
    }
}

fn words(address: &Address) -> String {
    format!("address {} of {}", address.address, address.link)
}
