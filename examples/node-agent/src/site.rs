//! The agent's pages.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::agent::Shared;
use crate::http::{Page, Pages};
use crate::metrics;
use crate::process::Usage;

/// `/healthz`, `/readyz` and `/metrics`.
#[derive(Debug)]
pub struct Site {
    /// How things are.
    pub status: Shared,
    /// What the filter refused.
    pub drops: Arc<dyn Drops>,
}

/// Knows how many packets the tunnel's filter refused.
#[async_trait]
pub trait Drops: Send + Sync + fmt::Debug {
    /// Packets by reason; empty where there is no filter, or where the kernel does not tell.
    async fn by_reason(&self) -> BTreeMap<&'static str, u64>;
}

impl Pages for Site {
    fn page<'a>(
        &'a self,
        path: &'a str,
    ) -> Pin<Box<dyn Future<Output = Option<Page>> + Send + 'a>> {
        Box::pin(async move {
            match path {
                "/healthz" => Some(self.health()),
                "/readyz" => {
                    let readiness = self.status.lock().readiness();
                    Some(text(readiness.is_ready(), readiness.text()))
                }
                "/metrics" => Some(self.metrics().await),
                _ => None,
            }
        })
    }
}

impl Site {
    fn health(&self) -> Page {
        let status = self.status.lock();
        let alive = status.is_alive(Instant::now());
        let words = if alive {
            "alive"
        } else {
            "one step has taken more than a minute"
        };
        // The rest is for people: what others do wrong is no reason to start the agent anew.
        text(alive, format!("{words}\n{}", status.readiness().text()))
    }

    async fn metrics(&self) -> Page {
        let drops = self.drops.by_reason().await;
        Page {
            good: true,
            kind: metrics::CONTENT_TYPE,
            text: metrics::render(&self.status.lock(), &drops, &Usage::now()),
        }
    }
}

fn text(good: bool, text: String) -> Page {
    Page {
        good,
        kind: "text/plain; charset=utf-8",
        text,
    }
}
