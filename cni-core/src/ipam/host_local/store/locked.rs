//! The store while its lock is held: what it says, and how it is changed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::files::{boot, create_new, is_full, stamp, tag, unrepeatable_time, write_new};
use super::{Record, Store};
use crate::error::{Error, Result};
use crate::ipam::host_local::image::Image;

/// The store while its lock is held.
#[derive(Debug)]
pub(in super::super) struct Locked<'a> {
    store: &'a Store,
    dir: File,
    image: Image,
    /// Built from the records by this very holder of the lock.
    rebuilt: bool,
    /// The image and the directory do not match what was sealed last.
    dirty: bool,
    /// The image lacks something that only another walk could tell; it must not outlive this lock.
    incomplete: bool,
    /// Whether anything may be written.
    writable: bool,
    boot: u128,
    /// Keeps the lock; dropped last.
    _lock: File,
}

impl<'a> Locked<'a> {
    pub(super) fn open(store: &'a Store, lock: File, writable: bool) -> Result<Self> {
        let dir = File::open(&store.dir).map_err(|e| store.failed("open", &store.dir, e))?;
        let boot = boot();
        let stamp = stamp(&dir, boot).map_err(|e| store.failed("examine", &store.dir, e))?;
        let file = OpenOptions::new()
            .read(true)
            .write(writable)
            .open(&store.index);
        let known = file.ok().and_then(|file| Image::open(file, &stamp));
        let (rebuilt, dirty) = (known.is_none(), known.is_none());
        let image = known.unwrap_or_else(Image::empty);
        let mut locked = Self {
            store,
            dir,
            image,
            rebuilt,
            dirty,
            incomplete: false,
            writable,
            boot,
            _lock: lock,
        };
        if rebuilt {
            locked.rebuild(|_, _| Ok(true))?;
        }
        Ok(locked)
    }

    /// The addresses whose records say exactly `owner`, in the order of the addresses.
    pub(in super::super) fn held(&mut self, owner: &str) -> Result<Vec<IpAddr>> {
        loop {
            let (mut held, mut doubtful) = (Vec::new(), false);
            match self.image.held(tag(owner)) {
                Ok(candidates) => {
                    for ip in candidates {
                        match self.store.record(ip)? {
                            Record::Owner(found) if found == owner => held.push(ip),
                            _ => doubtful = true,
                        }
                    }
                }
                Err(error) if self.rebuilt => return Err(self.unreadable(error)),
                Err(_) => doubtful = true,
            }
            if !doubtful || self.rebuilt {
                held.sort();
                held.dedup();
                return Ok(held);
            }
            self.rebuild(|_, _| Ok(true))?;
        }
    }

    /// The first address of a stretch that is not reserved as far as the index knows.
    pub(in super::super) fn next_free(
        &mut self,
        v4: bool,
        from: u128,
        to: u128,
    ) -> Result<Option<u128>> {
        match self.image.next_free(v4, from, to) {
            Ok(free) => Ok(free),
            Err(error) if self.rebuilt => Err(self.unreadable(error)),
            Err(_) => {
                self.rebuild(|_, _| Ok(true))?;
                self.image
                    .next_free(v4, from, to)
                    .map_err(|error| self.unreadable(error))
            }
        }
    }

    /// How many addresses of a stretch are reserved.
    pub(in super::super) fn count(&mut self, v4: bool, from: u128, to: u128) -> Result<u128> {
        self.image
            .count(v4, from, to)
            .map_err(|error| self.unreadable(error))
    }

    /// Notes that an address is taken although the index did not know it: somebody writes records without the lock.
    /// Whose it is, the next holder of the lock will find out.
    pub(in super::super) fn note_taken(&mut self, ip: IpAddr) {
        self.incomplete = true;
        let noted = self.image.insert(None, ip);
        self.note(noted);
    }

    /// Writes the record of an address. `false` when somebody holds it.
    ///
    /// The record appears with its content or not at all: it is written under another name first.
    pub(in super::super) fn reserve(&mut self, ip: IpAddr, owner: &str) -> Result<bool> {
        let path = self.store.path(ip);
        let taken_over = match self.store.record(ip)? {
            Record::Owner(_) | Record::Foreign => return Ok(false),
            Record::Abandoned => true,
            Record::Absent => false,
        };
        self.dirty = true;
        if taken_over {
            // Nobody holds it, and nobody can while we have the lock.
            fs::remove_file(&path).map_err(|error| self.store.failed("write", &path, error))?;
        }
        let mut done = self.place(&path, owner);
        // The index may have taken the last room that there was. An address is worth more.
        if done.as_ref().is_err_and(is_full) && self.give_up_index() {
            done = self.place(&path, owner);
        }
        match done {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(self.store.failed("write", &path, error)),
        }
        let noted = self.image.insert(Some(tag(owner)), ip);
        self.note(noted);
        Ok(true)
    }

    /// Removes the record of an address that `owner` holds.
    pub(in super::super) fn release(&mut self, ip: IpAddr, owner: &str) -> Result<()> {
        let path = self.store.path(ip);
        self.dirty = true;
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.store.failed("remove", &path, error)),
        }
        let noted = self.image.remove(tag(owner), ip);
        self.note(noted);
        Ok(())
    }

    /// The last address handed out of a set, if that is known.
    pub(in super::super) fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let text = fs::read_to_string(self.last_reserved_path(set)).ok()?;
        Some(text.parse::<IpAddr>().ok()?.to_canonical())
    }

    /// Notes the last address handed out of a set. A failure costs the order of the search, nothing more.
    pub(in super::super) fn set_last_reserved(&mut self, set: usize, ip: IpAddr) {
        let path = self.last_reserved_path(set);
        let text = ip.to_string();
        let write = || {
            let mut options = OpenOptions::new();
            let file = options
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            (&file).write_all(text.as_bytes())?;
            // Cut afterwards: so a full disk cannot lose what was there.
            file.set_len(text.len() as u64)
        };
        self.dirty = true;
        if let Err(error) = write() {
            tracing::warn!(path = %path.display(), %error, "could not note the last reserved address");
        }
    }

    /// Walks all records: those that `keep` refuses are removed, the abandoned ones as well. All failures are told
    /// together.
    pub(in super::super) fn sweep(&mut self, keep: impl Fn(&str) -> bool) -> Result<()> {
        let mut failures = Vec::new();
        self.dirty = true;
        let store = self.store;
        self.rebuild(|ip, record| {
            let stays = match record {
                Record::Owner(owner) => keep(owner),
                Record::Foreign => true,
                Record::Abandoned | Record::Absent => false,
            };
            if stays {
                return Ok(true);
            }
            match fs::remove_file(store.path(ip)) {
                Ok(()) => Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => {
                    failures.push(store.failed("remove", &store.path(ip), error));
                    Ok(true)
                }
            }
        })?;
        Error::join(failures).map_or(Ok(()), Err)
    }

    /// Ends a change: writes the index if need be, and stamps the directory.
    pub(in super::super) fn finish(mut self) {
        if !self.writable {
            return;
        }
        let kept = !self.incomplete && (!self.dirty || self.try_finish().is_some());
        if !kept {
            // Without its stamp the index is not believed by anybody; it need not lie around either.
            let _ = fs::remove_file(&self.store.index);
        }
    }

    fn try_finish(&mut self) -> Option<()> {
        if self.image.is_in_memory() {
            let parent = self.store.index.parent()?;
            let _ = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            let file = create_new(&self.store.fresh).ok()?;
            let moved = self.image.move_to(file);
            let moved = moved.and_then(|()| fs::rename(&self.store.fresh, &self.store.index));
            if moved.is_err() {
                let _ = fs::remove_file(&self.store.fresh);
            }
            moved.ok()?;
        }
        let time = unrepeatable_time();
        self.dir.set_modified(time).ok()?;
        // A file system with coarser times, or another clock, cannot carry the stamp.
        let kept = self.dir.metadata().ok()?.modified().ok()? == time;
        let stamp = stamp(&self.dir, self.boot).ok().filter(|_| kept)?;
        self.image.seal(&stamp).ok()
    }

    /// Builds the index from the records.
    fn rebuild(&mut self, mut keep: impl FnMut(IpAddr, &Record) -> Result<bool>) -> Result<()> {
        let mut image = Image::empty();
        let mut broken = None;
        let store = self.store;
        store.each_record(|ip| {
            let record = store.record(ip)?;
            let noted = match (keep(ip, &record)?, &record) {
                (true, Record::Owner(owner)) => image.insert(Some(tag(owner)), ip),
                (true, Record::Foreign) => image.insert(None, ip),
                _ => Ok(()),
            };
            broken = broken.take().or(noted.err());
            Ok(())
        })?;
        if let Some(error) = broken {
            return Err(self.unreadable(error));
        }
        self.image = image;
        self.rebuilt = true;
        self.dirty = true;
        Ok(())
    }

    /// The index could not be written: from here on the records are all there is.
    fn note(&mut self, noted: io::Result<()>) {
        if noted.is_err() && self.rebuild(|_, _| Ok(true)).is_err() {
            self.writable = false;
        }
    }

    /// Makes a record: whole under another name first, or in place where there are no links, no directory for them, or
    /// no room for a second name.
    fn place(&self, path: &Path, owner: &str) -> io::Result<()> {
        let linked = self
            .write_fresh(owner)
            .and_then(|()| fs::hard_link(&self.store.fresh, path));
        let _ = fs::remove_file(&self.store.fresh);
        match linked {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            Err(_) => write_new(path, owner),
        }
    }

    /// Removes the index's file and goes on in memory. Whether that made room.
    fn give_up_index(&mut self) -> bool {
        self.image.move_to_memory().is_ok() && fs::remove_file(&self.store.index).is_ok()
    }

    fn write_fresh(&self, owner: &str) -> io::Result<()> {
        let write = || create_new(&self.store.fresh)?.write_all(owner.as_bytes());
        match write() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = self.store.fresh.parent() {
                    DirBuilder::new()
                        .recursive(true)
                        .mode(0o700)
                        .create(parent)?;
                }
                write()
            }
            done => done,
        }
    }

    fn last_reserved_path(&self, set: usize) -> PathBuf {
        self.store.dir.join(format!("last_reserved_ip.{set}"))
    }

    fn unreadable(&self, error: io::Error) -> Error {
        self.store.failed("use the index", &self.store.index, error)
    }
}
