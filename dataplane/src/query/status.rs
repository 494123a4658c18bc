//! The status of a source: what is at hand first, the store when it is not.

use std::sync::Arc;

use super::sources::{Dated, SourceError, named};
use crate::{
    causes::chain,
    domain::{Clock, Evidence, Minute, Span, Status, StatusRule},
    ports::{SourceReader, StatusCache, Testimony},
};

/// What a source is, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it is.
    pub status: Status,
    /// What it did.
    pub evidence: Evidence,
    /// Nothing can change it.
    pub last: bool,
    /// It was at hand.
    pub cached: bool,
}

/// Answers what sources are.
#[derive(Clone)]
pub struct Statuses {
    rule: StatusRule,
    cache: Arc<dyn StatusCache>,
    reader: Arc<dyn SourceReader>,
    clock: Arc<dyn Clock>,
}

impl Statuses {
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
    pub async fn of(&self, source: &str) -> Result<Dated<Verdict>, SourceError> {
        named(source)?;
        let now = self.clock.now();
        let minute = Minute::of(now);
        // A cache that is away only makes it slower.
        let held = self.cache.get(source, minute).await.ok();
        if let Some((held, evidence)) = held.and_then(|held| Some((held, held.evidence?))) {
            return Ok(Dated::new(self.verdict(evidence, true), held.as_of, now));
        }
        let as_of = self.reader.as_of().await?;
        let kinds = self.reader.kinds(source).await?;
        let verdict =
            self.verdict(self.rule.evidence(|kind| kinds.get(kind).map_or(0, |span: &Span| span.count)), false);
        if let Some(held) = held {
            let testimony = Testimony { source: source.into(), evidence: verdict.evidence, last: verdict.last };
            if let Err(error) = self.cache.raise(Some(held.epoch), minute, &[testimony]).await {
                tracing::debug!(error = chain(&error), "a status is not kept at hand");
            }
        }
        Ok(Dated::new(verdict, as_of, now))
    }

    fn verdict(&self, evidence: Evidence, cached: bool) -> Verdict {
        let (status, last) = (self.rule.judge(evidence), self.rule.is_final(evidence));
        Verdict { status, evidence, last, cached }
    }
}
