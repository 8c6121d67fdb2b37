//! A steady ping: what a user notices of a change.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::turns::Turns;
use crate::{Ping, Pod};

/// How long the last probes' answers are waited for: all of it where one is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Echo requests at a steady pace, from its start to [`Stream::finish`].
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Tally>>,
}

/// What came of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Requests, those included that the kernel refused to send.
    pub sent: usize,
    /// Requests without an answer.
    pub lost: usize,
    /// The longest time without an answered request: between two, or before the first or after the last.
    pub longest: Duration,
}

struct Probe {
    request: Vec<u8>,
    sent: Duration,
    answered: bool,
}

impl Stream {
    /// Pings `target` from a namespace, one request each `pace`.
    ///
    /// # Panics
    /// When there is no raw socket to be had.
    pub fn start(pod: &Pod, target: IpAddr, pace: Duration) -> Self {
        let ping = Ping::to(&target.to_string());
        let socket = pod.run(|| ping.open()).expect("a raw socket");
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let seen = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = thread::spawn(move || probe(&ping, &socket, pace, &seen.0, &seen.1));
        Self {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    /// How many it has sent so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until it has sent this many: what is quickly done shows little else.
    ///
    /// # Panics
    /// When the stream's thread has panicked.
    pub fn await_sent(&self, count: usize) {
        let is_alive = || {
            let thread = self.thread.as_ref();
            thread.is_some_and(|thread| !thread.is_finished())
        };
        while self.sent() < count {
            assert!(is_alive(), "the stream's thread");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops sending: several streams that end together are stopped before the first of them is counted.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops sending, waits a moment for the last answers, and counts.
    ///
    /// # Panics
    /// When the stream's thread has panicked.
    pub fn finish(mut self) -> Tally {
        self.stop();
        let thread = self.thread.take().expect("a stream ends once");
        thread.join().expect("the stream's thread")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn probe(
    ping: &Ping,
    socket: &Socket,
    pace: Duration,
    stop: &AtomicBool,
    sent: &AtomicUsize,
) -> Tally {
    let start = Instant::now();
    let mut next = start;
    let mut probes: Vec<Probe> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let request = ping.request();
        // A refusal (no route at this moment) is a loss too.
        let _ = socket.send(&request);
        probes.push(Probe {
            request,
            sent: start.elapsed(),
            answered: false,
        });
        sent.store(probes.len(), Ordering::Relaxed);
        // What was missed while the machine stood still is not made up for: nobody would take that many answers at once.
        next = (next + pace).max(Instant::now());
        listen(ping, socket, &mut probes, next);
    }
    for turn in Turns::of(PATIENCE) {
        if probes.iter().all(|probe| probe.answered) {
            break;
        }
        listen(ping, socket, &mut probes, Instant::now() + turn);
    }
    count(&probes, start.elapsed())
}

/// Takes answers until `until`, and whatever is there by then.
fn listen(ping: &Ping, socket: &Socket, probes: &mut [Probe], until: Instant) {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let packet = match Ping::receive(socket, left) {
            Ok(packet) => packet,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // An ICMP error about an earlier request is reported once, and its request counted as lost.
            Err(_) if left.is_zero() => return,
            Err(_) => continue,
        };
        let waiting = probes.iter_mut().rev().filter(|probe| !probe.answered);
        for probe in waiting {
            if ping.answers(&packet, &probe.request) {
                probe.answered = true;
                break;
            }
        }
    }
}

fn count(probes: &[Probe], end: Duration) -> Tally {
    let answered = probes.iter().filter(|probe| probe.answered);
    let mut last = Duration::ZERO;
    let mut longest = Duration::ZERO;
    let ends = probes.last().map_or(end, |probe| probe.sent);
    for sent in answered.map(|probe| probe.sent).chain([ends]) {
        longest = longest.max(sent.saturating_sub(last));
        last = sent;
    }
    Tally {
        sent: probes.len(),
        lost: probes.iter().filter(|probe| !probe.answered).count(),
        longest,
    }
}
