//! Statuses of sources: from the cache, or from the store if the cache does not hold one.

use std::sync::Arc;

use super::sources::{AsOf, SourceError, validate_source};
use ping_core::{Minute, Span, StatusCounts, StatusRule, Verdict};
use ping_ports::{Clock, SourceReader, StatusCache, StatusUpdate, chain};

/// The status of a source and the counts it follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// The result of the status rule.
    pub verdict: Verdict,
    /// Events of the two kinds of the rule, capped at their thresholds.
    pub counts: StatusCounts,
    /// No later event can change the status.
    pub is_final: bool,
    /// The cache answered, not the store.
    pub cached: bool,
}

/// Reads statuses.
#[derive(Clone)]
pub struct StatusQuery {
    rule: StatusRule,
    cache: Arc<dyn StatusCache>,
    reader: Arc<dyn SourceReader>,
    clock: Arc<dyn Clock>,
}

impl StatusQuery {
    /// `rule` must equal that of the processors.
    #[must_use]
    pub fn new(
        rule: StatusRule,
        cache: Arc<dyn StatusCache>,
        reader: Arc<dyn SourceReader>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { rule, cache, reader, clock }
    }

    /// The status of `source`; unknown if it has no events.
    ///
    /// # Errors
    /// When `source` is empty or too long, or neither cache nor store answers.
    pub async fn of(&self, source: &str) -> Result<AsOf<SourceStatus>, SourceError> {
        validate_source(source)?;
        let now = self.clock.now();
        let minute = Minute::of(now);
        // An unavailable cache makes the answer slower, not impossible.
        let cached = self.cache.get(source, minute).await.ok();
        if let Some((cached, counts)) = cached.and_then(|cached| Some((cached, cached.counts?))) {
            return Ok(AsOf::new(self.status(counts, true), cached.as_of, now));
        }
        let as_of = self.reader.as_of().await?;
        let kinds = self.reader.kinds(source).await?;
        let counts = self.rule.counts(|kind| kinds.get(kind).map_or(0, |span: &Span| span.count));
        let status = self.status(counts, false);
        if let Some(cached) = cached {
            let update = StatusUpdate { source: source.into(), counts, last: status.is_final };
            if let Err(error) = self.cache.merge_max(Some(cached.epoch), minute, &[update]).await {
                tracing::debug!(error = chain(&error), "cannot cache a status; the next query reads the store again");
            }
        }
        Ok(AsOf::new(status, as_of, now))
    }

    fn status(&self, counts: StatusCounts, cached: bool) -> SourceStatus {
        SourceStatus { verdict: self.rule.judge(counts), counts, is_final: self.rule.is_final(counts), cached }
    }
}
