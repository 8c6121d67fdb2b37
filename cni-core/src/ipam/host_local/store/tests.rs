use std::cell::Cell;

use super::*;
use crate::spec::NetworkName;

thread_local! {
    static WALKS: Cell<usize> = const { Cell::new(0) };
}

/// Called for each walk of a directory.
pub(super) fn count_walk() {
    WALKS.set(WALKS.get() + 1);
}

fn walks_of(run: impl FnOnce()) -> usize {
    let before = WALKS.get();
    run();
    WALKS.get() - before
}

fn store(dir: &Path) -> Store {
    let network: NetworkName = "net".parse().unwrap();
    Store::new(dir, &network)
}

fn ip(n: u32) -> IpAddr {
    IpAddr::from((0x0a01_0000 + n).to_be_bytes())
}

fn add(store: &Store, owner: &str) -> IpAddr {
    let mut locked = store.create(&Cancel::new()).unwrap();
    assert!(locked.held(owner).unwrap().is_empty());
    let last = locked.last_reserved(0);
    let from = last.map_or(2, |last| {
        crate::ipam::ranges::number(last) - 0x0a01_0000 + 1
    });
    let free = locked.next_free(true, 0x0a01_0000 + from, 0x0a01_ffff);
    let free = crate::ipam::ranges::address(true, free.unwrap().unwrap());
    assert!(locked.reserve(free, owner).unwrap());
    locked.set_last_reserved(0, free);
    locked.finish();
    free
}

fn del(store: &Store, owner: &str) -> usize {
    let mut locked = store.change(&Cancel::new()).unwrap().unwrap();
    let held = locked.held(owner).unwrap();
    for ip in &held {
        locked.release(*ip, owner).unwrap();
    }
    locked.finish();
    held.len()
}

#[test]
fn the_directory_is_walked_once_however_many_reservations_are_added_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    fs::create_dir(store.dir()).unwrap();
    for n in 2..3000 {
        fs::write(store.path(ip(n)), format!("c{n}\r\neth0")).unwrap();
    }
    let first = walks_of(|| assert_eq!(add(&store, "new\r\neth0"), ip(3000)));
    assert_eq!(first, 1, "the first writer makes the index");
    let later = walks_of(|| {
        for n in 0..3000 {
            let owner = format!("n{n}\r\neth0");
            assert_eq!(add(&store, &owner), ip(3001 + n));
            assert_eq!(del(&store, &owner), 1);
        }
        assert_eq!(del(&store, "c77\r\neth0"), 1);
        assert_eq!(del(&store, "never\r\neth0"), 0);
        let mut locked = store.read(&Cancel::new()).unwrap().unwrap();
        assert_eq!(locked.held("c78\r\neth0").unwrap(), [ip(78)]);
        assert_eq!(locked.count(true, 0x0a01_0000, 0x0a01_ffff).unwrap(), 2998);
    });
    assert_eq!(later, 0);
    let other = walks_of(|| {
        // Somebody else's change.
        fs::remove_file(store.path(ip(90))).unwrap();
        assert_eq!(del(&store, "c90\r\neth0"), 0);
        assert_eq!(del(&store, "c91\r\neth0"), 1);
    });
    assert_eq!(other, 1);
}

#[test]
fn a_record_written_without_the_lock_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    add(&store, "a\r\neth0");
    let mut locked = store.create(&Cancel::new()).unwrap();
    fs::write(store.path(ip(3)), "sneaked\r\neth0").unwrap();
    assert!(!locked.reserve(ip(3), "b\r\neth0").unwrap());
    locked.note_taken(ip(3));
    assert_eq!(
        locked.next_free(true, 0x0a01_0002, 0x0a01_0009).unwrap(),
        Some(0x0a01_0004)
    );
    assert!(locked.reserve(ip(4), "b\r\neth0").unwrap());
    locked.finish();
    assert_eq!(del(&store, "sneaked\r\neth0"), 1);
    assert_eq!(del(&store, "b\r\neth0"), 1);
}

#[test]
fn what_is_no_file_is_nobodys_and_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    add(&store, "a\r\neth0");
    fs::create_dir(store.path(ip(3))).unwrap();
    assert_eq!(add(&store, "b\r\neth0"), ip(4));
    let mut locked = store.change(&Cancel::new()).unwrap().unwrap();
    assert!(!locked.reserve(ip(3), "c\r\neth0").unwrap());
    locked.sweep(|_| false).unwrap();
    locked.finish();
    assert!(store.path(ip(3)).is_dir());
    assert!(!store.path(ip(2)).exists() && !store.path(ip(4)).exists());
}
