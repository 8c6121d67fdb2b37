//! Bodies of answers, of which no more is held than makes sense.

use std::fmt;
use std::fs;
use std::path::Path;

use http_body_util::{BodyExt as _, Limited};
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use tokio::time::timeout;

use super::connect::{Connection, TO_ANSWER};
use super::{Failure, Result};

/// What an answer is called that has more bytes than are read.
pub(crate) const TOO_LARGE: &str = "the answer is larger than any that makes sense";
/// The longest password or token that is read from a file.
const LONGEST_SECRET: u64 = 64 << 10;

/// The whole body, of at most so many bytes.
///
/// # Errors
/// [`Failure`]; [`Failure::Refused`] with [`TOO_LARGE`] where there is more.
pub(crate) async fn read(response: Response<Incoming>, most: usize, server: &str) -> Result<Bytes> {
    let body = Limited::new(response.into_body(), most).collect();
    match timeout(TO_ANSWER, body).await {
        Err(_) => Err(Failure::Away(format!("{server} does not end its answer"))),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Failure::Refused(TOO_LARGE.to_owned()))
        }
        Ok(Err(error)) => Err(Failure::Away(format!(
            "{server} broke its answer off: {error}"
        ))),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// What a file holds that somebody else renews, without the end of its last line.
///
/// # Errors
/// A sentence that names the file, and nothing of what is in it.
pub(crate) fn secret(path: &Path) -> Result<String> {
    let unread = |error: &dyn fmt::Display| {
        Failure::Refused(format!("could not read {}: {error}", path.display()))
    };
    let length = fs::metadata(path).map_err(|error| unread(&error))?.len();
    if length > LONGEST_SECRET {
        return Err(unread(&"it is too long for a secret"));
    }
    let text = fs::read_to_string(path).map_err(|error| unread(&error))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// An answer without an end, line by line, and the part of the next line that has come.
pub(crate) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    /// What has been given out.
    taken: usize,
    /// Up to here the buffer has no further end of a line.
    searched: usize,
    most: usize,
    _connection: Connection,
}

impl Lines {
    /// Of an answer on a connection that has nothing else to do. A line may have so many bytes.
    pub(crate) fn new(response: Response<Incoming>, connection: Connection, most: usize) -> Self {
        Self {
            body: response.into_body(),
            buffer: Vec::new(),
            taken: 0,
            searched: 0,
            most,
            _connection: connection,
        }
    }

    /// The next line; `None` when the server has ended the answer. It may be dropped at any await point, and loses nothing.
    ///
    /// # Errors
    /// [`Failure`]: then the answer has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                let line = self.taken..self.searched + end;
                self.searched = line.end + 1;
                self.taken = self.searched;
                return Ok(self.buffer.get(line));
            }
            // The rest of a line alone is kept.
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.searched = self.buffer.len();
            if self.buffer.is_empty() {
                self.buffer.shrink_to(4096);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend(frame.data_ref().into_iter().flatten()),
                Some(Err(error)) => {
                    return Err(Failure::Away(format!("the watch has ended: {error}")));
                }
                None => return Ok(None),
            }
            if self.buffer.len() > self.most {
                return Err(Failure::Nonsense(
                    "a message of the watch has no end".to_owned(),
                ));
            }
        }
    }
}
