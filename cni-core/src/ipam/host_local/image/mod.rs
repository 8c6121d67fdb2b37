//! The index's image: two hash tables that answer "which addresses does this attachment hold" and "which address is
//! free next" by reading a few hundred bytes, however many reservations there are.
//!
//! The same image lives in a file (read and written in place) or in memory (while it is being built, and where no file
//! can be kept).
//!
//! ```text
//! 0    header, 128 bytes (see `Header`)
//! 128  owners: slots of 24 bytes, tag (64 bits, the two lowest say empty, IPv4 or IPv6) and address (128 bits)
//!      blocks: slots of 80 bytes, key (128 bits: family and address / 512) and one bit for each of 512 addresses
//! ```
//!
//! Both tables use linear probing; numbers are little-endian. Where an owner is removed, those after it move up, so that
//! the table's size follows from how many owners there are, not from how many there ever were. Tables that fill up are
//! rebuilt at twice the size, which also drops the blocks that hold nothing.

mod bytes;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::net::IpAddr;

pub(super) use self::bytes::Stamp;
use self::bytes::{BLOCK, Bytes, HEADER, Header, LARGEST, OWNER, wide, word};
use crate::ipam::ranges::{address, number};

/// Addresses in one block, as a power of two.
const BLOCK_BITS: u32 = 9;
/// Owner slots read at once.
const PROBE: u64 = 16;
const SMALLEST: u32 = 6;

const EMPTY: u64 = 0;
const V4: u64 = 1;
const V6: u64 = 2;

/// The two tables.
#[derive(Debug)]
pub(super) struct Image {
    bytes: Bytes,
    header: Header,
}

impl Image {
    /// An empty image in memory.
    pub(super) fn empty() -> Self {
        Self::sized(SMALLEST, SMALLEST)
    }

    fn sized(owner_bits: u32, block_bits: u32) -> Self {
        let header = Header {
            owner_bits,
            block_bits,
            owners: 0,
            blocks: 0,
        };
        let bytes = Bytes::Memory(vec![0; usize::try_from(header.size()).unwrap_or(0)]);
        Self { bytes, header }
    }

    /// The image in a file, if it describes the directory in the state `stamp`.
    pub(super) fn open(file: File, stamp: &Stamp) -> Option<Self> {
        let length = file.metadata().ok()?.len();
        let bytes = Bytes::File(file);
        let mut start = [0; HEADER as usize];
        bytes.read(0, &mut start).ok()?;
        let (header, stored) = Header::decode(&start)?;
        (stored == *stamp && length == header.size()).then_some(Self { bytes, header })
    }

    /// Writes an image that is in memory to an empty file, and goes on there. The file describes nothing until
    /// [`Image::seal`].
    pub(super) fn move_to(&mut self, file: File) -> io::Result<()> {
        if let Bytes::Memory(memory) = &self.bytes {
            let mut bytes = Bytes::File(file);
            bytes.write(0, memory)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Reads an image that is in a file, and goes on in memory.
    pub(super) fn move_to_memory(&mut self) -> io::Result<()> {
        self.bytes = Bytes::Memory(self.bytes.whole(self.header.size())?);
        Ok(())
    }

    /// Whether the image is in memory only.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.bytes, Bytes::Memory(_))
    }

    /// Says which state of the directory the image describes. The last thing written.
    pub(super) fn seal(&mut self, stamp: &Stamp) -> io::Result<()> {
        let bytes = self.header.encode(stamp);
        self.bytes.write(0, &bytes)
    }

    /// Notes that `ip` is taken, by the owner with this tag if it is known.
    pub(super) fn insert(&mut self, tag: Option<u64>, ip: IpAddr) -> io::Result<()> {
        if let Some(tag) = tag {
            self.insert_owner(tag, ip)?;
        }
        self.mark(ip, true)
    }

    /// Notes that `ip` is free.
    pub(super) fn remove(&mut self, tag: u64, ip: IpAddr) -> io::Result<()> {
        let wanted = (tag & !3 | family(ip), number(ip));
        if let Some(slot) = self.probe(tag, |_, owner| owner == wanted)? {
            self.close_gap(slot)?;
            self.header.owners = self.header.owners.saturating_sub(1);
        }
        self.mark(ip, false)
    }

    /// The addresses that the owner with this tag may hold: every one that it does hold, and perhaps those of another
    /// whose tag is the same.
    pub(super) fn held(&self, tag: u64) -> io::Result<Vec<IpAddr>> {
        let mut held = Vec::new();
        self.probe(tag, |_, (found, ip)| {
            if found & !3 == tag & !3 && matches!(found & 3, V4 | V6) {
                held.push(address(found & 3 == V4, ip));
            }
            false
        })?;
        Ok(held)
    }

    /// The first address of `from..=to` that is not marked as taken.
    pub(super) fn next_free(&self, v4: bool, from: u128, to: u128) -> io::Result<Option<u128>> {
        let mut next = from;
        while next <= to {
            let Some((_, bits)) = self.block(v4, next >> BLOCK_BITS)?.found() else {
                return Ok(Some(next));
            };
            let last = (next | ((1 << BLOCK_BITS) - 1)).min(to);
            if let Some(free) = (next..=last).find(|ip| !bit(&bits, *ip)) {
                return Ok(Some(free));
            }
            let Some(after) = last.checked_add(1) else {
                break;
            };
            next = after;
        }
        Ok(None)
    }

    /// How many addresses of `from..=to` are marked as taken.
    pub(super) fn count(&self, v4: bool, from: u128, to: u128) -> io::Result<u128> {
        let mut count = 0;
        for slot in 0..self.header.block_slots() {
            let (key, bits) = self.block_slot(slot)?;
            if key == 0 || (key & BLOCK_V4 != 0) != v4 {
                continue;
            }
            let first = (key & !(BLOCK_V4 | BLOCK_V6)) << BLOCK_BITS;
            let last = (first | ((1 << BLOCK_BITS) - 1)).min(to);
            count += (first.max(from)..=last)
                .filter(|ip| bit(&bits, *ip))
                .count() as u128;
        }
        Ok(count)
    }

    fn insert_owner(&mut self, tag: u64, ip: IpAddr) -> io::Result<()> {
        if (self.header.owners + 1) * 4 > self.header.owner_slots() * 3 {
            self.grow()?;
        }
        let slot = self.first_empty(tag)?;
        self.header.owners += 1;
        self.write_owner(slot, (tag & !3 | family(ip), number(ip)))
    }

    /// Empties a slot. An owner behind it that lies further from its own place than the gap does would not be found
    /// any more: it moves into the gap, which leaves another one.
    fn close_gap(&mut self, emptied: u64) -> io::Result<()> {
        let mask = self.header.owner_slots() - 1;
        let mut gap = emptied;
        for step in 1..=mask {
            let slot = (emptied + step) & mask;
            let owner = self.owner_slot(slot)?;
            if owner.0 & 3 == EMPTY {
                break;
            }
            let from_place = slot.wrapping_sub(self.place(owner.0)) & mask;
            if from_place >= slot.wrapping_sub(gap) & mask {
                self.write_owner(gap, owner)?;
                gap = slot;
            }
        }
        self.write_owner(gap, (EMPTY, 0))
    }

    /// The slot at which an owner's probe chain begins. The two lowest bits of a tag are not part of it.
    fn place(&self, tag: u64) -> u64 {
        (tag >> 2) & (self.header.owner_slots() - 1)
    }

    fn owner_slot(&self, slot: u64) -> io::Result<(u64, u128)> {
        let mut bytes = [0; OWNER as usize];
        self.bytes.read(self.header.owner_at(slot), &mut bytes)?;
        Ok((word(&bytes, 0), wide(&bytes, 8)))
    }

    fn write_owner(&mut self, slot: u64, (tag, ip): (u64, u128)) -> io::Result<()> {
        let mut bytes = [0; OWNER as usize];
        let (tag, ip) = (tag.to_le_bytes(), ip.to_le_bytes());
        let parts = tag.iter().chain(&ip);
        bytes
            .iter_mut()
            .zip(parts)
            .for_each(|(to, from)| *to = *from);
        self.bytes.write(self.header.owner_at(slot), &bytes)
    }

    fn first_empty(&self, tag: u64) -> io::Result<u64> {
        let mut last = self.place(tag);
        let mut seen = false;
        self.probe(tag, |slot, _| {
            seen = true;
            last = slot;
            false
        })?;
        let next = if seen { last + 1 } else { last };
        Ok(next & (self.header.owner_slots() - 1))
    }

    /// Visits the slots of a tag's probe chain up to the first empty one; stops at the first that `visit` accepts.
    fn probe(
        &self,
        tag: u64,
        mut visit: impl FnMut(u64, (u64, u128)) -> bool,
    ) -> io::Result<Option<u64>> {
        let slots = self.header.owner_slots();
        let mut slot = self.place(tag);
        let mut buffer = [0; (PROBE * OWNER) as usize];
        let mut left = slots;
        while left > 0 {
            let count = PROBE.min(slots - slot).min(left);
            let window = buffer
                .get_mut(..(count * OWNER) as usize)
                .unwrap_or_default();
            self.bytes.read(self.header.owner_at(slot), window)?;
            for bytes in window.chunks_exact(OWNER as usize) {
                let owner = (word(bytes, 0), wide(bytes, 8));
                if owner.0 & 3 == EMPTY {
                    return Ok(None);
                }
                if visit(slot, owner) {
                    return Ok(Some(slot));
                }
                slot += 1;
            }
            slot &= slots - 1;
            left -= count;
        }
        Ok(None)
    }

    fn mark(&mut self, ip: IpAddr, taken: bool) -> io::Result<()> {
        let n = number(ip);
        match self.block(ip.is_ipv4(), n >> BLOCK_BITS)? {
            Block::Found(slot, mut bits) => {
                set(&mut bits, n, taken);
                self.bytes.write(self.header.block_at(slot) + 16, &bits)
            }
            Block::Empty(_) if !taken => Ok(()),
            Block::Empty(slot) => {
                let mut bits = [0; 64];
                set(&mut bits, n, true);
                let mut bytes = Vec::with_capacity(BLOCK as usize);
                bytes.extend_from_slice(&block_key(ip.is_ipv4(), n >> BLOCK_BITS).to_le_bytes());
                bytes.extend_from_slice(&bits);
                self.bytes.write(self.header.block_at(slot), &bytes)?;
                self.header.blocks += 1;
                if self.header.blocks * 4 > self.header.block_slots() * 3 {
                    self.grow()?;
                }
                Ok(())
            }
        }
    }

    fn block(&self, v4: bool, n: u128) -> io::Result<Block> {
        let key = block_key(v4, n);
        let slots = self.header.block_slots();
        // Neighbouring blocks lie side by side; what is far apart is spread.
        let far = ((n >> 8) as u64 ^ (n >> 72) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
        let start = (n as u64 & 0xff) ^ far;
        for step in 0..slots {
            let slot = start.wrapping_add(step) & (slots - 1);
            match self.block_slot(slot)? {
                (0, _) => return Ok(Block::Empty(slot)),
                (found, bits) if found == key => return Ok(Block::Found(slot, bits)),
                _ => {}
            }
        }
        Err(io::Error::other(
            "the index of the address store is damaged: its block table is full",
        ))
    }

    fn block_slot(&self, slot: u64) -> io::Result<(u128, [u8; 64])> {
        let mut bytes = [0; BLOCK as usize];
        self.bytes.read(self.header.block_at(slot), &mut bytes)?;
        let mut bits = [0; 64];
        for (to, from) in bits.iter_mut().zip(bytes.iter().skip(16)) {
            *to = *from;
        }
        Ok((wide(&bytes, 0), bits))
    }

    /// Rebuilds both tables in memory with room to spare; the caller moves them into a file.
    fn grow(&mut self) -> io::Result<()> {
        // One read of the whole instead of one for each slot.
        let old = Self {
            bytes: Bytes::Memory(self.bytes.whole(self.header.size())?),
            header: self.header,
        };
        let (mut owners, mut blocks) = (Vec::new(), Vec::new());
        for slot in 0..old.header.owner_slots() {
            let (tag, ip) = old.owner_slot(slot)?;
            if tag & 3 != EMPTY {
                owners.push((tag, ip));
            }
        }
        for slot in 0..old.header.block_slots() {
            let (key, bits) = old.block_slot(slot)?;
            if key != 0 && bits.iter().any(|byte| *byte != 0) {
                blocks.push((key, bits));
            }
        }
        let bits = |used: usize| {
            (used * 2)
                .next_power_of_two()
                .trailing_zeros()
                .max(SMALLEST)
        };
        let (owner_bits, block_bits) = (bits(owners.len()), bits(blocks.len()));
        if owner_bits > LARGEST || block_bits > LARGEST {
            return Err(io::Error::other(
                "the index of the address store has grown too large",
            ));
        }
        let mut grown = Self::sized(owner_bits, block_bits);
        for (tag, ip) in owners {
            grown.insert_owner(tag, address(tag & 3 == V4, ip))?;
        }
        for (key, bits) in blocks {
            let n = key & !(BLOCK_V4 | BLOCK_V6);
            if let Block::Empty(slot) = grown.block(key & BLOCK_V4 != 0, n)? {
                let at = grown.header.block_at(slot);
                grown.bytes.write(at, &key.to_le_bytes())?;
                grown.bytes.write(at + 16, &bits)?;
                grown.header.blocks += 1;
            }
        }
        *self = grown;
        Ok(())
    }
}

enum Block {
    Found(u64, [u8; 64]),
    Empty(u64),
}

impl Block {
    fn found(self) -> Option<(u64, [u8; 64])> {
        match self {
            Self::Found(slot, bits) => Some((slot, bits)),
            Self::Empty(_) => None,
        }
    }
}

const BLOCK_V4: u128 = 1 << 126;
const BLOCK_V6: u128 = 1 << 127;

fn block_key(v4: bool, n: u128) -> u128 {
    n | if v4 { BLOCK_V4 } else { BLOCK_V6 }
}

fn family(ip: IpAddr) -> u64 {
    if ip.is_ipv4() { V4 } else { V6 }
}

fn bit(bits: &[u8; 64], n: u128) -> bool {
    bits.get((n as usize >> 3) & 63)
        .is_some_and(|byte| byte >> (n & 7) & 1 == 1)
}

fn set(bits: &mut [u8; 64], n: u128, to: bool) {
    if let Some(byte) = bits.get_mut((n as usize >> 3) & 63) {
        let mask = 1 << (n & 7);
        *byte = if to { *byte | mask } else { *byte & !mask };
    }
}
