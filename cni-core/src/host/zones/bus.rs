//! A method call on the system's message bus, of texts, answered by a text, several, a truth value or nothing: all that firewalld
//! is asked. The wire format is that of the D-Bus specification, "Message Protocol".

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Where the system's bus listens: as the specification has it, and where older systems had `/run`.
const SOCKETS: [&str; 2] = [
    "/run/dbus/system_bus_socket",
    "/var/run/dbus/system_bus_socket",
];

/// Far less than the specification's bound of a message, and as much as the lists of some ten thousand members take.
const MESSAGE_MAX: usize = 1 << 20;

/// A connection.
#[derive(Debug)]
pub(crate) struct Bus {
    stream: UnixStream,
    serial: u32,
}

/// A method call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) arguments: &'a [&'a str],
    /// A last argument that is a number (`i`).
    pub(crate) number: Option<u32>,
}

/// What a call returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing, or something of another type.
    Nothing,
    /// A truth value.
    Truth(bool),
    /// A text.
    Text(String),
    /// Several.
    Texts(Vec<String>),
}

/// An error message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Its text, or else its name.
    pub(crate) message: String,
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
/// A service that does not run is not started for this.
const NO_AUTO_START: u8 = 2;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

impl Bus {
    /// Connects and says who we are: the bus takes our user from the socket (EXTERNAL without a name). No answer is waited for
    /// longer than `patience`.
    pub(crate) fn connect(patience: Duration) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for path in SOCKETS {
            match UnixStream::connect(path) {
                Ok(stream) => return Self::greet(stream, patience),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn greet(stream: UnixStream, patience: Duration) -> io::Result<Self> {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut bus = Self { stream, serial: 0 };
        bus.stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\n")?;
        loop {
            let line = bus.line()?;
            match line.split(' ').next() {
                Some("DATA") => {}
                Some("OK") => break,
                _ => return Err(io::Error::other(format!("the bus answers {line:?}"))),
            }
        }
        bus.stream.write_all(b"BEGIN\r\n")?;
        let hello = bus.call(&Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            arguments: &[],
            number: None,
        })?;
        match hello {
            Ok(_) => Ok(bus),
            Err(refused) => Err(io::Error::other(refused.message)),
        }
    }

    /// A line of the handshake, without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.extend(byte);
            if line.len() > 1024 {
                return Err(garbled());
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Calls, and waits for the answer.
    pub(crate) fn call(&mut self, call: &Call<'_>) -> io::Result<Result<Answer, Refused>> {
        self.serial += 1;
        self.stream.write_all(&encode(call, self.serial))?;
        loop {
            let message = self.receive()?;
            if let Some(answer) = decode(&message, self.serial).ok_or_else(garbled)? {
                return Ok(answer);
            }
        }
    }

    /// From now on messages are waited for without an end; what the returned end is closed by.
    pub(crate) fn listen(&self) -> io::Result<UnixStream> {
        self.stream.set_read_timeout(None)?;
        self.stream.try_clone()
    }

    /// Waits for a message; whether it is a signal.
    pub(crate) fn is_signal(&mut self) -> io::Result<bool> {
        Ok(self.receive()?.get(1) == Some(&SIGNAL))
    }

    /// A whole message.
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut message = vec![0; 16];
        self.stream.read_exact(&mut message)?;
        let mut reader = Reader::new(&message).ok_or_else(garbled)?;
        let lengths = || Some((reader.skip(4)?.number()?, reader.skip(4)?.number()?));
        let mut lengths = lengths;
        let (body, fields) = lengths().ok_or_else(garbled)?;
        let rest = (fields as usize)
            .next_multiple_of(8)
            .saturating_add(body as usize);
        if rest > MESSAGE_MAX {
            return Err(garbled());
        }
        let begun = message.len();
        message.resize(begun + rest, 0);
        let rest = message.get_mut(begun..).unwrap_or_default();
        self.stream.read_exact(rest)?;
        Ok(message)
    }
}

fn garbled() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the message bus answers with something that is no D-Bus message",
    )
}

/// Aligned values, least significant byte first.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn field(&mut self, code: u8, signature: &str, value: &str) {
        self.align(8);
        self.0.push(code);
        self.signature(signature);
        match signature {
            "g" => self.signature(value),
            _ => self.text(value),
        }
    }
}

fn encode(call: &Call<'_>, serial: u32) -> Vec<u8> {
    let mut body = Writer::default();
    for argument in call.arguments {
        body.text(argument);
    }
    if let Some(number) = call.number {
        body.number(number);
    }
    // Begins as the message does, so that alignment is the message's.
    let mut fields = Writer(vec![0; 16]);
    fields.field(PATH, "o", call.path);
    fields.field(DESTINATION, "s", call.destination);
    fields.field(INTERFACE, "s", call.interface);
    fields.field(MEMBER, "s", call.member);
    let mut types = "s".repeat(call.arguments.len());
    types.extend(call.number.map(|_| 'i'));
    if !types.is_empty() {
        fields.field(SIGNATURE, "g", &types);
    }
    let length = fields.0.len() - 16;
    fields.align(8);
    let mut message = Writer(vec![b'l', METHOD_CALL, NO_AUTO_START, 1]);
    message.number(body.0.len() as u32);
    message.number(serial);
    message.number(length as u32);
    message.0.extend(fields.0.iter().skip(16));
    message.0.extend(body.0);
    message.0
}

/// The answer to the call of this serial number; `Some(None)` for another message, `None` for no message at all.
#[allow(clippy::option_option)]
fn decode(message: &[u8], serial: u32) -> Option<Option<Result<Answer, Refused>>> {
    let kind = *message.get(1)?;
    let mut reader = Reader::new(message)?;
    let fields = reader.skip(12)?.number()? as usize;
    let end = 16_usize.checked_add(fields)?;
    let (mut replies_to, mut name, mut types) = (None, String::new(), String::new());
    while reader.at < end {
        let code = reader.align(8).byte()?;
        let signature = reader.signature()?;
        match (code, signature.as_str()) {
            (REPLY_SERIAL, "u") => replies_to = Some(reader.number()?),
            (ERROR_NAME, "s") => name = reader.text()?,
            (SIGNATURE, "g") => types = reader.signature()?,
            (_, "u") => reader.number().map(|_| ())?,
            (_, "s" | "o") => reader.text().map(|_| ())?,
            (_, "g") => reader.signature().map(|_| ())?,
            _ => return None,
        }
    }
    if replies_to != Some(serial) || ![METHOD_RETURN, ERROR].contains(&kind) {
        return Some(None);
    }
    reader.align(8);
    let answer = match types.bytes().next() {
        Some(b's' | b'o') => Answer::Text(reader.text()?),
        Some(b'b') => Answer::Truth(reader.number()? != 0),
        Some(b'a') if types == "as" => Answer::Texts(reader.texts()?),
        _ => Answer::Nothing,
    };
    Some(Some(match (kind, answer) {
        (METHOD_RETURN, answer) => Ok(answer),
        (_, Answer::Text(message)) => Err(Refused { message }),
        _ => Err(Refused { message: name }),
    }))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    /// `None` where the first byte names no byte order.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let big = match bytes.first()? {
            b'l' => false,
            b'B' => true,
            _ => return None,
        };
        Some(Self { bytes, at: 0, big })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<&mut Self> {
        self.take(count)?;
        Some(self)
    }

    fn align(&mut self, to: usize) -> &mut Self {
        self.at = self.at.next_multiple_of(to);
        self
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u32> {
        let bytes = self.align(4).take(4)?.try_into().ok()?;
        Some(match self.big {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        })
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.characters(length)
    }

    fn texts(&mut self) -> Option<Vec<String>> {
        let length = self.number()? as usize;
        let end = self.at.checked_add(length)?;
        let mut texts = Vec::new();
        while self.at < end {
            texts.push(self.text()?);
        }
        Some(texts)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        self.characters(length)
    }

    /// And the zero behind them.
    fn characters(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.byte()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'_> = Call {
        destination: "a.b",
        path: "/a",
        interface: "a.b.c",
        member: "do",
        arguments: &["zone", "10.1.0.2/32"],
        number: None,
    };

    fn reply(
        kind: u8,
        serial: u32,
        field: Option<(u8, &str)>,
        types: &str,
        body: &[u8],
    ) -> Vec<u8> {
        let mut fields = Writer(vec![0; 16]);
        fields.align(8);
        fields.0.push(REPLY_SERIAL);
        fields.signature("u");
        fields.number(serial);
        if let Some((code, value)) = field {
            fields.field(code, "s", value);
        }
        fields.field(SIGNATURE, "g", types);
        let length = fields.0.len() - 16;
        fields.align(8);
        let mut message = Writer(vec![b'l', kind, 0, 1]);
        message.number(body.len() as u32);
        message.number(7);
        message.number(length as u32);
        message.0.extend(&fields.0[16..]);
        message.0.extend(body);
        message.0
    }

    #[test]
    fn a_call_is_a_whole_message_whose_parts_are_aligned() {
        let message = encode(&CALL, 9);
        let mut reader = Reader::new(&message).unwrap();
        assert_eq!(reader.skip(4).unwrap().number(), Some(28));
        assert_eq!(reader.number(), Some(9));
        let fields = reader.number().unwrap() as usize;
        assert_eq!(message.len(), 16 + fields.next_multiple_of(8) + 28);
        reader.at = message.len() - 28;
        assert_eq!(reader.text().as_deref(), Some("zone"));
        assert_eq!(reader.text().as_deref(), Some("10.1.0.2/32"));
    }

    #[test]
    fn answers_are_told_from_errors_and_from_other_messages() {
        let mut text = Writer::default();
        text.text("NOT_ENABLED: x");
        let yes = 1_u32.to_le_bytes();
        let found = decode(&reply(METHOD_RETURN, 3, None, "b", &yes), 3);
        assert_eq!(found, Some(Some(Ok(Answer::Truth(true)))));
        let found = decode(&reply(METHOD_RETURN, 3, None, "b", &yes), 4);
        assert_eq!(found, Some(None));
        let error = reply(ERROR, 3, Some((ERROR_NAME, "a.b.E")), "s", &text.0);
        let message = "NOT_ENABLED: x".to_owned();
        assert_eq!(decode(&error, 3), Some(Some(Err(Refused { message }))));
    }

    #[test]
    fn a_list_of_texts_is_an_answer_and_a_number_an_argument() {
        let mut list = Writer::default();
        list.number(0);
        list.text("10.1.0.0/24");
        list.text("a");
        let length = (list.0.len() - 4) as u32;
        list.0[..4].copy_from_slice(&length.to_le_bytes());
        let found = decode(&reply(METHOD_RETURN, 3, None, "as", &list.0), 3);
        let texts = ["10.1.0.0/24", "a"].map(str::to_owned).to_vec();
        assert_eq!(found, Some(Some(Ok(Answer::Texts(texts)))));
        let message = encode(
            &Call {
                number: Some(7),
                ..CALL
            },
            9,
        );
        assert!(message.windows(5).any(|part| part == b"\x03ssi\0"));
        assert_eq!(message[message.len() - 4..], 7_u32.to_le_bytes());
    }

    #[test]
    fn whatever_is_cut_or_changed_ends_in_an_error_and_not_in_a_panic() {
        let whole = reply(METHOD_RETURN, 3, None, "b", &1_u32.to_le_bytes());
        for length in 0..whole.len() {
            let _ = decode(&whole[..length], 3);
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[length] = value;
                let _ = decode(&changed, 3);
            }
        }
    }
}
