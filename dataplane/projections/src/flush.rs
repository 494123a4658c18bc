//! Flushing: a delta into the projection, one at a time, with the promise behind `as_of` when it is reached.

use std::{collections::BTreeMap, future::pending, mem, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

use super::{CountError, Processor, Projection, consume::Session, delta::Delta, watermark::LogWatermark};
use ping_core::{Offset, Partition};
use ping_ports::{Applied, LogConsumer, chain};

/// A flush under way.
pub(super) struct Flushing {
    to: BTreeMap<Partition, Offset>,
    records: usize,
    started: Instant,
    result: BoxFuture<'static, Result<Applied, CountError>>,
}

impl<S: LogConsumer, P: Projection> Processor<S, P> {
    /// Starts a flush of the delta, and of the log_watermark if it is reached by then.
    pub(super) async fn flush(&self, session: &mut Session<P::Sums>) {
        let mut delta = mem::take(&mut session.delta);
        session.first_record = None;
        self.dead_letter(&mut delta).await;
        let records = delta.records();
        let (mut advance, sums) = delta.finish(&session.positions.generation);
        if let Some(log_watermark) = self.reached(session) {
            advance.as_of = Some(log_watermark.as_of);
            advance.partitions = log_watermark.partitions();
            // The promise is about all our partitions, so all of them must still be where we think.
            for partition in &self.assigned {
                let at = session.counted.get(partition).copied().unwrap_or(0);
                advance.from.entry(*partition).or_insert(at);
                advance.to.entry(*partition).or_insert(at);
            }
            session.log_watermark = None;
            self.metrics.lag_ms.set(self.ports.clock.now() - advance.as_of.unwrap_or_default());
        }
        let projection = Arc::clone(&self.projection);
        let to = advance.to.clone();
        let result = async move { projection.apply(advance, sums).await }.boxed();
        session.flushing = Some(Flushing { to, records, started: Instant::now(), result });
    }

    /// The log_watermark, if everything below it is read by now.
    pub(super) fn reached<'a>(&self, session: &'a Session<P::Sums>) -> Option<&'a LogWatermark> {
        session
            .log_watermark
            .as_ref()
            .filter(|log_watermark| log_watermark.lag(&self.assigned, &session.positions.offsets) == 0)
    }

    async fn dead_letter(&self, delta: &mut Delta<P::Sums>) {
        let dead = delta.dead();
        if dead.is_empty() || !P::PRIMARY {
            return;
        }
        let (count, first) = (dead.len(), dead[0].clone());
        let place = format!("{}/{}", first.partition, first.offset);
        if let Err(error) = self.ports.sink.dead_letter(dead).await {
            // The record stays in the topic until its retention ends; waiting for it would block everybody behind it.
            tracing::error!(count, first = place, error = chain(&error), "dead letters not delivered");
        } else {
            tracing::warn!(count, first = place, reason = %first.reason, "records that cannot be counted are in the dead-letter topic");
        }
    }

    /// Notes the result of a flush; false when the projection stands elsewhere.
    pub(super) fn flushed(&self, session: &mut Session<P::Sums>, applied: Applied) -> Result<bool, CountError> {
        let Some(flushing) = session.flushing.take() else { return Ok(true) };
        if let Applied::Stale(why) = applied {
            self.metrics.stale.inc();
            tracing::info!(why, "flush refused: reading the positions again");
            return Ok(false);
        }
        if flushing.records > 0 {
            self.metrics.flush_records.observe(flushing.records as f64);
            self.metrics.flush_seconds.observe(flushing.started.elapsed().as_secs_f64());
            self.source.commit(&flushing.to);
        }
        session.rest_until = Instant::now() + flushing.started.elapsed();
        session.counted.extend(flushing.to);
        Ok(true)
    }
}

/// The result of the flush under way, if there is one.
pub(super) async fn result_of(flushing: &mut Option<Flushing>) -> Result<Applied, CountError> {
    match flushing {
        Some(flushing) => (&mut flushing.result).await,
        None => pending().await,
    }
}
