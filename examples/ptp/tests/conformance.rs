//! The contract of every backend, on the fake kernel; and that it notices who breaks it.

// Helper functions of tests are not `#[test]`s, by which clippy knows what may panic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use async_trait::async_trait;
use cni_core::backend::{
    AddRequest, Added, CheckRequest, Context, DelRequest, GcRequest, StatusRequest,
};
use cni_core::host::netlink::{LinkSettings, NetlinkChange, NetlinkExt};
use cni_core::ipam::IpamRequest;
use cni_core::spec::NetworkConfig;
use cni_core::spec::ValidAttachments;
use cni_core::testing::conformance::{self, FakeFixture};
use cni_core::{Error, ErrorKind, NetworkBackend, Result, nat};
use ptp::Ptp;

fn config(more: &str) -> NetworkConfig {
    let text = format!(
        r#"{{"cniVersion":"1.1.0","name":"n","type":"ptp","ipam":{{"type":"fake"}}{more}}}"#
    );
    NetworkConfig::parse(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn ptp_keeps_the_contract_of_a_backend() {
    let configs = ["", r#","mtu":1400,"ipMasq":true"#].map(config);
    let fixture = FakeFixture::new(Ptp, configs).with_tables([nat::table()]);
    conformance::backend(&fixture).await;
}

/// `ptp`, but for one mistake.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mistaken {
    AddLeavesItsPairWhenALaterStepFails,
    AddKeepsTheAddressesWhenItFails,
    AddReplacesAFinishedAttachment,
    AddRefusesWhileAddressesAreHeld,
    AddWritesInADryRun,
    DelNeedsTheLink,
    DelNeedsTheNamespace,
    DelHidesFailures,
    DelKeepsTheAddresses,
    CheckRepairs,
    CheckLooksAway,
    GcTakesEverythingForStale,
    GcCollectsNothing,
    StatusTriesIt,
}

use Mistaken::*;

#[async_trait]
impl NetworkBackend for Mistaken {
    async fn add(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<Added> {
        let ipam = IpamRequest {
            attachment: request.attachment,
            netns: Some(&request.sandbox.path),
            config: request.config,
            args: request.args,
            cancel: cx.cancel,
        };
        match self {
            AddReplacesAFinishedAttachment if !cx.dry_run => {
                Ptp.del(cx, &del_of(request)).await?;
            }
            AddRefusesWhileAddressesAreHeld
                if cx
                    .ipam
                    .held(&ipam)
                    .await?
                    .is_some_and(|held| !held.is_empty()) =>
            {
                return Err(Error::new(ErrorKind::Internal, "addresses are held"));
            }
            _ => {}
        }
        let cx = &Context {
            dry_run: cx.dry_run && *self != AddWritesInADryRun,
            ..*cx
        };
        let added = Ptp.add(cx, request).await;
        match self {
            AddLeavesItsPairWhenALaterStepFails if added.is_ok() && !cx.dry_run => {
                cx.host.sysctl.write("net/ipv4/ip_forward", "1").await?;
            }
            // The first call gives them back, the next one takes them again: as if they had been forgotten.
            AddKeepsTheAddressesWhenItFails if added.is_err() && !cx.dry_run => {
                cx.ipam.allocate(&ipam).await?;
            }
            _ => {}
        }
        added
    }

    async fn seal(&self, cx: &Context<'_>, request: &AddRequest<'_>) -> Result<()> {
        Ptp.seal(cx, request).await
    }

    async fn del(&self, cx: &Context<'_>, request: &DelRequest<'_>) -> Result<()> {
        let name = request.attachment.host_name();
        match self {
            DelNeedsTheLink if cx.host.netlink.link(name.as_str()).await?.is_none() => {
                return Err(Error::new(ErrorKind::Internal, format!("no link {name}")));
            }
            DelNeedsTheNamespace if request.netns.is_none() => {
                return Err(Error::new(ErrorKind::InvalidNetns, "no namespace"));
            }
            DelKeepsTheAddresses => {
                let change = NetlinkChange::LinkDel {
                    link: name.to_string(),
                };
                let _ = cx.host.netlink.apply_one(change).await;
                return Ok(());
            }
            _ => {}
        }
        match Ptp.del(cx, request).await {
            Err(_) if *self == DelHidesFailures => Ok(()),
            outcome => outcome,
        }
    }

    async fn check(&self, cx: &Context<'_>, request: &CheckRequest<'_>) -> Result<()> {
        match self {
            CheckRepairs => {
                let mut settings = LinkSettings::default();
                settings.up = Some(true);
                let link = request.attachment.host_name().to_string();
                let change = NetlinkChange::LinkSet { link, settings };
                cx.host.netlink.apply_one(change).await?;
            }
            CheckLooksAway => return Ok(()),
            _ => {}
        }
        Ptp.check(cx, request).await
    }

    async fn gc(&self, cx: &Context<'_>, request: &GcRequest<'_>) -> Result<()> {
        let valid = match self {
            GcTakesEverythingForStale => &ValidAttachments::default(),
            GcCollectsNothing => return Ok(()),
            _ => request.valid,
        };
        Ptp.gc(cx, &GcRequest { valid, ..*request }).await
    }

    async fn status(&self, cx: &Context<'_>, request: &StatusRequest<'_>) -> Result<()> {
        if *self == StatusTriesIt {
            cx.host.sysctl.write("net/ipv4/ip_forward", "1").await?;
        }
        Ptp.status(cx, request).await
    }
}

fn del_of<'a>(request: &AddRequest<'a>) -> DelRequest<'a> {
    DelRequest {
        attachment: request.attachment,
        netns: Some(&request.sandbox.path),
        config: request.config,
        args: request.args,
        prev_result: None,
    }
}

/// What the conformance function says of it.
async fn complaint(backend: Mistaken) -> String {
    let fixture = FakeFixture::new(backend, [config("")]).with_tables([nat::table()]);
    let run = tokio::spawn(async move { conformance::backend(&fixture).await });
    let panic = match run.await {
        Ok(()) => panic!("nobody noticed {backend:?}"),
        Err(error) => error.into_panic(),
    };
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(_) => panic!("{backend:?}: no sentence"),
    }
}

#[tokio::test]
async fn every_broken_promise_is_noticed_and_named() {
    for (backend, sentence) in [
        (AddLeavesItsPairWhenALaterStepFails, "left something"),
        (AddKeepsTheAddressesWhenItFails, "left something"),
        (
            AddReplacesAFinishedAttachment,
            "a second ADD of a finished attachment succeeded",
        ),
        (
            AddRefusesWhileAddressesAreHeld,
            "ADD over the leftover of an ADD that died failed",
        ),
        (AddWritesInADryRun, "a dry run wrote"),
        (DelNeedsTheLink, "DEL of what was never added failed: "),
        (DelNeedsTheNamespace, "(no-netns) failed: "),
        (DelHidesFailures, "DEL hides that write"),
        (DelKeepsTheAddresses, "left something"),
        (CheckRepairs, "CHECK wrote"),
        (CheckLooksAway, "CHECK passes after DEL"),
        (GcTakesEverythingForStale, "GC removed something valid"),
        (GcCollectsNothing, "GC did not leave exactly what is valid"),
        (StatusTriesIt, "STATUS wrote"),
    ] {
        let said = complaint(backend).await;
        assert!(said.contains(sentence), "{backend:?}: {said}");
    }
}
