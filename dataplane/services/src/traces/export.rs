//! The queue of spans, and what becomes of them. The library's own log lines are disabled: while a collector is unavailable, there would be
//! one for each attempt.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Spans that wait to be sent. A span takes about a kilobyte, and a hundred bytes more for each link.
pub(super) const MAX_QUEUED_SPANS: usize = 2_048;

/// How many spans are sent, and how many are not.
#[derive(Clone, Debug)]
pub(super) struct SpanMetrics {
    exported: Counter,
    dropped: Counter,
}

impl SpanMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let spans = Family::<[(&'static str, &'static str); 1], Counter>::default();
        registry.register("ping_trace_spans", "Spans of traces, by whether a collector received them", spans.clone());
        let with = |result| spans.get_or_create_owned(&[("result", result)]);
        Self { exported: with("exported"), dropped: with("dropped") }
    }
}

/// Sends spans, counts them, and logs when that begins to fail and when it works again.
#[derive(Debug)]
pub(super) struct MeasuredExporter<E> {
    exporter: E,
    endpoint: String,
    metrics: SpanMetrics,
    queued: Arc<AtomicUsize>,
    failing: AtomicBool,
}

impl<E> MeasuredExporter<E> {
    pub(super) fn new(exporter: E, endpoint: String, metrics: SpanMetrics) -> Self {
        Self { exporter, endpoint, metrics, queued: Arc::default(), failing: AtomicBool::new(false) }
    }

    /// How many spans wait.
    pub(super) fn queued(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.queued)
    }
}

impl<E: SpanExporter> SpanExporter for MeasuredExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.queued.fetch_sub(spans, Ordering::Relaxed);
        let result = self.exporter.export(batch).await;
        let was_failing = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Ok(()) => {
                self.metrics.exported.inc_by(spans as u64);
                if was_failing {
                    tracing::info!(endpoint = self.endpoint, "traces are sent again");
                }
            }
            Err(error) => {
                self.metrics.dropped.inc_by(spans as u64);
                if !was_failing {
                    tracing::warn!(
                        endpoint = self.endpoint,
                        "traces cannot be sent and are dropped; events are not affected: {error}"
                    );
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Passes spans to the queue, or drops them if it is full.
#[derive(Debug)]
pub(super) struct SpanQueue {
    queue: BatchSpanProcessor,
    queued: Arc<AtomicUsize>,
    metrics: SpanMetrics,
    has_dropped: AtomicBool,
}

impl SpanQueue {
    /// `queued` is how many spans wait in `queue`.
    pub(super) fn new(queue: BatchSpanProcessor, queued: Arc<AtomicUsize>, metrics: SpanMetrics) -> Self {
        Self { queue, queued, metrics, has_dropped: AtomicBool::new(false) }
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queued.fetch_add(1, Ordering::Relaxed) < MAX_QUEUED_SPANS {
            return self.queue.on_end(span);
        }
        self.queued.fetch_sub(1, Ordering::Relaxed);
        self.metrics.dropped.inc();
        if !self.has_dropped.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "traces are dropped, because the collector is unavailable or slower than they arise; ping_trace_spans_total counts them. Trace a \
                 smaller share of the calls: --traces-sampler parentbased_traceidratio --traces-sampler-arg 0.01"
            );
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::{
        error::OTelSdkError,
        trace::{BatchConfigBuilder, SdkTracerProvider},
    };
    use parking_lot::Mutex;

    use super::*;

    /// Waits for the lock before it answers.
    #[derive(Debug)]
    struct SlowExporter {
        lock: Arc<Mutex<()>>,
        fails: bool,
    }

    impl SpanExporter for SlowExporter {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            let _answering = self.lock.lock();
            if self.fails { Err(OTelSdkError::InternalFailure("unavailable".into())) } else { Ok(()) }
        }
    }

    /// Ends `spans` spans while the exporter waits, and lets it go on. Returns how many were dropped by then, and the metrics at the end.
    fn run(spans: usize, fails: bool) -> (u64, SpanMetrics) {
        let metrics = SpanMetrics::register(&mut Registry::default());
        let lock = Arc::default();
        let exporter = SlowExporter { lock: Arc::clone(&lock), fails };
        let exporter = MeasuredExporter::new(exporter, "http://collector".into(), metrics.clone());
        let (queued, config) = (exporter.queued(), BatchConfigBuilder::default().with_max_queue_size(MAX_QUEUED_SPANS));
        let queue = SpanQueue::new(BatchSpanProcessor::new(exporter, config.build()), queued, metrics.clone());
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        let tracer = provider.tracer("test");
        let waiting = lock.lock();
        for _ in 0..spans {
            drop(tracer.start("span"));
        }
        let dropped = metrics.dropped.get();
        drop(waiting);
        provider.shutdown().unwrap();
        (dropped, metrics)
    }

    #[test]
    fn spans_beyond_the_queue_are_dropped_and_counted() {
        let spans = 5_000;
        let (dropped, metrics) = run(spans, false);
        // One batch is being sent meanwhile.
        let kept = spans as u64 - dropped;
        assert!((MAX_QUEUED_SPANS as u64..MAX_QUEUED_SPANS as u64 + 600).contains(&kept), "{kept} are kept");
        assert_eq!((metrics.exported.get(), metrics.dropped.get()), (kept, dropped));
    }

    #[test]
    fn spans_that_cannot_be_sent_are_dropped_and_counted() {
        let (dropped, metrics) = run(100, true);
        assert_eq!((dropped, metrics.exported.get(), metrics.dropped.get()), (0, 0, 100));
    }
}
