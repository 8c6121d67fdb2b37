//! `node-agent`: see the library, and `--help`.

use std::env;
use std::io::Write as _;
use std::process::ExitCode;

use cni_core::{Error, ErrorKind};
use node_agent::args::{Args, HELP};
use node_agent::run::{Done, Manager, run};

fn main() -> ExitCode {
    let done = match Args::parse(env::args().skip(1)) {
        Ok(None) => Ok(Done {
            text: HELP.to_owned(),
            complete: true,
        }),
        Ok(Some(args)) => start(args).map_err(|error| error.chain()),
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

fn start(args: Args) -> cni_core::Result<Done> {
    let invalid = |error| Error::new(ErrorKind::InvalidConfig, format!("--log: {error}"));
    cni_core::log::init_daemon(args.log.as_deref()).map_err(invalid)?;
    let manager = Manager {
        socket: env::var_os("NOTIFY_SOCKET"),
        watchdog_usec: env::var("WATCHDOG_USEC").ok(),
        watchdog_pid: env::var("WATCHDOG_PID").ok(),
    };
    // One thread: the kernel answers within the call, and there is one writer.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::Io, "could not start the event loop").with_source(error)
        })?;
    runtime.block_on(run(args, &manager))
}
