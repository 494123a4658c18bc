//! Traces: sends the spans of a program to an OpenTelemetry collector, if one is configured. Nothing waits for the collector: spans that it
//! does not receive in time are dropped and counted.

mod args;
mod export;
mod tracer;

pub use args::TraceArgs;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use opentelemetry::{Key, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};
use ping_ports::Traces;
use prometheus_client::registry::Registry;
use tokio::task::spawn_blocking;

use export::{MAX_QUEUED_SPANS, MeasuredExporter, SpanMetrics, SpanQueue};
use tracer::OtlpTracer;

/// How long the last spans may take to be sent.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends spans to a collector; to none if none is configured.
#[derive(Debug)]
pub struct TraceExport(Option<SdkTracerProvider>);

impl TraceExport {
    /// Starts to send the spans of the service `name`, unless `OTEL_SERVICE_NAME` gives it another one. Connects when there is a span.
    ///
    /// # Errors
    /// When a setting is not valid.
    pub fn start(args: &TraceArgs, name: &str, registry: &mut Registry) -> anyhow::Result<Self> {
        let metrics = SpanMetrics::register(registry);
        let Some(settings) = args.settings()? else { return Ok(Self(None)) };
        let mut builder = SpanExporter::builder().with_tonic().with_endpoint(&settings.endpoint);
        if let Some(tls) = settings.tls {
            builder = builder.with_tls_config(tls);
        }
        let exporter = builder.build().with_context(|| format!("traces cannot be sent to {}", settings.endpoint))?;
        let exporter = MeasuredExporter::new(exporter, settings.endpoint, metrics.clone());
        let config = BatchConfigBuilder::default().with_max_queue_size(MAX_QUEUED_SPANS).build();
        let queued = exporter.queued();
        let queue = BatchSpanProcessor::new(exporter, config);
        let provider = SdkTracerProvider::builder()
            .with_sampler(settings.sampler)
            .with_resource(resource(name))
            .with_span_processor(SpanQueue::new(queue, queued, metrics))
            .build();
        Ok(Self(Some(provider)))
    }

    /// What starts the spans.
    #[must_use]
    pub fn traces(&self) -> Traces {
        let tracer = self.0.as_ref().map(|provider| OtlpTracer::new(provider.tracer("pingd")));
        tracer.map_or_else(Traces::default, |tracer| Traces::by(Arc::new(tracer)))
    }

    /// Sends the spans that are left, within five seconds. Later ones are dropped.
    pub async fn finish(self) {
        let Some(provider) = self.0 else { return };
        // It blocks, and the connection needs this thread meanwhile.
        let finished = spawn_blocking(move || provider.shutdown_with_timeout(FINISH_TIMEOUT)).await;
        match finished.map_err(anyhow::Error::from).and_then(|sent| Ok(sent?)) {
            Ok(()) => {}
            Err(error) => tracing::warn!("the last traces were not sent: {error:#}"),
        }
    }
}

/// What describes this program, from the variables of OpenTelemetry if they are set.
fn resource(name: &str) -> Resource {
    let resource = Resource::builder().build();
    let configured = resource.get(&Key::from_static_str("service.name"));
    if configured.is_some_and(|name| !name.as_str().starts_with("unknown_service")) {
        return resource;
    }
    Resource::builder().with_service_name(name.to_owned()).build()
}
