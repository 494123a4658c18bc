//! The relay: publishes the outbox of closed writers. Every server runs one; two that relay the same writer do no harm.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use super::IngestPorts;
use crate::IngestMetrics;
use ping_core::WriterId;
use ping_ports::{LogError, StoreError, chain};

/// How often a server looks for closed writers, unless a lane reports one.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a writer is claimed by one relay.
const CLAIM: Duration = Duration::from_secs(3);
/// Events per round.
const ROUND: usize = 20_000;

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Runs until all lanes have ended, which closes `done`.
pub(super) async fn run(
    ports: IngestPorts,
    orphaned: Arc<Notify>,
    mut done: watch::Receiver<()>,
    metrics: Arc<IngestMetrics>,
) {
    loop {
        tokio::select! {
            biased;
            gone = done.changed() => if gone.is_err() { return },
            () = orphaned.notified() => {}
            () = sleep(INTERVAL) => {}
        }
        // Stopping half-way is harmless: the next relay starts at the first row that is left.
        tokio::select! {
            biased;
            gone = done.changed() => if gone.is_err() { return },
            relayed = relay_all(&ports, &metrics) => if let Err(error) = relayed {
                tracing::debug!(error = chain(&error), "relay interrupted; retrying");
            },
        }
    }
}

async fn relay_all(ports: &IngestPorts, metrics: &IngestMetrics) -> Result<(), RelayError> {
    while let Some(writer) = ports.outbox.claim_orphan(CLAIM).await? {
        let relayed = relay(ports, writer).await?;
        metrics.relayed.inc_by(relayed);
        tracing::info!(%writer, relayed, "published the outbox of a closed writer");
    }
    Ok(())
}

async fn relay(ports: &IngestPorts, writer: WriterId) -> Result<u64, RelayError> {
    let (mut after, mut relayed) = (0, 0);
    loop {
        let rows = ports.outbox.unpublished(writer, after, ROUND).await?;
        let Some(last) = rows.last() else { return Ok(relayed) };
        after = last.batch.last_seq();
        relayed += rows.iter().map(|row| row.batch.events.len() as u64).sum::<u64>();
        ports.producer.publish(rows).await?;
        ports.outbox.forget(writer, after).await?;
    }
}
