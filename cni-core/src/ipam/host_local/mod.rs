//! `host-local`: addresses out of configured ranges, reserved in files on this host.
//!
//! Store and configuration are the reference plugin's, so that both can work on one store at the same time (see the
//! module `store`).

mod config;
mod image;
mod lock;
mod store;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ipnetwork::IpNetwork;

pub use self::config::DEFAULT_DATA_DIR;
use self::config::Settings;
use self::store::{Locked, Store, old_owner, owner};
use super::ranges::{RangeSet, address};
use super::{ADDRESS_TAKEN, ALREADY_HELD, EXHAUSTED, Ipam, IpamRequest};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::ValidAttachments;
use crate::spec::config::{CniArgs, NetworkConfig};
use crate::spec::{AddResult, Attachment, IpConfig, NetworkName};

/// How long GC, which is given no deadline, waits for the lock. Holders keep it for milliseconds, or for a second where
/// a large store is walked; one that was stopped must not stop GC for good.
const GC_WAIT: Duration = Duration::from_secs(30);

/// How long STATUS waits for the lock.
const STATUS_WAIT: Duration = Duration::from_millis(20);

/// Addresses out of configured ranges, reserved in files on this host, in this process.
///
/// Configuration keys (section `ipam`): `subnet`, `rangeStart`, `rangeEnd`, `gateway` (one range, becomes set 0),
/// `ranges` (a list of sets, each a list of ranges; one address is handed out of each set), `routes`, `resolvConf`,
/// `dataDir` (default [`DEFAULT_DATA_DIR`]). Capabilities `ipRanges` (sets put before all others) and `ips`; besides
/// `args.cni.ips` and `IP` in `CNI_ARGS`.
///
/// # Errors
/// A wrong configuration is [`ErrorKind::InvalidConfig`] or [`ErrorKind::Decode`]. Of its own kinds: [`EXHAUSTED`],
/// [`ALREADY_HELD`], [`ADDRESS_TAKEN`]. A lock not got in time is [`ErrorKind::TryAgain`], a failed file operation
/// [`ErrorKind::Io`]. Whatever the error, nothing stays reserved by the call that returns it.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostLocal {}

impl HostLocal {
    /// `host-local`; all it needs comes with each request.
    pub fn new() -> Self {
        Self {}
    }

    /// The addresses that attachments to the network hold and that are in none of these prefixes.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn held_outside(
        &self,
        network: &NetworkName,
        config: &NetworkConfig,
        prefixes: &[IpNetwork],
    ) -> Result<Vec<IpAddr>> {
        let mut outside = Vec::new();
        store_of(network, config)?.each_record(|ip| {
            if !prefixes.iter().any(|prefix| prefix.contains(ip)) {
                outside.push(ip);
            }
            Ok(())
        })?;
        outside.sort_unstable();
        Ok(outside)
    }
}

#[async_trait]
impl Ipam for HostLocal {
    async fn allocate(&self, request: &IpamRequest<'_>) -> Result<AddResult> {
        let settings = Settings::parse(request.config, request.args)?;
        let store = Store::new(&settings.data_dir, &request.attachment.network);
        let chosen = allocate(&store, &settings, request.attachment, request.cancel)?;
        Ok(answer(&settings, chosen))
    }

    async fn preview(&self, request: &IpamRequest<'_>) -> Result<Option<AddResult>> {
        let settings = Settings::parse(request.config, request.args)?;
        let store = Store::new(&settings.data_dir, &request.attachment.network);
        let chosen = preview(&store, &settings, request.attachment, request.cancel)?;
        Ok(Some(answer(&settings, chosen)))
    }

    async fn held(&self, request: &IpamRequest<'_>) -> Result<Option<Vec<IpNetwork>>> {
        let store = store_of(&request.attachment.network, request.config)?;
        let Some(mut locked) = store.read(request.cancel)? else {
            return Ok(Some(Vec::new()));
        };
        let (held, _) = held(&mut locked, request.attachment)?;
        drop(locked);
        // The prefix length is the configured subnet's; a store outlives changes of its configuration.
        let sets = Settings::parse(request.config, request.args).map(|settings| settings.sets);
        let sets = sets.unwrap_or_default();
        let network = |ip: IpAddr| {
            let range = sets.iter().find_map(|set| set.range_of(ip));
            let prefix = range.map_or(if ip.is_ipv4() { 32 } else { 128 }, |range| range.prefix());
            IpNetwork::new(ip, prefix).unwrap_or_else(|_| IpNetwork::from(ip))
        };
        Ok(Some(held.into_iter().map(network).collect()))
    }

    async fn release(&self, request: &IpamRequest<'_>) -> Result<()> {
        let store = store_of(&request.attachment.network, request.config)?;
        release(&store, request.attachment, request.cancel)
    }

    async fn check(&self, request: &IpamRequest<'_>) -> Result<()> {
        let store = store_of(&request.attachment.network, request.config)?;
        let held = match store.read(request.cancel)? {
            Some(mut locked) => held(&mut locked, request.attachment)?.0,
            None => Vec::new(),
        };
        if held.is_empty() {
            return Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "host-local holds no address for {} in {}",
                    request.attachment,
                    store.dir().display()
                ),
            ));
        }
        Ok(())
    }

    async fn gc(
        &self,
        network: &NetworkName,
        config: &NetworkConfig,
        valid: &ValidAttachments,
    ) -> Result<()> {
        let cancel = Cancel::new().with_deadline(Instant::now() + GC_WAIT);
        gc(&store_of(network, config)?, network, valid, &cancel)
    }

    async fn status(&self, network: &NetworkName, config: &NetworkConfig) -> Result<()> {
        let settings = Settings::parse(config, &CniArgs::default())?;
        status(&Store::new(&settings.data_dir, network), &settings.sets)
    }
}

/// An address of a set, and what goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chosen {
    ip: IpAddr,
    prefix: u8,
    gateway: IpAddr,
}

fn store_of(network: &NetworkName, config: &NetworkConfig) -> Result<Store> {
    Ok(Store::new(&config::data_dir(config)?, network))
}

fn answer(settings: &Settings, chosen: Vec<Chosen>) -> AddResult {
    let ips = chosen.into_iter().filter_map(|chosen| {
        let mut ip = IpConfig::new(IpNetwork::new(chosen.ip, chosen.prefix).ok()?);
        ip.gateway = Some(chosen.gateway);
        Some(ip)
    });
    AddResult {
        ips: ips.collect(),
        routes: settings.routes.clone(),
        dns: settings.dns.clone(),
        ..AddResult::default()
    }
}

fn allocate(
    store: &Store,
    settings: &Settings,
    attachment: &Attachment,
    cancel: &Cancel,
) -> Result<Vec<Chosen>> {
    let wishes = wishes(settings)?;
    let owner = owner(attachment);
    let mut locked = store.create(cancel)?;
    let mut chosen: Vec<Chosen> = Vec::with_capacity(settings.sets.len());
    let mut done = refuse_second(&mut locked, &settings.sets, attachment);
    for (index, (set, wish)) in settings.sets.iter().zip(&wishes).enumerate() {
        if done.is_err() {
            break;
        }
        done = cancel.check("an address was reserved").and_then(|()| {
            chosen.push(reserve(&mut locked, index, set, *wish, &owner)?);
            Ok(())
        });
    }
    if let Err(error) = done {
        let undone = chosen
            .iter()
            .filter_map(|chosen| locked.release(chosen.ip, &owner).err());
        let errors = std::iter::once(error)
            .chain(undone.collect::<Vec<_>>())
            .collect();
        locked.finish();
        return Error::join(errors).map_or(Ok(Vec::new()), Err);
    }
    locked.finish();
    Ok(chosen)
}

fn preview(
    store: &Store,
    settings: &Settings,
    attachment: &Attachment,
    cancel: &Cancel,
) -> Result<Vec<Chosen>> {
    let wishes = wishes(settings)?;
    let mut locked = store.read(cancel)?;
    if let Some(locked) = &mut locked {
        refuse_second(locked, &settings.sets, attachment)?;
    }
    let mut chosen = Vec::with_capacity(settings.sets.len());
    for (index, (set, wish)) in settings.sets.iter().zip(wishes).enumerate() {
        chosen.push(match (&mut locked, wish) {
            (Some(_), Some(wish)) => {
                let free = !matches!(
                    store.record(wish.ip)?,
                    store::Record::Owner(_) | store::Record::Foreign
                );
                if free {
                    wish
                } else {
                    return Err(taken(wish.ip, set));
                }
            }
            (None, Some(wish)) => wish,
            (Some(locked), None) => {
                let last = locked.last_reserved(index);
                search(set, last, |v4, from, to| locked.next_free(v4, from, to))?
                    .ok_or_else(|| exhausted(index, set))?
            }
            (None, None) => search(set, None, |_, from, _| Ok(Some(from)))?
                .ok_or_else(|| exhausted(index, set))?,
        });
    }
    Ok(chosen)
}

fn release(store: &Store, attachment: &Attachment, cancel: &Cancel) -> Result<()> {
    let Some(mut locked) = store.change(cancel)? else {
        return Ok(());
    };
    let (held, owner) = held(&mut locked, attachment)?;
    let failures = held
        .into_iter()
        .filter_map(|ip| locked.release(ip, &owner).err())
        .collect();
    locked.finish();
    Error::join(failures).map_or(Ok(()), Err)
}

fn gc(
    store: &Store,
    network: &NetworkName,
    valid: &ValidAttachments,
    cancel: &Cancel,
) -> Result<()> {
    let Some(mut locked) = store.change(cancel)? else {
        return Ok(());
    };
    // An old record names no interface: any valid attachment of its container keeps it.
    let mut kept: HashSet<String> = HashSet::new();
    for attachment in valid.attachments(network) {
        kept.insert(owner(&attachment));
        kept.insert(old_owner(&attachment.container));
    }
    let swept = locked.sweep(|owner| kept.contains(owner));
    locked.finish();
    swept
}

fn status(store: &Store, sets: &[RangeSet]) -> Result<()> {
    let lock = store.dir().join("lock");
    // Opening to write asks the kernel about permissions and read-only file systems, and writes nothing.
    match OpenOptions::new().read(true).write(true).open(&lock) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => can_be_made(store)?,
        Err(error) => {
            let message = format!("the address store cannot be changed: {}", lock.display());
            return Err(Error::new(ErrorKind::NotAvailable, message).with_source(error));
        }
    }
    // Somebody else's lock is not waited for: then the names in the directory are counted.
    let deadline = Instant::now() + STATUS_WAIT;
    let mut locked = store
        .read(&Cancel::new().with_deadline(deadline))
        .ok()
        .flatten();
    for (index, set) in sets.iter().enumerate() {
        let used = match &mut locked {
            Some(locked) => used(locked, set),
            None => store.count(|ip| allocatable(set, ip)),
        };
        let used = used.map_err(|error| error.with_kind(ErrorKind::NotAvailable))?;
        if used >= set.capacity() {
            let error = exhausted(index, set);
            return Err(error.with_kind(ErrorKind::NotAvailable));
        }
    }
    Ok(())
}

/// Whether the store, or its lock, could be made: the nearest directory that exists can be written to.
fn can_be_made(store: &Store) -> Result<()> {
    let existing = store.dir().ancestors().find(|dir| dir.exists());
    if existing
        .is_some_and(|existing| existing.is_dir() && crate::host::disk::can_be_written(existing))
    {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::NotAvailable,
        format!(
            "the address store {} cannot be made: the nearest directory above it is not one that can be written to",
            store.dir().display()
        ),
    ))
}

fn allocatable(set: &RangeSet, ip: IpAddr) -> bool {
    set.range_of(ip).is_some_and(|range| range.gateway() != ip)
}

fn used(locked: &mut Locked<'_>, set: &RangeSet) -> Result<u128> {
    let mut used = 0;
    for range in set.ranges() {
        let (from, to) = range.ends();
        used += locked.count(set.is_ipv4(), from, to)?;
        if range.contains(range.gateway()) {
            let gateway = super::ranges::number(range.gateway());
            used -= locked.count(set.is_ipv4(), gateway, gateway)?;
        }
    }
    Ok(used)
}

/// What the attachment holds and what its records say; a container's old records count when it has no others.
fn held(locked: &mut Locked<'_>, attachment: &Attachment) -> Result<(Vec<IpAddr>, String)> {
    let owner = owner(attachment);
    let held = locked.held(&owner)?;
    if !held.is_empty() {
        return Ok((held, owner));
    }
    let owner = old_owner(&attachment.container);
    Ok((locked.held(&owner)?, owner))
}

/// Each set's requested address, if there is one. All must be in a set, and none may be a gateway.
fn wishes(settings: &Settings) -> Result<Vec<Option<Chosen>>> {
    let mut open = settings.requested.clone();
    let mut wishes = Vec::with_capacity(settings.sets.len());
    for set in &settings.sets {
        let Some(at) = open.iter().position(|ip| set.range_of(*ip).is_some()) else {
            wishes.push(None);
            continue;
        };
        let ip = open.swap_remove(at);
        let Some(range) = set.range_of(ip) else {
            continue;
        };
        if range.gateway() == ip {
            return Err(invalid(format!(
                "the requested address {ip} is the gateway of its subnet: request another one"
            )));
        }
        wishes.push(Some(Chosen {
            ip,
            prefix: range.prefix(),
            gateway: range.gateway(),
        }));
    }
    if open.is_empty() {
        return Ok(wishes);
    }
    let open: Vec<String> = open.iter().map(IpAddr::to_string).collect();
    let sets: Vec<String> = settings.sets.iter().map(RangeSet::to_string).collect();
    Err(invalid(format!(
        "requested addresses that no range set can serve, one of each set: {} (sets: {})",
        open.join(", "),
        sets.join("; ")
    )))
}

fn refuse_second(
    locked: &mut Locked<'_>,
    sets: &[RangeSet],
    attachment: &Attachment,
) -> Result<()> {
    let mut held = locked.held(&owner(attachment))?;
    held.extend(locked.held(&old_owner(&attachment.container))?);
    let second = held
        .into_iter()
        .find(|ip| sets.iter().any(|set| set.range_of(*ip).is_some()));
    match second {
        None => Ok(()),
        Some(ip) => Err(Error::new(
            ALREADY_HELD,
            format!(
                "{ip} is already reserved for {attachment}: DEL the attachment before its next ADD"
            ),
        )),
    }
}

fn reserve(
    locked: &mut Locked<'_>,
    index: usize,
    set: &RangeSet,
    wish: Option<Chosen>,
    owner: &str,
) -> Result<Chosen> {
    if let Some(wish) = wish {
        if !locked.reserve(wish.ip, owner)? {
            return Err(taken(wish.ip, set));
        }
        locked.set_last_reserved(index, wish.ip);
        return Ok(wish);
    }
    let last = locked.last_reserved(index);
    loop {
        let found = search(set, last, |v4, from, to| locked.next_free(v4, from, to))?;
        let chosen = found.ok_or_else(|| exhausted(index, set))?;
        if locked.reserve(chosen.ip, owner)? {
            locked.set_last_reserved(index, chosen.ip);
            return Ok(chosen);
        }
        locked.note_taken(chosen.ip);
    }
}

/// The first free address of a set after `last`, round to `last` itself, gateways left out.
fn search(
    set: &RangeSet,
    last: Option<IpAddr>,
    mut next_free: impl FnMut(bool, u128, u128) -> Result<Option<u128>>,
) -> Result<Option<Chosen>> {
    for stretch in set.stretches(last) {
        let (range, mut from) = (stretch.range, stretch.from);
        while let Some(free) = next_free(range.is_ipv4(), from, stretch.to)? {
            let ip = address(range.is_ipv4(), free);
            if ip != range.gateway() {
                return Ok(Some(Chosen {
                    ip,
                    prefix: range.prefix(),
                    gateway: range.gateway(),
                }));
            }
            if free == stretch.to {
                break;
            }
            from = free + 1;
        }
    }
    Ok(None)
}

fn exhausted(index: usize, set: &RangeSet) -> Error {
    Error::new(
        EXHAUSTED,
        format!(
            "range set {index} ({set}) has no free address: all {} are reserved; release some (GC) or widen the range",
            set.capacity()
        ),
    )
}

fn taken(ip: IpAddr, set: &RangeSet) -> Error {
    Error::new(
        ADDRESS_TAKEN,
        format!("the requested address {ip} of range set {set} is reserved for another attachment"),
    )
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}
