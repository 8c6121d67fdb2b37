//! Orders, and the service manager's patience.

use std::os::unix::net::UnixDatagram;

use super::*;
use crate::notify::Environment;

#[tokio::test(start_paused = true)]
async fn a_broken_configuration_changes_nothing_and_a_stop_ends_the_loop() {
    let mut stage = Stage::settled(Duration::ZERO).await;
    stage.orders.send(Order::Reload).unwrap();
    assert!(stage.idle_for(SWEEP / 2).await);
    stage.orders.send(Order::Stop).unwrap();
    advance(MS).await;
    stage.task.await.unwrap();
    assert!(stage.work.try_recv().is_err(), "stopping changes nothing");
    assert!(stage.directory.path().join("167/state.json").exists());
}

/// A service manager that wants to hear of progress every twenty seconds.
fn manager(directory: &std::path::Path) -> (UnixDatagram, Notify) {
    let path = directory.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let notify = Notify::new(&Environment {
        socket: Some(path.as_os_str()),
        watchdog_usec: Some("20000000"),
        watchdog_pid: None,
    });
    (socket, notify.unwrap())
}

/// How often it has heard of progress since it was asked last.
fn beats(socket: &UnixDatagram) -> usize {
    let mut buffer = [0; 256];
    let messages = std::iter::from_fn(|| {
        let length = socket.recv(&mut buffer).ok()?;
        Some(buffer[..length] == *b"WATCHDOG=1")
    });
    messages.filter(|beat| *beat).count()
}

#[tokio::test(start_paused = true)]
async fn while_a_step_waits_for_others_progress_is_told_for_a_minute_and_a_stop_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, notify) = manager(directory.path());
    let mut stage = Stage::with(60 * SWEEP, notify);
    stage.peer(PeerEvent::Reset(vec![node(0), node(1)]));
    stage.peer(PeerEvent::InSync);
    assert_eq!(stage.next().await, (Duration::ZERO, full(1)));
    beats(&socket);
    sleep(Duration::from_secs(59)).await;
    assert_eq!(beats(&socket), 5, "one every ten seconds");
    assert!(stage.status.lock().is_alive(Instant::now()));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(beats(&socket), 0, "it is stuck");
    assert!(!stage.status.lock().is_alive(Instant::now()));
    stage.orders.send(Order::Stop).unwrap();
    stage.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_configuration_is_read_again_when_the_step_has_ended() {
    let mut stage = Stage::new(10 * MS);
    stage.peer(PeerEvent::Reset(vec![node(0), node(1)]));
    stage.peer(PeerEvent::InSync);
    stage.next().await;
    stage.orders.send(Order::Reload).unwrap();
    sleep(9 * MS).await;
    assert_eq!(stage.reloads.0.load(Ordering::Relaxed), 0);
    sleep(2 * MS).await;
    assert_eq!(stage.reloads.0.load(Ordering::Relaxed), 1);
}
