//! Three pages over HTTP/1.1, for probes and scrapers on the same machine: one request a connection, and bounds on
//! everything that a client decides.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// The longest request head that is read, in bytes.
const LONGEST_HEAD: usize = 4096;
/// A connection ends after this time, whatever it did.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many connections there are at once; more are closed.
const MOST_CONNECTIONS: usize = 32;

/// A page: whether all is well there, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The status is 200, else 503.
    pub good: bool,
    /// The `Content-Type`.
    pub kind: &'static str,
    /// The text.
    pub text: String,
}

/// Who makes the pages.
pub trait Pages: Send + Sync + 'static {
    /// The page of a path, without its query; `None` where there is none.
    fn page<'a>(&'a self, path: &'a str)
    -> Pin<Box<dyn Future<Output = Option<Page>> + Send + 'a>>;
}

/// Serves pages for ever.
pub async fn serve(listener: TcpListener, pages: Arc<dyn Pages>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let slot = Slot(Arc::clone(&open));
                if open.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
                    continue;
                }
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    // A client that went away, or took too long, is not our concern.
                    let _ = timeout(PATIENCE, answer(&stream, pages.as_ref())).await;
                    drop(slot);
                });
            }
            // No file descriptors left, say: that passes.
            Err(error) => {
                tracing::debug!(%error, "could not accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One of the connections.
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn answer(stream: &TcpStream, pages: &dyn Pages) -> io::Result<()> {
    let head = read_head(stream).await?;
    let response = match head.as_deref().map(parse) {
        None => error("431 Request Header Fields Too Large"),
        Some(Err(status)) => error(status),
        Some(Ok((body, path))) => match pages.page(path).await {
            None => error("404 Not Found"),
            Some(page) => response(
                if page.good {
                    "200 OK"
                } else {
                    "503 Service Unavailable"
                },
                page.kind,
                &page.text,
                body,
            ),
        },
    };
    write_all(stream, response.as_bytes()).await?;
    // What the client sent beyond the head is read, else the kernel answers it with a reset that may overtake the page.
    let _ = stream.try_read(&mut [0; LONGEST_HEAD]);
    Ok(())
}

/// The request's head; `None` when it is too long.
async fn read_head(stream: &TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => head.extend(buffer.iter().take(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(Some(head));
        }
        if head.len() > LONGEST_HEAD {
            return Ok(None);
        }
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the response has a body, and the path without its query; or the status that refuses the request.
fn parse(head: &[u8]) -> Result<(bool, &str), &'static str> {
    const BAD: &str = "400 Bad Request";
    let text = std::str::from_utf8(head).map_err(|_| BAD)?;
    let line = text.split("\r\n").next().ok_or(BAD)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next().ok_or(BAD)?, words.next().ok_or(BAD)?);
    let version = words.next().ok_or(BAD)?;
    if words.next().is_some() || !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(BAD);
    }
    let body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return Err("405 Method Not Allowed"),
    };
    Ok((body, target.split('?').next().unwrap_or(target)))
}

fn error(status: &str) -> String {
    response(
        status,
        "text/plain; charset=utf-8",
        &format!("{status}\n"),
        true,
    )
}

fn response(status: &str, kind: &str, text: &str, body: bool) -> String {
    let allow = if status.starts_with("405") {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let length = text.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n{allow}\
         Connection: close\r\n\r\n{}",
        if body { text } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Fixed;

    impl Pages for Fixed {
        fn page<'a>(
            &'a self,
            path: &'a str,
        ) -> Pin<Box<dyn Future<Output = Option<Page>> + Send + 'a>> {
            let page = |good, text: &str| Page {
                good,
                kind: "text/plain",
                text: text.to_owned(),
            };
            Box::pin(async move {
                match path {
                    "/good" => Some(page(true, "well\n")),
                    "/bad" => Some(page(false, "ill\n")),
                    "/big" => Some(page(true, &"x".repeat(10_000_000))),
                    _ => None,
                }
            })
        }
    }

    async fn server() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(Fixed)));
        address
    }

    async fn send(address: std::net::SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn pages_are_served_with_their_status_and_length() {
        let address = server().await;
        let good = send(address, b"GET /good?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(good.starts_with("HTTP/1.1 200 OK\r\n"), "{good}");
        assert!(good.contains("Content-Length: 5\r\n"), "{good}");
        assert!(good.ends_with("\r\n\r\nwell\n"), "{good}");
        let bad = send(address, b"GET /bad HTTP/1.0\r\n\r\n").await;
        assert!(bad.starts_with("HTTP/1.1 503 "), "{bad}");
        let head = send(address, b"HEAD /good HTTP/1.1\r\n\r\n").await;
        assert!(
            head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        let big = send(address, b"GET /big HTTP/1.1\r\n\r\n").await;
        assert!(big.len() > 10_000_000);
    }

    #[tokio::test]
    async fn a_request_that_comes_in_pieces_is_put_together() {
        let address = server().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for piece in ["GE", "T /good HTT", "P/1.1\r\n", "\r", "\n"] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("well\n"), "{text}");
    }

    #[tokio::test]
    async fn what_is_no_request_for_a_page_is_refused() {
        let address = server().await;
        for (request, status) in [
            ("GET /none HTTP/1.1\r\n\r\n".to_owned(), "404"),
            ("POST /good HTTP/1.1\r\n\r\n".to_owned(), "405"),
            ("GET good HTTP/1.1\r\n\r\n".to_owned(), "400"),
            ("GET /good\r\n\r\n".to_owned(), "400"),
            ("GET /good HTTP/2.0\r\n\r\n".to_owned(), "400"),
            (format!("GET /{} HTTP/1.1\r\n", "a".repeat(5000)), "431"),
        ] {
            let text = send(address, request.as_bytes()).await;
            assert!(
                text.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request}: {text}"
            );
        }
    }

    #[tokio::test]
    async fn more_connections_than_there_may_be_are_closed_and_the_others_end_in_time() {
        let address = server().await;
        let mut idle = Vec::new();
        for _ in 0..MOST_CONNECTIONS {
            idle.push(TcpStream::connect(address).await.unwrap());
            tokio::task::yield_now().await;
        }
        let mut one_more = TcpStream::connect(address).await.unwrap();
        // Closed without a word: by a reset when our request was on its way.
        let _ = one_more.write_all(b"GET /good HTTP/1.1\r\n\r\n").await;
        let mut text = String::new();
        let _ = one_more.read_to_string(&mut text).await;
        assert_eq!(text, "");
        tokio::time::pause();
        tokio::time::advance(PATIENCE).await;
        for mut stream in idle {
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        }
        // A clock that stands goes on by itself where a packet is all that is waited for.
        tokio::time::resume();
        let good = send(address, b"GET /good HTTP/1.1\r\n\r\n").await;
        assert!(good.ends_with("well\n"), "{good}");
    }
}
