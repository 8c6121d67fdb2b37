//! The log of a binary, never on stdout: off unless the environment asks for it in a plugin ([`init`]), on in a daemon
//! ([`init_daemon`]).
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
    start(level, json_is_asked_for(), writer());
}

/// Starts the log of a daemon: at `info` as text, unless the environment says otherwise, or `words` do, which are
/// `LEVEL` or `LEVEL/FORMAT` as in the variables.
///
/// # Errors
/// A sentence that names the word and the rule.
pub fn init_daemon(words: Option<&str>) -> Result<(), String> {
    let asked = std::env::var("CNI_LOG").ok();
    let (level, json) = daemon(words.or(asked.as_deref()).unwrap_or("info"))?;
    start(level, json.unwrap_or_else(json_is_asked_for), writer());
    Ok(())
}

/// Level and, where it is given, whether the format is JSON.
fn daemon(words: &str) -> Result<(LevelFilter, Option<bool>), String> {
    let (text, format) = match words.split_once('/') {
        None => (words, None),
        Some((level, format)) => (level, Some(format)),
    };
    let json = match format {
        None => None,
        Some("json") => Some(true),
        Some("text") => Some(false),
        Some(other) => return Err(format!("{other:?} is no log format: text or json")),
    };
    let level = level(text)
        .ok_or_else(|| format!("{text:?} is no log level: error, warn, info, debug or trace"))?;
    Ok((level, json))
}

fn json_is_asked_for() -> bool {
    std::env::var_os("CNI_LOG_FORMAT").is_some_and(|format| format == "json")
}

/// Where the lines go.
fn writer() -> BoxMakeWriter {
    match std::env::var_os("CNI_LOG_FILE").filter(|path| !path.is_empty()) {
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
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_told_level_and_format_and_says_what_it_does_not_know() {
        assert_eq!(daemon("info"), Ok((LevelFilter::INFO, None)));
        assert_eq!(daemon("debug/json"), Ok((LevelFilter::DEBUG, Some(true))));
        assert_eq!(daemon("warn/text"), Ok((LevelFilter::WARN, Some(false))));
        assert!(
            daemon("loud")
                .unwrap_err()
                .contains("\"loud\" is no log level")
        );
        assert!(
            daemon("info/xml")
                .unwrap_err()
                .contains("\"xml\" is no log format")
        );
    }
}
