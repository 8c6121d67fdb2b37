//! Names and indexes of links.

use std::collections::HashMap;

use super::super::entry::LinkName;
use super::uapi::*;
use crate::host::netlink::errno;
use crate::host::rtnl::wire::{attribute, string_of, u32_at};
use crate::host::rtnl::{Connection, Failure, Writer, Written};

/// The indexes of the links that one write names. Each is looked up once.
#[derive(Debug, Default)]
pub(super) struct Indexes(HashMap<String, Option<u32>>);

impl Indexes {
    /// The index of a link.
    ///
    /// # Errors
    /// ENODEV when there is none of that name.
    pub(super) fn of(&mut self, name: &str, connection: &mut Connection) -> Result<u32, Failure> {
        let known = match self.0.get(name) {
            Some(known) => *known,
            None => {
                let found = existing(name, connection)?;
                self.0.insert(name.to_owned(), found);
                found
            }
        };
        known.ok_or_else(|| no_link(name))
    }

    /// Looks all up again. Whether any has become another one.
    pub(super) fn refresh(&mut self, connection: &mut Connection) -> bool {
        let mut changed = false;
        for (name, known) in &mut self.0 {
            if let Ok(found) = existing(name, connection)
                && found != *known
            {
                *known = found;
                changed = true;
            }
        }
        changed
    }
}

/// The index of a link.
///
/// # Errors
/// ENODEV when there is none of that name.
pub(super) fn find(name: &str, connection: &mut Connection) -> Result<u32, Failure> {
    existing(name, connection)?.ok_or_else(|| no_link(name))
}

fn no_link(name: &str) -> Failure {
    Failure::refused(errno::ENODEV, format!("no link {name}"))
}

fn existing(name: &str, connection: &mut Connection) -> Result<Option<u32>, Failure> {
    // What cannot be a name (`dev_valid_name`) need not be asked for, and a NUL would end it early.
    if name.is_empty() || name.len() > 15 || name.contains('\0') {
        return Ok(None);
    }
    let ask = |to: &mut Writer<'_>| {
        to.header(&[0; 16]);
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        to.attribute(IFLA_IFNAME, &value);
    };
    link(ask, connection, |payload| u32_at(payload, 4))
}

fn link<T>(
    ask: impl Fn(&mut Writer<'_>) + Copy,
    connection: &mut Connection,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, Failure> {
    let request = Written(RTM_GETLINK, |to: &mut Writer<'_>| {
        ask(to);
        to.attribute(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    });
    let mut found = None;
    match connection.get(request, &mut |(_, payload)| found = read(payload)) {
        Ok(()) => Ok(found),
        Err(failure) if failure.errno == errno::ENODEV => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The names of the links that a dump shows: of one, or of any, which are looked up as they appear.
pub(super) struct Names<'a> {
    connection: &'a mut Connection,
    known: HashMap<u32, Option<LinkName>>,
    only: bool,
}

impl<'a> Names<'a> {
    pub(super) fn new(connection: &'a mut Connection, only: Option<(u32, LinkName)>) -> Self {
        Self {
            connection,
            only: only.is_some(),
            known: only
                .map(|(index, name)| (index, Some(name)))
                .into_iter()
                .collect(),
        }
    }

    /// The name; `None` where there is no such link, or it is not the one that is asked about.
    pub(super) fn name(&mut self, index: u32) -> Option<LinkName> {
        if let Some(known) = self.known.get(&index) {
            return known.clone();
        }
        if self.only {
            return None;
        }
        let ask = |to: &mut Writer<'_>| {
            to.header(&[0; 4]);
            to.header(&index.to_ne_bytes());
            to.header(&[0; 8]);
        };
        let read = |payload: &[u8]| {
            let name = attribute(payload.get(16..)?, IFLA_IFNAME)?;
            Some(LinkName::from(string_of(name)))
        };
        let name = link(ask, self.connection, read).ok().flatten();
        self.known.insert(index, name.clone());
        name
    }
}
