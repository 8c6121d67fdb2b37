//! One blocking rtnetlink socket: requests, acknowledgements, dumps.
//!
//! The kernel executes an rtnetlink request inside `sendmsg(2)`; when that returns, the reply is already in the receive
//! queue. So nothing here ever waits for the network, and neither epoll nor a background task is needed.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};

use super::message::{Batch, Request};
use super::wire::{attributes, i32_of, string_of, u16_at, u16_of, u32_at, u32_of};
use crate::host::netlink::{NetlinkError, errno};
use crate::host::port;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
const NLMSGERR_ATTR_MISS_TYPE: u16 = 6;
const HEADER: usize = 16;
/// `MSG_TRUNC` of recvmsg(2): return the datagram's real length.
const MSG_TRUNC: i32 = 0x20;
/// Of recvmsg(2): do not wait.
const MSG_DONTWAIT: i32 = 0x40;
const EINTR: i32 = 4;
/// The kernel fills dump datagrams up to 32 KiB (`netlink_recvmsg`); a single reply is at most 64 KiB of attributes.
const BUFFER: usize = 64 * 1024;
/// How often a dump is started again that another process's change has made inconsistent.
const ATTEMPTS: usize = 10;

/// A failure of one request: errno (0 when it is not the kernel's) and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host) struct Failure {
    pub(in crate::host) errno: i32,
    pub(in crate::host) message: Option<String>,
}

impl Failure {
    /// A failure that is not the kernel's.
    pub(in crate::host) fn local(message: impl Into<String>) -> Self {
        Self {
            errno: 0,
            message: Some(message.into()),
        }
    }

    /// A failure found before the kernel was asked, with the errno that it would have answered.
    pub(in crate::host) fn refused(errno: i32, message: impl Into<String>) -> Self {
        Self {
            errno,
            message: Some(message.into()),
        }
    }

    /// The failure of this operation.
    pub(in crate::host) fn named(self, operation: impl Into<String>) -> NetlinkError {
        let mut error = NetlinkError::new(operation, self.errno);
        error.message = self.message;
        error
    }
}

/// A reply: message type and payload.
pub(in crate::host) type Reply<'a> = (u16, &'a [u8]);

pub(in crate::host) struct Connection {
    socket: Socket,
    sequence: u32,
    received: Vec<u8>,
    sent: Vec<u8>,
}

impl Connection {
    /// Opens a socket in the calling thread's network namespace; it stays there wherever it is used.
    pub(in crate::host) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        port::bind(&mut socket)?;
        // Then only the kernel can send to this socket.
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // Since Linux 4.20. Without it the filters of dumps are ignored, and everything read is filtered here as well.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self {
            socket,
            sequence: 0,
            received: Vec::with_capacity(BUFFER),
            sent: Vec::with_capacity(1024),
        })
    }

    /// One change; returns when the kernel has made it.
    pub(in crate::host) fn change(
        &mut self,
        message: impl Request,
        flags: u16,
    ) -> Result<(), Failure> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.receive(false, &mut |_| {}).map(|_| ())
    }

    /// One read of one object. No acknowledgement is asked for: the reply is the end, and an error comes as one.
    pub(in crate::host) fn get(
        &mut self,
        message: impl Request,
        each: &mut dyn FnMut(Reply<'_>),
    ) -> Result<(), Failure> {
        self.send(message, NLM_F_REQUEST)?;
        self.receive(false, each).map(|_| ())
    }

    /// One read of one object that the kernel tells as if it had been changed, or does not tell at all: with flags, and with an
    /// acknowledgement, which is the end where there is no reply.
    pub(in crate::host) fn read_back(
        &mut self,
        message: impl Request,
        flags: u16,
        each: &mut dyn FnMut(Reply<'_>),
    ) -> Result<(), Failure> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.receive(false, each).map(|_| ())
    }

    /// A dump. What an interrupted one has brought is thrown away, and it is asked for again.
    pub(in crate::host) fn dump<T>(
        &mut self,
        message: &impl Request,
        mut each: impl FnMut(Reply<'_>, &mut Vec<T>),
    ) -> Result<Vec<T>, Failure> {
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            self.send(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            match self.receive(true, &mut |reply| each(reply, &mut found))? {
                Dump::Whole => return Ok(found),
                Dump::Interrupted | Dump::Lost => {}
            }
        }
        Err(interrupted())
    }

    /// A dump whose replies are not kept. One that is not whole is asked for again, and `each` sees again what it has seen.
    /// `ordered`: the kernel walks by key, so that changes that others make meanwhile cannot hide what they do not touch;
    /// that they were made is then no reason to begin anew, and under constant changes never to end.
    pub(in crate::host) fn stream(
        &mut self,
        message: &impl Request,
        ordered: bool,
        each: &mut dyn FnMut(Reply<'_>),
    ) -> Result<(), Failure> {
        for _ in 0..ATTEMPTS {
            self.send(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            match self.receive(true, each)? {
                Dump::Interrupted if ordered => return Ok(()),
                Dump::Whole => return Ok(()),
                Dump::Interrupted | Dump::Lost => {}
            }
        }
        Err(interrupted())
    }

    /// Many changes. Hands the number and the failure of each that failed to `failed`, in their order.
    ///
    /// The kernel goes through all requests of a datagram (`netlink_rcv_skb`), answers each that fails, and of the others
    /// those that ask for it: only the last one does. Ten thousand changes are so not answered ten thousand times.
    ///
    /// # Errors
    /// The datagram was not sent, and no change was made; or answers are lost, and it is not known which were.
    pub(in crate::host) fn changes(
        &mut self,
        batch: &mut Batch,
        failed: &mut dyn FnMut(usize, Failure),
    ) -> Result<(), Failure> {
        let Some(last) = batch.len().checked_sub(1) else {
            return Ok(());
        };
        let first = self.sequence.wrapping_add(1);
        batch.number(first, NLM_F_ACK);
        self.sequence = self.sequence.wrapping_add(count(batch.len()));
        transmit(&self.socket, batch.bytes())?;
        let mut lost = None;
        let mut answered = false;
        while !answered {
            match self.queued() {
                Ok(Some(())) => {}
                // All that the kernel had to say was said before `send` returned.
                Ok(None) => {
                    let message = "the kernel had no memory for its answers";
                    return Err(lost.unwrap_or_else(|| Failure::refused(errno::ENOBUFS, message)));
                }
                Err(error) => {
                    let failure = transport("receiving from the kernel", &error);
                    if error.raw_os_error() != Some(errno::ENOBUFS) {
                        return Err(failure);
                    }
                    lost = Some(failure);
                    continue;
                }
            }
            let number = u32_at(&self.received, 8).unwrap_or(0);
            let index = number.wrapping_sub(first) as usize;
            if index > last {
                continue;
            }
            let sent = batch.from(index);
            if let Err(failure) = scan(&self.received, sent, number, &mut Dump::Whole, &mut |_| {})
            {
                failed(index, failure);
            }
            answered = index == last;
        }
        lost.map_or(Ok(()), Err)
    }

    fn send(&mut self, message: impl Request, flags: u16) -> Result<(), Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        self.sent.clear();
        message.write(flags, self.sequence, &mut self.sent);
        transmit(&self.socket, &self.sent)
    }

    /// Reads until the request is answered.
    fn receive(&mut self, is_dump: bool, each: &mut dyn FnMut(Reply<'_>)) -> Result<Dump, Failure> {
        let mut dump = Dump::Whole;
        loop {
            self.received.clear();
            let length = match self.socket.recv(&mut self.received, MSG_TRUNC) {
                Ok(length) => length,
                Err(error) if error.raw_os_error() == Some(EINTR) => continue,
                // Memory was short: a part of the dump is missing, but its end still comes.
                Err(error) if is_dump && error.raw_os_error() == Some(errno::ENOBUFS) => {
                    dump = Dump::Lost;
                    continue;
                }
                Err(error) => return Err(transport("receiving from the kernel", &error)),
            };
            if length > self.received.len() {
                return Err(Failure::local(format!(
                    "the kernel's reply of {length} bytes is larger than the buffer of {} bytes",
                    self.received.len()
                )));
            }
            let end = scan(&self.received, &self.sent, self.sequence, &mut dump, each)?;
            if end {
                return Ok(dump);
            }
        }
    }

    /// One datagram that is in the queue already, read into `received`; `None` when there is none.
    fn queued(&mut self) -> io::Result<Option<()>> {
        loop {
            self.received.clear();
            match self.socket.recv(&mut self.received, MSG_DONTWAIT) {
                Ok(_) => return Ok(Some(())),
                Err(error) if error.raw_os_error() == Some(EINTR) => {}
                Err(error) if error.raw_os_error() == Some(errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

fn transmit(socket: &Socket, bytes: &[u8]) -> Result<(), Failure> {
    loop {
        match socket.send(bytes, 0) {
            Ok(_) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(EINTR) => {}
            Err(error) => return Err(transport("sending to the kernel", &error)),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// Whether a dump is consistent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dump {
    Whole,
    /// Others made changes meanwhile.
    Interrupted,
    /// Replies are missing.
    Lost,
}

fn interrupted() -> Failure {
    Failure::local(format!(
        "other changes interrupted the dump {ATTEMPTS} times"
    ))
}

fn count(requests: usize) -> u32 {
    u32::try_from(requests).unwrap_or(u32::MAX)
}

fn transport(what: &str, error: &io::Error) -> Failure {
    Failure {
        errno: error.raw_os_error().unwrap_or(0),
        message: Some(format!("{what} failed")),
    }
}

/// Goes through one datagram. `true` when the request with number `sequence` is answered.
fn scan(
    datagram: &[u8],
    sent: &[u8],
    sequence: u32,
    dump: &mut Dump,
    each: &mut dyn FnMut(Reply<'_>),
) -> Result<bool, Failure> {
    const MULTIPART: u16 = rtnetlink::packet_core::NLM_F_MULTIPART;
    let cut = || Failure::local("the kernel's reply is cut off");
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = u32_at(rest, 0).ok_or_else(cut)? as usize;
        let kind = u16_at(rest, 4).ok_or_else(cut)?;
        let flags = u16_at(rest, 6).ok_or_else(cut)?;
        let number = u32_at(rest, 8).ok_or_else(cut)?;
        let payload = rest.get(HEADER..length).ok_or_else(cut)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        if number != sequence {
            continue;
        }
        if flags & NLM_F_DUMP_INTR != 0 && *dump == Dump::Whole {
            *dump = Dump::Interrupted;
        }
        match kind {
            NLMSG_ERROR | NLMSG_DONE => {
                let code = i32_of(payload).unwrap_or(0);
                if code >= 0 {
                    return Ok(true);
                }
                return Err(refusal(code, kind, flags, payload, sent));
            }
            _ => {
                each((kind, payload));
                if flags & MULTIPART == 0 {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// The kernel's no, with its extended acknowledgement (`struct nlmsgerr`, `enum nlmsgerr_attrs`).
fn refusal(code: i32, kind: u16, flags: u16, payload: &[u8], sent: &[u8]) -> Failure {
    let mut failure = Failure {
        errno: code.saturating_neg(),
        message: None,
    };
    if flags & NLM_F_ACK_TLVS == 0 {
        return failure;
    }
    // After the code: nothing (end of a dump), the request's header (capped), or the whole request.
    let skip = if kind == NLMSG_DONE {
        4
    } else if flags & NLM_F_CAPPED != 0 {
        4 + HEADER
    } else {
        let request = u32_at(payload, 4).unwrap_or(0) as usize;
        4 + request.next_multiple_of(4)
    };
    let mut culprit = None;
    for (kind, value) in attributes(payload.get(skip..).unwrap_or_default()) {
        match kind {
            NLMSGERR_ATTR_MSG => failure.message = Some(string_of(value)),
            NLMSGERR_ATTR_OFFS => {
                let offset = u32_of(value).unwrap_or(0) as usize;
                culprit = sent
                    .get(offset..)
                    .and_then(|attribute| u16_of(attribute.get(2..)?))
                    .map(|kind| format!("attribute type {}", kind & 0x3fff));
            }
            NLMSGERR_ATTR_MISS_TYPE => {
                culprit = u32_of(value).map(|kind| format!("missing attribute type {kind}"));
            }
            _ => {}
        }
    }
    failure.message = match (failure.message, culprit) {
        (Some(message), Some(culprit)) => Some(format!("{message} [{culprit}]")),
        (message, culprit) => message.or(culprit),
    };
    failure
}

#[cfg(test)]
mod tests;
