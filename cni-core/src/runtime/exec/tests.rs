use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn script(dir: &Path, name: &str, body: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn run(body: &str, stdin: &[u8]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut invocation = Invocation::new(script(dir.path(), "p", body))
        .env("A", "1")
        .env("A", "2");
    invocation.stdin = stdin.to_vec();
    invocation.stderr = Stderr::Capture;
    invocation.run().unwrap()
}

#[test]
fn a_plugin_gets_stdin_and_the_given_environment_only() {
    let output = run(
        "/bin/cat; echo \"$A $HOME\"; echo oops >&2; exit 3",
        b"in\n",
    );
    assert_eq!(output.stdout, b"in\n2 \n");
    assert_eq!(output.stderr, b"oops\n");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_plugin_that_does_not_read_its_stdin_may_answer() {
    let output = run("echo done", &vec![b'x'; 1 << 20]);
    assert_eq!(output.stdout, b"done\n");
}

#[test]
fn a_cancelled_plugin_is_stopped_with_all_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let mut invocation = Invocation::new(script(
        dir.path(),
        "p",
        "trap '' TERM; /bin/sleep 120 & wait; /bin/sleep 120",
    ));
    invocation.grace = Duration::from_millis(50);
    invocation.cancel = Cancel::new().with_deadline(Instant::now() + Duration::from_millis(50));
    let since = Instant::now();
    let error = invocation.run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain);
    assert!(
        since.elapsed() < Duration::from_secs(100),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn a_process_left_behind_that_holds_stdout_does_not_hold_us() {
    let since = Instant::now();
    let output = run("/bin/sleep 120 & echo $!", b"");
    assert!(since.elapsed() < Duration::from_secs(100));
    let pid: i32 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn what_was_written_before_the_end_is_not_lost_when_it_is_read_late() {
    let mut child = Command::new("/bin/sh")
        .args([
            "-c",
            "/bin/sleep 120 & echo $!; /usr/bin/head -c 3000 /dev/zero",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pipe = Pipe::of(child.stdout.take()).unwrap();
    let (sender, end) = mpsc::channel();
    sender.send(child.wait()).unwrap();
    // As one that was held up: it has ended, the time is over, and somebody else holds the pipe.
    let running = Running {
        program: Path::new("sh"),
        group: Pid::from_raw(i32::MAX),
        end,
        pipes: [pipe, Pipe::default()],
        drain_for: Duration::ZERO,
    };
    let output = running.collect(&Cancel::new(), Duration::ZERO, Ok(()));
    let stdout = output.unwrap().stdout;
    let (pid, zeros) = stdout.split_at(stdout.len() - 3000);
    assert!(zeros.iter().all(|byte| *byte == 0));
    let pid: i32 = String::from_utf8_lossy(pid).trim().parse().unwrap();
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn a_program_file_that_is_being_written_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    fs::copy("/bin/true", &path).unwrap();
    let writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| Invocation::new(&path).run());
        // Whichever comes first: the file is free within the time that it is tried again.
        thread::yield_now();
        drop(writer);
        assert!(running.join().unwrap().unwrap().status.success());
    });
}

#[test]
fn names_are_found_in_the_order_of_the_path_and_separators_are_refused() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(first.path().join("p")).unwrap();
    let wanted = script(second.path(), "p", "");
    let path = [
        PathBuf::new(),
        first.path().to_owned(),
        second.path().to_owned(),
    ];
    assert_eq!(find("p", &path).unwrap(), wanted);
    for name in ["../p", "a/p", "", "..", "q"] {
        assert_eq!(
            find(name, &path).unwrap_err().kind(),
            ErrorKind::InvalidConfig,
            "{name}"
        );
    }
}

#[test]
fn a_program_that_cannot_be_started_is_an_error_with_its_path() {
    let error = Invocation::new("/nonexistent/p").run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.chain().contains("/nonexistent/p"));
}

#[test]
fn waiting_for_a_program_file_that_is_being_written_can_be_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    fs::copy("/bin/true", &path).unwrap();
    let writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let mut invocation = Invocation::new(&path);
    invocation.cancel = Cancel::new().with_deadline(Instant::now());
    // Not an error of the file: it is busy, and waited for.
    let error = invocation.run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{}", error.chain());
    drop(writer);
}
