//! Traces: spans that show what happened to an event on its way into the counts. They are sent to a collector, if there is one.
//!
//! A batch, a round of publishing and a flush each work for many calls. So their spans have one parent, and links to all.

use std::{fmt, sync::Arc};

/// Links of one span; more are left out.
const MAX_LINKS: usize = 128;

/// A span as other processes refer to it: a `traceparent` of W3C Trace Context. Only a [`Tracer`] reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext(Arc<str>);

impl TraceContext {
    /// The header that carries it, in calls and in records.
    pub const HEADER: &'static str = "traceparent";
    /// Its length: two digits of the version, 32 of the trace, 16 of the span and two of flags, with three hyphens.
    const BYTES: usize = 55;

    /// The context in a header; `None` unless it has the length of the current version.
    #[must_use]
    pub fn new(traceparent: &str) -> Option<Self> {
        (traceparent.len() == Self::BYTES).then(|| Self(traceparent.into()))
    }

    /// The value of the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The spans that another one works for: distinct, and at most 128.
#[derive(Debug, Default)]
pub struct TraceLinks(Vec<TraceContext>);

impl TraceLinks {
    /// Adds a span.
    pub fn add(&mut self, context: &TraceContext) {
        if self.0.len() < MAX_LINKS && !self.0.contains(context) {
            self.0.push(context.clone());
        }
    }

    /// The spans, in the order in which they were added.
    #[must_use]
    pub fn as_slice(&self) -> &[TraceContext] {
        &self.0
    }
}

impl<'a> FromIterator<&'a TraceContext> for TraceLinks {
    fn from_iter<I: IntoIterator<Item = &'a TraceContext>>(contexts: I) -> Self {
        let mut links = Self::default();
        contexts.into_iter().for_each(|context| links.add(context));
        links
    }
}

/// Work that is done for many calls at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceStep {
    /// A lane commits a batch.
    Commit,
    /// A publisher appends batches to the log.
    Publish,
    /// A processor adds records to the counters.
    FlushCounters,
    /// A processor adds records to the views per source.
    FlushViews,
}

/// A span that has started. It ends when it is dropped.
pub trait TraceSpan: Send + Sync {
    /// How other spans refer to it.
    fn context(&self) -> &TraceContext;

    /// Notes a number.
    fn set_count(&mut self, name: &'static str, count: usize);

    /// Notes the code that a call ended with.
    fn set_code(&mut self, code: &'static str);

    /// Marks it as failed, and says why.
    fn fail(&mut self, why: String);
}

/// Starts spans. It never waits: what a collector does not receive in time is dropped.
pub trait Tracer: Send + Sync {
    /// The span of a call, as part of the trace that its caller belongs to; `None` if the call is not sampled.
    fn start_call(&self, method: &'static str, caller: Option<&TraceContext>) -> Option<Box<dyn TraceSpan>>;

    /// A span that continues the first of `links`, and refers to all of them; `None` if there are none.
    fn start_step(&self, step: TraceStep, links: &TraceLinks) -> Option<Box<dyn TraceSpan>>;
}

/// The tracer, or none: then no span is started. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<dyn Tracer>>);

impl fmt::Debug for Traces {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Traces").field("on", &self.0.is_some()).finish()
    }
}

impl Traces {
    /// Traces by `tracer`.
    #[must_use]
    pub fn by(tracer: Arc<dyn Tracer>) -> Self {
        Self(Some(tracer))
    }

    /// The tracer, if traces are on.
    #[must_use]
    pub fn tracer(&self) -> Option<&dyn Tracer> {
        self.0.as_deref()
    }

    /// Starts a span for what `links` refer to, if traces are on.
    #[must_use]
    pub fn step(&self, step: TraceStep, links: &TraceLinks) -> Option<Box<dyn TraceSpan>> {
        if links.0.is_empty() {
            return None;
        }
        self.tracer()?.start_step(step, links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(number: usize) -> TraceContext {
        TraceContext::new(&format!("00-{number:032x}-00f067aa0ba902b7-01")).unwrap()
    }

    #[test]
    fn links_are_distinct_and_bounded() {
        let contexts: Vec<_> = (0..300).flat_map(|number| [number, number, 0]).map(context).collect();
        let expected: Vec<_> = (0..MAX_LINKS).map(context).collect();
        assert_eq!(contexts.iter().collect::<TraceLinks>().as_slice(), expected);
    }

    #[test]
    fn a_header_of_another_length_is_no_context() {
        let text = context(7).as_str().to_owned();
        assert_eq!(TraceContext::new(&text), Some(context(7)));
        assert_eq!([TraceContext::new(&text[1..]), TraceContext::new(&format!("{text}-"))], [None, None]);
    }

    #[test]
    fn nothing_is_started_while_traces_are_off() {
        let links = [&context(1)].into_iter().collect();
        assert!(Traces::default().step(TraceStep::Commit, &links).is_none());
    }
}
