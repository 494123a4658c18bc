//! Traces, from a caller through batch, log and flush, as a collector receives them.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use ping_client::Client;
use ping_proto::{PingRequest, StreamPingsRequest};
use ping_testbed::Parts;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    process::Command,
    time::{sleep, timeout},
};

use crate::{
    collector::{Collector, ReceivedSpan},
    processes::{Pingd, TIMEOUT, program},
};

const SOURCE: &str = "example.com";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const RECORD: &str = "ping.v1.EventService/Record";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Records an event of [`SOURCE`] as a caller whose span is sampled.
async fn record_traced(server: &Pingd) {
    let call = reqwest::Client::new().post(format!("{}/{RECORD}", server.api)).json(&json!({"source": SOURCE}));
    let answer = call.header("traceparent", format!("00-{TRACE}-{CALLER}-01")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// Waits until both projections have `count` events of [`SOURCE`] and no others.
async fn wait_until_counted(server: &Pingd, count: i64) {
    server.wait_for_count(count).await;
    server.wait_for_source(SOURCE, count).await;
}

/// The values of the header `traceparent` of the first `count` records of the topic, which must have no other header.
fn headers(parts: &Parts, count: usize) -> Vec<Option<String>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", parts.kafka.brokers()).set("group.id", "test");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut from = TopicPartitionList::new();
    for partition in 0..6 {
        from.add_partition_offset("pings", partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&from).unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let message = consumer.poll(TIMEOUT).unwrap().unwrap();
        let header = |index| {
            let header = message.headers()?.try_get(index)?;
            Some((header.key.to_owned(), String::from_utf8(header.value?.to_vec()).unwrap()))
        };
        assert_eq!(header(1), None);
        found.push(header(0).map(|(name, value)| {
            assert_eq!(name, "traceparent");
            value
        }));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_from_the_caller_through_batch_and_log_to_both_flushes() {
    let collector = Collector::start().await;
    let parts = Parts::start().await.unwrap();
    Pingd::migrate(&parts).await;
    let mut env = parts.env().to_vec();
    env.extend(collector.env());
    env.push(("OTEL_TRACES_SAMPLER", "parentbased_always_off".into()));
    let mut named = env.clone();
    named.push(("OTEL_SERVICE_NAME", "counter".into()));
    let (server, _processor) =
        tokio::join!(Pingd::start_with_env("server", env), Pingd::start_with_env("processor", named));
    // A processor that is not counting yet would start after the first event.
    server.record(SOURCE, "", 0).await;
    wait_until_counted(&server, 1).await;
    record_traced(&server).await;
    wait_until_counted(&server, 2).await;

    let names = [RECORD, "commit", "publish", "flush counters", "flush views"];
    let [call, commit, publish, counters, views] = collector.wait_for(names).await;
    assert_eq!(hex(&call.span.parent_span_id), CALLER);
    assert_eq!(call.text("rpc.response.status_code").as_deref(), Some("ok"));
    assert!(commit.is_linked_to(&call) && commit.span.parent_span_id == call.span.span_id, "{commit:#?}");
    assert!(publish.is_linked_to(&commit), "{publish:#?}");
    assert!(counters.is_linked_to(&publish) && views.is_linked_to(&publish), "{counters:#?} {views:#?}");
    let services = [&call, &commit, &publish, &counters, &views].map(|received| received.service.as_str());
    assert_eq!(services, ["ping-server", "ping-server", "ping-server", "counter", "counter"]);
    // Neither the other calls nor the batch without a traced call have spans.
    for received in collector.spans() {
        assert_eq!(hex(&received.span.trace_id), TRACE, "{received:#?}");
    }

    let of_publish = format!("00-{TRACE}-{}-01", hex(&publish.span.span_id));
    let mut found = headers(&parts, 2);
    found.sort();
    assert_eq!(found, [None, Some(of_publish.clone())]);
    // A server without a collector does not pass on what a caller sends.
    let untraced = Pingd::server(&parts).await;
    record_traced(&untraced).await;
    wait_until_counted(&untraced, 3).await;
    let mut found = headers(&parts, 3);
    found.sort();
    assert_eq!(found, [None, None, Some(of_publish)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_sent_when_a_program_ends() {
    let collector = Collector::start().await;
    let [(_, endpoint), _] = collector.env();
    let args = ["--memory", "--otlp-endpoint", &endpoint];
    // Without the variable that shortens it, the exporter's interval is five seconds.
    let mut pingd = Pingd::dev(&args).await;
    pingd.record(SOURCE, "", 0).await;
    wait_until_counted(&pingd, 1).await;
    record_traced(&pingd).await;
    wait_until_counted(&pingd, 2).await;
    assert_eq!(pingd.terminate().await, Some(0), "{}", pingd.log_tail());
    let names = [RECORD, "commit", "publish", "flush counters", "flush views"];
    let spans = collector.spans();
    for name in names {
        let of_call = |received: &&ReceivedSpan| received.span.name == name && hex(&received.span.trace_id) == TRACE;
        assert!(spans.iter().find(of_call).is_some_and(|found| found.service == "ping-embedded"), "{name}: {spans:#?}");
    }
}

/// A gRPC call of a caller whose span is sampled.
fn traced<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_streams_by_grpc_are_traced_and_their_commits_are_linked_to_them() {
    let collector = Collector::start().await;
    let [(_, endpoint), _] = collector.env();
    let args = ["--memory", "--otlp-endpoint", &endpoint, "--traces-sampler", "parentbased_always_off"];
    let mut pingd = Pingd::dev(&args).await;
    let client = Client::connect(&pingd.api).await.unwrap();
    client.ping(PingRequest::default()).await.unwrap();
    client.ping(traced(PingRequest::default())).await.unwrap();
    let batches = tokio_stream::iter([StreamPingsRequest { pings: vec![PingRequest::default()] }]);
    let mut answers = client.stream_pings(traced(batches)).await.unwrap().into_inner();
    while let Some(answer) = answers.message().await.unwrap() {
        assert_eq!(answer.accepted, 1);
    }
    drop(client);
    assert_eq!(pingd.terminate().await, Some(0), "{}", pingd.log_tail());
    let spans = collector.spans();
    let named = |name: &'static str| spans.iter().filter(move |received| received.span.name == name);
    for method in ["ping.v1.PingService/Ping", "ping.v1.PingService/StreamPings"] {
        let calls: Vec<_> = named(method).collect();
        assert_eq!(calls.len(), 1, "the call without a sampled caller has no span: {spans:#?}");
        assert_eq!(hex(&calls[0].span.parent_span_id), CALLER);
        assert_eq!(calls[0].text("rpc.response.status_code").as_deref(), Some("ok"));
        assert!(named("commit").any(|commit| commit.is_linked_to(calls[0])), "{spans:#?}");
    }
}

/// Records `count` events, all of which are traced.
async fn record_many(pingd: &Pingd, count: usize) {
    let record = |_| async { pingd.record(SOURCE, "", 0).await };
    stream::iter(0..count).for_each_concurrent(32, record).await;
}

async fn is_unaffected_by(endpoint: &str) {
    let mut pingd = Pingd::dev(&["--memory", "--otlp-endpoint", endpoint]).await;
    record_many(&pingd, 3_000).await;
    pingd.wait_for_count(3_000).await;
    let started = Instant::now();
    while pingd.metric("ping_trace_spans_total{result=\"dropped\"}").await == 0.0 {
        assert!(started.elapsed() < TIMEOUT, "no span is dropped\n{}", pingd.log_tail());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(pingd.metric("ping_trace_spans_total{result=\"exported\"}").await, 0.0);
    assert_eq!(pingd.terminate().await, Some(0), "{}", pingd.log_tail());
    let warnings = pingd.log().lines().filter(|line| line.contains("dropped")).count();
    assert!((1..=2).contains(&warnings), "{}", pingd.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_acknowledged_and_counted_while_the_collector_is_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    is_unaffected_by(&endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_acknowledged_and_counted_while_the_collector_is_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Connections are accepted by the kernel, and never answered.
    is_unaffected_by(&format!("http://{}", listener.local_addr().unwrap())).await;
}

#[tokio::test]
async fn an_invalid_endpoint_is_refused_in_words() {
    let mut command = Command::new(program());
    command.args(["dev", "--memory", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317").kill_on_drop(true);
    let output = timeout(TIMEOUT, command.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("\"collector:4317\""), "{said}");
    assert!(said.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && said.contains("http://HOST:PORT"), "{said}");
}
