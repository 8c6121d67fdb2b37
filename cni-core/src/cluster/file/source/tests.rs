use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Threads of this name are counted by some tests, which therefore are alone.
pub(super) static THREADS: RwLock<()> = RwLock::new(());

/// A directory, and a source of a file in it.
struct Scene {
    directory: TempDir,
    source: FileSource,
    _others: Option<RwLockReadGuard<'static, ()>>,
}

impl Scene {
    /// A source of this file, which need not exist.
    fn of(name: &str, prepare: impl FnOnce(&Path)) -> Self {
        let others = THREADS.read().unwrap_or_else(PoisonError::into_inner);
        Self {
            _others: Some(others),
            ..Self::alone(name, prepare)
        }
    }

    fn alone(name: &str, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let source = FileSource::new(&directory.path().join(name)).unwrap();
        Self {
            directory,
            source,
            _others: None,
        }
    }

    /// A source of a file in which these nodes are, and that has told of them.
    async fn with(nodes: &str) -> Self {
        let mut scene = Self::of("cluster.json", |directory| {
            fs::write(directory.join("cluster.json"), text(nodes)).unwrap();
        });
        scene.tells(nodes).await;
        scene
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, nodes: &str) {
        fs::write(self.at(name), text(nodes)).unwrap();
    }

    async fn next(&mut self) -> PeerEvent {
        let event = timeout(Duration::from_secs(20), self.source.next()).await;
        event.expect("an event in time")
    }

    /// The next two events: these nodes, and that they are all.
    async fn tells(&mut self, nodes: &str) {
        assert_eq!(names(self.next().await), nodes);
        assert_eq!(self.next().await, PeerEvent::InSync);
    }

    /// Whatever is told before: these nodes in the end.
    async fn tells_at_last(&mut self, nodes: &str) {
        loop {
            let event = self.next().await;
            if matches!(event, PeerEvent::Reset(_)) && names(event) == nodes {
                assert_eq!(self.next().await, PeerEvent::InSync);
                return;
            }
        }
    }

    async fn is_away(&mut self) {
        let event = self.next().await;
        assert!(matches!(event, PeerEvent::Disconnected(_)), "{event:?}");
    }

    async fn tells_nothing(&mut self) {
        let event = timeout(Duration::from_millis(50), self.source.next()).await;
        assert!(event.is_err(), "{event:?}");
    }
}

/// A file with these nodes, by their numbers.
fn text(nodes: &str) -> String {
    let nodes: Vec<String> = nodes
        .split_whitespace()
        .map(|n| {
            format!(r#"{{"name": "{n}", "podPrefixes": ["10.0.{n}.0/24"], "addresses": ["192.0.2.{n}"]}}"#)
        })
        .collect();
    format!(
        "{{\"clusterPrefixes\": [\"10.0.0.0/16\"],\n\"nodes\": [\n{}\n]}}\n",
        nodes.join(",\n")
    )
}

fn names(event: PeerEvent) -> String {
    match event {
        PeerEvent::Reset(nodes) => {
            let names: Vec<&str> = nodes.iter().map(|node| &*node.name).collect();
            names.join(" ")
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn the_file_is_read_with_the_first_call_and_followed_when_it_is_written_in_place() {
    let mut scene = Scene::of("cluster.json", |_| {});
    scene.write("cluster.json", "1 2");
    assert!(scene.source.cluster_prefixes().is_empty());
    scene.tells("1 2").await;
    assert_eq!(
        scene.source.cluster_prefixes(),
        ["10.0.0.0/16".parse::<IpNetwork>().unwrap()]
    );
    scene.write("cluster.json", "1 2 3");
    scene.tells_at_last("1 2 3").await;
    scene.write("cluster.json", "");
    scene.tells_at_last("").await;
}

#[tokio::test]
async fn a_file_that_is_replaced_by_a_rename_is_followed() {
    let mut scene = Scene::with("1").await;
    for nodes in ["1 2", "2", "3 2"] {
        scene.write("new", nodes);
        fs::rename(scene.at("new"), scene.at("cluster.json")).unwrap();
        scene.tells(nodes).await;
    }
    // The replaced ones are not.
    scene.tells_nothing().await;
}

#[tokio::test]
async fn a_config_map_is_followed() {
    let mut scene = Scene::of("cluster.json", |directory| {
        fs::create_dir(directory.join("..1")).unwrap();
        fs::write(directory.join("..1/cluster.json"), text("1")).unwrap();
        symlink("..1", directory.join("..data")).unwrap();
        symlink("..data/cluster.json", directory.join("cluster.json")).unwrap();
    });
    scene.tells("1").await;
    // As kubelet does (pkg/volume/util/atomic_writer.go).
    for (number, nodes) in [(2, "1 2"), (3, "1"), (4, "1 4")] {
        let (old, new) = (format!("..{}", number - 1), format!("..{number}"));
        fs::create_dir(scene.at(&new)).unwrap();
        scene.write(&format!("{new}/cluster.json"), nodes);
        symlink(&new, scene.at("..data_tmp")).unwrap();
        fs::rename(scene.at("..data_tmp"), scene.at("..data")).unwrap();
        fs::remove_dir_all(scene.at(&old)).unwrap();
        scene.tells(nodes).await;
    }
}

#[tokio::test]
async fn every_symlink_on_the_way_may_be_turned() {
    let mut scene = Scene::of("a/cluster.json", |directory| {
        for name in ["b", "c", "d"] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        symlink("b", directory.join("a")).unwrap();
        symlink("../c/link", directory.join("b/cluster.json")).unwrap();
        symlink(directory.join("d/./file"), directory.join("c/link")).unwrap();
        fs::write(directory.join("d/file"), text("1")).unwrap();
    });
    scene.tells("1").await;
    scene.write("d/file", "2");
    scene.tells_at_last("2").await;
    // The last link.
    scene.write("d/other", "3");
    symlink("../d/other", scene.at("c/new")).unwrap();
    fs::rename(scene.at("c/new"), scene.at("c/link")).unwrap();
    scene.tells("3").await;
    // The one in the middle, which is a file now.
    scene.write("b/new", "4");
    fs::rename(scene.at("b/new"), scene.at("b/cluster.json")).unwrap();
    scene.tells("4").await;
    // The directory's.
    scene.write("d/cluster.json", "5");
    symlink("d", scene.at("new")).unwrap();
    fs::rename(scene.at("new"), scene.at("a")).unwrap();
    scene.tells("5").await;
    // What is on the way no more tells nothing.
    scene.write("b/cluster.json", "6");
    scene.write("d/other", "6");
    scene.tells_nothing().await;
}

#[tokio::test]
async fn a_file_that_goes_away_is_followed_until_it_is_there_again() {
    let mut scene = Scene::with("1").await;
    fs::remove_file(scene.at("cluster.json")).unwrap();
    let path = scene.at("cluster.json");
    let expected = format!(
        "could not read the cluster's nodes from {}: No such file or directory (os error 2)",
        path.display()
    );
    assert_eq!(scene.next().await, PeerEvent::Disconnected(expected));
    scene.tells_nothing().await;
    scene.write("new", "1");
    fs::rename(scene.at("new"), &path).unwrap();
    // It is what it was: there is no need to say what.
    assert_eq!(scene.next().await, PeerEvent::InSync);
    fs::rename(&path, scene.at("away")).unwrap();
    scene.is_away().await;
    scene.write("cluster.json", "2");
    scene.tells_at_last("2").await;
}

#[tokio::test]
async fn neither_the_file_nor_its_directories_need_exist() {
    let mut scene = Scene::of("a/b/cluster.json", |_| {});
    scene.is_away().await;
    fs::create_dir_all(scene.at("a/b")).unwrap();
    scene.write("a/b/cluster.json", "1");
    scene.tells_at_last("1").await;
    fs::remove_dir_all(scene.at("a")).unwrap();
    scene.is_away().await;
    fs::create_dir(scene.at("a")).unwrap();
    scene.tells_nothing().await;
    // A symlink before what it leads to.
    symlink("../c", scene.at("a/b")).unwrap();
    scene.tells_nothing().await;
    fs::create_dir(scene.at("new")).unwrap();
    scene.write("new/cluster.json", "2");
    fs::rename(scene.at("new"), scene.at("c")).unwrap();
    scene.tells("2").await;
}

#[tokio::test]
async fn directories_above_may_be_replaced() {
    let mut scene = Scene::of("a/b/cluster.json", |directory| {
        for (name, nodes) in [("a", "1"), ("other", "2")] {
            fs::create_dir_all(directory.join(name).join("b")).unwrap();
            fs::write(directory.join(name).join("b/cluster.json"), text(nodes)).unwrap();
        }
    });
    scene.tells("1").await;
    fs::rename(scene.at("a"), scene.at("old")).unwrap();
    scene.is_away().await;
    fs::rename(scene.at("other"), scene.at("a")).unwrap();
    scene.tells("2").await;
    scene.write("old/b/cluster.json", "3");
    scene.tells_nothing().await;
    scene.write("a/b/cluster.json", "4");
    scene.tells_at_last("4").await;
}

#[tokio::test]
async fn what_stands_in_the_files_place_is_told() {
    let mut scene = Scene::of("cluster.json", |directory| {
        fs::create_dir(directory.join("cluster.json")).unwrap();
    });
    let event = scene.next().await;
    let PeerEvent::Disconnected(reason) = event else {
        panic!("{event:?}");
    };
    assert!(reason.ends_with("it is no regular file"), "{reason}");
    fs::remove_dir(scene.at("cluster.json")).unwrap();
    scene.is_away().await;
    symlink("cluster.json", scene.at("cluster.json")).unwrap();
    let PeerEvent::Disconnected(reason) = scene.next().await else {
        panic!("a loop of links is a file");
    };
    assert!(reason.contains("symbolic links"), "{reason}");
    scene.write("new", "1");
    fs::rename(scene.at("new"), scene.at("cluster.json")).unwrap();
    scene.tells("1").await;
}

#[tokio::test]
async fn a_broken_file_is_rejected_with_its_place_and_told_anew_when_it_is_mended() {
    let mut scene = Scene::with("1 2").await;
    let broken = text("1 2").replace("10.0.2.0/24", "10.0.2.0/40");
    fs::write(scene.at("new"), &broken).unwrap();
    fs::rename(scene.at("new"), scene.at("cluster.json")).unwrap();
    let event = scene.next().await;
    let PeerEvent::Rejected(sentence) = &event else {
        panic!("{event:?}");
    };
    let place = format!(
        "{}: line 4, column 31: node `2`: `podPrefixes[0]` is \"10.0.2.0/40\"",
        scene.at("cluster.json").display()
    );
    assert!(sentence.starts_with(&place), "{sentence}");
    assert_eq!(scene.source.cluster_prefixes().len(), 1);
    // Gone, and broken as before: no longer away, and still to be mended.
    fs::rename(scene.at("cluster.json"), scene.at("away")).unwrap();
    scene.is_away().await;
    fs::rename(scene.at("away"), scene.at("cluster.json")).unwrap();
    assert_eq!(scene.next().await, event);
    scene.tells_nothing().await;
    // What was in force before the slip is told again: only that says that it was mended.
    scene.write("new", "1 2");
    fs::rename(scene.at("new"), scene.at("cluster.json")).unwrap();
    scene.tells("1 2").await;
}

#[tokio::test]
async fn a_file_that_says_what_it_said_tells_nothing() {
    let mut scene = Scene::with("1").await;
    scene.write("new", "1");
    fs::rename(scene.at("new"), scene.at("cluster.json")).unwrap();
    scene.tells_nothing().await;
    // Written over, byte by byte the same, without a moment in which it is shorter.
    let mut file = File::options()
        .write(true)
        .open(scene.at("cluster.json"))
        .unwrap();
    file.write_all(text("1").as_bytes()).unwrap();
    drop(file);
    let file = File::open(scene.at("cluster.json")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    scene.tells_nothing().await;
    scene.write("beside", "2");
    scene.tells_nothing().await;
}

#[tokio::test]
async fn a_writer_that_does_not_close_is_heard_when_it_has_been_quiet() {
    let mut scene = Scene::with("1").await;
    let whole = text("1 2");
    let (first, second) = whole.split_at(whole.len() / 2);
    let mut file = File::create(scene.at("cluster.json")).unwrap();
    file.write_all(first.as_bytes()).unwrap();
    // What worked stays in force.
    let mut event = scene.next().await;
    assert!(matches!(event, PeerEvent::Rejected(_)), "{event:?}");
    file.write_all(second.as_bytes()).unwrap();
    // Once for the empty file and once for the half, where the writer was held up between them.
    while matches!(event, PeerEvent::Rejected(_)) {
        event = scene.next().await;
    }
    assert_eq!(names(event), "1 2");
    assert_eq!(scene.next().await, PeerEvent::InSync);
    drop(file);
    scene.tells_nothing().await;
}

#[tokio::test]
async fn another_name_of_the_file_is_as_good_as_its_own() {
    let mut scene = Scene::with("1").await;
    fs::hard_link(scene.at("cluster.json"), scene.at("other")).unwrap();
    scene.write("other", "2");
    scene.tells_at_last("2").await;
}

#[tokio::test]
async fn of_many_changes_the_last_is_in_force() {
    let mut scene = Scene::with("1").await;
    for round in 0..200 {
        scene.write("new", &format!("1 {}", 2 + round));
        fs::rename(scene.at("new"), scene.at("cluster.json")).unwrap();
        if round % 20 == 0 {
            // A call that is given up.
            let _event = timeout(Duration::from_micros(round), scene.source.next()).await;
        }
    }
    scene.tells_at_last("1 201").await;
    scene.tells_nothing().await;
}

/// Within 50 ms, on a machine that has other work too: in one of some tries. A sweep is a second after whatever came before it,
/// at the earliest.
#[tokio::test]
async fn a_change_is_told_by_its_event_and_not_by_the_sweep() {
    let mut scene = Scene::with("1").await;
    let limit = Duration::from_millis(50);
    let begin = Instant::now();
    let mut quickest = [Duration::MAX; 2];
    for round in (0..100).cycle() {
        if quickest.iter().all(|time| *time < limit) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{quickest:?}");
        let nodes = format!("1 {}", 2 + 2 * round);
        let start = Instant::now();
        scene.write("cluster.json", &nodes);
        scene.tells_at_last(&nodes).await;
        quickest[0] = quickest[0].min(start.elapsed());
        let nodes = format!("1 {}", 3 + 2 * round);
        scene.write("new", &nodes);
        let start = Instant::now();
        fs::rename(scene.at("new"), scene.at("cluster.json")).unwrap();
        scene.tells(&nodes).await;
        quickest[1] = quickest[1].min(start.elapsed());
    }
}

#[test]
fn the_thread_sleeps_while_nothing_happens_and_ends_with_the_source() {
    let _alone = THREADS.write().unwrap_or_else(PoisonError::into_inner);
    // Those of tests that have ended just now.
    while !threads().is_empty() {
        std::thread::yield_now();
    }
    let mut scene = Scene::alone("a/cluster.json", |directory| {
        fs::create_dir(directory.join("a")).unwrap();
        fs::write(directory.join("a/cluster.json"), text("1")).unwrap();
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        scene.tells("1").await;
        scene.tells_nothing().await;
    });
    let [thread] = threads().try_into().expect("one thread");
    let switches = || {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let quiet = || {
        let before = switches();
        // What happens in directories above is no concern of it.
        scene.write("beside", "1");
        fs::remove_file(scene.at("beside")).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        switches() == before
    };
    // The sweep, and what the kernel is late with, may come in some.
    assert!((0..20).any(|_| quiet()), "{:?}", switches());
    drop(scene);
    while !threads().is_empty() {
        std::thread::yield_now();
    }
}

/// The threads that watch files, by their directories in `/proc`.
fn threads() -> Vec<PathBuf> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let paths = tasks.map(|task| task.unwrap().path());
    let named = |path: &PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "file-watch")
    };
    paths.filter(named).collect()
}
