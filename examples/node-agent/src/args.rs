//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What `--help` prints.
pub const HELP: &str = "\
Usage: node-agent --config FILE [OPTION]...

Keeps this node connected with the other nodes of its cluster.

  --config FILE      configuration of the network, .conflist or .conf: the one that its plugin (vxlan, host-gw) has
  --node NAME        which node this is (default: `cluster.node` of the configuration, else the node with the host's name,
                     else the one with one of its addresses)
  --listen ADDRESS   where /healthz, /readyz and /metrics are served, or `none` (default 127.0.0.1:9473)
  --subnet-env FILE  tell Flannel's CNI plugin, too; its default is /run/flannel/subnet.env
  --publish-conflist FILE
                     once this node is connected, put the configuration there, where the container runtime looks for it:
                     no pod is attached before
  --sysctl-dir DIR   where net/ of /proc/sys can be written (default /proc/sys; in a container that is mounted read-only)
  --sweep SECONDS    compare everything this often, whatever happens (default 60)
  --log LEVEL[/FORMAT]
                     error, warn, info, debug or trace; text or json (default: what CNI_LOG and CNI_LOG_FORMAT say,
                     else info/text; CNI_LOG_FILE is heeded)
  --once             bring the node up to date, and end; 1 when something could not be done
  --dry-run          print what --once would do, and change nothing
  --cleanup          remove all that is ours from this node, and nothing else; and this node from etcd, as far as no pod needs
                     what it has there
  --install DIR      put the plugins that lie in `plugins` beside this program into DIR, and end; needs no --config
  --uninstall DIR    remove the file of --publish-conflist, what --cleanup removes, what plugins have left, the state, and
                     from DIR what --install has put there. While pods are attached, what their end needs stays: 1
  --wait             with --uninstall: try until it is done, tell so at --listen (/readyz), and wait to be stopped
";

/// The arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// Path of the network's configuration.
    pub config: PathBuf,
    /// The node's name.
    pub node: Option<String>,
    /// Where to serve HTTP; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Path of the file for Flannel's CNI plugin, where it is wanted.
    pub subnet_env: Option<PathBuf>,
    /// Where the container runtime looks for the network's configuration, if the agent is to put it there.
    pub publish_conflist: Option<PathBuf>,
    /// Where kernel parameters can be written, if not in `/proc/sys`.
    pub sysctl_dir: Option<PathBuf>,
    /// The directory of plugins to install into or to uninstall from.
    pub plugins: PathBuf,
    /// Uninstall until it is done, then wait.
    pub wait: bool,
    /// From one comparison of everything to the next.
    pub sweep: Duration,
    /// Level and format of the log, as given.
    pub log: Option<String>,
    /// What to do.
    pub task: Task,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Keep the node up to date until told to stop.
    Run,
    /// Bring it up to date once.
    Once,
    /// Say what would be done.
    DryRun,
    /// Remove what is ours.
    Cleanup,
    /// Put the plugins in place.
    Install,
    /// Remove what is ours, the plugins and the runtime's configuration included.
    Uninstall,
}

impl Args {
    /// Reads the words after the program's name. `None` when help was asked for.
    ///
    /// # Errors
    /// A sentence that names the word and the rule.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut config = None;
        let mut args = Self::defaults();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or(format!("{word} needs a value\n\n{HELP}"))
            };
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--config" => config = Some(value()?.into()),
                "--node" => args.node = Some(value()?),
                "--listen" => args.listen = listen(&value()?)?,
                "--subnet-env" => args.subnet_env = Some(value()?.into()),
                "--publish-conflist" => args.publish_conflist = Some(value()?.into()),
                "--sysctl-dir" => args.sysctl_dir = Some(value()?.into()),
                "--sweep" => args.sweep = sweep(&value()?)?,
                "--log" => args.log = Some(value()?),
                "--once" => args.be(Task::Once)?,
                "--dry-run" => args.be(Task::DryRun)?,
                "--cleanup" => args.be(Task::Cleanup)?,
                "--install" => {
                    args.plugins = value()?.into();
                    args.be(Task::Install)?;
                }
                "--uninstall" => {
                    args.plugins = value()?.into();
                    args.be(Task::Uninstall)?;
                }
                "--wait" => args.wait = true,
                other => return Err(format!("unknown argument {other}\n\n{HELP}")),
            }
        }
        if args.wait && args.task != Task::Uninstall {
            return Err("--wait is for --uninstall".to_owned());
        }
        match config {
            Some(config) => args.config = config,
            None if args.task == Task::Install => {}
            None => return Err(format!("--config is missing\n\n{HELP}")),
        }
        Ok(Some(args))
    }

    fn defaults() -> Self {
        Self {
            config: PathBuf::new(),
            node: None,
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9473))),
            subnet_env: None,
            publish_conflist: None,
            sysctl_dir: None,
            plugins: PathBuf::new(),
            wait: false,
            sweep: Duration::from_secs(60),
            log: None,
            task: Task::Run,
        }
    }

    fn be(&mut self, task: Task) -> Result<(), String> {
        if self.task != Task::Run && self.task != task {
            return Err(
                "only one of --once, --dry-run, --cleanup, --install and --uninstall can be done"
                    .to_owned(),
            );
        }
        self.task = task;
        Ok(())
    }
}

fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "none" {
        return Ok(None);
    }
    let address = text.parse().map_err(|_| {
        format!(
            "--listen {text}: not an address with a port, such as 127.0.0.1:9473, and not `none`"
        )
    })?;
    Ok(Some(address))
}

fn sweep(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| (1..=86_400).contains(seconds))
        .map(Duration::from_secs)
        .ok_or(format!(
            "--sweep {text}: not a number of seconds from 1 to 86400"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Args>, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn only_the_configuration_has_to_be_given() {
        let args = parse("--config /etc/cni/net.d/10-pods.conflist")
            .unwrap()
            .unwrap();
        assert_eq!(
            args.config,
            PathBuf::from("/etc/cni/net.d/10-pods.conflist")
        );
        assert_eq!(args.listen.unwrap().to_string(), "127.0.0.1:9473");
        assert_eq!(args.sweep, Duration::from_secs(60));
        assert_eq!((args.node, args.subnet_env, args.log), (None, None, None));
        assert_eq!(args.task, Task::Run);
    }

    #[test]
    fn every_option_is_taken() {
        let line = "--config c --node n1 --listen [::1]:80 --subnet-env e --sweep 5 --log debug/json --once";
        let args = parse(line).unwrap().unwrap();
        assert_eq!(args.node.as_deref(), Some("n1"));
        assert_eq!(args.listen.unwrap().to_string(), "[::1]:80");
        assert_eq!(args.subnet_env, Some(PathBuf::from("e")));
        assert_eq!(args.sweep, Duration::from_secs(5));
        assert_eq!(args.log.as_deref(), Some("debug/json"));
        assert_eq!(args.task, Task::Once);
        let line = "--config c --publish-conflist f --sysctl-dir /host/proc/sys --uninstall /opt/cni/bin --wait";
        let args = parse(line).unwrap().unwrap();
        assert_eq!(args.publish_conflist, Some(PathBuf::from("f")));
        assert_eq!(args.sysctl_dir, Some(PathBuf::from("/host/proc/sys")));
        assert_eq!(args.task, Task::Uninstall);
        assert_eq!(args.plugins, PathBuf::from("/opt/cni/bin"));
        assert!(args.wait);
        let args = parse("--install /opt/cni/bin").unwrap().unwrap();
        assert_eq!(args.task, Task::Install);
        assert_eq!(args.plugins, PathBuf::from("/opt/cni/bin"));
        let silent = parse("--config c --listen none").unwrap().unwrap();
        assert_eq!(silent.listen, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            ("", "--config is missing"),
            ("--config", "--config needs a value"),
            ("--config c --verbose", "unknown argument --verbose"),
            ("--config c --listen here", "--listen here"),
            ("--config c --sweep 0", "--sweep 0"),
            ("--config c --sweep often", "--sweep often"),
            ("--config c --once --cleanup", "only one of"),
            ("--config c --install d --cleanup", "only one of"),
            ("--config c --wait", "--wait is for --uninstall"),
            ("--uninstall d", "--config is missing"),
            ("--install", "--install needs a value"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
        assert_eq!(parse("--config c --help"), Ok(None));
    }
}
