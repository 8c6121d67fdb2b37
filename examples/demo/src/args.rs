//! The command line.

use std::path::PathBuf;

use crate::Result;

pub(crate) const HELP: &str = "\
Usage: demo [--pods N] [--svg FILE]

  --pods N     how many pods to attach, 2 to 50 (default 3)
  --svg FILE   also draw what was built, as SVG
";

pub(crate) struct Args {
    pub(crate) pods: usize,
    pub(crate) svg: Option<PathBuf>,
}

impl Args {
    /// `None` when help was asked for.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut args = Self { pods: 3, svg: None };
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or(format!("{word} needs a value\n\n{HELP}"))
            };
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--svg" => args.svg = Some(value()?.into()),
                "--pods" => {
                    let text = value()?;
                    let number = text.parse().ok().filter(|number| (2..=50).contains(number));
                    args.pods =
                        number.ok_or(format!("--pods {text}: not a number from 2 to 50"))?;
                }
                other => return Err(format!("unknown argument {other}\n\n{HELP}")),
            }
        }
        Ok(Some(args))
    }
}
