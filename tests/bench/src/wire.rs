//! Netlink messages, encoded before the clock runs.

use netlink_sys::Socket;

/// A netlink message under construction.
pub(crate) struct Message(Vec<u8>);

const REQUEST_ACK: u16 = 0x5;
pub(crate) const CREATE_EXCLUSIVE: u16 = 0x600;

impl Message {
    pub(crate) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST_ACK).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(header);
        Self(bytes)
    }

    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).expect("a short attribute");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn nested(self, kind: u16, inside: Message) -> Self {
        self.attribute(kind | 0x8000, &inside.0)
    }

    /// Attributes alone, to be nested, after a header of their own.
    pub(crate) fn inside(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len())
            .expect("a short message")
            .to_ne_bytes();
        self.0[..4].copy_from_slice(&length);
        self.0
    }
}

/// `struct ifinfomsg`.
pub(crate) fn ifinfo(index: u32, up: bool) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&index.to_ne_bytes());
    bytes.extend_from_slice(&u32::from(up).to_ne_bytes());
    bytes.extend_from_slice(&u32::from(up).to_ne_bytes());
    bytes
}

/// Sends one message and reads its acknowledgement.
///
/// # Panics
/// When the kernel refuses.
pub(crate) fn request(socket: &Socket, message: &[u8], what: &str) {
    let errno = try_request(socket, message);
    assert!(
        errno == 0,
        "{what}: {}",
        std::io::Error::from_raw_os_error(errno)
    );
}

fn try_request(socket: &Socket, message: &[u8]) -> i32 {
    socket.send(message, 0).expect("sending to the kernel");
    let (answer, _) = socket.recv_from_full().expect("the kernel's answer");
    let code = answer.get(16..20).and_then(|bytes| bytes.try_into().ok());
    -code.map_or(0, i32::from_ne_bytes)
}
