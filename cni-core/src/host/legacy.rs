//! The tables of `iptables-legacy`, which a host may have beside nftables'. They have no netlink interface, and the
//! binary one is the program's: so the program is run, and only where there is such a table.

use std::fmt;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use super::firewall::Family;
use crate::error::Result;

/// A rule of ours in a chain of the table `filter`: it accepts some packets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegacyRule {
    /// [`Family::Ip`] or [`Family::Ip6`].
    pub family: Family,
    /// Chain.
    pub chain: String,
    /// Which packets it accepts.
    pub accepts: LegacyMatch,
    /// Comment: whose the rule is, and which of them.
    pub comment: String,
}

/// Which packets a rule accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LegacyMatch {
    /// Those that bear these bits in their mark. `-m mark --mark BITS/BITS`
    Mark(u32),
    /// Those from these addresses, of the rule's family. `-s PREFIX`
    Source(IpNetwork),
    /// Those to these addresses, of the rule's family. `-d PREFIX`
    Destination(IpNetwork),
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
    /// The rules of a chain that could be ours, in order: those of the forms that [`LegacyRule`] has, with whatever comment.
    /// `None` where the namespace has no legacy table `filter` of the family. Asking makes none.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where there is such a table and the program cannot be run.
    async fn rules(&self, family: Family, chain: &str) -> Result<Option<Vec<LegacyRule>>>;

    /// Makes a change.
    ///
    /// # Errors
    /// As [`LegacyTables::rules`], and what the program says.
    async fn apply(&self, change: &LegacyChange) -> Result<()>;
}

impl LegacyRule {
    /// The program's arguments behind the verb.
    pub fn arguments(&self) -> Vec<String> {
        let (before, value): (&[&str], String) = match self.accepts {
            LegacyMatch::Mark(bits) => (&["-m", "mark", "--mark"], format!("{bits:#x}/{bits:#x}")),
            LegacyMatch::Source(prefix) => (&["-s"], prefix.to_string()),
            LegacyMatch::Destination(prefix) => (&["-d"], prefix.to_string()),
        };
        let mut words: Vec<&str> = vec![&self.chain];
        words.extend(before);
        words.push(&value);
        words.extend(["-m", "comment", "--comment", &self.comment, "-j", "ACCEPT"]);
        words.into_iter().map(str::to_owned).collect()
    }

    /// What a line of `iptables-legacy -S` says, when it is of one of our forms.
    #[cfg_attr(not(feature = "kernel"), allow(dead_code))]
    fn parse(family: Family, line: &str) -> Option<Self> {
        let (before, quoted) = line.split_once(" -m comment --comment ")?;
        let comment = quoted.strip_suffix(" -j ACCEPT")?;
        let words: Vec<&str> = before.split(' ').collect();
        let (chain, accepts) = match words.as_slice() {
            ["-A", chain, "-m", "mark", "--mark", mark] => {
                let (bits, mask) = mark.split_once('/').unwrap_or((mark, mark));
                let bits = (bits == mask).then_some(bits)?.strip_prefix("0x")?;
                let bits = u32::from_str_radix(bits, 16).ok()?;
                (chain, LegacyMatch::Mark(bits))
            }
            ["-A", chain, "-s", prefix] => (chain, LegacyMatch::Source(prefix.parse().ok()?)),
            ["-A", chain, "-d", prefix] => (chain, LegacyMatch::Destination(prefix.parse().ok()?)),
            _ => return None,
        };
        Some(Self {
            family,
            chain: (*chain).to_owned(),
            accepts,
            comment: comment.trim_matches('"').to_owned(),
        })
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
        async fn rules(&self, family: Family, chain: &str) -> Result<Option<Vec<LegacyRule>>> {
            if !has_filter(family) {
                return Ok(None);
            }
            let arguments = ["-S".to_owned(), chain.to_owned()];
            let output = run(family, &arguments)?;
            if !output.status.success() {
                return Err(failed(&arguments, &output));
            }
            let text = String::from_utf8_lossy(&output.stdout);
            let rules = text
                .lines()
                .filter_map(|line| LegacyRule::parse(family, line));
            Ok(Some(rules.collect()))
        }

        async fn apply(&self, change: &LegacyChange) -> Result<()> {
            let (verb, rule) = match change {
                LegacyChange::Insert(rule) => ("-I", rule),
                LegacyChange::Delete(rule) => {
                    let found = self.rules(rule.family, &rule.chain).await?;
                    if !found.is_some_and(|rules| rules.contains(rule)) {
                        return Ok(());
                    }
                    ("-D", rule)
                }
            };
            let mut arguments = vec![verb.to_owned()];
            arguments.extend(rule.arguments());
            let output = run(rule.family, &arguments)?;
            match output.status.success() {
                true => Ok(()),
                false => Err(failed(&arguments, &output)),
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

    fn run(family: Family, words: &[String]) -> Result<Output> {
        let plain = match family {
            Family::Ip6 => "ip6tables",
            _ => "iptables",
        };
        let mut arguments = vec!["-w".to_owned(), WAIT.to_owned()];
        arguments.extend_from_slice(words);
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

    fn failed(arguments: &[String], output: &Output) -> Error {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!(
            "iptables-legacy {} failed ({}): {}",
            arguments.join(" "),
            output.status,
            said.trim()
        );
        Error::new(ErrorKind::Io, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(accepts: LegacyMatch) -> LegacyRule {
        LegacyRule {
            family: Family::Ip6,
            chain: "FORWARD".to_owned(),
            accepts,
            comment: "a comment".to_owned(),
        }
    }

    #[test]
    fn a_change_prints_as_the_command() {
        assert_eq!(
            LegacyChange::Insert(rule(LegacyMatch::Mark(0x1000))).to_string(),
            "ip6tables-legacy -I FORWARD -m mark --mark 0x1000/0x1000 -m comment --comment 'a comment' -j ACCEPT"
        );
        let prefix = "fd00:1::/64".parse().unwrap();
        assert_eq!(
            LegacyChange::Delete(rule(LegacyMatch::Source(prefix))).to_string(),
            "ip6tables-legacy -D FORWARD -s fd00:1::/64 -m comment --comment 'a comment' -j ACCEPT"
        );
    }

    #[test]
    fn what_the_program_lists_is_read_and_what_is_of_another_form_is_not() {
        let prefix = "fd00:1::/64".parse().unwrap();
        for accepts in [
            LegacyMatch::Mark(0x1000),
            LegacyMatch::Source(prefix),
            LegacyMatch::Destination(prefix),
        ] {
            let rule = rule(accepts);
            let line = format!("-A {}", rule.arguments().join(" "));
            let line = line.replace("a comment", "\"a comment\"");
            assert_eq!(LegacyRule::parse(Family::Ip6, &line), Some(rule), "{line}");
        }
        for line in [
            "-P FORWARD DROP",
            "-A FORWARD -s fd00::/8 -j ACCEPT",
            "-A FORWARD -s fd00::/8 -m comment --comment ours -j DROP",
            "-A FORWARD -s fd00::/8 -d fd00::/8 -m comment --comment ours -j ACCEPT",
            "-A FORWARD -m mark --mark 0x1000/0x3000 -m comment --comment ours -j ACCEPT",
            "-A FORWARD ! -s fd00::/8 -m comment --comment ours -j ACCEPT",
        ] {
            assert_eq!(LegacyRule::parse(Family::Ip6, line), None, "{line}");
        }
    }
}
