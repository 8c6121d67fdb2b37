//! VERSION, the introduction, and the one document on stdout.

use std::io::Read;
use std::sync::mpsc;

use super::kit::*;
use crate::error::{Error, ErrorKind};
use crate::plugin::Plugin;
use crate::spec::SpecVersion;

#[test]
fn without_a_command_it_introduces_itself_on_stderr() {
    let answer = ask("").reader(Broken).of(&Recorder::default());
    assert_eq!((answer.status, answer.stdout.as_str()), (0, ""));
    assert_eq!(
        answer.stderr,
        "CNI plugin test 1.2.3\nA test.\n\
         CNI protocol versions: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n"
    );
}

#[test]
fn version_echoes_the_version_it_is_asked_with() {
    let answer = ask("VERSION")
        .stdin(r#"{"cniVersion":"0.4.0"}"#)
        .of(&Recorder::default());
    assert_eq!(answer.json()["cniVersion"], "0.4.0");
    assert_eq!(answer.json()["supportedVersions"][6], "1.1.0");
    assert_eq!(answer.status, 0);
}

#[test]
fn version_needs_no_variable_and_no_readable_stdin() {
    for broken in [true, false] {
        let mut asking = ask("VERSION").stdin("");
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
            asking = asking.unset(name);
        }
        if broken {
            asking = asking.reader(Broken);
        }
        let answer = asking.of(&Recorder::default());
        assert_eq!(answer.json()["cniVersion"], "1.1.0");
        assert_eq!(answer.status, 0);
    }
}

/// A pipe that somebody keeps open: what is there can be read, and then nothing comes, and no end either.
struct NeverEnds(Option<&'static [u8]>, mpsc::Receiver<()>);

impl Read for NeverEnds {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(bytes) = self.0.take() {
            buffer[..bytes.len()].copy_from_slice(bytes);
            return Ok(bytes.len());
        }
        let _ = self.1.recv();
        Ok(0)
    }
}

#[test]
fn version_does_not_wait_for_the_end_of_stdin() {
    for (there, echoed) in [
        (Some(&br#"{"cniVersion":"1.0.0"}"#[..]), "1.0.0"),
        (Some(&br#"{"cniVersion":"#[..]), "1.1.0"),
        (None, "1.1.0"),
    ] {
        let (keep, closed) = mpsc::channel();
        let answer = ask("VERSION")
            .reader(NeverEnds(there, closed))
            .of(&Recorder::default());
        assert_eq!(answer.json()["cniVersion"], echoed);
        drop(keep);
    }
}

#[test]
fn a_plugin_can_speak_fewer_versions() {
    let plugin = Plugin::new("old", "1").versions([SpecVersion::V0_4_0, SpecVersion::V0_3_1]);
    let answer = ask("VERSION")
        .stdin("")
        .plugin(plugin.clone())
        .of(&Recorder::default());
    let expected =
        serde_json::json!({"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]});
    assert_eq!(answer.json(), expected);

    let answer = ask("ADD").plugin(plugin).of(&Recorder::default());
    assert_eq!(answer.code(), 1);
    assert!(answer.text().contains("\"1.1.0\""), "{answer:?}");
    assert!(
        answer.text().contains(r#"["0.3.1", "0.4.0"]"#),
        "{answer:?}"
    );
}

#[test]
fn a_panic_becomes_an_error_object() {
    let backend = Recorder::doing(|| panic!("the cat is on the keyboard"));
    for verb in ["ADD", "DEL", "STATUS"] {
        let answer = ask(verb).of(&backend);
        assert_eq!(answer.code(), 999);
        assert!(answer.text().contains("the cat is on the keyboard"));
        assert_eq!(answer.json()["cniVersion"], "1.1.0");
    }
}

#[test]
fn an_error_keeps_its_code_and_carries_the_version_of_the_input() {
    let backend = Recorder::doing(|| Err(Error::new(ErrorKind::Plugin(1234), "out of cheese")));
    for version in ["0.1.0", "0.4.0", "1.0.0"] {
        let answer = ask("ADD").config(version, "").of(&backend);
        assert_eq!(answer.code(), 1234);
        assert_eq!(answer.json()["cniVersion"], version);
        assert_eq!(answer.json()["msg"], "out of cheese");
    }
}

#[test]
fn a_success_without_a_result_prints_nothing() {
    let prev = r#","prevResult":{"ips":[{"address":"10.1.2.3/24"}]}"#;
    for verb in ["DEL", "CHECK", "GC", "STATUS"] {
        let answer = ask(verb).config("1.1.0", prev).of(&Recorder::default());
        assert_eq!(
            (
                answer.status,
                answer.stdout.as_str(),
                answer.stderr.as_str()
            ),
            (0, "", ""),
            "{verb}"
        );
    }
}

#[test]
fn the_document_is_one_line() {
    let answer = ask("ADD").of(&Recorder::default());
    assert_eq!(answer.stdout.lines().count(), 1);
    assert!(answer.stdout.ends_with("}\n"));
    assert_eq!(answer.json()["ips"][0]["address"], "10.1.2.3/24");
}
