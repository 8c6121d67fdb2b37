//! Says when a file may have changed, whatever the way: written in place, replaced, or behind a symlink that was turned.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{
    AddWatchFlags as Flags, InitFlags, Inotify, InotifyEvent, WatchDescriptor,
};

use super::disk::Fingerprint;
use crate::channel::{Receiver, Sender, channel};

/// For how long nobody must have written before a file is read that has not been closed.
const QUIET: Duration = Duration::from_millis(5);

/// How often the file is looked at though nothing was told: a change that another machine makes in a network file system,
/// a file system that is mounted over a directory, and writing by `mmap(2)` are told by nobody.
const SWEEP: Duration = Duration::from_secs(10);

/// The same where the kernel does not let everything be watched.
const SWEEP_BLIND: Duration = Duration::from_secs(1);

/// As many symlinks as the kernel follows in a path (`path_resolution(7)`).
const LINKS_MAX: usize = 40;

/// A directory on the way: that it is moved, removed or closed to us. What happens in it wakes nobody.
const ITSELF: Flags = Flags::IN_MOVE_SELF
    .union(Flags::IN_DELETE_SELF)
    .union(Flags::IN_ATTRIB)
    .union(Flags::IN_ONLYDIR);

/// A directory in which a name is looked up that may get another meaning.
const NAMES: Flags = Flags::IN_CREATE
    .union(Flags::IN_DELETE)
    .union(Flags::IN_MOVE)
    .union(Flags::IN_ATTRIB);

/// The file.
const CONTENT: Flags = Flags::IN_MODIFY
    .union(Flags::IN_CLOSE_WRITE)
    .union(Flags::IN_ATTRIB)
    .union(Flags::IN_MOVE_SELF)
    .union(Flags::IN_DELETE_SELF);

/// Says when a file may have changed, for as long as it lives.
#[derive(Debug)]
pub(crate) struct FileWatch {
    changes: Receiver<()>,
    /// The thread ends when this end of the pipe is closed.
    _alive: PipeWriter,
}

impl FileWatch {
    /// Begins to watch the file behind a path, which need not exist yet, nor the directories that lead to it.
    ///
    /// # Errors
    /// When there can be no further thread, or no pipe to it.
    pub(crate) fn start(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let (stop, alive) = io::pipe()?;
        let (sender, changes) = channel();
        thread::Builder::new()
            .name("file-watch".to_owned())
            .stack_size(256 << 10)
            .spawn(move || Watcher::new(path).run(&sender, &stop))?;
        Ok(Self {
            changes,
            _alive: alive,
        })
    }

    /// Waits until the file has to be read: once when it begins to be watched, then whenever it may have changed since the
    /// last return. May be dropped, and loses nothing.
    pub(crate) async fn changed(&mut self) {
        // The thread ends with this value only.
        if self.changes.next().await.is_none() {
            std::future::pending().await
        }
    }
}

/// The watching thread's.
struct Watcher {
    path: PathBuf,
    /// `None` where the kernel grants no more of them.
    inotify: Option<Inotify>,
    watched: BTreeMap<WatchDescriptor, Watched>,
    /// Not everything could be watched.
    blind: bool,
    /// What was last told of.
    told: Option<Fingerprint>,
    /// When the next telling is due.
    due: Option<Instant>,
}

/// What is watched of one directory or file.
#[derive(Debug, Clone, PartialEq)]
struct Watched {
    flags: Flags,
    /// In a directory, what is looked up in it.
    names: BTreeSet<OsString>,
}

/// A walk from the root to the file, as the kernel goes, but setting a watch before each look: whatever changes after the look
/// is told.
struct Walk<'a> {
    inotify: &'a Inotify,
    /// By path; none leads through a symlink, so that none is there twice.
    places: BTreeMap<PathBuf, (WatchDescriptor, Watched)>,
    refused: Option<Errno>,
}

enum Kind {
    Directory,
    Link(PathBuf),
    Other,
    Missing,
}

impl Watcher {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            inotify: None,
            watched: BTreeMap::new(),
            blind: false,
            told: None,
            due: None,
        }
    }

    fn run(mut self, changes: &Sender<()>, stop: &PipeReader) {
        self.walk();
        self.tell(changes);
        loop {
            let sweep = match self.blind {
                true => SWEEP_BLIND,
                false => SWEEP,
            };
            let now = Instant::now();
            let wait = self
                .due
                .map_or(sweep, |due| due.saturating_duration_since(now));
            match self.wait(wait, stop) {
                Waited::Stopped => return,
                Waited::Events => self.take_events(),
                Waited::Quiet => self.sweep(),
            }
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.tell(changes);
            }
        }
    }

    /// A telling that has not been heard yet stands for this one too.
    fn tell(&mut self, changes: &Sender<()>) {
        self.due = None;
        self.told = Fingerprint::read(&self.path).ok();
        changes.alter(|waiting| {
            if waiting.is_empty() {
                waiting.push_back(());
            }
        });
    }

    fn wait(&self, wait: Duration, stop: &PipeReader) -> Waited {
        // Rounded up: a poll that ends too early would be repeated without a pause.
        let millis = i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let stop = PollFd::new(stop.as_fd(), PollFlags::POLLIN);
        let events = self.inotify.as_ref();
        let events = events.map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN));
        let mut fds: Vec<PollFd<'_>> = [stop].into_iter().chain(events).collect();
        match poll(&mut fds, timeout) {
            Ok(0) | Err(Errno::EINTR) => Waited::Quiet,
            Ok(_) => match fds.first().and_then(PollFd::any) {
                Some(true) => Waited::Stopped,
                _ => Waited::Events,
            },
            // Out of memory: by and by there will be some.
            Err(_) => {
                thread::sleep(wait);
                Waited::Quiet
            }
        }
    }

    /// Whatever was told or not: is everything watched, and is the file what it was?
    fn sweep(&mut self) {
        if self.due.is_none() {
            let other = self.walk();
            if other || Fingerprint::read(&self.path).ok() != self.told {
                self.due = Some(Instant::now());
            }
        }
    }

    fn take_events(&mut self) {
        let mut anew = false;
        // A read returns what fits into its buffer.
        while let Some(Ok(events)) = self.inotify.as_ref().map(Inotify::read_events) {
            for event in events {
                if self.concerns(&event) {
                    let now = Instant::now();
                    self.due = Some(when(event.mask, self.due, now));
                    anew |= !event
                        .mask
                        .intersects(Flags::IN_MODIFY | Flags::IN_CLOSE_WRITE);
                }
            }
        }
        if anew {
            self.walk();
        }
    }

    fn concerns(&self, event: &InotifyEvent) -> bool {
        if event.mask.contains(Flags::IN_Q_OVERFLOW) {
            return true;
        }
        let watched = self.watched.get(&event.wd);
        watched.is_some_and(|watched| match &event.name {
            Some(name) => watched.names.contains(name),
            None => true,
        })
    }

    /// Watches what the path leads through now, and nothing else; tells whether that is something else than before.
    fn walk(&mut self) -> bool {
        let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
        let inotify = match self.inotify.take().map_or_else(|| Inotify::init(flags), Ok) {
            Ok(inotify) => self.inotify.insert(inotify),
            Err(errno) => {
                self.go_blind(errno);
                return false;
            }
        };
        let mut walk = Walk {
            inotify,
            places: BTreeMap::new(),
            refused: None,
        };
        walk.go(&self.path);
        let refused = walk.refused;
        let watched: BTreeMap<_, _> = walk.places.into_values().collect();
        for old in self.watched.keys().filter(|old| !watched.contains_key(old)) {
            // Of what has been deleted the kernel has removed the watch already.
            let _gone = inotify.rm_watch(*old);
        }
        let other = watched != self.watched;
        self.watched = watched;
        match refused {
            Some(errno) => self.go_blind(errno),
            None => self.blind = false,
        }
        other
    }

    fn go_blind(&mut self, errno: Errno) {
        if std::mem::replace(&mut self.blind, true) {
            return;
        }
        let remedy = match errno {
            Errno::EMFILE => "raise fs.inotify.max_user_instances, or the limit of open files",
            Errno::ENOSPC => "raise fs.inotify.max_user_watches",
            Errno::EACCES => "give read permission to all directories that lead to it",
            _ => "the kernel says why",
        };
        tracing::warn!(
            "the kernel does not let {} be watched ({errno}): it is looked at once a second; {remedy}",
            self.path.display()
        );
    }
}

/// When the file is to be read after an event.
fn when(mask: Flags, due: Option<Instant>, now: Instant) -> Instant {
    let whole = Flags::IN_CLOSE_WRITE | Flags::IN_MOVED_TO | Flags::IN_Q_OVERFLOW;
    if mask.intersects(whole) {
        return now;
    }
    match due {
        // Whatever has happened before, somebody writes: wait for the end, or for the quiet after.
        _ if mask.contains(Flags::IN_MODIFY) => now + QUIET,
        Some(due) => due.min(now + QUIET),
        None => now + QUIET,
    }
}

enum Waited {
    Stopped,
    Events,
    Quiet,
}

impl Walk<'_> {
    fn go(&mut self, path: &Path) {
        let mut left = steps(path);
        let mut here = PathBuf::from("/");
        let mut links = 0;
        while let Some(step) = left.pop() {
            if step == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&step);
            match self.look(&here, &step, &next) {
                Kind::Directory => here = next,
                Kind::Link(target) if links < LINKS_MAX => {
                    links += 1;
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    left.extend(steps(&target));
                }
                Kind::Other => {
                    self.watch(&next, CONTENT, None);
                    return;
                }
                Kind::Link(_) | Kind::Missing => return,
            }
        }
    }

    fn look(&mut self, here: &Path, step: &OsStr, next: &Path) -> Kind {
        // A directory needs no watch on the one that it is in: if it is replaced, it is moved or removed.
        if matches!(kind(next), Kind::Directory) && self.watch(next, ITSELF, None) {
            return Kind::Directory;
        }
        self.watch(here, NAMES, Some(step));
        let kind = kind(next);
        if matches!(kind, Kind::Directory) {
            self.watch(next, ITSELF, None);
        }
        kind
    }

    /// Watches a place for this too; tells whether it is there.
    fn watch(&mut self, path: &Path, flags: Flags, name: Option<&OsStr>) -> bool {
        let (flags, mut names) = match self.places.get(path) {
            Some((_, before)) => (before.flags | flags, before.names.clone()),
            None => (flags, BTreeSet::new()),
        };
        names.extend(name.map(OsStr::to_owned));
        match self.inotify.add_watch(path, flags | Flags::IN_DONT_FOLLOW) {
            Ok(descriptor) => {
                let watched = Watched { flags, names };
                self.places.insert(path.to_owned(), (descriptor, watched));
                true
            }
            // It has just gone, which the watch on itself or on what it was in tells.
            Err(Errno::ENOENT | Errno::ENOTDIR) => false,
            Err(errno) => {
                self.refused = Some(errno);
                true
            }
        }
    }
}

/// The last step first.
fn steps(path: &Path) -> Vec<OsString> {
    let names = path
        .components()
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir));
    names
        .rev()
        .map(|component| component.as_os_str().to_owned())
        .collect()
}

fn kind(path: &Path) -> Kind {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Kind::Missing;
    };
    match metadata.file_type() {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => fs::read_link(path).map_or(Kind::Missing, Kind::Link),
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_told_of_is_seen_by_the_sweep() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/file");
        let (sender, _receiver) = channel();
        let mut watcher = Watcher::new(path.clone());
        watcher.walk();
        watcher.tell(&sender);
        watcher.sweep();
        assert_eq!(watcher.due, None);
        for step in [
            &|| fs::create_dir(directory.path().join("a")),
            &|| fs::write(&path, "one"),
            &|| fs::write(&path, "other"),
            &|| fs::remove_file(&path),
        ] as [&dyn Fn() -> io::Result<()>; 4]
        {
            step().unwrap();
            // The events are not read, as if there were none.
            watcher.sweep();
            assert!(watcher.due.is_some());
            watcher.tell(&sender);
            watcher.sweep();
            assert_eq!(watcher.due, None);
        }
    }

    #[test]
    fn while_somebody_writes_nothing_is_due_and_at_the_end_everything() {
        let now = Instant::now();
        let later = now + QUIET / 2;
        let soon = when(Flags::IN_CREATE, None, now);
        assert_eq!(soon, now + QUIET);
        assert_eq!(when(Flags::IN_ATTRIB, Some(soon), later), soon);
        let writes = when(Flags::IN_MODIFY, Some(soon), later);
        assert_eq!(writes, later + QUIET);
        assert_eq!(when(Flags::IN_CLOSE_WRITE, Some(writes), later), later);
        assert_eq!(when(Flags::IN_MOVED_TO, None, now), now);
        assert_eq!(when(Flags::IN_DELETE_SELF, Some(now), later), now);
    }
}
