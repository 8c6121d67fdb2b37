//! The real process: its environment, its three streams, its signals.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};

use super::Plugin;
use super::connect;
use super::dispatch::{Call, Service, dispatch};
use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind, Result};

/// Serves this process's one request.
pub(super) fn run(plugin: &Plugin, service: &Service<'_>) -> ExitCode {
    #[cfg(feature = "log")]
    crate::log::init();
    let mut stdout = match unbuffered_stdout() {
        Ok(stdout) => stdout,
        Err(error) => {
            eprintln!("{}: could not use stdout: {error}", plugin.name());
            return ExitCode::FAILURE;
        }
    };
    let status = dispatch(
        plugin,
        service,
        Call {
            env: &|name| std::env::var_os(name),
            stdin: Box::new(Stdin),
            stdout: &mut stdout,
            stderr: &mut io::stderr(),
            host: &connect::host,
            ipam: &connect::ipam,
            cancel: &on_signal,
        },
    );
    ExitCode::from(status)
}

/// SIGTERM and SIGINT ask a running request to stop; it unwinds between two steps. A second SIGINT, from somebody at a
/// terminal, ends the process.
///
/// They are taken over only now, after stdin was read: a plugin that still waits for its input dies of them as usual.
fn on_signal() -> Result<Cancel> {
    let flag = Arc::new(AtomicBool::new(false));
    let install = || -> io::Result<()> {
        signal_hook::flag::register_conditional_shutdown(SIGINT, 1, Arc::clone(&flag))?;
        signal_hook::flag::register(SIGINT, Arc::clone(&flag))?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&flag))?;
        Ok(())
    };
    install().map_err(|error| {
        Error::new(
            ErrorKind::Io,
            "could not install the handlers of SIGTERM and SIGINT",
        )
        .with_source(error)
    })?;
    Ok(Cancel::from_flag(flag))
}

/// Stdin that is locked for one read at a time, so that it can be read from another thread.
struct Stdin;

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        io::stdin().lock().read(buffer)
    }
}

/// Stdout without the standard library's line buffer, so that a document is one `write(2)` and an error of it is seen.
fn unbuffered_stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}
