use super::*;

fn attachment(interface: &str) -> Attachment {
    Attachment {
        network: "n".parse().unwrap(),
        container: "c1".parse().unwrap(),
        interface: interface.parse().unwrap(),
    }
}

fn full() -> Backup {
    let (was, set) = ("0".to_owned(), "1".to_owned());
    Backup {
        mark: Some("cni:n/c1/eth0".to_owned()),
        mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        mtu: Some(1500),
        promiscuous: Some(false),
        all_multicast: Some(true),
        tx_queue_len: Some(0),
        parameters: [("net/core/x".to_owned(), Restored { was, set })].into(),
    }
}

#[test]
fn what_is_written_is_read() {
    for backup in [full(), Backup::default()] {
        assert_eq!(Backup::parse(&backup.to_json()), Some(backup));
    }
    for text in ["", "[]", "{", "7", r#"{"sysctl":{"a":{"was":"1"}}}"#] {
        assert_eq!(Backup::parse(text), None, "{text}");
    }
}

#[test]
fn a_file_of_the_reference_is_anybodys() {
    let text = "{\n \"mac\": \"02:00:00:00:00:01\",\n \"promisc\": false,\n \"mtu\": 1500,\n \"txQLen\": 1000\n}";
    let backup = Backup::parse(text).unwrap();
    assert_eq!((backup.mtu, backup.tx_queue_len), (Some(1500), Some(1000)));
    assert!(backup.is_of(&attachment("eth0")) && backup.mark().is_none());
    assert!(full().is_of(&attachment("eth0")));
    assert!(!full().is_of(&attachment("eth1")));
}

#[test]
fn what_was_there_first_is_kept_and_what_is_new_is_added() {
    let (first, mut second) = (full(), full());
    second.mtu = Some(1400);
    second.mac = None;
    let (was, set) = ("1".to_owned(), "2".to_owned());
    second.parameters = [("net/core/x".to_owned(), Restored { was, set })].into();
    let merged = second.after(Some(first.clone()));
    assert_eq!((merged.mtu, merged.mac), (Some(1500), first.mac));
    let parameter = merged.parameters.get("net/core/x").unwrap();
    assert_eq!((parameter.was.as_str(), parameter.set.as_str()), ("0", "2"));
    assert_eq!(full().after(None), full());
}

#[test]
fn a_file_is_whole_or_as_before_and_a_draft_goes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory.path().join("new"), &attachment("eth0"));
    assert_eq!(read(&path).unwrap(), None);
    write(&path, "one").unwrap();
    write(&path, "two").unwrap();
    assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
    // A process that died while it wrote.
    std::fs::write(draft(&path), "thr").unwrap();
    assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
    remove(&path).unwrap();
    remove(&path).unwrap();
    assert_eq!(
        std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
        0
    );
}

#[test]
fn files_are_told_apart_by_their_marks() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(all(&directory.path().join("missing")).unwrap(), []);
    let path = file(directory.path(), &attachment("eth0"));
    write(&path, &full().to_json()).unwrap();
    std::fs::write(directory.path().join("c9_eth0.json"), "{\"mtu\": 1500}").unwrap();
    std::fs::write(directory.path().join("c8_eth0.json"), "").unwrap();
    let mark = attachment("eth0").mark();
    assert_eq!(all(directory.path()).unwrap(), [(path, mark)]);
}

#[test]
fn names_of_files_are_the_references_as_long_as_they_fit() {
    let directory = Path::new("/d");
    let name = |attachment: &Attachment| file(directory, attachment).display().to_string();
    assert_eq!(name(&attachment("eth0")), "/d/c1_eth0.json");
    let mut long = attachment("eth0");
    long.container = "x".repeat(300).parse().unwrap();
    assert!(name(&long).len() < 255);
}
