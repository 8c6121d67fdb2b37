use std::os::unix::fs::MetadataExt as _;

use super::*;

struct Node {
    _directory: tempfile::TempDir,
    image: PathBuf,
    bin: PathBuf,
}

/// An image with these plugins, and a node's directory.
fn node(plugins: &[(&str, &str)]) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let node = Node {
        image: directory.path().join("plugins"),
        bin: directory.path().join("opt/cni/bin"),
        _directory: directory,
    };
    fs::create_dir(&node.image).unwrap();
    for (name, text) in plugins {
        node.ship(name, text);
    }
    node
}

impl Node {
    fn ship(&self, name: &str, text: &str) {
        fs::write(self.image.join(name), text).unwrap();
    }

    fn has(&self, name: &str, text: &str) {
        fs::create_dir_all(&self.bin).unwrap();
        fs::write(self.bin.join(name), text).unwrap();
    }

    fn install(&self) -> Outcome {
        install(&self.image, &self.bin).unwrap()
    }

    fn reads(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.bin.join(name)).ok()
    }

    fn inode(&self, name: &str) -> u64 {
        fs::metadata(self.bin.join(name)).unwrap().ino()
    }

    /// Names in the node's directory, hidden ones too.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.bin).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn plugins_are_put_in_place_once_and_removed_to_the_last_trace() {
    let node = node(&[("vxlan", "one"), ("portmap", "two"), (".hidden", "no")]);
    assert_eq!(node.install().changed, ["portmap", "vxlan"]);
    let mode = fs::metadata(node.bin.join("vxlan")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
    let inodes = [node.inode("vxlan"), node.inode(RECORD)];
    let again = node.install();
    assert_eq!(again.unchanged, ["portmap", "vxlan"]);
    assert_eq!(again.changed, [""; 0]);
    assert_eq!(inodes, [node.inode("vxlan"), node.inode(RECORD)]);
    assert_eq!(remove(&node.bin).unwrap().changed, ["portmap", "vxlan"]);
    assert_eq!(node.names(), [""; 0]);
    assert_eq!(remove(&node.bin).unwrap(), Outcome::default());
    fs::remove_dir(&node.bin).unwrap();
    assert_eq!(remove(&node.bin).unwrap(), Outcome::default());
}

#[test]
fn an_upgrade_replaces_what_is_ours_and_knows_it_afterwards() {
    let node = node(&[("vxlan", "one"), ("portmap", "two")]);
    node.install();
    node.ship("vxlan", "newer");
    let outcome = node.install();
    assert_eq!((outcome.changed.len(), outcome.unchanged.len()), (1, 1));
    assert_eq!(node.reads("vxlan").unwrap(), "newer");
    // A plugin that the image does not have any more may be needed by pods; it goes in the end.
    fs::remove_file(node.image.join("portmap")).unwrap();
    node.install();
    assert_eq!(node.reads("portmap").unwrap(), "two");
    assert_eq!(remove(&node.bin).unwrap().changed, ["portmap", "vxlan"]);
}

#[test]
fn what_is_somebody_elses_stays() {
    let node = node(&[("vxlan", "one"), ("portmap", "two"), ("bridge", "three")]);
    node.has("portmap", "the distribution's");
    node.has("bandwidth", "the distribution's");
    std::os::unix::fs::symlink("/bin/true", node.bin.join("bridge")).unwrap();
    let outcome = node.install();
    assert_eq!(outcome.foreign, ["bridge", "portmap"]);
    assert_eq!(outcome.changed, ["vxlan"]);
    assert_eq!(node.reads("portmap").unwrap(), "the distribution's");
    remove(&node.bin).unwrap();
    assert_eq!(node.names(), ["bandwidth", "bridge", "portmap"]);
    // The very same file, but not put there by us.
    node.has("vxlan", "one");
    assert_eq!(node.install().unchanged, ["vxlan"]);
    remove(&node.bin).unwrap();
    assert_eq!(node.reads("vxlan").unwrap(), "one");
}

#[test]
fn what_somebody_has_replaced_since_stays_and_what_somebody_has_removed_is_no_error() {
    let node = node(&[
        ("portmap", "two"),
        ("bandwidth", "three"),
        ("tuning", "four"),
    ]);
    node.install();
    node.has("portmap", "the distribution's");
    fs::remove_file(node.bin.join("tuning")).unwrap();
    let outcome = remove(&node.bin).unwrap();
    assert_eq!(outcome.changed, ["bandwidth"]);
    assert_eq!(outcome.foreign, ["portmap"]);
    assert_eq!(node.names(), ["portmap"]);
}

#[test]
fn a_plugin_that_the_agent_needs_must_be_its_own_and_nothing_is_installed_else() {
    let node = node(&[("host-gw", "one"), ("portmap", "two")]);
    node.has("host-gw", "another project's");
    let error = install(&node.image, &node.bin).unwrap_err();
    assert!(
        error.to_string().contains("bin/host-gw is there"),
        "{error}"
    );
    assert_eq!(node.names(), ["host-gw"]);
}

#[test]
fn a_lost_mode_is_mended() {
    let node = node(&[("vxlan", "one")]);
    node.install();
    fs::set_permissions(node.bin.join("vxlan"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(node.install().changed, ["vxlan"]);
    assert_eq!(
        fs::metadata(node.bin.join("vxlan")).unwrap().mode() & 0o7777,
        0o755
    );
}

#[test]
fn a_record_that_is_none_or_leads_elsewhere_is_refused_with_what_to_do() {
    let node = node(&[("vxlan", "one")]);
    for text in [
        "",
        "{",
        "{}",
        r#"{"plugins": {"../../etc/passwd": ["x"]}}"#,
        r#"{"plugins": {"..": ["x"]}}"#,
        r#"{"plugins": {"vxlan": "x"}}"#,
    ] {
        node.has(RECORD, text);
        for error in [
            install(&node.image, &node.bin).unwrap_err(),
            remove(&node.bin).unwrap_err(),
        ] {
            assert!(error.to_string().contains("remove it"), "{text}: {error}");
        }
    }
    assert_eq!(node.names(), [RECORD]);
}

#[test]
fn an_image_without_plugins_is_told() {
    let node = node(&[]);
    let error = install(&node.image, &node.bin).unwrap_err();
    assert!(error.to_string().contains("no plugins in"), "{error}");
    let error = install(&node.bin, &node.bin).unwrap_err();
    assert!(error.chain().contains("could not read"), "{error}");
}

#[test]
fn hashes_are_those_of_fnv_1a() {
    // draft-eastlake-fnv, 128 bits: of nothing, and of "a".
    assert_eq!(hash(&b""[..]).unwrap(), "6c62272e07bb014262b821756295c58d");
    assert_eq!(hash(&b"a"[..]).unwrap(), "d228cb696f1a8caf78912b704e4a8964");
}
