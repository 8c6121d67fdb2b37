//! Delegation to another IPAM plugin: what it gets, and what becomes of what it says.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lints except test functions, but not their helpers"
)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cni_core::ipam::{self, Delegated, Ipam, IpamRequest};
use cni_core::spec::ValidAttachments;
use cni_core::spec::{Attachment, CniArgs, NetworkConfig};
use cni_core::{Cancel, Error, ErrorKind, Result};

/// A configuration with what a careless copy would alter: order, spaces, a large number.
const CONFIG: &str =
    r#"{"name":"net", "cniVersion":"1.1.0","n":9007199254740993, "ipam":{"type":"other"}}"#;

struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    /// A plugin `other` that notes its input and environment, then does `body`.
    fn new(body: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other");
        let here = dir.path().display();
        let text = format!(
            "#!/bin/sh\n/bin/cat > {here}/stdin\n/usr/bin/env > {here}/env\necho \"$CNI_COMMAND\" >> {here}/verbs\n{body}\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    fn ask<T>(&self, config: &str, ask: impl AsyncFnOnce(&dyn Ipam, &IpamRequest<'_>) -> T) -> T {
        let config = NetworkConfig::parse(config.as_bytes()).unwrap();
        let attachment = Attachment {
            network: "net".parse().unwrap(),
            container: "c1".parse().unwrap(),
            interface: "eth0".parse().unwrap(),
        };
        let request = IpamRequest {
            attachment: &attachment,
            netns: None,
            config: &config,
            args: &CniArgs::default(),
            cancel: &Cancel::new(),
        };
        let environment = [
            ("CNI_COMMAND", "X"),
            ("CNI_ARGS", "A=1"),
            ("TRACEPARENT", "00-1"),
        ];
        let environment = environment.map(|(k, v)| (OsString::from(k), OsString::from(v)));
        let path = [self.dir.path().to_owned()];
        let ipam = ipam::from_config(&config, &path, environment).unwrap();
        let executor = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        executor.block_on(ask(ipam.as_ref(), &request))
    }

    fn collect(&self, config: &str) -> Result<()> {
        self.ask(config, async |ipam, request| {
            let network = &request.attachment.network;
            ipam.gc(network, request.config, &ValidAttachments::default())
                .await
        })
    }
}

const ANSWER: &str =
    r#"echo '{"cniVersion":"1.1.0","ips":[{"address":"10.9.0.5/24","gateway":"10.9.0.1"}]}'"#;

#[test]
fn a_delegate_gets_the_original_bytes_and_our_environment_and_its_result_is_ours() {
    let setup = Setup::new(ANSWER);
    let result = setup
        .ask(CONFIG, async |ipam, request| ipam.allocate(request).await)
        .unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.9.0.5/24");
    assert_eq!(setup.read("stdin"), CONFIG);
    let env = setup.read("env");
    let path = format!("CNI_PATH={}", setup.dir.path().display());
    for wanted in [
        "CNI_COMMAND=ADD",
        "CNI_ARGS=A=1",
        "TRACEPARENT=00-1",
        "CNI_CONTAINERID=c1",
        "CNI_IFNAME=eth0",
        &path,
    ] {
        assert!(env.lines().any(|line| line == wanted), "{wanted} in {env}");
    }
}

#[test]
fn a_delegates_error_keeps_its_code_and_its_words() {
    let setup = Setup::new(r#"echo '{"code":123,"msg":"no leases","details":"at all"}'; exit 1"#);
    let error: Error = setup
        .ask(CONFIG, async |ipam, request| ipam.allocate(request).await)
        .unwrap_err();
    assert_eq!(error.kind().code(), 123);
    assert!(
        error.chain().contains("no leases: at all"),
        "{}",
        error.chain()
    );
    let setup = Setup::new("echo nonsense; exit 7");
    let error = setup
        .ask(CONFIG, async |ipam, request| ipam.release(request).await)
        .unwrap_err();
    assert!(
        error.chain().contains("exit status: 7"),
        "{}",
        error.chain()
    );
}

#[test]
fn an_empty_answer_is_fine_for_all_but_add_which_is_then_undone() {
    let setup = Setup::new("");
    setup.ask(CONFIG, async |ipam, request| {
        ipam.release(request).await.unwrap();
        ipam.check(request).await.unwrap();
        assert_eq!(ipam.held(request).await.unwrap(), None);
        assert!(ipam.preview(request).await.unwrap().is_none());
    });
    setup.collect(CONFIG).unwrap();
    let error = setup
        .ask(CONFIG, async |ipam, request| ipam.allocate(request).await)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert_eq!(setup.read("verbs"), "DEL\nCHECK\nGC\nADD\nDEL\n");
}

#[test]
fn collection_is_forwarded_from_1_1_0_on_and_a_plugin_without_it_is_tolerated() {
    let setup = Setup::new("");
    setup.collect(&CONFIG.replace("1.1.0", "1.0.0")).unwrap();
    assert_eq!(setup.read("verbs"), "");
    for code in [1, 4] {
        let setup = Setup::new(&format!(
            "echo '{{\"code\":{code},\"msg\":\"unknown\"}}'; exit 1"
        ));
        setup.collect(CONFIG).unwrap();
        assert_eq!(setup.read("verbs"), "GC\n");
    }
    let setup = Setup::new("echo '{\"code\":5,\"msg\":\"disk\"}'; exit 1");
    assert_eq!(setup.collect(CONFIG).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn names_with_a_separator_are_refused_and_known_names_stay_in_process() {
    let config = |kind: &str| {
        let text = CONFIG.replace("other", kind);
        NetworkConfig::parse(text.as_bytes()).unwrap()
    };
    for wrong in ["../other", "a/b"] {
        let error = ipam::from_config(&config(wrong), &[], []).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
    let shown = |kind: &str| format!("{:?}", ipam::from_config(&config(kind), &[], []).unwrap());
    assert!(shown("host-local").starts_with("HostLocal"));
    assert!(shown("static").starts_with("Static"));
    assert!(shown("").starts_with("NoIpam"));
    assert!(shown("dhcp").starts_with("Delegated"));
    assert!(Delegated::new("x/y", &[Path::new("/").to_owned()], []).is_err());
}
