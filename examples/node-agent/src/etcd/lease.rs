//! Leases: granted, kept alive, taken over.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::api::{LeaseAnswer, Streamed};
use super::client::{Client, Failure};

/// A lease of etcd's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub(super) id: i64,
    /// Until then it lives, whatever the server thinks: counted from before it was asked.
    pub(super) until: Instant,
}

/// This lease, if it lives and is as long as it should be, else a new one.
pub(super) async fn take(
    client: &mut Client,
    known: Option<i64>,
    ttl: Duration,
) -> Result<Lease, Failure> {
    let wanted = ttl.as_secs().cast_signed();
    if let Some(id) = known.filter(|id| *id != 0)
        && let Some((lease, length)) = keep_alive(client, id).await?
        && length == wanted
    {
        return Ok(lease);
    }
    let begin = Instant::now();
    let answer: LeaseAnswer = client
        .call("/v3/lease/grant", &json!({ "TTL": wanted.to_string() }))
        .await?;
    if answer.id == 0 || answer.ttl <= 0 {
        return Err(nonsense(client, "the wish for a lease"));
    }
    Ok(Lease {
        id: answer.id,
        until: begin + length_of(answer.ttl),
    })
}

/// The lease and its whole length in seconds; `None` when there is no such lease any more.
pub(super) async fn keep_alive(
    client: &mut Client,
    id: i64,
) -> Result<Option<(Lease, i64)>, Failure> {
    let begin = Instant::now();
    let body = json!({ "ID": id.to_string() });
    let answer: Streamed<LeaseAnswer> = client.call("/v3/lease/keepalive", &body).await?;
    let Some(answer) = answer.result else {
        return Err(Failure::Away(format!(
            "a lease cannot be kept: {}",
            answer.error.unwrap_or_default()
        )));
    };
    if answer.id != id {
        return Err(nonsense(client, "a lease's sign of life"));
    }
    let lives = answer.ttl > 0;
    Ok(lives.then(|| {
        (
            Lease {
                id,
                until: begin + length_of(answer.ttl),
            },
            answer.ttl,
        )
    }))
}

pub(super) fn nonsense(client: &Client, what: &str) -> Failure {
    Failure::Nonsense(format!(
        "{} answers {what} with what makes no sense",
        client.server()
    ))
}

fn length_of(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
