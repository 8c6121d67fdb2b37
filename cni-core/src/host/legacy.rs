//! The tables of `iptables-legacy`, which a host may have beside nftables'. They have no netlink interface, and the
//! binary one is the program's: so the program is run, and only where there is such a table.

use std::fmt;

use async_trait::async_trait;

use super::firewall::Family;
use crate::error::Result;

/// A rule of ours in a chain of the table `filter`: accepts packets that bear these bits in their mark.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegacyRule {
    /// [`Family::Ip`] or [`Family::Ip6`].
    pub family: Family,
    /// Chain.
    pub chain: String,
    /// Bits of the mark.
    pub mark: u32,
    /// Comment: whose the rule is.
    pub comment: String,
}

/// A change to the table `filter`. `Display` is the command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LegacyChange {
    /// Inserts the rule at the head of its chain. `iptables-legacy -I`.
    Insert(LegacyRule),
    /// Deletes the rule; nothing happens where it is not there. `iptables-legacy -D`.
    Delete(LegacyRule),
}

/// The legacy tables of one network namespace.
#[async_trait]
pub trait LegacyTables: Send + Sync + fmt::Debug {
    /// Whether the rule is there; `None` where the namespace has no legacy table `filter` of the family. Asking makes none.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where there is such a table and the program cannot be run.
    async fn has(&self, rule: &LegacyRule) -> Result<Option<bool>>;

    /// Makes a change.
    ///
    /// # Errors
    /// As [`LegacyTables::has`], and what the program says.
    async fn apply(&self, change: &LegacyChange) -> Result<()>;
}

impl LegacyRule {
    /// The program's arguments behind the verb.
    pub fn arguments(&self) -> Vec<String> {
        let mark = format!("{0:#x}/{0:#x}", self.mark);
        let words = [
            &self.chain,
            "-m",
            "mark",
            "--mark",
            &mark,
            "-m",
            "comment",
            "--comment",
            &self.comment,
            "-j",
            "ACCEPT",
        ];
        words.map(str::to_owned).into()
    }

    fn command(&self, f: &mut fmt::Formatter<'_>, verb: &str) -> fmt::Result {
        let program = match self.family {
            Family::Ip6 => "ip6tables-legacy",
            _ => "iptables-legacy",
        };
        write!(f, "{program} {verb}")?;
        for word in self.arguments() {
            match word.contains(' ') {
                true => write!(f, " '{word}'")?,
                false => write!(f, " {word}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for LegacyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insert(rule) => rule.command(f, "-I"),
            Self::Delete(rule) => rule.command(f, "-D"),
        }
    }
}

#[cfg(feature = "kernel")]
pub use program::LegacyProgram;

#[cfg(feature = "kernel")]
mod program {
    use std::fs;
    use std::io;
    use std::process::{Command, Output, Stdio};

    use async_trait::async_trait;

    use super::{LegacyChange, LegacyRule, LegacyTables};
    use crate::error::{Error, ErrorKind, Result};
    use crate::host::firewall::Family;

    /// Legacy tables of the network namespace that the calling thread is in, by the program `iptables-legacy`, or an
    /// `iptables` that is no other one's front end.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct LegacyProgram;

    /// Where programs are, beside PATH: a runtime may run plugins without one.
    const DIRECTORIES: [&str; 4] = ["", "/usr/sbin/", "/sbin/", "/usr/local/sbin/"];

    /// Seconds that the program waits for others of its kind (`-w`).
    const WAIT: &str = "5";

    #[async_trait]
    impl LegacyTables for LegacyProgram {
        async fn has(&self, rule: &LegacyRule) -> Result<Option<bool>> {
            if !has_filter(rule.family) {
                return Ok(None);
            }
            // 1 says that the rule is not there; other failures are told as such (`do_parse` in iptables/xshared.c).
            let output = run(rule, "-C")?;
            match output.status.code() {
                Some(0) => Ok(Some(true)),
                Some(1) => Ok(Some(false)),
                _ => Err(failed("-C", rule, &output)),
            }
        }

        async fn apply(&self, change: &LegacyChange) -> Result<()> {
            let (verb, rule) = match change {
                LegacyChange::Insert(rule) => ("-I", rule),
                LegacyChange::Delete(rule) if self.has(rule).await? != Some(true) => return Ok(()),
                LegacyChange::Delete(rule) => ("-D", rule),
            };
            let output = run(rule, verb)?;
            match output.status.success() {
                true => Ok(()),
                false => Err(failed(verb, rule, &output)),
            }
        }
    }

    /// Whether the table is registered in this namespace. The file is the first user namespace's root's: in another one it
    /// cannot be told, because whatever else asks for the table makes it.
    fn has_filter(family: Family) -> bool {
        let name = match family {
            Family::Ip => "ip_tables_names",
            Family::Ip6 => "ip6_tables_names",
            _ => return false,
        };
        let names = fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        if let Err(error) = &names
            && error.kind() == io::ErrorKind::PermissionDenied
        {
            tracing::debug!(%error, name, "whether there are legacy tables is not told");
        }
        names.is_ok_and(|names| names.lines().any(|name| name == "filter"))
    }

    fn run(rule: &LegacyRule, verb: &str) -> Result<Output> {
        let plain = match rule.family {
            Family::Ip6 => "ip6tables",
            _ => "iptables",
        };
        let mut arguments = vec!["-w".to_owned(), WAIT.to_owned(), verb.to_owned()];
        arguments.extend(rule.arguments());
        for name in [format!("{plain}-legacy"), plain.to_owned()] {
            for directory in DIRECTORIES {
                let program = format!("{directory}{name}");
                if name == plain && !is_legacy(&program) {
                    continue;
                }
                match start(&program, &arguments) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        let message = format!("could not run {program}");
                        return Err(Error::new(ErrorKind::Io, message).with_source(error));
                    }
                    Ok(output) => return Ok(output),
                }
            }
        }
        let message = format!(
            "this host has legacy iptables tables, and no program {plain}-legacy to accept pods' packets in them: \
             install it, or remove the tables"
        );
        Err(Error::new(ErrorKind::Io, message))
    }

    fn start(program: &str, arguments: &[String]) -> io::Result<Output> {
        Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
    }

    /// `iptables v1.8.9 (legacy)`, or a version before there was another one. `(nf_tables)` is nftables' front end.
    fn is_legacy(program: &str) -> bool {
        let version = start(program, &["--version".to_owned()]);
        version.is_ok_and(|version| {
            let text = String::from_utf8_lossy(&version.stdout);
            version.status.success() && !text.contains("nf_tables")
        })
    }

    fn failed(verb: &str, rule: &LegacyRule, output: &Output) -> Error {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!(
            "iptables-legacy {verb} {} failed ({}): {}",
            rule.arguments().join(" "),
            output.status,
            said.trim()
        );
        Error::new(ErrorKind::Io, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_prints_as_the_command() {
        let rule = LegacyRule {
            family: Family::Ip6,
            chain: "FORWARD".to_owned(),
            mark: 0x1000,
            comment: "a comment".to_owned(),
        };
        assert_eq!(
            LegacyChange::Insert(rule).to_string(),
            "ip6tables-legacy -I FORWARD -m mark --mark 0x1000/0x1000 -m comment --comment 'a comment' -j ACCEPT"
        );
    }
}
