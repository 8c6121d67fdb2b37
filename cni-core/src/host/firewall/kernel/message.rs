//! Netlink messages as bytes: writing them, and walking through what the kernel answers.

use super::uapi::*;

/// Appends netlink messages to one buffer.
#[derive(Debug, Default)]
pub(in crate::host) struct Writer {
    bytes: Vec<u8>,
}

/// What stands in the headers of a message.
#[derive(Debug, Clone, Copy)]
pub(in crate::host) struct Header {
    /// `NFT_MSG_*`, or a message of nfnetlink itself.
    pub(in crate::host) kind: u16,
    /// `NLM_F_*`; `NLM_F_REQUEST` is implied.
    pub(in crate::host) flags: u16,
    /// Sequence number.
    pub(in crate::host) sequence: u32,
    /// `NFPROTO_*`.
    pub(in crate::host) family: u8,
}

impl Writer {
    pub(in crate::host) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(in crate::host) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A message of nftables with the attributes that `body` writes.
    pub(in crate::host) fn message(&mut self, header: Header, body: impl FnOnce(&mut Self)) {
        self.message_of(NFNL_SUBSYS_NFTABLES, header, body);
    }

    /// A message of one of nfnetlink's subsystems (`NFNL_SUBSYS_*`).
    pub(in crate::host) fn message_of(
        &mut self,
        subsystem: u16,
        header: Header,
        body: impl FnOnce(&mut Self),
    ) {
        let kind = subsystem << 8 | header.kind;
        self.raw_message(Header { kind, ..header }, 0, body);
    }

    /// Begin or end of a batch.
    pub(in crate::host) fn batch_mark(&mut self, kind: u16, sequence: u32) {
        let header = Header {
            kind,
            flags: 0,
            sequence,
            family: 0,
        };
        self.raw_message(header, NFNL_SUBSYS_NFTABLES, |_| {});
    }

    fn raw_message(&mut self, header: Header, resource: u16, body: impl FnOnce(&mut Self)) {
        let start = self.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(header.kind.to_ne_bytes());
        self.bytes
            .extend((header.flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend(header.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([header.family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        body(self);
        let length = (self.len() - start) as u32;
        self.patch(start, &length.to_ne_bytes());
    }

    /// Sets a flag in the message that begins at `start`.
    pub(in crate::host) fn add_flag(&mut self, start: usize, flag: u16) {
        let flags = self.bytes.get(start + 6..start + 8);
        if let Some([low, high]) = flags {
            let flags = u16::from_ne_bytes([*low, *high]) | flag;
            self.patch(start + 6, &flags.to_ne_bytes());
        }
    }

    fn patch(&mut self, at: usize, value: &[u8]) {
        if let Some(slot) = self.bytes.get_mut(at..at + value.len()) {
            slot.copy_from_slice(value);
        }
    }

    /// An attribute with raw bytes, padded to four.
    pub(in crate::host) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (value.len() + 4) as u16;
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.len().next_multiple_of(4), 0);
    }

    /// An attribute with text, terminated by NUL.
    pub(in crate::host) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    /// An attribute with a number in network byte order.
    pub(in crate::host) fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// An attribute with a number in network byte order.
    pub(in crate::host) fn be64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// An attribute that holds attributes. Its content must stay below 64 KiB.
    pub(in crate::host) fn nest<T>(&mut self, kind: u16, body: impl FnOnce(&mut Self) -> T) -> T {
        let start = self.len();
        self.attribute(kind | NLA_F_NESTED, &[]);
        let result = body(self);
        let length = (self.len() - start) as u16;
        self.patch(start, &length.to_ne_bytes());
        result
    }
}

/// A message from the kernel.
#[derive(Debug, Clone, Copy)]
pub(in crate::host) struct Message<'a> {
    pub(in crate::host) kind: u16,
    pub(in crate::host) flags: u16,
    pub(in crate::host) sequence: u32,
    /// What follows the netlink header.
    pub(in crate::host) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes after nfnetlink's own header.
    pub(in crate::host) fn attributes(&self) -> Attributes<'a> {
        Attributes(self.body.get(4..).unwrap_or_default())
    }

    /// The low 16 bits of the ruleset's generation: it changes with every commit.
    pub(in crate::host) fn generation(&self) -> u16 {
        match self.body {
            [_, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }
}

/// The messages of one datagram. Ends at the first that is not whole.
pub(in crate::host) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (head, _) = self.0.split_first_chunk::<16>()?;
        let [a, b, c, d, k, l, f, g, s, t, u, v, ..] = *head;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let body = self.0.get(16..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([k, l]),
            flags: u16::from_ne_bytes([f, g]),
            sequence: u32::from_ne_bytes([s, t, u, v]),
            body,
        })
    }
}

/// Attributes: type without flags, and value. Ends at the first that is not whole.
#[derive(Debug, Clone, Copy)]
pub(in crate::host) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, _) = self.0.split_first_chunk::<4>()?;
        let [a, b, c, d] = *head;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & NLA_TYPE_MASK, value))
    }
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute of this type.
    pub(in crate::host) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(other, value)| (other == kind).then_some(value))
    }

    /// The attributes inside the first attribute of this type; none when it is absent.
    pub(in crate::host) fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes(self.find(kind).unwrap_or_default())
    }

    pub(in crate::host) fn text(self, kind: u16) -> Option<String> {
        self.find(kind).map(text)
    }

    pub(in crate::host) fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }

    pub(in crate::host) fn be64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.find(kind)?.try_into().ok()?))
    }
}

/// Text up to the first NUL.
pub(in crate::host) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default())
        .into_owned()
}
