//! The bytes of an image: in a file or in memory, and the header before the tables.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MAGIC: u64 = u64::from_le_bytes(*b"cniidx01");
pub(super) const HEADER: u64 = 128;
pub(super) const OWNER: u64 = 24;
pub(super) const BLOCK: u64 = 80;
pub(super) const LARGEST: u32 = 30;

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Bytes {
    Memory(Vec<u8>),
    File(File),
}

/// What identifies the state of the directory that an image describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct Stamp {
    /// Device and inode.
    pub(in super::super) place: [u64; 2],
    /// Time of the last change of its entries, seconds and nanoseconds, and of its inode.
    pub(in super::super) times: [i64; 4],
    /// The boot: what was written before a power failure is not trusted.
    pub(in super::super) boot: u128,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) owner_bits: u32,
    pub(super) block_bits: u32,
    /// Slots that are not empty.
    pub(super) owners: u64,
    pub(super) blocks: u64,
}

impl Bytes {
    /// All of them, `size` bytes.
    pub(super) fn whole(&self, size: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        self.read(0, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        #[cfg(test)]
        super::tests::count_read(into.len());
        match self {
            Self::File(file) => file.read_exact_at(into, at),
            Self::Memory(bytes) => {
                let from = usize::try_from(at)
                    .ok()
                    .and_then(|at| bytes.get(at..at.checked_add(into.len())?))
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                into.copy_from_slice(from);
                Ok(())
            }
        }
    }

    pub(super) fn write(&mut self, at: u64, from: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all_at(from, at),
            Self::Memory(bytes) => {
                let into = usize::try_from(at)
                    .ok()
                    .and_then(|at| bytes.get_mut(at..at.checked_add(from.len())?))
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                into.copy_from_slice(from);
                Ok(())
            }
        }
    }
}

impl Header {
    pub(super) fn owner_slots(&self) -> u64 {
        1 << self.owner_bits
    }

    pub(super) fn block_slots(&self) -> u64 {
        1 << self.block_bits
    }

    pub(super) fn owner_at(&self, slot: u64) -> u64 {
        HEADER + slot * OWNER
    }

    pub(super) fn block_at(&self, slot: u64) -> u64 {
        self.owner_at(self.owner_slots()) + slot * BLOCK
    }

    pub(super) fn size(&self) -> u64 {
        self.block_at(self.block_slots())
    }

    pub(super) fn encode(&self, stamp: &Stamp) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER as usize);
        let numbers = [
            MAGIC,
            u64::from(self.owner_bits) << 32 | u64::from(self.block_bits),
            self.owners,
            self.blocks,
        ];
        let all = numbers
            .iter()
            .copied()
            .chain(stamp.place)
            .chain(stamp.times.map(|t| t as u64));
        for number in all {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&stamp.boot.to_le_bytes());
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        bytes.resize(HEADER as usize, 0);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, Stamp)> {
        if word(bytes, 0) != MAGIC || word(bytes, 96) != checksum(bytes.get(..96)?) {
            return None;
        }
        let sizes = word(bytes, 8);
        let header = Self {
            owner_bits: (sizes >> 32) as u32,
            block_bits: sizes as u32,
            owners: word(bytes, 16),
            blocks: word(bytes, 24),
        };
        let stamp = Stamp {
            place: [32, 40].map(|at| word(bytes, at)),
            times: [48, 56, 64, 72].map(|at| word(bytes, at) as i64),
            boot: wide(bytes, 80),
        };
        (header.owner_bits <= LARGEST && header.block_bits <= LARGEST).then_some((header, stamp))
    }
}

pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.iter_mut()
        .zip(bytes.iter().skip(at))
        .for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(word)
}

pub(super) fn wide(bytes: &[u8], at: usize) -> u128 {
    u128::from(word(bytes, at)) | u128::from(word(bytes, at + 8)) << 64
}

/// FNV-1a of 64 bits: enough to tell a header that was half written.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
