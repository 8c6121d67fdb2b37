//! Everything that etcd holds of the cluster, at one moment.

use super::api::{Header, RangeAnswer, end_of, range};
use super::client::{Client, Failure};
use super::layout::MOST_BYTES;
use super::table::Table;
use crate::remote::body::TOO_LARGE;

/// How many keys are asked for at once.
const PAGE: u32 = 500;

/// Reads everything into the table, page by page as of one revision, which the header tells.
///
/// # Errors
/// [`Failure`]: the table is not complete then.
pub async fn list(client: &mut Client, table: &mut Table) -> Result<Header, Failure> {
    let base = table.layout().base().to_owned();
    let (mut key, end) = (base.clone().into_bytes(), end_of(&base));
    let mut header: Option<Header> = None;
    let mut limit = PAGE;
    table.reset(Vec::new());
    loop {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        let asked = range(&key, &end, limit, revision);
        let answer: RangeAnswer = match client.call("/v3/kv/range", &asked).await {
            Err(Failure::Refused(words)) if words == TOO_LARGE && limit > 1 => {
                limit = (limit / 8).max(1);
                // The rest of what was too large is in the way of what comes next.
                client.connect().await?;
                continue;
            }
            answer => answer?,
        };
        // No etcd has no revision: an answer without one is no answer, and above all not that there is no node.
        if answer.header.revision <= 0 {
            let words = format!("{} answers a list without a revision", client.server());
            return Err(Failure::Nonsense(words));
        }
        let header = header.get_or_insert(answer.header);
        let last = answer.kvs.last().map(|kv| kv.key.clone());
        for mut kv in answer.kvs {
            kv.value.truncate(MOST_BYTES + 1);
            table.put(&kv);
        }
        match last.filter(|_| answer.more) {
            Some(mut last) => {
                last.push(0);
                key = last;
            }
            None => return Ok(header.clone()),
        }
    }
}
