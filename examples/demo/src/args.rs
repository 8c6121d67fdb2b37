//! The command line.

use std::path::PathBuf;

use crate::Result;

pub(crate) const HELP: &str = "\
Usage: demo [--pods N] [--svg FILE]
       demo --chain
       demo --nodes N [--backend vxlan|host-gw] [--data-path classic|flow] [--router] [--pods N] [--svg FILE]
       demo --nodes N --source etcd [--backend vxlan|host-gw] [--data-path classic|flow] [--router] [--pods N]

One node, a node with published ports, limits and closed networks, or a cluster:

  --chain          chains of plugins: bridge, portmap, firewall and bandwidth

  --nodes N        a cluster of so many nodes, 2 to 9 (default 3, with any of the options below)
  --backend TYPE   how its nodes are connected: vxlan (an overlay, the default) or host-gw (plain routes)
  --data-path P    with vxlan: classic (as Flannel) or flow (without Ethernet inside); the default is the plugin's choice
  --source WHERE   where the nodes know each other from: file (the default), or etcd, which has to be installed
  --router         with vxlan: a router, which knows no pod, between the last node and the others

  --pods N         how many pods to attach to the one node, 2 to 50 (default 3), or to each node of a cluster, 1 to 4
                   (default 2, with more than four nodes 1)
  --svg FILE       also draw what was built, as SVG
";

pub(crate) struct Args {
    pub(crate) scene: Scene,
    pub(crate) svg: Option<PathBuf>,
}

/// What to show.
pub(crate) enum Scene {
    /// One node with so many pods.
    Node(usize),
    /// One node with chains of plugins.
    Chain,
    Cluster(ClusterArgs),
}

#[derive(Clone, Copy)]
pub(crate) struct ClusterArgs {
    pub(crate) nodes: usize,
    /// Pods on each node.
    pub(crate) pods: usize,
    pub(crate) backend: Backend,
    pub(crate) source: Source,
    /// `None`: the plugin's choice.
    pub(crate) data_path: Option<&'static str>,
    /// Whether the last node is behind a router.
    pub(crate) router: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Vxlan,
    HostGw,
}

/// Where nodes know each other from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    File,
    Etcd,
}

/// The words as they come.
#[derive(Default)]
struct Given {
    svg: Option<PathBuf>,
    pods: Option<usize>,
    nodes: Option<usize>,
    backend: Option<Backend>,
    source: Option<Source>,
    data_path: Option<&'static str>,
    router: bool,
    chain: bool,
}

impl Args {
    /// `None` when help was asked for.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut given = Given::default();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or(format!("{word} needs a value\n\n{HELP}"))
            };
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--svg" => given.svg = Some(value()?.into()),
                "--pods" => given.pods = Some(number("--pods", &value()?, 1, 50)?),
                "--nodes" => given.nodes = Some(number("--nodes", &value()?, 2, 9)?),
                "--backend" => given.backend = Some(Backend::parse(&value()?)?),
                "--source" => given.source = Some(Source::parse(&value()?)?),
                "--data-path" => given.data_path = Some(data_path(&value()?)?),
                "--router" => given.router = true,
                "--chain" => given.chain = true,
                other => return Err(format!("unknown argument {other}\n\n{HELP}")),
            }
        }
        given.judge().map(Some)
    }
}

impl Given {
    fn judge(self) -> Result<Args> {
        let overlay = self.router || self.data_path.is_some();
        if self.chain {
            let others = [
                self.pods.is_some(),
                self.svg.is_some(),
                self.nodes.is_some(),
            ];
            if overlay || self.backend.is_some() || self.source.is_some() || others.contains(&true)
            {
                return Err(format!("--chain goes with nothing else\n\n{HELP}"));
            }
            return Ok(Args {
                scene: Scene::Chain,
                svg: None,
            });
        }
        let cluster = self.nodes.is_some() || self.backend.is_some() || self.source.is_some();
        if self.source == Some(Source::Etcd) && self.svg.is_some() {
            return Err("--svg goes with --source file: what is drawn is the same".to_owned());
        }
        let scene = if overlay || cluster {
            let nodes = self.nodes.unwrap_or(3);
            let backend = self.backend.unwrap_or(Backend::Vxlan);
            if overlay && backend == Backend::HostGw {
                let text = "--router and --data-path go with --backend vxlan: host-gw needs all nodes in one segment, \
                            and encapsulates nothing";
                return Err(text.to_owned());
            }
            let pods = self.pods.unwrap_or(if nodes > 4 { 1 } else { 2 });
            Scene::Cluster(ClusterArgs {
                nodes,
                pods: within("--pods", pods, 1, 4)?,
                backend,
                source: self.source.unwrap_or(Source::File),
                data_path: self.data_path,
                router: self.router,
            })
        } else {
            Scene::Node(within("--pods", self.pods.unwrap_or(3), 2, 50)?)
        };
        Ok(Args {
            scene,
            svg: self.svg,
        })
    }
}

impl Backend {
    fn parse(text: &str) -> Result<Self> {
        match text {
            "vxlan" => Ok(Self::Vxlan),
            "host-gw" => Ok(Self::HostGw),
            _ => Err(format!("--backend {text}: neither vxlan nor host-gw")),
        }
    }

    /// The plugin's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
        }
    }
}

impl Source {
    fn parse(text: &str) -> Result<Self> {
        match text {
            "file" => Ok(Self::File),
            "etcd" => Ok(Self::Etcd),
            _ => Err(format!("--source {text}: neither file nor etcd")),
        }
    }
}

fn data_path(text: &str) -> Result<&'static str> {
    ["classic", "flow"]
        .into_iter()
        .find(|known| *known == text)
        .ok_or(format!("--data-path {text}: neither classic nor flow"))
}

fn number(word: &str, text: &str, least: usize, most: usize) -> Result<usize> {
    let number = text.parse().ok();
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or(format!(
            "{word} {text}: not a number from {least} to {most}"
        ))
}

fn within(word: &str, number: usize, least: usize, most: usize) -> Result<usize> {
    self::number(word, &number.to_string(), least, most)
}
