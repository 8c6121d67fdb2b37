//! How much a connection carries.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::Pod;

/// A TCP connection between two namespaces, from one that sends to one that receives.
#[derive(Debug)]
pub struct Flow {
    sender: TcpStream,
    receiver: TcpStream,
}

/// How long nothing may come before a flow counts as dead.
const PATIENCE: Duration = Duration::from_secs(20);

impl Flow {
    /// From the calling thread's namespace to this address of a pod's.
    ///
    /// # Panics
    /// When there is no connection.
    pub fn into(pod: &Pod, address: &str) -> Self {
        let (listener, target) = pod.run(|| listen(address));
        let sender = connect(target);
        let (receiver, _) = listener.accept().expect("a connection");
        Self { sender, receiver }
    }

    /// From a pod to this address of the calling thread's namespace.
    ///
    /// # Panics
    /// As [`Flow::into`].
    pub fn out_of(pod: &Pod, address: &str) -> Self {
        let (listener, target) = listen(address);
        let sender = pod.run(|| connect(target));
        let (receiver, _) = listener.accept().expect("a connection");
        Self { sender, receiver }
    }

    /// Sends as fast as it can: the payload's rate in bits a second over so many bytes, after so many others (which fill
    /// buffers, and empty a token bucket).
    ///
    /// # Panics
    /// When nothing comes for 20 seconds.
    pub fn rate(mut self, after: usize, bytes: usize) -> f64 {
        let mut sender = self.sender;
        let end = sender.try_clone().expect("another handle");
        let thread = thread::spawn(move || {
            let block = [0; 64 * 1024];
            // Until the receiver has had enough.
            while sender.write_all(&block).is_ok() {}
        });
        receive(&mut self.receiver, after);
        let start = drain(&mut self.receiver);
        let received = receive(&mut self.receiver, bytes);
        let elapsed = start.elapsed();
        let _ = self.receiver.shutdown(Shutdown::Both);
        let _ = end.shutdown(Shutdown::Both);
        let _ = thread.join();
        received as f64 * 8.0 / elapsed.as_secs_f64()
    }
}

fn receive(stream: &mut TcpStream, bytes: usize) -> usize {
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    while received < bytes {
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => received += length,
            outcome => panic!("the flow has ended after {received} bytes: {outcome:?}"),
        }
    }
    received
}

/// Reads what has arrived, so that nothing is counted which came before the returned time: this process may have been slow.
fn drain(stream: &mut TcpStream) -> Instant {
    let mut buffer = vec![0; 64 * 1024];
    stream.set_nonblocking(true).expect("a socket");
    let empty = loop {
        let before = Instant::now();
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break before,
            outcome => panic!("the flow has ended: {outcome:?}"),
        }
    };
    stream.set_nonblocking(false).expect("a socket");
    empty
}

fn listen(address: &str) -> (TcpListener, SocketAddr) {
    let address: IpAddr = address.parse().expect("an address");
    let listener = TcpListener::bind((address, 0)).expect("the address is this namespace's");
    let target = listener.local_addr().expect("its own address");
    (listener, target)
}

fn connect(target: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&target, PATIENCE).expect("a connection")
}
