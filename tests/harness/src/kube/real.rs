//! A real server, which KUBECONFIG names.

use std::env;
use std::fs::File;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::client::{Client, Way};
use super::resource::Resource;
use super::rights::User;
use super::way::Backend;
use super::{schema, tls};
use crate::base64;
use crate::cluster::await_condition;

/// The socket that the process that runs the tests listens at.
const SOCKET: &str = "CNI_TESTKIT_KUBE_SOCKET";
/// Of all objects that tests make there: what is named so is theirs to remove.
pub(super) const NAMES: &str = "cni-test-";

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

/// A real server, set up for tests; all that was made there is removed when this is dropped.
pub(super) struct Real {
    pub(super) config: Config,
    pub(super) backend: PathBuf,
    pub(super) admin: Client<'static>,
    /// What tells this test's accounts from those of others that went before, which a server may remember.
    serial: String,
    _lock: Flock<File>,
}

/// What a kubeconfig says.
#[derive(Clone)]
pub(super) struct Config {
    host: String,
    port: u16,
    /// What the server's certificate is for.
    pub(super) server_name: String,
    pub(super) ca: String,
    token: Option<String>,
    certificate: Option<(String, String)>,
}

impl Config {
    /// What KUBECONFIG says, by `kubectl`, which knows all ways to write one.
    fn read() -> Result<Self, String> {
        let view = [
            "config",
            "view",
            "--raw",
            "--minify",
            "--flatten",
            "-o",
            "json",
        ];
        let value: Value = serde_json::from_str(&kubectl(&view)?).expect("JSON of kubectl");
        let (cluster, user) = (&value["clusters"][0]["cluster"], &value["users"][0]["user"]);
        let url = cluster["server"].as_str().unwrap_or_default();
        let address = url.strip_prefix("https://");
        let address = address.ok_or_else(|| format!("{url:?} is no server at https://"))?;
        let address = address.split('/').next().unwrap_or_default();
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().expect("a port")),
            _ => (address, 443),
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let pem = |value: &Value| {
            let bytes = base64::decode(value.as_str()?);
            Some(String::from_utf8(bytes).expect("a file in PEM"))
        };
        let certificate = pem(&user["client-certificate-data"]).zip(pem(&user["client-key-data"]));
        let token = user["token"].as_str().map(str::to_owned);
        if token.is_none() && certificate.is_none() {
            return Err("its user has neither a token nor a certificate".to_owned());
        }
        let ca = pem(&cluster["certificate-authority-data"]);
        let server_name = cluster["tls-server-name"]
            .as_str()
            .unwrap_or(&host)
            .to_owned();
        Ok(Self {
            host,
            port,
            server_name,
            ca: ca.ok_or("its cluster has no certificate authority")?,
            token,
            certificate,
        })
    }
}

static WAY: OnceLock<Option<Found>> = OnceLock::new();
/// Makes the tests ask a real server whose Nodes are others' to keep, too.
const IN_USE: &str = "CNI_TEST_KUBE_IN_USE";

/// Removes from a real server what was made there for all tests of this run.
pub(crate) fn close_way() {
    if let Some(Some(way)) = WAY.get() {
        if !way.is_defined {
            let _ = kubectl(&["delete", "--ignore-not-found", "crd", schema::NAME]);
        }
        let _ = std::fs::remove_file(&way.socket);
    }
}

/// What the process that runs the tests has found out.
struct Found {
    socket: PathBuf,
    /// The definition of `NodeNetwork` was there before.
    is_defined: bool,
}

/// The server that KUBECONFIG names, if it is one that tests may use: they make and remove Nodes.
fn usable() -> Result<Option<(Config, bool)>, String> {
    if env::var_os("KUBECONFIG").is_none_or(|path| path.is_empty()) {
        return Ok(None);
    }
    let config = Config::read()?;
    let nodes = kubectl(&["get", "nodes", "-o", "name"])?;
    let mut nodes = nodes.lines().filter_map(|line| line.strip_prefix("node/"));
    if let Some(node) = nodes.find(|name| !name.starts_with(NAMES))
        && env::var_os(IN_USE).is_none()
    {
        return Err(format!(
            "the cluster has Nodes, such as {node}, and tests make and remove Nodes; {IN_USE}=1 says that they may"
        ));
    }
    let known = kubectl(&[
        "get",
        "--ignore-not-found",
        "-o",
        "name",
        "crd",
        schema::NAME,
    ])?;
    Ok(Some((config, !known.is_empty())))
}

fn kubectl(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("kubectl");
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("kubectl does not run: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// Where a real server is named: a socket by which tests reach it from within their namespaces, and what has to be in their
/// environment.
pub(crate) fn open_way() -> Option<(&'static str, PathBuf)> {
    let way = WAY.get_or_init(|| {
        let (config, is_defined) = match usable() {
            Ok(usable) => usable?,
            Err(why) => {
                eprintln!("KUBECONFIG is not used, tests ask a server of their own: {why}");
                return None;
            }
        };
        eprintln!(
            "tests ask the API server at {}, port {}",
            config.host, config.port
        );
        let socket = env::temp_dir().join(format!("cni-testkit-kube-{}", std::process::id()));
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket for the way to the server");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = config.clone();
                thread::spawn(move || hand_on(&stream, &config));
            }
        });
        Some(Found { socket, is_defined })
    });
    way.as_ref().map(|way| (SOCKET, way.socket.clone()))
}

fn hand_on(near: &UnixStream, config: &Config) -> io::Result<()> {
    let far = TcpStream::connect((config.host.as_str(), config.port))?;
    far.set_nodelay(true)?;
    let (mut from_near, mut from_far) = (near.try_clone()?, far.try_clone()?);
    let (mut to_near, mut to_far) = (near.try_clone()?, far.try_clone()?);
    let up = thread::spawn(move || {
        let _ = pass(&mut from_near, &mut to_far);
        let _ = to_far.shutdown(Shutdown::Write);
    });
    let _ = pass(&mut from_far, &mut to_near);
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}

fn pass(from: &mut impl io::Read, to: &mut impl io::Write) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}

/// Whether tests run against a real server.
pub(super) fn is_named() -> bool {
    env::var_os(SOCKET).is_some()
}

impl Real {
    /// Takes the server for this test alone, and makes there what the tests need.
    pub(super) fn set_up(runtime: &Handle) -> Option<Self> {
        let backend = PathBuf::from(env::var_os(SOCKET)?);
        let config = Config::read().unwrap_or_else(|why| panic!("KUBECONFIG: {why}"));
        let lock = File::create(env::temp_dir().join(format!("{NAMES}{}.lock", config.port)));
        let lock = Flock::lock(lock.expect("a file for a lock"), FlockArg::LockExclusive);
        let lock = lock.unwrap_or_else(|(_, error)| panic!("a lock: {error}"));
        let own = config.certificate.as_ref();
        let own = own.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        let admin = Client {
            way: Way::Within(Arc::new(Backend::Real(backend.clone()))),
            tls: Some((tls::connector(&config.ca, own), config.server_name.clone())),
            token: config.token.clone(),
            runtime: runtime.clone(),
        };
        let real = Self {
            config,
            backend,
            admin,
            serial: serial(),
            _lock: lock,
        };
        real.define();
        real.clear();
        real.grant();
        Some(real)
    }

    /// The definition of `NodeNetwork` is made where there is none, and removed by [`close_way`].
    fn define(&self) {
        if self.admin.call("GET", schema::PATH, "", None).code == 404 {
            self.post(DEFINITIONS, &schema::manifest());
        }
        await_condition("the server serves nodenetworks", || {
            self.admin.list(Resource::NodeNetworks, "limit=1").code == 200
        });
    }

    fn post(&self, path: &str, object: &Value) -> Value {
        let answer = self
            .admin
            .call("POST", path, "application/json", Some(object));
        answer.ok()
    }

    fn account(&self, user: User) -> String {
        format!("{NAMES}{}-{}", user.name(), self.serial)
    }

    fn grant(&self) {
        for user in User::ALL {
            let name = self.account(user);
            let metadata = json!({ "name": name });
            self.post(ACCOUNTS, &json!({ "metadata": metadata }));
            if user == User::Admin || user == User::Stranger {
                continue;
            }
            let rules: Vec<Value> = user
                .rules()
                .iter()
                .map(|(resource, status, verbs)| {
                    let sub = if *status { "/status" } else { "" };
                    json!({
                        "apiGroups": [resource.group()],
                        "resources": [format!("{}{sub}", resource.plural())],
                        "verbs": verbs,
                    })
                })
                .collect();
            self.post(ROLES, &json!({ "metadata": metadata, "rules": rules }));
            let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name });
            let subject = json!({ "kind": "ServiceAccount", "name": name, "namespace": "default" });
            self.post(
                BINDINGS,
                &json!({ "metadata": metadata, "roleRef": role, "subjects": [subject] }),
            );
        }
        // The server hears of its own roles a moment later.
        for (user, resource) in [
            (User::FlannelAgent, Resource::NodeNetworks),
            (User::Agent, Resource::NodeNetworks),
        ] {
            let mut client = self.plain();
            client.token = Some(self.token(user, "wait"));
            await_condition("the rights are there", || {
                client.list(resource, "limit=1").code == 200
            });
        }
        let mut client = self.plain();
        client.token = Some(self.token(User::FlannelAgent, "wait"));
        await_condition("the rights are there", || {
            client.list(Resource::Nodes, "limit=1").code == 200
        });
    }

    /// A client that says nothing of who it is.
    pub(super) fn plain(&self) -> Client<'static> {
        Client {
            tls: Some((
                tls::connector(&self.config.ca, None),
                self.config.server_name.clone(),
            )),
            token: None,
            ..self.admin.clone()
        }
    }

    /// A token that is good as long as the secret is there of which it is told.
    pub(super) fn token(&self, user: User, serial: &str) -> String {
        let account = self.account(user);
        let name = format!("{account}-{serial}");
        let _ = self.admin.call(
            "POST",
            SECRETS,
            "application/json",
            Some(&json!({ "metadata": { "name": name } })),
        );
        let bound = json!({ "kind": "Secret", "apiVersion": "v1", "name": name });
        let wanted = json!({ "spec": { "boundObjectRef": bound, "expirationSeconds": 3600 } });
        let made = self.post(&format!("{ACCOUNTS}/{account}/token"), &wanted);
        made["status"]["token"]
            .as_str()
            .expect("a token")
            .to_owned()
    }

    /// Makes a token worth nothing; the server may remember for ten seconds that it was good.
    pub(super) fn revoke(&self, user: User, serial: &str) {
        let name = format!("{}-{serial}", self.account(user));
        self.admin
            .call("DELETE", &format!("{SECRETS}/{name}"), "", None);
    }

    fn clear(&self) {
        let places = [
            Resource::Nodes.path(),
            Resource::NodeNetworks.path(),
            BINDINGS,
            ROLES,
            ACCOUNTS,
            SECRETS,
        ];
        for path in places {
            let all = self.admin.call("GET", path, "", None).body;
            for object in all["items"].as_array().into_iter().flatten() {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                if name.starts_with(NAMES) {
                    self.admin
                        .call("DELETE", &format!("{path}/{name}"), "", None);
                }
            }
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.clear();
    }
}

fn serial() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    format!("{:x}", since.map_or(0, |since| since.as_millis()))
}
