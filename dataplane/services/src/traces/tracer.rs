//! Spans of OpenTelemetry.

use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{Link, Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, Span},
};
use ping_ports::{TraceContext, TraceLinks, TraceSpan, TraceStep, Tracer};

/// Starts spans of OpenTelemetry. Names of attributes are its conventions, or begin with `ping.`.
pub(super) struct OtlpTracer {
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
}

impl OtlpTracer {
    pub(super) fn new(tracer: SdkTracer) -> Self {
        Self { tracer, propagator: TraceContextPropagator::new() }
    }

    /// What a header says; `None` if it is not valid.
    fn remote(&self, context: &TraceContext) -> Option<SpanContext> {
        let extracted = self.propagator.extract_with_context(&Context::new(), &Carrier(context.as_str()));
        Some(extracted.span().span_context().clone()).filter(SpanContext::is_valid)
    }

    fn start(
        &self,
        name: &'static str,
        kind: SpanKind,
        attributes: Vec<KeyValue>,
        parent: Option<SpanContext>,
        links: Vec<Link>,
    ) -> Option<Box<dyn TraceSpan>> {
        let builder = self.tracer.span_builder(name).with_kind(kind).with_attributes(attributes).with_links(links);
        let parent = parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let span = self.tracer.build_with_context(builder, &parent);
        let started = span.span_context();
        if !started.is_sampled() {
            return None;
        }
        let (trace, id, flags) = (started.trace_id(), started.span_id(), started.trace_flags().to_u8());
        let context = TraceContext::new(&format!("00-{trace}-{id}-{flags:02x}"))?;
        Some(Box::new(OtlpSpan { context, span }))
    }
}

impl Tracer for OtlpTracer {
    fn start_call(&self, method: &'static str, caller: Option<&TraceContext>) -> Option<Box<dyn TraceSpan>> {
        let parent = caller.and_then(|caller| self.remote(caller));
        self.start(method, SpanKind::Server, vec![KeyValue::new("rpc.method", method)], parent, Vec::new())
    }

    fn start_step(&self, step: TraceStep, links: &TraceLinks) -> Option<Box<dyn TraceSpan>> {
        let (name, kind) = match step {
            TraceStep::Commit => ("commit", SpanKind::Internal),
            TraceStep::Publish => ("publish", SpanKind::Producer),
            TraceStep::FlushCounters => ("flush counters", SpanKind::Consumer),
            TraceStep::FlushViews => ("flush views", SpanKind::Consumer),
        };
        let linked: Vec<_> = links.as_slice().iter().filter_map(|context| self.remote(context)).collect();
        let parent = linked.first()?.clone();
        let links = linked.into_iter().map(Link::with_context).collect();
        self.start(name, kind, Vec::new(), Some(parent), links)
    }
}

/// The one header that is read.
struct Carrier<'a>(&'a str);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TraceContext::HEADER).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TraceContext::HEADER]
    }
}

struct OtlpSpan {
    context: TraceContext,
    span: Span,
}

impl TraceSpan for OtlpSpan {
    fn context(&self) -> &TraceContext {
        &self.context
    }

    fn set_count(&mut self, name: &'static str, count: usize) {
        self.span.set_attribute(KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX)));
    }

    fn set_code(&mut self, code: &'static str) {
        self.span.set_attribute(KeyValue::new("rpc.response.status_code", code));
    }

    fn fail(&mut self, why: String) {
        self.span.set_status(Status::error(why));
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

    use super::*;

    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn tracer(sampler: Sampler) -> OtlpTracer {
        OtlpTracer::new(SdkTracerProvider::builder().with_sampler(sampler).build().tracer("test"))
    }

    fn parent_based() -> OtlpTracer {
        tracer(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
    }

    fn context(text: &str) -> TraceContext {
        TraceContext::new(text).unwrap()
    }

    #[test]
    fn a_call_and_its_steps_belong_to_the_trace_of_the_caller() {
        let tracer = parent_based();
        let call = tracer.start_call("method", Some(&context(CALLER))).unwrap();
        let trace = &CALLER[..36];
        let of_call = call.context();
        assert!(of_call.as_str().starts_with(trace) && of_call.as_str().ends_with("-01"), "{of_call:?}");
        assert_ne!(of_call.as_str(), CALLER);
        let commit = tracer.start_step(TraceStep::Commit, &[of_call].into_iter().collect()).unwrap();
        assert!(commit.context().as_str().starts_with(trace) && commit.context() != of_call, "{:?}", commit.context());
    }

    #[test]
    fn what_is_not_sampled_has_no_span() {
        let unsampled = CALLER.replace("-01", "-00");
        assert!(parent_based().start_call("method", None).is_none());
        assert!(parent_based().start_call("method", Some(&context(&unsampled))).is_none());
        assert!(tracer(Sampler::AlwaysOff).start_call("method", Some(&context(CALLER))).is_none());
        assert!(tracer(Sampler::AlwaysOn).start_call("method", Some(&context(&unsampled))).is_some());
    }

    #[test]
    fn an_invalid_context_is_ignored() {
        let invalid = context(&CALLER.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)));
        let call = tracer(Sampler::AlwaysOn).start_call("method", Some(&invalid)).unwrap();
        assert!(!call.context().as_str().contains(&"0".repeat(32)), "{:?}", call.context());
        assert!(parent_based().start_step(TraceStep::Publish, &[&invalid].into_iter().collect()).is_none());
    }
}
