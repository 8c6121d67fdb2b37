//! Writing requests: the typed messages of `netlink-packet-route`, and attribute by attribute where there are ten thousand
//! of them or no type.

use rtnetlink::packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

const NLA_F_NESTED: u16 = 0x8000;
/// Offsets in `struct nlmsghdr`.
const FLAGS: usize = 6;
const SEQUENCE: usize = 8;

/// What can be sent as one request.
pub(in crate::host) trait Request: Clone {
    /// Appends the whole message, padded.
    fn write(self, flags: u16, sequence: u32, to: &mut Vec<u8>);
}

impl Request for RouteNetlinkMessage {
    fn write(self, flags: u16, sequence: u32, to: &mut Vec<u8>) {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(self));
        message.finalize();
        let start = to.len();
        to.resize(start + message.buffer_len(), 0);
        if let Some(room) = to.get_mut(start..) {
            message.serialize(room);
        }
    }
}

/// A request written by a function: message type, and what fills it.
#[derive(Clone, Copy)]
pub(in crate::host) struct Written<F>(pub(in crate::host) u16, pub(in crate::host) F);

impl<F: FnOnce(&mut Writer<'_>) + Clone> Request for Written<F> {
    fn write(self, flags: u16, sequence: u32, to: &mut Vec<u8>) {
        let mut writer = Writer::begin(to, self.0, flags, sequence);
        self.1(&mut writer);
        writer.end();
    }
}

/// Writes one message at the end of a buffer.
pub(in crate::host) struct Writer<'a> {
    to: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    fn begin(to: &'a mut Vec<u8>, kind: u16, flags: u16, sequence: u32) -> Self {
        let start = to.len();
        to.extend_from_slice(&[0; 4]);
        to.extend_from_slice(&kind.to_ne_bytes());
        to.extend_from_slice(&flags.to_ne_bytes());
        to.extend_from_slice(&sequence.to_ne_bytes());
        to.extend_from_slice(&[0; 4]);
        Self { to, start }
    }

    /// The family's fixed header, or a part of it.
    pub(in crate::host) fn header(&mut self, bytes: &[u8]) {
        self.to.extend_from_slice(bytes);
    }

    /// An attribute.
    pub(in crate::host) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.to.extend_from_slice(&length.to_ne_bytes());
        self.to.extend_from_slice(&kind.to_ne_bytes());
        self.to.extend_from_slice(value);
        self.pad();
    }

    /// An attribute that consists of attributes.
    pub(in crate::host) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.to.len();
        self.attribute(kind | NLA_F_NESTED, &[]);
        fill(self);
        let length = u16::try_from(self.to.len() - start).unwrap_or(u16::MAX);
        put(self.to, start, &length.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.to.resize(self.to.len().next_multiple_of(4), 0);
    }

    fn end(self) {
        let length = u32::try_from(self.to.len() - self.start).unwrap_or(u32::MAX);
        put(self.to, self.start, &length.to_ne_bytes());
    }
}

/// Requests that travel in one datagram.
#[derive(Debug, Default)]
pub(in crate::host) struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Batch {
    /// Forgets all, and keeps the room.
    pub(in crate::host) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Appends a request; `Err` leaves none.
    pub(in crate::host) fn push<E>(
        &mut self,
        (kind, flags): (u16, u16),
        fill: impl FnOnce(&mut Writer<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        let mut writer = Writer::begin(&mut self.bytes, kind, flags, 0);
        match fill(&mut writer) {
            Ok(()) => {
                writer.end();
                self.starts.push(start);
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    /// How many requests.
    pub(in crate::host) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The request with this number, and what follows it.
    pub(super) fn from(&self, index: usize) -> &[u8] {
        let start = self.starts.get(index).copied();
        start
            .and_then(|start| self.bytes.get(start..))
            .unwrap_or_default()
    }

    /// Numbers the requests from `first` on, and sets the last one's flags.
    pub(super) fn number(&mut self, first: u32, flags_of_last: u16) {
        let mut number = first;
        for start in &self.starts {
            put(&mut self.bytes, start + SEQUENCE, &number.to_ne_bytes());
            number = number.wrapping_add(1);
        }
        if let Some(start) = self.starts.last() {
            let at = start + FLAGS;
            let flags = super::wire::u16_at(&self.bytes, at).unwrap_or(0) | flags_of_last;
            put(&mut self.bytes, at, &flags.to_ne_bytes());
        }
    }
}

/// Overwrites bytes that are there.
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(room) = bytes.get_mut(at..at + value.len()) {
        room.copy_from_slice(value);
    }
}
