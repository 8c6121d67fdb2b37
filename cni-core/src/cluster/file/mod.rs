//! The nodes in a file that a person can write.

mod check;
mod entry;
mod load;
mod reader;
#[cfg(feature = "kernel")]
mod source;
mod special;

use std::fmt;

use ipnetwork::IpNetwork;

use super::Node;
use crate::error::{Error, ErrorKind};
use reader::{Fault, Reader};

pub use crate::host::disk::Fingerprint;
pub use load::{fingerprint, load};
#[cfg(feature = "kernel")]
pub use source::FileSource;

/// What a cluster file says.
///
/// ```
/// use cni_core::cluster::ClusterFile;
///
/// let file = ClusterFile::parse(br#"{
///     "clusterPrefixes": ["10.244.0.0/16"],
///     "nodes": [
///         {"name": "n1", "podPrefixes": ["10.244.1.0/24"], "addresses": ["192.0.2.1"]},
///         {"name": "n2", "podPrefixes": ["10.244.2.7/24"], "addresses": ["192.0.2.2"]}
///     ]
/// }"#);
/// assert_eq!(
///     file.unwrap_err().to_string(),
///     "line 5, column 40: node `n2`: `podPrefixes[0]` is \"10.244.2.7/24\", and has bits set after its prefix length; \
///      write 10.244.2.0/24"
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ClusterFile {
    /// Prefixes that hold all pods; empty when the file does not tell.
    pub cluster_prefixes: Vec<IpNetwork>,
    /// The nodes, in the order of the file.
    pub nodes: Vec<Node>,
}

/// What is wrong in a cluster file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong: the entry, the value, the rule and what to do.
    pub sentence: String,
}

impl ClusterFile {
    /// The largest file that is read: 64 MiB, some 400,000 nodes.
    pub const MAX_BYTES: usize = 64 << 20;

    /// Reads the text of a cluster file.
    ///
    /// # Errors
    /// The first thing that is wrong; what concerns two entries after all that concerns one, at the later of the two.
    pub fn parse(text: &[u8]) -> Result<Self, FileError> {
        let at_start = |sentence: String| FileError {
            line: 1,
            column: 1,
            sentence,
        };
        if text.len() > Self::MAX_BYTES {
            let (is, max) = (text.len(), Self::MAX_BYTES);
            return Err(at_start(format!(
                "the file has {is} bytes, and at most {max} are read"
            )));
        }
        let text = match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => {
                let (valid, _) = text.split_at(error.valid_up_to());
                let sentence = "here is a byte that is not UTF-8; save the file as UTF-8";
                let fault = Fault::new(valid.len(), sentence);
                return Err(FileError::new(&String::from_utf8_lossy(valid), fault));
            }
        };
        if text.trim().is_empty() {
            let sentence = "the file is empty; without nodes it is {\"nodes\": []}";
            return Err(at_start(sentence.to_owned()));
        }
        if text.starts_with('\u{feff}') {
            let sentence = "the file begins with a byte order mark; save it as UTF-8 without one";
            return Err(at_start(sentence.to_owned()));
        }
        parse(text).map_err(|fault| FileError::new(text, fault))
    }
}

/// The entries, then what concerns several of them.
fn parse(text: &str) -> reader::Result<ClusterFile> {
    let file = read(text, &mut check::Places::default())?;
    if check::is_sound(&file) {
        return Ok(file);
    }
    drop(file);
    let mut places = check::Places::wanted();
    let file = read(text, &mut places)?;
    places.check(text, &file)?;
    Ok(file)
}

fn read(text: &str, places: &mut check::Places) -> reader::Result<ClusterFile> {
    const KEYS: [&str; 2] = ["clusterPrefixes", "nodes"];
    let mut reader = Reader::new(text);
    let mut file = ClusterFile::default();
    let mut seen = [false; KEYS.len()];
    let start = reader.object(&"the file")?;
    let mut first = true;
    while let Some((key, at)) = reader.key(&mut first)? {
        let known = entry::known_key(&key, at, &KEYS, &mut seen)?;
        match known {
            "nodes" => entry::nodes(&mut reader, text, &mut file.nodes, places)?,
            _ => file.cluster_prefixes = entry::cluster_prefixes(&mut reader)?,
        }
    }
    reader.end()?;
    let [_, has_nodes] = seen;
    if !has_nodes {
        let sentence = "`nodes` is missing: the list of the cluster's nodes, this one included";
        return Err(Fault::new(start, sentence));
    }
    Ok(file)
}

impl FileError {
    fn new(text: &str, fault: Fault) -> Self {
        let before = text.get(..fault.at).unwrap_or(text);
        let (lines, line) = match before.rsplit_once('\n') {
            None => (0, before),
            Some((lines, line)) => (lines.matches('\n').count() + 1, line),
        };
        Self {
            line: lines + 1,
            column: line.chars().count() + 1,
            sentence: fault.sentence,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.sentence
        )
    }
}

impl std::error::Error for FileError {}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Self::new(ErrorKind::InvalidConfig, error.to_string())
    }
}

/// The line of a byte, from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
