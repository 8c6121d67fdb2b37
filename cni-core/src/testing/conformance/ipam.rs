//! What every [`Ipam`] must do and refuse.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::ipam::{Ipam, IpamRequest};
use crate::spec::ValidAttachments;
use crate::spec::config::{CniArgs, NetworkConfig};
use crate::spec::{AddResult, Attachment};

const NONE: [IpAddr; 0] = [];

/// Runs the contract of [`Ipam`] with an empty store. `config` must give it fewer than 300 addresses, and at least 4.
/// Nothing is held at the end. For stores in this process: it must be able to tell what is held.
///
/// # Panics
/// Where the implementation differs, saying in what.
pub async fn ipam(ipam: &dyn Ipam, config: &NetworkConfig) {
    let store = Store {
        ipam,
        config,
        args: CniArgs::default(),
        cancel: Cancel::new(),
    };
    store.one_attachment().await;
    store.attachments_are_independent().await;
    store.stale_ones_are_collected().await;
    store.exhaustion_is_told_and_ends().await;
}

struct Store<'a> {
    ipam: &'a dyn Ipam,
    config: &'a NetworkConfig,
    args: CniArgs,
    cancel: Cancel,
}

impl Store<'_> {
    async fn one_attachment(&self) {
        let a = self.attachment("a");
        let request = self.request(&a);
        self.ok("STATUS of an empty store", self.status().await);
        self.ok("releasing nothing", self.ipam.release(&request).await);
        let failed = self.ipam.check(&request).await.is_err();
        assert!(failed, "CHECK passes without an address");

        let preview = self.ipam.preview(&request).await;
        let preview = self.ok("a preview", preview);
        assert_eq!(self.held(&a).await, NONE, "a preview reserves");
        let result = self.allocate(&a).await;
        assert!(!result.ips.is_empty(), "no address was given");
        assert!(
            result.interfaces.is_empty(),
            "an address store has no links"
        );
        if let Some(preview) = preview {
            assert_eq!(preview.ips.len(), result.ips.len(), "a preview is like it");
        }
        assert_eq!(
            self.held(&a).await,
            ips(&result),
            "what is held is what was given"
        );
        self.ok("CHECK", self.ipam.check(&request).await);

        let second = self.ipam.allocate(&request).await;
        assert!(second.is_err(), "the attachment was given addresses twice");
        assert_eq!(
            self.held(&a).await,
            ips(&result),
            "a refusal changed something"
        );
        for time in ["first", "second"] {
            let what = format!("the {time} release");
            self.ok(&what, self.ipam.release(&request).await);
            assert_eq!(self.held(&a).await, NONE, "{what} left something");
        }
        let failed = self.ipam.check(&request).await.is_err();
        assert!(failed, "CHECK passes after the release");
    }

    async fn attachments_are_independent(&self) {
        let (a, b) = (self.attachment("a"), self.attachment("b"));
        let mut second = a.clone();
        second.interface = "eth1".parse().expect("a name");
        let all = [a, b, second];
        let mut given = BTreeSet::new();
        for attachment in &all {
            for ip in ips(&self.allocate(attachment).await) {
                assert!(given.insert(ip), "{ip} was given twice");
            }
        }
        let [a, b, second] = &all;
        let before = self.held(b).await;
        self.release(a).await;
        assert_eq!(self.held(b).await, before, "another container's release");
        let of_second = self.held(second).await;
        assert!(!of_second.is_empty(), "another interface's release");
        self.release(b).await;
        self.release(second).await;
    }

    async fn stale_ones_are_collected(&self) {
        let (a, b) = (self.attachment("a"), self.attachment("b"));
        self.allocate(&a).await;
        self.allocate(&b).await;
        let before = self.held(&a).await;
        let valid = ValidAttachments::new([(a.container.clone(), a.interface.clone())]);
        self.ok("GC", self.gc(&valid).await);
        assert_eq!(self.held(&a).await, before, "GC took a valid one");
        assert_eq!(self.held(&b).await, NONE, "GC left a stale one");
        self.ok("GC", self.gc(&ValidAttachments::default()).await);
        assert_eq!(self.held(&a).await, NONE, "GC left a stale one");
    }

    async fn exhaustion_is_told_and_ends(&self) {
        let mut holders = Vec::new();
        loop {
            let next = self.attachment(&format!("c{}", holders.len()));
            match self.ipam.allocate(&self.request(&next)).await {
                Ok(_) => holders.push(next),
                Err(_) => {
                    assert_eq!(self.held(&next).await, NONE, "a refusal kept addresses");
                    break;
                }
            }
            assert!(holders.len() < 300, "addresses do not end");
        }
        assert!(self.status().await.is_err(), "STATUS of a full store");
        let last = holders.pop().expect("an address");
        self.release(&last).await;
        self.ok("STATUS after a release", self.status().await);
        self.allocate(&last).await;
        self.ok("GC", self.gc(&ValidAttachments::default()).await);
        self.ok("STATUS after GC", self.status().await);
    }

    fn attachment(&self, container: &str) -> Attachment {
        Attachment {
            network: self.config.name().clone(),
            container: container.parse().expect("an ID"),
            interface: "eth0".parse().expect("a name"),
        }
    }

    fn request<'b>(&'b self, attachment: &'b Attachment) -> IpamRequest<'b> {
        IpamRequest {
            attachment,
            netns: None,
            config: self.config,
            args: &self.args,
            cancel: &self.cancel,
        }
    }

    async fn allocate(&self, attachment: &Attachment) -> AddResult {
        let outcome = self.ipam.allocate(&self.request(attachment)).await;
        self.ok("reserving", outcome)
    }

    async fn release(&self, attachment: &Attachment) {
        let outcome = self.ipam.release(&self.request(attachment)).await;
        self.ok("releasing", outcome);
    }

    /// Sorted.
    async fn held(&self, attachment: &Attachment) -> Vec<IpAddr> {
        let held = self.ipam.held(&self.request(attachment)).await;
        let held = self.ok("what is held", held).unwrap_or_default();
        let mut ips: Vec<IpAddr> = held.iter().map(|address| address.ip()).collect();
        ips.sort();
        ips
    }

    async fn gc(&self, valid: &ValidAttachments) -> Result<()> {
        self.ipam.gc(self.config.name(), self.config, valid).await
    }

    async fn status(&self) -> Result<()> {
        self.ipam.status(self.config.name(), self.config).await
    }

    fn ok<T>(&self, what: &str, outcome: Result<T>) -> T {
        match outcome {
            Ok(value) => value,
            Err(error) => panic!("{what} failed: {}", error.chain()),
        }
    }
}

fn ips(result: &AddResult) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
    ips.sort();
    ips
}
