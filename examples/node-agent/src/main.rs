//! `node-agent`: see the library, and `--help`.

use std::env;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use cni_core::{Error, ErrorKind};
use node_agent::args::{Args, HELP, Task};
use node_agent::run::{Done, Manager, run};

/// How glibc's allocator gives memory back (`mallopt(3)`): what is larger than 64 KiB at once, and one arena for all
/// threads. Left to itself it keeps more with each large piece that is freed: at 10,000 peers 6 MB, after a comparison that
/// took some milliseconds. It can be told by the environment alone, and before it has begun.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "65536"),
    ("MALLOC_TRIM_THRESHOLD_", "65536"),
    ("MALLOC_ARENA_MAX", "1"),
];

fn main() -> ExitCode {
    let done = match Args::parse(env::args().skip(1)) {
        Ok(None) => Ok(Done {
            text: HELP.to_owned(),
            complete: true,
        }),
        Ok(Some(args)) => {
            if args.task == Task::Run {
                settle_memory();
            }
            start(args).map_err(|error| error.chain())
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(done) => {
            // Whoever closed our stdout does not want to know.
            let _ = std::io::stdout().write_all(done.text.as_bytes());
            match done.complete {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("node-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts this program anew, as the same process, unless the allocator has been told already. Where that is not possible, it
/// goes on as it is.
fn settle_memory() {
    let told = |(name, _): &(&str, &str)| env::var_os(name).is_some();
    if ALLOCATOR.iter().any(told) {
        return;
    }
    if let Ok(program) = env::current_exe() {
        let mut again = Command::new(program);
        let error = again.args(env::args_os().skip(1)).envs(ALLOCATOR).exec();
        eprintln!("node-agent: memory is given back late: {error}");
    }
}

fn start(args: Args) -> cni_core::Result<Done> {
    let invalid = |error| Error::new(ErrorKind::InvalidConfig, format!("--log: {error}"));
    cni_core::log::init_daemon(args.log.as_deref()).map_err(invalid)?;
    let manager = Manager {
        socket: env::var_os("NOTIFY_SOCKET"),
        watchdog_usec: env::var("WATCHDOG_USEC").ok(),
        watchdog_pid: env::var("WATCHDOG_PID").ok(),
    };
    // One thread: the kernel answers within the call, and there is one writer. What waits for other processes waits beside it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Io, "could not start the event loop").with_source(error)
        })?;
    let done = runtime.block_on(run(args, &manager));
    // Who is told to stop does not wait for what blocks beside the loop.
    runtime.shutdown_background();
    done
}
