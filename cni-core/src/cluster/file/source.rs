//! The file as a source that follows it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use super::{ClusterFile, load};
use crate::cluster::{PeerEvent, PeerSource};
use crate::error::{Error, ErrorKind, Result};
use crate::host::watch::FileWatch;

/// Tells of the nodes in a cluster file, and follows it.
///
/// Whatever the way in which the file changes, it is read again: written in place, replaced by a rename, or reached by symlinks
/// of which one is turned, as a Kubernetes ConfigMap's. Neither the file nor its directory need exist: then the source is
/// [`Disconnected`](PeerEvent::Disconnected) until they do. A file that cannot be used is [`Rejected`](PeerEvent::Rejected) with
/// path, line and column, and a file that says what it said before tells nothing. A change is told within some milliseconds
/// after whoever writes has closed the file or replaced it; where that is not done, as soon as nobody has written for five of
/// them.
///
/// The file is read where [`next`](PeerSource::next) is awaited, the first time with the first call; nothing of it is kept but
/// a hash. A thread waits for the kernel to tell of changes, and ends with the source.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    watch: FileWatch,
    cluster_prefixes: Vec<IpNetwork>,
    /// What was told last of the file's text.
    told: Option<Told>,
    /// What was told last of a file that cannot be read, until it can be.
    away: Option<String>,
    /// A reset has been told, and not yet that it was all.
    in_sync_next: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    hash: u64,
    accepted: bool,
}

impl FileSource {
    /// Begins to follow a file, of which nothing is read yet.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the kernel grants no further thread, or no pipe to it.
    pub fn new(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| {
            let message = format!("could not begin to watch {}", path.display());
            Error::new(ErrorKind::Io, message).with_source(error)
        };
        Ok(Self {
            path: path.to_owned(),
            watch: FileWatch::start(path).map_err(failed)?,
            cluster_prefixes: Vec::new(),
            told: None,
            away: None,
            in_sync_next: false,
        })
    }

    /// Reads the file; `None` when it says nothing new.
    fn read(&mut self) -> Option<PeerEvent> {
        let text = match load::read(&self.path) {
            Ok(text) => text,
            Err(error) => return self.disconnected(&load::unread(&self.path, error)),
        };
        let was_away = self.away.take().is_some();
        let hash = hash(&text);
        match self.told {
            Some(told) if told.hash == hash && !was_away => return None,
            // It had gone, and is what it was: what is known of it is all there is to know.
            Some(told) if told.hash == hash && told.accepted => return Some(PeerEvent::InSync),
            _ => {}
        }
        let file = ClusterFile::parse(&text);
        drop(text);
        let accepted = file.is_ok();
        self.told = Some(Told { hash, accepted });
        match file {
            Err(error) => Some(PeerEvent::Rejected(error.in_file(&self.path).to_string())),
            Ok(file) => {
                self.cluster_prefixes = file.cluster_prefixes;
                self.in_sync_next = true;
                Some(PeerEvent::Reset(file.nodes))
            }
        }
    }

    fn disconnected(&mut self, error: &Error) -> Option<PeerEvent> {
        let reason = error.chain();
        if self.away.as_ref() == Some(&reason) {
            return None;
        }
        self.away = Some(reason.clone());
        Some(PeerEvent::Disconnected(reason))
    }
}

#[async_trait]
impl PeerSource for FileSource {
    async fn next(&mut self) -> PeerEvent {
        if std::mem::take(&mut self.in_sync_next) {
            return PeerEvent::InSync;
        }
        loop {
            self.watch.changed().await;
            // From here to the return there is no await: what has been taken is told.
            if let Some(event) = self.read() {
                return event;
            }
        }
    }

    fn cluster_prefixes(&self) -> &[IpNetwork] {
        &self.cluster_prefixes
    }
}

fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod contract;
#[cfg(test)]
mod tests;
