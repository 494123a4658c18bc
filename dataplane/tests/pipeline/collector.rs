//! A collector of traces, which keeps the spans that it receives.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, serve::Listener};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::AbortHandle, time::sleep};
use tonic::{Request, Response, Status, async_trait};

use crate::processes::TIMEOUT;

/// A span and the service it is of.
#[derive(Clone, Debug)]
pub struct ReceivedSpan {
    pub service: String,
    pub span: Span,
}

impl ReceivedSpan {
    /// Whether it refers to `other` as a link.
    pub fn is_linked_to(&self, other: &Self) -> bool {
        let refers = |trace: &[u8], span: &[u8]| trace == other.span.trace_id && span == other.span.span_id;
        self.span.links.iter().any(|link| refers(&link.trace_id, &link.span_id))
    }

    /// An attribute that is a text.
    pub fn text(&self, name: &str) -> Option<String> {
        text(&self.span.attributes, name)
    }
}

fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == name)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

/// The collector. It stops when it is dropped.
pub struct Collector {
    port: u16,
    spans: Arc<Mutex<Vec<ReceivedSpan>>>,
    serving: AbortHandle,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Receiver(Arc<Mutex<Vec<ReceivedSpan>>>);

#[async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for sent in request.into_inner().resource_spans {
            let service = text(&sent.resource.unwrap_or_default().attributes, "service.name").unwrap_or_default();
            let spans = sent.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().extend(spans.map(|span| ReceivedSpan { service: service.clone(), span }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::serve(listener, port)
    }

    /// Accepts connections from `listener`, which listens on `port`.
    pub fn serve<L: Listener<Addr: std::fmt::Debug>>(listener: L, port: u16) -> Self {
        let spans = Arc::default();
        let service = TraceServiceServer::new(Receiver(Arc::clone(&spans)));
        let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        let router = Router::new().route_service(path, service);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, spans, serving: serving.abort_handle() }
    }

    /// The environment of a program that sends its traces here.
    pub fn env(&self) -> [(&'static str, String); 2] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", self.port)),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".into()),
        ]
    }

    /// The address for TLS.
    pub fn tls_endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// What was received so far.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.spans.lock().clone()
    }

    /// Waits until a span of each name was received; returns the first of each.
    pub async fn wait_for<const N: usize>(&self, names: [&str; N]) -> [ReceivedSpan; N] {
        let started = Instant::now();
        loop {
            let spans = self.spans();
            let found = names.map(|name| spans.iter().find(|received| received.span.name == name));
            if found.iter().all(Option::is_some) {
                return found.map(|span| span.unwrap().clone());
            }
            assert!(started.elapsed() < TIMEOUT, "waiting for {names:?}, received {spans:#?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}
