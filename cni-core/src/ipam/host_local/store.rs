//! The store: a directory with one file for each reserved address, shared with the reference plugin.
//!
//! | file | mode | content |
//! |---|---|---|
//! | `DATADIR/NETWORK/` | 0755 | |
//! | `DATADIR/NETWORK/IP` | 0600 | `CONTAINER\r\nINTERFACE`; from very old plugins only `CONTAINER` |
//! | `DATADIR/NETWORK/last_reserved_ip.SET` | 0600 | the last address handed out of the set |
//! | `DATADIR/NETWORK/lock` | 0750 | empty; `flock(2)` |
//! | `DATADIR/.index/NETWORK` | 0600 | ours: the [index](super::image); a network's name cannot begin with a dot |
//!
//! The record files are the truth, the index is a hint. It is trusted while the directory is exactly as the index's
//! last writer left it. The kernel's time stamps are too coarse to tell that (two changes within one tick look the
//! same), so the writer *sets* the directory's modification time to a value that the kernel's clock will not repeat:
//! whatever anybody else adds or removes afterwards replaces it. Everything else (a reference plugin's ADD or DEL, a
//! crash half-way, a restored backup, another boot) leads to one walk of the directory and a new index.
//!
//! Nothing is synced to disk, as in the reference plugin: a reservation outlives the process, and after a power
//! failure its container is gone too. An empty record, which a crash may leave, has no owner and is reused.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::image::{Image, Stamp};
use super::lock::{self, Mode};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::spec::names::hash128;
use crate::spec::{Attachment, ContainerId, NetworkName};

/// Where a network's reservations are.
#[derive(Debug, Clone)]
pub(super) struct Store {
    dir: PathBuf,
    index: PathBuf,
    fresh: PathBuf,
}

/// The store while its lock is held.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    store: &'a Store,
    dir: File,
    image: Image,
    /// Built from the records by this very holder of the lock.
    rebuilt: bool,
    /// The image and the directory do not match what was sealed last.
    dirty: bool,
    /// Whether anything may be written.
    writable: bool,
    boot: u128,
    /// Keeps the lock; dropped last.
    _lock: File,
}

/// Who a record says holds its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// There is no record.
    Absent,
    /// The record is empty: whoever wrote it died. Nobody holds the address.
    Abandoned,
    /// The content, trimmed.
    Owner(String),
}

/// What a record of this attachment says.
pub(super) fn owner(attachment: &Attachment) -> String {
    format!("{}\r\n{}", attachment.container, attachment.interface)
}

/// What a record by a very old plugin says, which knew no interfaces.
pub(super) fn old_owner(container: &ContainerId) -> String {
    container.to_string()
}

impl Store {
    /// The store of a network below `data_dir`.
    pub(super) fn new(data_dir: &Path, network: &NetworkName) -> Self {
        let beside = data_dir.join(".index");
        Self {
            dir: data_dir.join(network.as_str()),
            index: beside.join(network.as_str()),
            fresh: beside.join(format!(".{network}.new")),
        }
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the store if need be, and locks it for changing.
    pub(super) fn create(&self, cancel: &Cancel) -> Result<Locked<'_>> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o750);
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&self.dir)
                .map_err(|error| self.failed("make", &self.dir, error))?;
            if let Some(locked) = self.lock(&options, true, cancel)? {
                return Ok(locked);
            }
            cancel.check("the address store was locked")?;
        }
    }

    /// Locks an existing store for changing; `None` when there is none.
    pub(super) fn change(&self, cancel: &Cancel) -> Result<Option<Locked<'_>>> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o750);
        self.lock(&options, true, cancel)
    }

    /// Locks an existing store for reading; `None` when there is none. Nothing is written.
    pub(super) fn read(&self, cancel: &Cancel) -> Result<Option<Locked<'_>>> {
        self.lock(OpenOptions::new().read(true), false, cancel)
    }

    fn lock(
        &self,
        options: &OpenOptions,
        writable: bool,
        cancel: &Cancel,
    ) -> Result<Option<Locked<'_>>> {
        let path = self.dir.join("lock");
        let mode = if writable {
            Mode::Exclusive
        } else {
            Mode::Shared
        };
        loop {
            let file = match options.open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(self.failed("open", &path, error)),
            };
            let file = lock::lock(file, &path, mode, cancel)?;
            // Whoever removed the directory while we waited removed the lock as well: ours would guard nothing.
            let same = |ours: &Metadata, theirs: &Metadata| {
                (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
            };
            let ours = file
                .metadata()
                .map_err(|error| self.failed("examine", &path, error))?;
            if !fs::metadata(&path).is_ok_and(|theirs| same(&ours, &theirs)) {
                cancel.check("the address store was locked")?;
                continue;
            }
            return Locked::open(self, file, writable).map(Some);
        }
    }

    /// How many records of addresses that `wanted` accepts there are, without a lock.
    pub(super) fn count(&self, wanted: impl Fn(IpAddr) -> bool) -> Result<u128> {
        let mut count = 0;
        self.each_record(|ip| {
            count += u128::from(wanted(ip));
            Ok(())
        })?;
        Ok(count)
    }

    /// What the record of an address says.
    pub(super) fn record(&self, ip: IpAddr) -> Result<Record> {
        let path = self.path(ip);
        let mut text = Vec::new();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Record::Absent),
            Err(error) => return Err(self.failed("open", &path, error)),
        };
        match file.take(4096).read_to_end(&mut text) {
            Ok(_) => {}
            // Not a file, so not a record; the address is not ours to hand out either.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                return Ok(Record::Owner(String::from("/")));
            }
            Err(error) => return Err(self.failed("read", &path, error)),
        }
        let text = String::from_utf8_lossy(&text);
        Ok(match text.trim() {
            "" => Record::Abandoned,
            owner => Record::Owner(owner.to_owned()),
        })
    }

    fn each_record(&self, mut visit: impl FnMut(IpAddr) -> Result<()>) -> Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed("list", &self.dir, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| self.failed("list", &self.dir, error))?;
            if let Some(ip) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            {
                visit(ip)?;
            }
        }
        Ok(())
    }

    fn path(&self, ip: IpAddr) -> PathBuf {
        self.dir.join(ip.to_string())
    }

    fn failed(&self, what: &str, path: &Path, error: io::Error) -> Error {
        Error::new(
            ErrorKind::Io,
            format!("could not {what} {} of the address store", path.display()),
        )
        .with_source(error)
    }
}

impl<'a> Locked<'a> {
    fn open(store: &'a Store, lock: File, writable: bool) -> Result<Self> {
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
    pub(super) fn held(&mut self, owner: &str) -> Result<Vec<IpAddr>> {
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
    pub(super) fn next_free(&mut self, v4: bool, from: u128, to: u128) -> Result<Option<u128>> {
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
    pub(super) fn count(&mut self, v4: bool, from: u128, to: u128) -> Result<u128> {
        self.image
            .count(v4, from, to)
            .map_err(|error| self.unreadable(error))
    }

    /// Notes that an address is taken although the index did not know it.
    pub(super) fn note_taken(&mut self, ip: IpAddr) {
        self.dirty = true;
        let noted = self.image.insert(None, ip);
        self.note(noted);
    }

    /// Writes the record of an address. `false` when somebody holds it.
    ///
    /// The record appears with its content or not at all: it is written under another name first.
    pub(super) fn reserve(&mut self, ip: IpAddr, owner: &str) -> Result<bool> {
        let path = self.store.path(ip);
        let failed = |error| self.store.failed("write", &path, error);
        let taken_over = match self.store.record(ip)? {
            Record::Owner(_) => return Ok(false),
            Record::Abandoned => true,
            Record::Absent => false,
        };
        self.dirty = true;
        if taken_over {
            // Nobody holds it, and nobody can while we have the lock.
            fs::remove_file(&path).map_err(failed)?;
        }
        let done = match self.write_fresh(owner) {
            Ok(()) => fs::hard_link(&self.store.fresh, &path),
            Err(error) => Err(error),
        };
        let _ = fs::remove_file(&self.store.fresh);
        match done {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(failed(error)),
            // No directory for the index, another file system, or one without links.
            Err(_) => match write_new(&path, owner) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                Err(error) => return Err(failed(error)),
            },
        }
        let noted = self.image.insert(Some(tag(owner)), ip);
        self.note(noted);
        Ok(true)
    }

    /// Removes the record of an address that `owner` holds.
    pub(super) fn release(&mut self, ip: IpAddr, owner: &str) -> Result<()> {
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
    pub(super) fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let text = fs::read_to_string(self.last_reserved_path(set)).ok()?;
        Some(text.parse::<IpAddr>().ok()?.to_canonical())
    }

    /// Notes the last address handed out of a set. A failure costs the order of the search, nothing more.
    pub(super) fn set_last_reserved(&mut self, set: usize, ip: IpAddr) {
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
    pub(super) fn sweep(&mut self, keep: impl Fn(&str) -> bool) -> Result<()> {
        let mut failures = Vec::new();
        self.dirty = true;
        let store = self.store;
        self.rebuild(|ip, record| {
            let stays = match record {
                Record::Owner(owner) => keep(owner),
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
    pub(super) fn finish(mut self) {
        if self.writable && self.dirty && self.try_finish().is_none() {
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
            if keep(ip, &record)?
                && let Record::Owner(owner) = &record
            {
                let noted = image.insert(Some(tag(owner)), ip);
                broken = broken.take().or(noted.err());
            }
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

/// A new file of this name. A file that is there already is the leftover of a crash; it may be linked as a record, so
/// it must not be written to.
fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)
        }
        opened => opened,
    }
}

/// Writes a record in place; a failure removes it again.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes()).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

fn tag(owner: &str) -> u64 {
    hash128(&[owner]) as u64
}

fn boot() -> u128 {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    hash128(&[boot.trim()])
}

fn stamp(dir: &File, boot: u128) -> io::Result<Stamp> {
    let metadata = dir.metadata()?;
    Ok(Stamp {
        place: [metadata.dev(), metadata.ino()],
        times: [
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ],
        boot,
    })
}

/// Now, with nanoseconds of chance.
fn unrepeatable_time() -> SystemTime {
    let chance = RandomState::new().hash_one(std::process::id());
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let nanoseconds = (chance % 1_000_000_000) as u32;
    SystemTime::UNIX_EPOCH + Duration::new(now.as_secs(), nanoseconds)
}
