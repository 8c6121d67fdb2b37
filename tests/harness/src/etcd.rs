//! A real etcd for a test: Debian's `etcd-server`, in a namespace of the cluster's underlay.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::base64::decode;
pub use crate::base64::encode;
use crate::cluster::await_condition;
use crate::{Pod, Process, require};

/// The port on which clients are served.
pub const PORT: u16 = 2379;
/// A second one without TLS, on the loopback interface of etcd's own namespace, for the test itself.
const OWN_PORT: u16 = 2378;

/// An etcd with one member, killed and removed when dropped.
#[derive(Debug)]
pub struct Etcd<'a> {
    pod: &'a Pod,
    address: IpAddr,
    directory: PathBuf,
    arguments: Vec<String>,
    process: Option<Process>,
}

/// A key as etcd has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// The lease; 0 is none.
    pub lease: i64,
    /// The revision in which it came into being.
    pub created: i64,
    /// The revision in which it was written last.
    pub written: i64,
}

/// The files of a certificate authority, a server and a client.
#[derive(Debug, Clone)]
pub struct Certificates {
    directory: PathBuf,
}

/// Where etcd is installed, if it is.
pub fn program() -> Option<&'static str> {
    let places = ["/usr/bin/etcd", "/usr/local/bin/etcd"];
    places.into_iter().find(|path| Path::new(path).is_file())
}

impl<'a> Etcd<'a> {
    /// Starts an etcd that serves clients at an address of the pod's. Skips the test where it is not installed.
    ///
    /// # Panics
    /// When it does not answer within 20 seconds.
    pub fn start(pod: &'a Pod, address: IpAddr) -> Self {
        Self::with(pod, address, "http", &[])
    }

    /// As [`Etcd::start`], for clients with certificates alone.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub fn with_certificates(pod: &'a Pod, address: IpAddr, files: &Certificates) -> Self {
        let file = |name: &str| files.path(name).display().to_string();
        let arguments = [
            "--client-cert-auth".to_owned(),
            "--trusted-ca-file".to_owned(),
            file("ca.pem"),
            "--cert-file".to_owned(),
            file("server.pem"),
            "--key-file".to_owned(),
            file("server.key"),
        ];
        Self::with(pod, address, "https", &arguments)
    }

    /// As [`Etcd::start`], with tokens that are signed (`--auth-token jwt`).
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub fn with_signed_tokens(pod: &'a Pod, address: IpAddr, files: &Certificates) -> Self {
        let key = files.path("ca.key").display().to_string();
        let token = format!("jwt,priv-key={key},sign-method=ES256,ttl=10m");
        Self::with(pod, address, "http", &["--auth-token".to_owned(), token])
    }

    fn with(pod: &'a Pod, address: IpAddr, scheme: &str, more: &[String]) -> Self {
        let program = require(program(), "etcd (etcd-server)");
        let directory = scratch("etcd");
        let peer = "http://127.0.0.1:2380";
        let url = format!("{scheme}://{}", socket(address, PORT));
        let own = format!("http://127.0.0.1:{OWN_PORT}");
        let mut arguments = vec![program.to_owned()];
        for (name, value) in [
            ("--name", "one"),
            ("--data-dir", &directory.join("data").display().to_string()),
            ("--listen-client-urls", &format!("{url},{own}")),
            ("--advertise-client-urls", &url),
            ("--listen-peer-urls", peer),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", &format!("one={peer}")),
            ("--log-level", "error"),
        ] {
            arguments.extend([name.to_owned(), value.to_owned()]);
        }
        arguments.extend_from_slice(more);
        let mut etcd = Self {
            pod,
            address,
            directory,
            arguments,
            process: None,
        };
        etcd.restart();
        etcd
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("http://{}", socket(self.address, PORT))
    }

    /// Starts it anew with what it had, if it was killed.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub fn restart(&mut self) {
        if self.process.is_none() {
            let mut command = Command::new(self.arguments.first().expect("a program"));
            command
                .args(self.arguments.get(1..).unwrap_or_default())
                .env_clear();
            self.process = Some(self.pod.run(|| Process::start(&mut command)));
        }
        await_condition("etcd answers", || {
            match self.try_call(None, "/v3/kv/range", &json!({ "key": encode(b"/") })) {
                Ok(_) => true,
                Err(error) => error.to_string().contains("user name is empty"),
            }
        });
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Kills it, and removes all that it held.
    ///
    /// # Panics
    /// When that cannot be removed.
    pub fn lose_everything(&mut self) {
        self.kill();
        fs::remove_dir_all(self.directory.join("data")).expect("the test's own files");
    }

    /// Whether it has been killed and not started again.
    pub fn is_dead(&self) -> bool {
        self.process.is_none()
    }

    /// Stops it where it is, or lets it go on.
    pub fn freeze(&mut self, frozen: bool) {
        if let Some(process) = &mut self.process {
            process.freeze(frozen);
        }
    }

    /// Its process id, while it lives.
    pub fn id(&self) -> Option<u32> {
        Some(self.process.as_ref()?.id())
    }

    /// Asks for something over the gateway.
    ///
    /// # Panics
    /// When etcd does not answer, or refuses.
    #[track_caller]
    pub fn call(&self, path: &str, body: &Value) -> Value {
        self.try_call(None, path, body)
            .unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    /// As [`Etcd::call`], by whoever has a token.
    ///
    /// # Panics
    /// As [`Etcd::call`].
    #[track_caller]
    pub fn call_as(&self, token: &str, path: &str, body: &Value) -> Value {
        self.try_call(Some(token), path, body)
            .unwrap_or_else(|error| panic!("{path} {body}: {error}"))
    }

    /// A token of a user's.
    ///
    /// # Panics
    /// As [`Etcd::call`].
    #[track_caller]
    pub fn token(&self, user: &str, password: &str) -> String {
        let body = json!({ "name": user, "password": password });
        let answer = self.call("/v3/auth/authenticate", &body);
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// The sum of a metric of etcd's own over all its labels; 0 where there is none of that name.
    ///
    /// # Panics
    /// As [`Etcd::call`].
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.ask("GET /metrics HTTP/1.0\r\nHost: etcd\r\n\r\n");
        let page = page.unwrap_or_else(|error| panic!("/metrics: {error}"));
        let of_name = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        let values = page.lines().filter(of_name);
        values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Writes a key, under a lease if not 0; the revision.
    ///
    /// # Panics
    /// As [`Etcd::call`].
    #[track_caller]
    pub fn put(&self, key: &str, value: &str, lease: i64) -> i64 {
        let body = json!({ "key": encode(key.as_bytes()), "value": encode(value.as_bytes()), "lease": lease.to_string() });
        number(&self.call("/v3/kv/put", &body)["header"]["revision"])
    }

    /// Removes a key.
    ///
    /// # Panics
    /// As [`Etcd::call`].
    #[track_caller]
    pub fn delete(&self, key: &str) {
        self.call(
            "/v3/kv/deleterange",
            &json!({ "key": encode(key.as_bytes()) }),
        );
    }

    /// All keys that begin with this.
    ///
    /// # Panics
    /// As [`Etcd::call`].
    #[track_caller]
    pub fn keys(&self, prefix: &str) -> Vec<Kept> {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().expect("a prefix") += 1;
        let found = self.call(
            "/v3/kv/range",
            &json!({ "key": encode(prefix.as_bytes()), "range_end": encode(&end) }),
        );
        let kvs = found["kvs"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| {
            String::from_utf8_lossy(&decode(value.as_str().unwrap_or_default())).into_owned()
        };
        kvs.iter()
            .map(|kv| Kept {
                key: text(&kv["key"]),
                value: text(&kv["value"]),
                lease: number(&kv["lease"]),
                created: number(&kv["create_revision"]),
                written: number(&kv["mod_revision"]),
            })
            .collect()
    }

    /// Ends a lease, and with it all keys that go with it.
    ///
    /// # Panics
    /// As [`Etcd::call`].
    #[track_caller]
    pub fn revoke(&self, lease: i64) {
        self.call("/v3/lease/revoke", &json!({ "ID": lease.to_string() }));
    }

    /// Forgets all that was before this moment; the revision.
    ///
    /// # Panics
    /// As [`Etcd::call`].
    #[track_caller]
    pub fn compact(&self) -> i64 {
        let found = self.call("/v3/kv/range", &json!({ "key": encode(b"/") }));
        let revision = number(&found["header"]["revision"]);
        self.call(
            "/v3/kv/compaction",
            &json!({ "revision": revision.to_string(), "physical": true }),
        );
        revision
    }

    fn try_call(&self, token: Option<&str>, path: &str, body: &Value) -> io::Result<Value> {
        let body = body.to_string();
        let bearer = token.map(|token| format!("Authorization: {token}\r\n"));
        let bearer = bearer.unwrap_or_default();
        let body = self.ask(&format!(
            "POST {path} HTTP/1.0\r\nHost: etcd\r\n{bearer}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))?;
        Ok(serde_json::from_str(&body)?)
    }

    /// What it answers to a request of the old version, in which no answer comes in chunks.
    fn ask(&self, request: &str) -> io::Result<String> {
        let text = self.pod.run(|| -> io::Result<String> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, OWN_PORT))?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.write_all(request.as_bytes())?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        match head.split(' ').nth(1) {
            Some("200") => Ok(body.to_owned()),
            _ => Err(io::Error::other(text)),
        }
    }
}

impl Drop for Etcd<'_> {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Certificates {
    /// Makes `ca.pem`, `server.pem` and `.key` for an address, and `client.pem` and `.key`. Skips the test where openssl is not
    /// installed.
    ///
    /// # Panics
    /// When openssl refuses.
    pub fn make(address: IpAddr) -> Self {
        let program = Path::new("/usr/bin/openssl");
        let program = require(program.is_file().then_some(program), "openssl");
        let directory = scratch("certificates");
        let script = format!(
            "cd {}
             openssl() {{ {} \"$@\"; }}
             openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=test-ca
             for name in server client other; do
                 openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key -out $name.csr -subj /CN=$name
             done
             printf 'subjectAltName=IP:{address}\\nextendedKeyUsage=serverAuth,clientAuth\\n' > server.ext
             printf 'extendedKeyUsage=clientAuth\\n' > client.ext
             openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 30 -extfile server.ext
             openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out client.pem -days 30 -extfile client.ext
             openssl x509 -req -in other.csr -signkey other.key -out other.pem -days 30 -extfile client.ext",
            directory.display(),
            program.display()
        );
        let output = Command::new("/bin/sh")
            .args(["-ec", &script])
            .output()
            .expect("a shell");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self { directory }
    }

    /// One of the files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What is in it.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file of the certificates")
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn scratch(what: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!(
        "cni-testkit-{what}-{}-{number}",
        std::process::id()
    ));
    // An earlier process of this number may have been killed.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory for temporary files");
    directory
}

fn socket(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

fn number(value: &Value) -> i64 {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}
