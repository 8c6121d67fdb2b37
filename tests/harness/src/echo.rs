//! Servers in one namespace, clients in another: what a client's address looks like from the other side.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Pod;
use crate::turns::Turns;

/// Where no answer may be what is wanted: as in [`Ping::to`](crate::Ping::to).
const PATIENCE: Duration = Duration::from_millis(900);

/// Where an answer is sure: the server's thread may have to wait for a processor.
const LONG: Duration = Duration::from_secs(20);

/// A UDP server in a namespace that answers each datagram with the sender's address as it saw it. Ends when dropped.
#[derive(Debug)]
pub struct UdpEcho {
    _server: Server,
}

/// A TCP server in a namespace that answers each connection with the client's address as it saw it. Ends when dropped.
#[derive(Debug)]
pub struct TcpEcho {
    _server: Server,
}

#[derive(Debug)]
struct Server {
    stop: Arc<AtomicBool>,
    socket: Socket,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    /// Serves on an address of the calling thread's namespace, such as `0.0.0.0:7` or `[::]:7`.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub fn here(address: &str) -> Self {
        let socket = Socket::from(UdpSocket::bind(address).expect("a free UDP address"));
        let end = socket.try_clone().expect("another handle");
        Self {
            _server: Server::start(end, move || {
                let mut buffer = [MaybeUninit::uninit(); 64];
                // When it is stopped it receives nothing from nowhere, where std's own socket panics.
                if let Ok((_, from)) = socket.recv_from(&mut buffer)
                    && let Some(address) = from.as_socket()
                {
                    let _ = socket.send_to(address.to_string().as_bytes(), &from);
                }
            }),
        }
    }

    /// Serves in a pod.
    ///
    /// # Panics
    /// As [`UdpEcho::here`].
    pub fn start(pod: &Pod, address: &str) -> Self {
        pod.run(|| Self::here(address))
    }

    /// Asks the server at `target` from the calling thread's namespace: the address that the server saw.
    ///
    /// # Errors
    /// When there is no answer within 900 ms, or it comes from elsewhere.
    pub fn ask(target: &str) -> io::Result<SocketAddr> {
        let target = target.parse().map_err(io::Error::other)?;
        Self::ask_within(PATIENCE, None, target)
    }

    /// As [`UdpEcho::ask`], of a server that is sure to answer, from this source address where it is given.
    ///
    /// # Errors
    /// When there is no answer within 20 s, it comes from elsewhere, or the address is not the namespace's.
    pub fn ask_from(source: Option<IpAddr>, target: SocketAddr) -> io::Result<SocketAddr> {
        Self::ask_within(LONG, source, target)
    }

    fn ask_within(
        patience: Duration,
        source: Option<IpAddr>,
        target: SocketAddr,
    ) -> io::Result<SocketAddr> {
        let socket = UdpSocket::bind((source.unwrap_or(any(target)), 0))?;
        socket.connect(target)?;
        socket.send(b"who am I?")?;
        await_ready(&socket, PollFlags::POLLIN, patience)?;
        socket.set_nonblocking(true)?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer)?;
        parse(&buffer[..length])
    }
}

impl TcpEcho {
    /// Serves on an address of the calling thread's namespace.
    ///
    /// # Panics
    /// When the address cannot be bound.
    pub fn here(address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("a free TCP address");
        let end = listener.try_clone().expect("another handle");
        Self {
            _server: Server::start(end.into(), move || {
                if let Ok((mut stream, from)) = listener.accept() {
                    let _ = stream.write_all(from.to_string().as_bytes());
                }
            }),
        }
    }

    /// Serves in a pod.
    ///
    /// # Panics
    /// As [`TcpEcho::here`].
    pub fn start(pod: &Pod, address: &str) -> Self {
        pod.run(|| Self::here(address))
    }

    /// Connects to the server at `target` from the calling thread's namespace: the address that the server saw.
    ///
    /// # Errors
    /// When the connection or the answer takes longer than 900 ms, or is refused.
    pub fn ask(target: &str) -> io::Result<SocketAddr> {
        Self::ask_from(None, target.parse().map_err(io::Error::other)?)
    }

    /// As [`TcpEcho::ask`], from this source address where it is given.
    ///
    /// # Errors
    /// As [`TcpEcho::ask`], and when the address is not the namespace's.
    pub fn ask_from(source: Option<IpAddr>, target: SocketAddr) -> io::Result<SocketAddr> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source.unwrap_or(any(target)), 0).into())?;
        socket.set_nonblocking(true)?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {
                await_ready(&socket, PollFlags::POLLOUT, PATIENCE)?;
                if let Some(error) = socket.take_error()? {
                    return Err(error);
                }
            }
            outcome => outcome?,
        }
        let mut stream = TcpStream::from(socket);
        let mut answer = Vec::new();
        loop {
            await_ready(&stream, PollFlags::POLLIN, PATIENCE)?;
            match stream.read_to_end(&mut answer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    outcome?;
                    return parse(&answer);
                }
            }
        }
    }
}

/// Waits until something can be done with a socket, or has failed.
fn await_ready(socket: &impl AsFd, what: PollFlags, patience: Duration) -> io::Result<()> {
    for turn in Turns::of(patience) {
        let mut one = [PollFd::new(socket.as_fd(), what)];
        let turn = PollTimeout::try_from(turn).map_err(io::Error::other)?;
        if poll(&mut one, turn)? > 0 {
            return Ok(());
        }
    }
    let late = format!("nothing comes within {patience:?}");
    Err(io::Error::new(io::ErrorKind::TimedOut, late))
}

impl Server {
    /// Turns wait for somebody on the socket.
    fn start(socket: Socket, mut turn: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                turn();
            }
        });
        Self {
            stop,
            socket,
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Ends the wait. It is an error on a socket without a connection, and works (`inet_shutdown`).
        let _ = self.socket.shutdown(Shutdown::Read);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn any(target: SocketAddr) -> IpAddr {
    match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn parse(answer: &[u8]) -> io::Result<SocketAddr> {
    String::from_utf8_lossy(answer)
        .parse()
        .map_err(io::Error::other)
}
