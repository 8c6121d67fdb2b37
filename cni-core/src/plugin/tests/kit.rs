//! A host on which nothing exists, a backend that records what it is asked, and a call with streams of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use crate::backend::*;
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};
use crate::host::conntrack::{Conntrack, Flow, FlowFilter};
use crate::host::firewall::{Element, Family, FirewallChange, Table, TableState, Value};
use crate::host::legacy::{LegacyChange, LegacyRule};
use crate::host::lock::{Guard, Sign};
use crate::host::netlink::*;
use crate::host::*;
use crate::ipam::{Ipam, IpamRequest, NoIpam};
use crate::plan::{Change, Place, Plan, Step};
use crate::plugin::{Call, Plugin, Service, UnusableIpam, dispatch};
use crate::spec::*;

pub(super) const CONFIG: &str = r#"{"cniVersion":"1.1.0","name":"net","type":"x"}"#;
pub(super) const OWN: &str = "/proc/self/ns/net";

/// The answer to a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) status: u8,
}

impl Answer {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).expect("one JSON document")
    }

    pub(super) fn code(&self) -> u64 {
        assert_eq!(self.status, 1, "{self:?}");
        self.json()["code"].as_u64().expect("an error object")
    }

    pub(super) fn text(&self) -> String {
        let json = self.json();
        let member = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}", member("msg"), member("details"))
    }
}

/// A call under construction.
pub(super) struct Asking {
    env: BTreeMap<String, OsString>,
    stdin: Box<dyn Read + Send>,
    plugin: Plugin,
    stdout_fails: bool,
    ipam_fails: bool,
    pub(super) cancel: Cancel,
}

/// A call of `verb` with everything that verb needs.
pub(super) fn ask(verb: &str) -> Asking {
    let pairs = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    Asking {
        env: pairs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect(),
        stdin: Box::new(io::Cursor::new(CONFIG.as_bytes().to_vec())),
        plugin: Plugin::new("test", "1.2.3").about("A test."),
        stdout_fails: false,
        ipam_fails: false,
        cancel: Cancel::new(),
    }
}

impl Asking {
    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    pub(super) fn unset(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    pub(super) fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Box::new(io::Cursor::new(text.into()));
        self
    }

    pub(super) fn reader(mut self, reader: impl Read + Send + 'static) -> Self {
        self.stdin = Box::new(reader);
        self
    }

    /// The configuration with more members.
    pub(super) fn config(self, version: &str, more: &str) -> Self {
        self.stdin(format!(
            r#"{{"cniVersion":"{version}","name":"net","type":"x"{more}}}"#
        ))
    }

    pub(super) fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugin = plugin;
        self
    }

    pub(super) fn stdout_fails(mut self) -> Self {
        self.stdout_fails = true;
        self
    }

    pub(super) fn ipam_fails(mut self) -> Self {
        self.ipam_fails = true;
        self
    }

    pub(super) fn of(self, backend: &Recorder) -> Answer {
        self.serve(&Service::Backend(backend))
    }

    pub(super) fn of_ipam(self, ipam: &FixedIpam) -> Answer {
        self.serve(&Service::Ipam(ipam))
    }

    fn serve(self, service: &Service<'_>) -> Answer {
        let mut stdout = Vec::new();
        let mut stderr = Vec::new();
        let mut broken = Broken;
        let ipam_fails = self.ipam_fails;
        let cancel = self.cancel.clone();
        let status = dispatch(
            &self.plugin,
            service,
            Call {
                env: &|name| self.env.get(name).cloned(),
                stdin: self.stdin,
                stdout: if self.stdout_fails {
                    &mut broken
                } else {
                    &mut stdout
                },
                stderr: &mut stderr,
                host: &|| Ok(empty_host()),
                ipam: &move |_, _| {
                    Ok(if ipam_fails {
                        let error = Error::new(ErrorKind::InvalidConfig, "no such address pool");
                        Box::new(UnusableIpam::new(&error))
                    } else {
                        Box::new(NoIpam::new())
                    })
                },
                cancel: &|| Ok(cancel.clone()),
            },
        );
        Answer {
            stdout: String::from_utf8(stdout).expect("UTF-8"),
            stderr: String::from_utf8(stderr).expect("UTF-8"),
            status,
        }
    }
}

/// A stream whose other end is closed.
pub(super) struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is on fire"))
    }
}

/// What a verb of the [`Recorder`] does.
pub(super) type Act = fn() -> Result<()>;

/// A backend that records what it is asked and does what it is told.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) log: Mutex<Vec<String>>,
    pub(super) act: Option<Act>,
    pub(super) seal_fails: bool,
    pub(super) no_addresses: bool,
    pub(super) add_panics: bool,
}

impl Recorder {
    pub(super) fn doing(act: Act) -> Self {
        Self {
            act: Some(act),
            ..Self::default()
        }
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn record(&self, line: String) -> Result<()> {
        self.log.lock().unwrap().push(line);
        self.act.map_or(Ok(()), |act| act())
    }
}

pub(super) fn one_address() -> AddResult {
    let mut result = AddResult::default();
    let address: IpNetwork = "10.1.2.3/24".parse().unwrap();
    result.ips.push(IpConfig::new(address));
    result
}

pub(super) fn one_step() -> Plan {
    let mut plan = Plan::new();
    let change = Change::Sysctl {
        key: "net/ipv4/ip_forward".into(),
        value: "1".into(),
    };
    plan.push(Step::new(Place::Host, change, "forwarding is off"));
    plan
}

#[async_trait]
impl NetworkBackend for Recorder {
    async fn add(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<Added> {
        cx.cancel.check("recording")?;
        self.record(format!(
            "add {} in {} after {:?}",
            request.attachment,
            request.sandbox.path,
            request.prev_result.map(|result| result.ips.len())
        ))?;
        assert!(!self.add_panics, "the cat is on the keyboard");
        let result = if self.no_addresses {
            AddResult::default()
        } else {
            one_address()
        };
        Ok(Added::new(result, one_step()))
    }

    async fn seal(&self, _: &Context<'_>, request: &AddRequest<'_>) -> Result<()> {
        self.record(format!("seal {}", request.attachment))?;
        if self.seal_fails {
            return Err(Error::new(ErrorKind::Io, "no alias today"));
        }
        Ok(())
    }

    async fn del(&self, _: &Context<'_>, request: &DelRequest<'_>) -> Result<()> {
        self.record(format!(
            "del {} in {:?} after {:?} with {:?}",
            request.attachment,
            request.netns.map(|netns| netns.to_string()),
            request.prev_result.map(|result| result.ips.len()),
            request.args.value("A"),
        ))
    }

    async fn del_plan(&self, _: &Context<'_>, _: &DelRequest<'_>) -> Result<Option<Plan>> {
        Ok(Some(one_step()))
    }

    async fn check(&self, _: &Context<'_>, request: &CheckRequest<'_>) -> Result<()> {
        self.record(format!(
            "check {} after {}",
            request.attachment,
            request.prev_result.ips.len()
        ))
    }

    async fn gc(&self, _: &Context<'_>, request: &GcRequest<'_>) -> Result<()> {
        self.record(format!("gc but {}", request.valid.iter().count()))
    }

    async fn status(&self, cx: &Context<'_>, request: &StatusRequest<'_>) -> Result<()> {
        self.record("status".into())?;
        cx.ipam.status(request.network, request.config).await
    }
}

/// Hands out one address, and records.
#[derive(Debug, Default)]
pub(super) struct FixedIpam(Mutex<Vec<String>>, bool);

impl FixedIpam {
    /// One that panics once it has reserved.
    pub(super) fn panicking() -> Self {
        Self(Mutex::default(), true)
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn record(&self, line: &str) -> Result<()> {
        self.0.lock().unwrap().push(line.into());
        Ok(())
    }
}

#[async_trait]
impl Ipam for FixedIpam {
    async fn allocate(&self, _: &IpamRequest<'_>) -> Result<AddResult> {
        self.record("allocate")?;
        assert!(!self.1, "the cat is on the keyboard");
        Ok(one_address())
    }
    async fn preview(&self, _: &IpamRequest<'_>) -> Result<Option<AddResult>> {
        Ok(Some(one_address()))
    }
    async fn held(&self, _: &IpamRequest<'_>) -> Result<Option<Vec<IpNetwork>>> {
        Ok(Some(vec![one_address().ips[0].address]))
    }
    async fn release(&self, _: &IpamRequest<'_>) -> Result<()> {
        self.record("release")
    }
    async fn check(&self, _: &IpamRequest<'_>) -> Result<()> {
        self.record("check")
    }
    async fn gc(&self, _: &NetworkName, _: &NetworkConfig, _: &ValidAttachments) -> Result<()> {
        self.record("gc")
    }
    async fn status(&self, _: &NetworkName, _: &NetworkConfig) -> Result<()> {
        self.record("status")
    }
}

/// A kernel in which nothing exists; `OWN` is the plugin's own namespace.
#[derive(Debug)]
struct Nothing;

fn empty_host() -> Host {
    Host {
        netlink: Arc::new(Nothing),
        forwarding: Arc::new(Nothing),
        firewall: Arc::new(Nothing),
        legacy: Arc::new(Nothing),
        conntrack: Arc::new(Nothing),
        sysctl: Arc::new(Nothing),
        lock: Arc::new(Nothing),
        namespaces: Arc::new(Nothing),
        zones: Arc::new(crate::host::zones::NoZones),
    }
}

impl Guard for Nothing {}

#[async_trait]
impl LegacyTables for Nothing {
    async fn rules(&self, _: Family, _: &str) -> Result<Option<Vec<LegacyRule>>> {
        Ok(None)
    }
    async fn apply(&self, change: &LegacyChange) -> Result<()> {
        panic!("nobody writes here: {change}")
    }
}

#[async_trait]
impl Conntrack for Nothing {
    async fn flows(&self, _: &FlowFilter) -> Result<Vec<Flow>, NetlinkError> {
        Ok(Vec::new())
    }

    async fn delete(&self, _: &[Flow]) -> Result<(), NetlinkError> {
        Ok(())
    }
}

#[async_trait]
impl Forwarding for Nothing {
    async fn read(
        &self,
        _: &forwarding::Scope<'_>,
        _: &mut (dyn FnMut(forwarding::Entry) + Send),
    ) -> Result<(), NetlinkError> {
        Ok(())
    }
    async fn write(&self, changes: &[forwarding::Change]) -> Vec<forwarding::Failed> {
        assert!(changes.is_empty(), "nobody writes here");
        Vec::new()
    }
    async fn has_next_hops(&self) -> Result<bool, NetlinkError> {
        Ok(true)
    }
}

#[async_trait]
impl HostLock for Nothing {
    async fn try_shared(&self) -> Result<Option<Box<dyn Guard>>> {
        Ok(Some(Box::new(Nothing)))
    }
    async fn try_alone(&self) -> Result<Option<Box<dyn Guard>>> {
        Ok(None)
    }
    async fn show(&self, _: Sign) -> Result<Box<dyn Guard>> {
        Ok(Box::new(Nothing))
    }
    async fn is_shown(&self, _: Sign) -> Result<bool> {
        Ok(false)
    }
}

#[async_trait]
impl Netlink for Nothing {
    async fn links(&self, _: LinkFilter<'_>) -> Result<Vec<Link>, NetlinkError> {
        Ok(Vec::new())
    }
    async fn addresses(&self, _: Option<&str>) -> Result<Vec<Address>, NetlinkError> {
        Ok(Vec::new())
    }
    async fn routes(
        &self,
        _: Option<&str>,
    ) -> Result<Vec<crate::host::netlink::Route>, NetlinkError> {
        Ok(Vec::new())
    }
    async fn neighbours(&self, _: Option<&str>) -> Result<Vec<Neighbour>, NetlinkError> {
        Ok(Vec::new())
    }
    async fn vlans(&self, _: &str) -> Result<Vec<Vlan>, NetlinkError> {
        Ok(Vec::new())
    }
    async fn apply(&self, _: &[NetlinkChange]) -> Result<(), ApplyError> {
        Ok(())
    }
}

#[async_trait]
impl Firewall for Nothing {
    async fn table(&self, _: &Table) -> Result<Option<TableState>, NetlinkError> {
        Ok(None)
    }
    async fn elements(&self, _: &Table, _: &str) -> Result<Vec<Element>, NetlinkError> {
        Ok(Vec::new())
    }
    async fn element(
        &self,
        _: &Table,
        _: &str,
        _: &[Value],
    ) -> Result<Option<Element>, NetlinkError> {
        Ok(None)
    }
    async fn commit(&self, _: &[FirewallChange]) -> Result<(), NetlinkError> {
        Ok(())
    }
}

#[async_trait]
impl Sysctl for Nothing {
    async fn read(&self, _: &str) -> Result<Option<String>> {
        Ok(None)
    }
    async fn write(&self, _: &str, _: &str) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl NamespaceOpener for Nothing {
    async fn open(&self, path: &NetnsPath) -> Result<Sandbox> {
        Ok(Sandbox {
            path: path.clone(),
            netlink: Arc::new(Nothing),
            sysctl: Arc::new(Nothing),
        })
    }
    async fn is_own(&self, path: &NetnsPath) -> bool {
        path.as_path().to_str() == Some(OWN)
    }
}
