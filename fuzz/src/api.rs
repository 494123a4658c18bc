//! Calls of the API without a connection: the whole HTTP service, over an empty store in memory.

use std::{cell::OnceCell, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use ping_core::{Retention, StatusRule, Threshold};
use ping_memory::{MemoryCache, MemoryStatuses, MemoryStore, SystemClock};
use ping_query::{CountQuery, SourceQuery, StatusQuery};
use ping_rpc::{Access, AccessMetrics, Api, Health, Hosts, MaybeCors, Queries, Reflection, RpcMetrics, StatusLabels};
use ping_runtime::admin::Readiness;
use ping_transport::{Account, Body, Budget, RequestScope, TransportMetrics, TrustedProxies};
use prometheus_client::registry::Registry;
use tokio::{runtime::Runtime, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt, util::BoxCloneService};

/// The methods; the first byte of the input chooses one.
const METHODS: [&str; 11] = [
    "/ping.v1.PingService/Ping",
    "/ping.v1.PingService/PingCount",
    "/ping.v1.PingService/StreamPings",
    "/ping.v1.EventService/Record",
    "/ping.v1.EventService/RecordBatch",
    "/ping.v1.SourceService/SourceStats",
    "/ping.v1.SourceService/TopSources",
    "/ping.v1.SourceService/Series",
    "/ping.v1.SourceService/GetStatus",
    "/grpc.health.v1.Health/List",
    "/ping.v1.LiveService/Watch",
];

/// The API without a write path, so that no input is kept: events are validated, then refused.
struct Server {
    runtime: Runtime,
    service: BoxCloneService<Request<Body<Full<Bytes>>>, Response<MaybeCors>, Infallible>,
    budget: Budget,
}

impl Server {
    #[expect(clippy::expect_used, reason = "without it there is nothing to fuzz")]
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut registry = Registry::default();
        let clock = Arc::new(SystemClock);
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let threshold = |text: &str| text.parse::<Threshold>().expect("a threshold");
        let rule = StatusRule { negative_when: threshold("failed=1"), positive_when: threshold("succeeded=2") };
        let label = |text: &str| text.to_owned();
        let queries = Queries {
            counts: CountQuery::new(Arc::new(MemoryCache::default()), store.clone(), clock.clone(), 60),
            sources: SourceQuery::new(store.clone(), clock.clone(), Retention { windows: 7, days: None }),
            statuses: StatusQuery::new(rule, Arc::new(MemoryStatuses::default()), store, clock.clone()),
            labels: StatusLabels { negative: label("n"), positive: label("p"), unknown: label("u") },
        };
        let metrics = Arc::new(RpcMetrics::register(&mut registry));
        let api = Api::new(None, Some(queries), clock, metrics, CancellationToken::new());
        let health = runtime.block_on(async { Health::report(&mut JoinSet::new(), &Readiness::default()) });
        let budget = Budget::new(64 << 20, Arc::new(TransportMetrics::register(&mut registry)));
        let access =
            Access::new(None, Reflection::Open, Vec::new(), Hosts::All, AccessMetrics::register(&mut registry));
        let service = BoxCloneService::new(ping_rpc::service(api, &health, access).expect("valid descriptors"));
        Self { runtime, service, budget }
    }

    #[expect(clippy::expect_used, reason = "a failure here is what fuzzing looks for")]
    fn call(&self, path: &str, content_type: &str, body: &[u8]) {
        let account = Arc::new(Account::open(self.budget.clone()).expect("nothing else uses the budget"));
        let body = Full::new(Bytes::copy_from_slice(body));
        let body = Body::new(body, Arc::clone(&account), Duration::ZERO, Duration::from_secs(1));
        let mut request = Request::post(path)
            .header("content-type", content_type)
            .header("connect-timeout-ms", "1")
            .header("grpc-timeout", "1m");
        if let Some(extensions) = request.extensions_mut() {
            let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 1));
            extensions.insert(RequestScope::new(account, peer, TrustedProxies::default()));
        }
        let request = request.body(body).expect("a valid request");
        let answer = self.runtime.block_on(async {
            let response = self.service.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
            response.into_body().collect().await.map(http_body_util::Collected::to_bytes)
        });
        let answer = answer.expect("a complete answer");
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains("because of a defect"), "{path} panicked: {text}");
    }
}

/// Sends `bytes` as the body of a call with this content type; the first byte chooses the method.
pub(crate) fn call_method(content_type: &str, bytes: &[u8]) {
    let (method, body) = bytes.split_first().unwrap_or((&0, &[]));
    call(METHODS[usize::from(*method) % METHODS.len()], content_type, body);
}

/// Sends `body` to `path` with this content type.
pub(crate) fn call(path: &str, content_type: &str, body: &[u8]) {
    thread_local!(static SERVER: OnceCell<Server> = const { OnceCell::new() });
    SERVER.with(|server| server.get_or_init(Server::start).call(path, content_type, body));
}
