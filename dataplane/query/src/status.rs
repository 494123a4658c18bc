//! The status of a source: what is at hand first, the store when it is not.

use std::sync::Arc;

use super::sources::{Dated, SourceError, named};
use ping_core::{Minute, Span, StatusCounts, StatusRule, Verdict};
use ping_ports::{Clock, SourceReader, StatusCache, StatusUpdate, chain};

/// What a source is, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusAnswer {
    /// What it is.
    pub status: Verdict,
    /// What it did.
    pub counts: StatusCounts,
    /// Nothing can change it.
    pub last: bool,
    /// It was at hand.
    pub cached: bool,
}

/// Answers what sources are.
#[derive(Clone)]
pub struct StatusQuery {
    rule: StatusRule,
    cache: Arc<dyn StatusCache>,
    reader: Arc<dyn SourceReader>,
    clock: Arc<dyn Clock>,
}

impl StatusQuery {
    /// By `rule`, as the processors have it.
    #[must_use]
    pub fn new(
        rule: StatusRule,
        cache: Arc<dyn StatusCache>,
        reader: Arc<dyn SourceReader>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { rule, cache, reader, clock }
    }

    /// What `source` is.
    ///
    /// # Errors
    /// When it can be nobody's name, or neither cache nor store answers.
    pub async fn of(&self, source: &str) -> Result<Dated<StatusAnswer>, SourceError> {
        named(source)?;
        let now = self.clock.now();
        let minute = Minute::of(now);
        // A cache that is away only makes it slower.
        let held = self.cache.get(source, minute).await.ok();
        if let Some((held, counts)) = held.and_then(|held| Some((held, held.counts?))) {
            return Ok(Dated::new(self.verdict(counts, true), held.as_of, now));
        }
        let as_of = self.reader.as_of().await?;
        let kinds = self.reader.kinds(source).await?;
        let verdict = self.verdict(self.rule.counts(|kind| kinds.get(kind).map_or(0, |span: &Span| span.count)), false);
        if let Some(held) = held {
            let update = StatusUpdate { source: source.into(), counts: verdict.counts, last: verdict.last };
            if let Err(error) = self.cache.merge_max(Some(held.epoch), minute, &[update]).await {
                tracing::debug!(error = chain(&error), "a status is not kept at hand");
            }
        }
        Ok(Dated::new(verdict, as_of, now))
    }

    fn verdict(&self, counts: StatusCounts, cached: bool) -> StatusAnswer {
        let (status, last) = (self.rule.judge(counts), self.rule.is_final(counts));
        StatusAnswer { status, counts, last, cached }
    }
}
