//! One socket to nfnetlink. Requests are executed inside send(2), so that every answer is in the receive queue when
//! it returns, and reads do not wait.

use std::io;
use std::sync::{Mutex, PoisonError};

use netlink_sys::Socket;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use super::batch::Batch;
use super::message::{Attributes, Header, Message, Messages, Writer, text};
use super::uapi::*;
use crate::host::port;

/// The kernel's dumps come in datagrams of at most 32 KiB (`netlink_recvmsg`), as large as the reader's buffer.
const RECEIVE: usize = 32 * 1024;
/// Messages up to this size fit the default send buffer (`net.core.wmem_default`).
const SEND: usize = 128 * 1024;
/// How often a dump is begun anew when a commit changed what was being read.
const DUMP_TRIES: usize = 100;

#[derive(Debug)]
pub(in crate::host) struct Connection {
    socket: Socket,
    /// `NFNL_SUBSYS_*` of what is read; transactions say their own.
    subsystem: u16,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A connection that is opened at the first use, in the calling thread's network namespace, and kept.
#[derive(Debug, Default)]
pub(in crate::host) struct Kept(Mutex<Option<Connection>>);

/// A failure before it is told which operation it was.
#[derive(Debug)]
pub(in crate::host) struct Failure {
    /// Positive errno.
    pub(in crate::host) errno: i32,
    /// The kernel's sentence, or ours.
    pub(in crate::host) message: Option<String>,
    /// Sequence number of the request that failed.
    pub(in crate::host) sequence: u32,
    /// Offset of the attribute that the kernel objects to, in its message.
    pub(in crate::host) offset: Option<usize>,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            errno: error.raw_os_error().unwrap_or(0),
            message: None,
            sequence: 0,
            offset: None,
        }
    }
}

impl Failure {
    /// A failure that is not the kernel's.
    pub(in crate::host) fn own(message: &str) -> Self {
        Self {
            errno: 0,
            message: Some(message.to_owned()),
            sequence: 0,
            offset: None,
        }
    }

    pub(in crate::host) fn with_message(self, message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            ..self
        }
    }
}

impl Kept {
    /// Runs `work` on the kept socket, opening it for this subsystem when there is none.
    pub(in crate::host) fn with<T>(
        &self,
        subsystem: u16,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open_for(subsystem)?,
        };
        let result = work(&mut connection);
        // After a failure that is not the kernel's answer the queue may hold anything: such a socket is not kept.
        if !matches!(&result, Err(failure) if failure.sequence == 0) {
            *kept = Some(connection);
        }
        result
    }
}

impl Connection {
    /// A socket in the calling thread's network namespace; it stays bound to it.
    pub(in crate::host) fn open() -> Result<Self, Failure> {
        Self::open_for(NFNL_SUBSYS_NFTABLES)
    }

    /// As [`Connection::open`], for another subsystem of nfnetlink.
    pub(in crate::host) fn open_for(subsystem: u16) -> Result<Self, Failure> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(|error| {
            Failure::from(error).with_message("nftables is not available in this kernel")
        })?;
        port::bind(&mut socket)?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self {
            socket,
            subsystem,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE),
        })
    }

    /// Commits a transaction.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut result = None;
        self.send(batch.bytes())?;
        let mut flags = 0;
        while self.receive(flags)? {
            // Everything is in the queue by now: what follows the first answer is read without waiting.
            flags = libc::MSG_DONTWAIT;
            for message in Messages(&self.buffer) {
                if message.kind == NLMSG_ERROR {
                    let answer = acknowledgement(&message);
                    let last = message.sequence == batch.last_sequence();
                    if answer.is_err() && !matches!(result, Some(Err(_))) {
                        result = Some(answer);
                    } else if last && result.is_none() {
                        result = Some(Ok(()));
                    }
                }
            }
        }
        result.unwrap_or_else(|| {
            Err(Failure::from(io::Error::from_raw_os_error(libc::EIO))
                .with_message("the kernel acknowledged nothing"))
        })
    }

    /// A single object; `None` when it (or what it is in) does not exist.
    pub(in crate::host) fn get<T>(
        &mut self,
        kind: u16,
        family: u8,
        body: impl FnOnce(&mut Writer),
        mut decode: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let sequence = self.request(kind, 0, family, body)?;
        while self.receive(0)? {
            for message in Messages(&self.buffer) {
                if message.sequence != sequence {
                    continue;
                }
                if message.kind != NLMSG_ERROR {
                    let decoded = decode(&message);
                    return decoded.map_or_else(|| Err(undecodable()), |found| Ok(Some(found)));
                }
                return missing_is_none(acknowledgement(&message).map(|()| None));
            }
        }
        Ok(None)
    }

    /// A change outside a transaction. `None` when what it is about does not exist.
    pub(in crate::host) fn change(
        &mut self,
        kind: u16,
        family: u8,
        body: impl FnOnce(&mut Writer),
    ) -> Result<Option<()>, Failure> {
        let sequence = self.request(kind, NLM_F_ACK, family, body)?;
        while self.receive(0)? {
            for message in Messages(&self.buffer) {
                if message.sequence == sequence && message.kind == NLMSG_ERROR {
                    return missing_is_none(acknowledgement(&message).map(Some));
                }
            }
        }
        Ok(None)
    }

    /// All objects, with `decode` appending to the list. `None` when what they are in does not exist. Begun anew when a
    /// commit interferes.
    pub(in crate::host) fn dump<T>(
        &mut self,
        kind: u16,
        family: u8,
        body: impl Fn(&mut Writer),
        mut decode: impl FnMut(&Message<'_>, &mut Vec<T>) -> Option<()>,
    ) -> Result<Option<Vec<T>>, Failure> {
        let mut found = Vec::new();
        let exists = self.stream(kind, family, body, |message| match message {
            Some(message) => decode(message, &mut found),
            None => {
                found.clear();
                Some(())
            }
        })?;
        Ok(exists.then_some(found))
    }

    /// All objects, each handed over as it comes; `None` ahead of the first, and again when a commit interferes and all
    /// come anew. `false` when what they are in does not exist.
    pub(in crate::host) fn stream(
        &mut self,
        kind: u16,
        family: u8,
        body: impl Fn(&mut Writer),
        mut each: impl FnMut(Option<&Message<'_>>) -> Option<()>,
    ) -> Result<bool, Failure> {
        for _ in 0..DUMP_TRIES {
            each(None);
            let sequence = self.request(kind, NLM_F_DUMP, family, &body)?;
            match self.dump_once(sequence, |message| each(Some(message))) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(failure) if failure.errno == libc::EINTR => {}
                Err(failure) => return missing_is_none(Err(failure)).map(|_: Option<()>| false),
            }
        }
        Err(Failure::from(io::Error::from_raw_os_error(libc::EINTR))
            .with_message("the ruleset kept changing while it was read"))
    }

    /// Reads one dump to its end. `false` when it was interrupted.
    fn dump_once(
        &mut self,
        sequence: u32,
        mut decode: impl FnMut(&Message<'_>) -> Option<()>,
    ) -> Result<bool, Failure> {
        let mut whole = true;
        let mut decoded = true;
        while self.receive(0)? {
            for message in Messages(&self.buffer) {
                if message.sequence != sequence {
                    continue;
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        acknowledgement(&message)?;
                        return if decoded {
                            Ok(whole)
                        } else {
                            Err(undecodable())
                        };
                    }
                    _ => decoded &= decode(&message).is_some(),
                }
            }
        }
        Ok(false)
    }

    fn request(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        body: impl FnOnce(&mut Writer),
    ) -> Result<u32, Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut writer = Writer::default();
        let header = Header {
            kind,
            flags,
            sequence: self.sequence,
            family,
        };
        writer.message_of(self.subsystem, header, body);
        self.send(writer.bytes())?;
        Ok(self.sequence)
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.len() > SEND {
            // The forced size needs CAP_NET_ADMIN in the first user namespace; the other ends at net.core.wmem_max.
            let size = bytes.len() + SEND;
            if setsockopt(&self.socket, sockopt::SndBufForce, &size).is_err() {
                let _ = setsockopt(&self.socket, sockopt::SndBuf, &size);
            }
        }
        loop {
            match self.socket.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    return Err(Failure::from(error).with_message(format!(
                        "a transaction of {} bytes is larger than twice net.core.wmem_max: use smaller ones, or root",
                        bytes.len()
                    )));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads one datagram into the buffer. `false` when there is none (only with `MSG_DONTWAIT`).
    fn receive(&mut self, flags: i32) -> Result<bool, Failure> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, flags) {
                Ok(_) => return Ok(true),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // More errors than the queue holds; the first ones are in it.
                    Some(libc::ENOBUFS) if flags & libc::MSG_DONTWAIT != 0 => {}
                    Some(libc::EAGAIN) => return Ok(false),
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

/// An answer with types that are not in our vocabulary.
pub(in crate::host) fn undecodable() -> Failure {
    Failure::own("the kernel's answer holds types that this version does not know")
}

fn missing_is_none<T>(result: Result<Option<T>, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Err(failure) if failure.errno == libc::ENOENT => Ok(None),
        other => other,
    }
}

/// The errno in an NLMSG_ERROR or NLMSG_DONE, with the extended acknowledgement.
fn acknowledgement(message: &Message<'_>) -> Result<(), Failure> {
    let code = message
        .body
        .first_chunk::<4>()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 {
        return Ok(());
    }
    // The request's header follows the code in NLMSG_ERROR; its payload does not (NETLINK_CAP_ACK).
    let skip = if message.kind == NLMSG_ERROR { 20 } else { 4 };
    let has_attributes = message.flags & NLM_F_ACK_TLVS != 0;
    let attributes = message.body.get(skip..).filter(|_| has_attributes);
    let attributes = Attributes(attributes.unwrap_or_default());
    let offset = attributes
        .find(NLMSGERR_ATTR_OFFS)
        .and_then(|value| Some(u32::from_ne_bytes(value.try_into().ok()?) as usize));
    Err(Failure {
        errno: code.saturating_neg(),
        message: attributes.find(NLMSGERR_ATTR_MSG).map(text),
        sequence: message.sequence,
        offset,
    })
}
