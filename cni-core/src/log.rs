//! The log of a plugin binary: off unless the environment asks for it, and never on stdout, which is the runtime's.
//!
//! | variable | meaning |
//! |---|---|
//! | `CNI_LOG` | `error`, `warn`, `info`, `debug` or `trace`; unset or anything else: no log |
//! | `CNI_LOG_FORMAT` | `text` (default) or `json`: one object a line, the request's network, container and interface in the first of its `spans` |
//! | `CNI_LOG_FILE` | path of a file to append to, mode 0600 when it is made; unset: stderr, which most runtimes show only on failure |

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Starts the log as the environment asks for it. Without `CNI_LOG` it costs one look at the environment.
///
/// A log file that cannot be opened is said once on stderr, and the log goes there: a full disk must not keep pods from
/// being attached.
pub fn init() {
    let Some(level) = std::env::var_os("CNI_LOG").and_then(|value| level(value.to_str()?)) else {
        return;
    };
    let json = std::env::var_os("CNI_LOG_FORMAT").is_some_and(|format| format == "json");
    let writer = match std::env::var_os("CNI_LOG_FILE").filter(|path| !path.is_empty()) {
        None => BoxMakeWriter::new(io::stderr),
        Some(path) => match open(&path) {
            Ok(file) => BoxMakeWriter::new(Arc::new(file)),
            Err(error) => {
                eprintln!(
                    "could not open CNI_LOG_FILE {}: {error}",
                    path.to_string_lossy()
                );
                BoxMakeWriter::new(io::stderr)
            }
        },
    };
    start(level, json, writer);
}

fn start(
    level: LevelFilter,
    json: bool,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) {
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(writer);
    // A log that somebody else has started already stays.
    if json {
        let _ = tracing::subscriber::set_global_default(
            log.json()
                .with_current_span(false)
                .with_span_list(true)
                .flatten_event(true)
                .finish(),
        );
    } else {
        let _ = tracing::subscriber::set_global_default(log.finish());
    }
}

fn level(text: &str) -> Option<LevelFilter> {
    Some(match text.to_ascii_lowercase().as_str() {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

/// Appends with `O_APPEND`: lines of concurrent plugins do not overwrite each other.
fn open(path: &std::ffi::OsStr) -> io::Result<File> {
    File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}
