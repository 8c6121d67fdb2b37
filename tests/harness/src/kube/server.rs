//! The server as a test has it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::client::{Client, Way};
use super::core::Core;
use super::faults::{Counts, Fault, Streaming};
use super::kubeconfig::Kubeconfig;
use super::real::Real;
use super::relay::Relay;
use super::resource::Resource;
use super::rights::User;
use super::store::State;
use super::tls;
use super::way::{Backend, Tls};
use crate::Pod;
use crate::cluster::await_condition;
use crate::etcd::Certificates;

/// The port.
pub const PORT: u16 = 6443;

/// A server that is reached at an address of a pod's. See the [module](super).
pub struct ApiServer<'a> {
    relay: Relay<'a>,
    inner: Inner,
    tokens: BTreeMap<User, (String, u32)>,
    // Last: the others need it while they are dropped.
    runtime: Runtime,
}

enum Inner {
    Own {
        core: Arc<Core>,
        files: Option<Certificates>,
    },
    Real(Box<Real>),
}

/// All objects as they once were, and the revision.
#[derive(Debug, Clone)]
pub struct Backup(State);

impl std::fmt::Debug for ApiServer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiServer({})", self.url())
    }
}

impl<'a> ApiServer<'a> {
    /// Starts a server with TLS at an address of the pod's, or a relay to the real one. Skips the test where openssl is not
    /// installed.
    ///
    /// # Panics
    /// When the real one does not do what the tests need.
    pub fn start(pod: &'a Pod, address: IpAddr) -> Self {
        Self::with(pod, address, true)
    }

    /// As [`ApiServer::start`], but without TLS; it is one of our own in any case.
    pub fn start_plain(pod: &'a Pod, address: IpAddr) -> Self {
        Self::with(pod, address, false)
    }

    fn with(pod: &'a Pod, address: IpAddr, secure: bool) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread for the server");
        let handle = runtime.handle();
        let real = secure.then(|| Real::set_up(handle)).flatten();
        let mut tokens = BTreeMap::new();
        let (backend, inner) = match real {
            Some(real) => {
                for user in User::ALL {
                    tokens.insert(user, (real.token(user, "0"), 0));
                }
                let backend = Backend::Real(real.backend.clone());
                (backend, Inner::Real(Box::new(real)))
            }
            None => {
                for user in User::ALL {
                    tokens.insert(user, (token(user, 0), 0));
                }
                let known = tokens
                    .iter()
                    .map(|(user, (token, _))| (token.clone(), *user));
                let core = Arc::new(Core::new(known.collect()));
                let files = secure.then(|| Certificates::make(address));
                let backend = Backend::Own {
                    core: Arc::clone(&core),
                    tls: files.as_ref().map(tls::acceptor),
                    own: false,
                };
                (backend, Inner::Own { core, files })
            }
        };
        Self {
            relay: Relay::start(pod, (address, PORT), backend, handle),
            inner,
            tokens,
            runtime,
        }
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        let scheme = match &self.inner {
            Inner::Own { files: None, .. } => "http",
            _ => "https",
        };
        format!("{scheme}://{}", self.relay.address())
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// The certificate authority in PEM; empty without TLS.
    pub fn ca(&self) -> String {
        match &self.inner {
            Inner::Own { files, .. } => {
                let files = files.as_ref();
                files.map(|files| files.text("ca.pem")).unwrap_or_default()
            }
            Inner::Real(real) => real.config.ca.clone(),
        }
    }

    /// A user's token.
    ///
    /// # Panics
    /// For the administrator of a real server, whose credentials are for the test itself.
    pub fn token(&self, user: User) -> &str {
        &self.tokens.get(&user).expect("all users have a token").0
    }

    /// Gives a user a new token. The old one is good until [`ApiServer::revoke`].
    pub fn rotate(&mut self, user: User) -> String {
        let serial = self.tokens.get(&user).map_or(0, |(_, serial)| serial + 1);
        let fresh = match &self.inner {
            Inner::Own { core, .. } => {
                let fresh = token(user, serial);
                core.settings().tokens.insert(fresh.clone(), user);
                fresh
            }
            Inner::Real(real) => real.token(user, &serial.to_string()),
        };
        self.tokens.insert(user, (fresh.clone(), serial));
        fresh
    }

    /// Makes all former tokens of a user worth nothing. A real server may take some seconds until it thinks so.
    pub fn revoke(&self, user: User) {
        let (current, serial) = self.tokens.get(&user).expect("all users have a token");
        match &self.inner {
            Inner::Own { core, .. } => {
                let stays = |token: &String, of: &mut User| *of != user || token == current;
                core.settings().tokens.retain(stays);
            }
            Inner::Real(real) => {
                (0..*serial).for_each(|serial| real.revoke(user, &serial.to_string()))
            }
        }
    }

    /// A kubeconfig with the user's token in it.
    pub fn kubeconfig(&self, user: User) -> String {
        let ca = self.ca();
        let mut config = self.kubeconfig_of(&ca);
        config.token = Some(self.token(user));
        config.to_text()
    }

    /// A kubeconfig that names a file with a token.
    pub fn kubeconfig_with_token_file(&self, path: &str) -> String {
        let ca = self.ca();
        let mut config = self.kubeconfig_of(&ca);
        config.token_file = Some(path);
        config.to_text()
    }

    /// A kubeconfig with the agent's certificate, or with one that nobody has signed. Our own server's alone.
    ///
    /// # Panics
    /// For a real server, and without TLS.
    pub fn kubeconfig_with_certificate(&self, good: bool) -> String {
        let Inner::Own {
            files: Some(files), ..
        } = &self.inner
        else {
            panic!("there are no certificates for clients");
        };
        let name = if good { "client" } else { "other" };
        let (certificate, key) = (
            files.text(&format!("{name}.pem")),
            files.text(&format!("{name}.key")),
        );
        let ca = self.ca();
        let mut config = self.kubeconfig_of(&ca);
        config.certificate = Some((&certificate, &key));
        config.to_text()
    }

    fn kubeconfig_of<'c>(&'c self, ca: &'c str) -> Kubeconfig<'c> {
        Kubeconfig {
            server: self.url(),
            server_name: match &self.inner {
                Inner::Own { .. } => None,
                Inner::Real(real) => Some(&real.config.server_name),
            },
            ca: Some(ca).filter(|ca| !ca.is_empty()),
            ..Kubeconfig::default()
        }
    }

    /// The test's own client, which may do everything, and which nothing befalls that befalls the way to the server.
    pub fn admin(&self) -> Client<'static> {
        match &self.inner {
            Inner::Real(real) => real.admin.clone(),
            Inner::Own { .. } => self.within(Some(self.token(User::Admin))),
        }
    }

    /// As [`ApiServer::admin`], but for a user or, without, for nobody.
    pub fn client(&self, user: Option<User>) -> Client<'static> {
        self.within(user.map(|user| self.token(user)))
    }

    /// As [`ApiServer::client`], with any token.
    pub fn client_with(&self, token: &str) -> Client<'static> {
        self.within(Some(token))
    }

    fn within(&self, token: Option<&str>) -> Client<'static> {
        let token = token.map(str::to_owned);
        match &self.inner {
            Inner::Real(real) => Client {
                token,
                ..real.plain()
            },
            Inner::Own { core, .. } => Client {
                way: Way::Within(Arc::new(Backend::Own {
                    core: Arc::clone(core),
                    tls: None::<Tls>,
                    own: true,
                })),
                tls: None,
                token,
                runtime: self.runtime.handle().clone(),
            },
        }
    }

    /// A client in a pod, which goes the way over the network.
    pub fn client_from<'p>(&self, pod: &'p Pod, user: Option<User>) -> Client<'p> {
        let ca = self.ca();
        let name = match &self.inner {
            Inner::Real(real) => real.config.server_name.clone(),
            Inner::Own { .. } => self.address().ip().to_string(),
        };
        Client {
            way: Way::From(pod, self.address()),
            tls: (!ca.is_empty()).then(|| (tls::connector(&ca, None), name)),
            token: user.map(|user| self.token(user).to_owned()),
            runtime: self.runtime.handle().clone(),
        }
    }

    /// As [`ApiServer::client_from`], with the agent's certificate or, if not `good`, one that nobody has signed.
    ///
    /// # Panics
    /// As [`ApiServer::kubeconfig_with_certificate`].
    pub fn client_with_certificate<'p>(&self, pod: &'p Pod, good: bool) -> Client<'p> {
        let Inner::Own {
            files: Some(files), ..
        } = &self.inner
        else {
            panic!("there are no certificates for clients");
        };
        let name = if good { "client" } else { "other" };
        let (certificate, key) = (
            files.text(&format!("{name}.pem")),
            files.text(&format!("{name}.key")),
        );
        let mut client = self.client_from(pod, None);
        let connector = tls::connector(&self.ca(), Some((&certificate, &key)));
        client.tls = Some((connector, self.address().ip().to_string()));
        client
    }

    /// Makes a Node with prefixes.
    ///
    /// # Panics
    /// When the server refuses.
    #[track_caller]
    pub fn add_node(&self, name: &str, prefixes: &[&str]) -> Value {
        let mut node =
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name }, "spec": {} });
        if !prefixes.is_empty() {
            node["spec"]["podCIDRs"] = json!(prefixes);
        }
        self.admin().create(Resource::Nodes, &node).ok()
    }

    /// Removes a Node, and waits until what it owned is gone. Where a real server has no garbage collector, the test does its
    /// work.
    ///
    /// # Panics
    /// When there is no such Node.
    #[track_caller]
    pub fn remove_node(&self, name: &str) {
        let admin = self.admin();
        admin.delete(Resource::Nodes, name).ok();
        let is_gone = || admin.get(Resource::NodeNetworks, name).code == 404;
        let end = std::time::Instant::now() + Duration::from_secs(5);
        while !is_gone() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        if !is_gone() {
            println!("this server has no garbage collector: {name} is removed by the test");
            admin.delete(Resource::NodeNetworks, name);
        }
        await_condition("what the Node owned is gone", is_gone);
    }

    /// Cuts the way: connections end, and new ones are refused until it is healed.
    pub fn cut(&mut self) {
        self.relay.cut(true);
    }

    /// The way is there again.
    pub fn heal(&mut self) {
        self.relay.open();
    }

    /// Ends all connections once; new ones are taken.
    pub fn reset(&mut self) {
        self.relay.cut(false);
    }

    /// Nothing passes, while connections are accepted; or what waits passes.
    pub fn freeze(&self, frozen: bool) {
        self.relay.freeze(frozen);
    }

    /// Everything passes so much later.
    pub fn slow(&self, delay: Duration) {
        self.relay.delay(delay);
    }

    fn core(&self) -> &Arc<Core> {
        match &self.inner {
            Inner::Own { core, .. } => core,
            Inner::Real(_) => crate::skip("only our own server can be told to do this"),
        }
    }

    /// Makes something go wrong with a verb (as in [`Counts`]), or with all, beside what does already. Skips the test on a real
    /// server, as all that follow.
    pub fn fail(&self, verb: Option<&'static str>, fault: Fault) {
        let core = self.core();
        core.settings().faults.push((verb, fault));
        // Watches are told without a reason, and find that it goes wrong.
        core.news.send_modify(|_| {});
    }

    /// Nothing goes wrong any more.
    pub fn mend(&self) {
        self.core().settings().faults.clear();
    }

    /// How it takes being asked for a streaming list.
    pub fn streaming(&self, how: Streaming) {
        self.core().settings().streaming = how;
    }

    /// How often watches get bookmarks that begin from now on: by default each second. A real server's come each minute.
    pub fn bookmarks(&self, every: Duration) {
        self.core().settings().bookmarks = every;
    }

    /// Forgets all that was before this moment. Watches under way go on.
    pub fn compact(&self) {
        self.core().change(State::compact);
    }

    /// Ends all connections, and forgets what was before, as a server that was started anew.
    pub fn restart(&mut self) {
        self.compact();
        self.relay.cut(false);
    }

    /// All objects as they are.
    pub fn backup(&self) -> Backup {
        Backup(self.core().state().clone())
    }

    /// Restarts with all as it was, at the revision that was.
    pub fn restore(&mut self, backup: &Backup) {
        self.core().change(|state| *state = backup.0.clone());
        self.restart();
    }

    /// Restarts with nothing, at the first revision.
    pub fn lose_everything(&mut self) {
        self.core().change(|state| *state = State::new());
        self.restart();
    }

    /// What has been asked over the network.
    pub fn counts(&self) -> Counts {
        self.core().counts().clone()
    }
}

/// Not guessable by accident; a secret it is not.
fn token(user: User, serial: u32) -> String {
    format!("{}-token-{serial}-SECRET", user.name())
}
