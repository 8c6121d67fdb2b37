use std::thread;

use super::*;

fn state_dir(directory: &Path, network: &str, protocol: u8) -> StateDir {
    StateDir {
        directory: directory.join(protocol.to_string()),
        network: network.parse().unwrap(),
        protocol,
    }
}

fn state() -> State {
    State {
        node: Some("n1".to_owned()),
        prefixes: vec![
            "10.244.1.0/24".parse().unwrap(),
            "fd00:244:1::/64".parse().unwrap(),
        ],
        confirmed: vec!["10.244.2.0/24".parse().unwrap()],
        mtu: Some(1464),
        device: Some("vxlan.1".to_owned()),
        ready: true,
        expires: Some(Moment::now().unwrap().plus(Duration::from_secs(300))),
        fingerprint: Some(Fingerprint {
            source: "abc".to_owned(),
            links: vec![KnownLink {
                name: "vxlan.1".to_owned(),
                index: 7,
                mtu: 1464,
                up: true,
            }],
        }),
        ..State::new("net".parse().unwrap())
    }
}

#[test]
fn a_state_is_read_as_it_was_written_and_written_only_when_it_says_something_else() {
    let directory = tempfile::tempdir().unwrap();
    let dir = state_dir(directory.path(), "net", 167);
    assert_eq!(dir.read().unwrap(), None);
    let mut state = state();
    assert!(dir.write(&state).unwrap());
    assert!(!dir.write(&state).unwrap());
    assert_eq!(dir.read().unwrap(), Some(state.clone()));
    state.ready = false;
    state.reason = Some("the source is away".to_owned());
    // The leftover of a process that was killed is no hindrance.
    fs::write(dir.path().join(".state.json.new"), "half").unwrap();
    assert!(dir.write(&state).unwrap());
    assert_eq!(dir.read().unwrap(), Some(state));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    dir.remove().unwrap();
    dir.remove().unwrap();
    assert_eq!(dir.read().unwrap(), None);
}

#[test]
fn what_is_no_state_counts_as_none_and_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let dir = state_dir(directory.path(), "net", 167);
    fs::create_dir_all(dir.path()).unwrap();
    let state = state();
    for text in ["", "{}", "{\"network\":\"net\"", "[1]", "\u{0}"] {
        fs::write(dir.file(), text).unwrap();
        assert_eq!(dir.read().unwrap(), None, "{text:?}");
        dir.write(&state).unwrap();
        assert_eq!(dir.read().unwrap(), Some(state.clone()));
    }
}

#[test]
fn a_file_of_an_earlier_version_confirms_the_prefixes_that_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let dir = state_dir(directory.path(), "net", 167);
    let mut state = state();
    dir.write(&state).unwrap();
    let text = fs::read_to_string(dir.file()).unwrap();
    let earlier = text.replace("\"confirmed\":[\"10.244.2.0/24\"],", "");
    assert_ne!(earlier, text);
    fs::write(dir.file(), earlier).unwrap();
    state.confirmed.clone_from(&state.prefixes);
    assert_eq!(dir.read().unwrap(), Some(state));
}

#[test]
fn prefixes_count_until_they_expire() {
    let now = Moment::now().unwrap();
    let mut state = state();
    assert_eq!(state.lapsed(&now), None);
    let words = state.lapsed(&now.plus(Duration::from_secs(310))).unwrap();
    assert!(words.contains("they counted until "), "{words}");
    assert!(words.contains("has not confirmed in time"), "{words}");
    state.expires = None;
    assert_eq!(state.lapsed(&now.plus(Duration::from_secs(310))), None);
}

#[test]
fn a_protocol_number_is_one_networks() {
    let directory = tempfile::tempdir().unwrap();
    state_dir(directory.path(), "net", 167)
        .write(&state())
        .unwrap();
    let other = state_dir(directory.path(), "other", 167);
    let state = State::new("other".parse().unwrap());
    for error in [
        other.read().unwrap_err(),
        other.write(&state).unwrap_err(),
        other.remove().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let text = error.to_string();
        let start = "route protocol 167 is used by network `net`";
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains("set \"routeProtocol\""), "{text}");
    }
    state_dir(directory.path(), "other", 168)
        .write(&state)
        .unwrap();
}

/// Waits until nobody holds the agent's lock: a process that another test has just started has our files until its program
/// begins.
fn until_released(dir: &StateDir) {
    let end = Instant::now() + Duration::from_secs(20);
    while dir.has_agent().unwrap() {
        assert!(Instant::now() < end, "the lock is still held");
        thread::yield_now();
    }
}

/// Takes the agent's lock, which gives up after half a second: a plugin that looks for an agent may be held up while it does.
fn patient_lock(dir: &StateDir) -> AgentLock {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match dir.agent_lock() {
            Ok(lock) => return lock,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

#[test]
fn one_agent_holds_the_lock_of_a_protocol_and_plugins_see_it() {
    let directory = tempfile::tempdir().unwrap();
    let dir = state_dir(directory.path(), "net", 167);
    assert!(!dir.has_agent().unwrap());
    let first = dir.agent_lock().unwrap();
    assert!(dir.has_agent().unwrap());
    let error = dir.agent_lock().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAvailable);
    assert!(error.to_string().contains("route protocol 167"), "{error}");
    state_dir(directory.path(), "net", 168)
        .agent_lock()
        .unwrap();
    drop(first);
    until_released(&dir);
    dir.agent_lock().unwrap();
}

#[test]
fn plugins_that_look_for_an_agent_neither_see_one_another_nor_keep_one_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let dir = state_dir(directory.path(), "net", 167);
    drop(dir.agent_lock().unwrap());
    until_released(&dir);
    let until = Instant::now() + Duration::from_millis(100);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while Instant::now() < until {
                    assert!(!dir.has_agent().unwrap());
                }
            });
        }
    });
    thread::scope(|scope| {
        scope.spawn(|| while !dir.has_agent().unwrap() {});
        let _lock = patient_lock(&dir);
        thread::sleep(Duration::from_millis(5));
    });
}

#[test]
fn a_plugin_waits_for_another_that_brings_the_node_up_to_date_until_its_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let dir = state_dir(directory.path(), "net", 167);
    let held = dir.update_lock(&Cancel::new()).unwrap();
    let soon = Cancel::new().with_deadline(Instant::now() + Duration::from_millis(30));
    assert_eq!(
        dir.update_lock(&soon).unwrap_err().kind(),
        ErrorKind::TryAgain
    );
    thread::scope(|scope| {
        let waiting = scope.spawn(|| dir.update_lock(&Cancel::new()).is_ok());
        drop(held);
        assert!(waiting.join().unwrap());
    });
}

#[test]
fn an_agent_begins_once_the_plugin_that_is_at_work_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let dir = state_dir(directory.path(), "net", 167);
    let held = dir.update_lock(&Cancel::new()).unwrap();
    thread::scope(|scope| {
        let agent = scope.spawn(|| dir.agent_lock().unwrap());
        while !dir.has_agent().unwrap() {}
        assert!(!agent.is_finished(), "the plugin is at work");
        drop(held);
        let _agent = agent.join().unwrap();
    });
}

#[test]
fn trouble_names_peers_and_problems_and_stays_short() {
    let mut state = state();
    assert_eq!(state.trouble(), None);
    state.unreachable = 40;
    state.unreachable_words = vec!["n2: no way".to_owned(); 40];
    state.problems = vec!["a clash".to_owned()];
    let directory = tempfile::tempdir().unwrap();
    let dir = state_dir(directory.path(), "net", 167);
    dir.write(&state).unwrap();
    let trouble = dir.read().unwrap().unwrap().trouble().unwrap();
    assert!(trouble.starts_with("n2: no way; n2: no way"), "{trouble}");
    assert!(
        trouble.ends_with("24 more peers cannot be reached; a clash"),
        "{trouble}"
    );
}

#[test]
fn a_directory_is_dismantled_to_the_last_file_of_ours() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("cni-fabric");
    let dir = state_dir(&root, "net", 167);
    dir.write(&state()).unwrap();
    fs::write(dir.path().join(".state.json.new"), "half").unwrap();
    drop(dir.update_lock(&Cancel::new()).unwrap());
    dir.dismantle(dir.agent_lock().unwrap()).unwrap();
    assert!(!root.exists());
    // Another network's directory is beside, and a file of somebody's in this one.
    state_dir(&root, "other", 168)
        .write(&State::new("other".parse().unwrap()))
        .unwrap();
    dir.dismantle(dir.agent_lock().unwrap()).unwrap();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    dir.write(&state()).unwrap();
    fs::write(dir.path().join("note"), "somebody's").unwrap();
    dir.dismantle(dir.agent_lock().unwrap()).unwrap();
    let left = fs::read_dir(dir.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["note"]);
}

#[test]
fn another_networks_directory_is_not_dismantled() {
    let directory = tempfile::tempdir().unwrap();
    state_dir(directory.path(), "other", 167)
        .write(&State::new("other".parse().unwrap()))
        .unwrap();
    let dir = state_dir(directory.path(), "net", 167);
    let error = dir.dismantle(dir.agent_lock().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(dir.file().exists());
}
