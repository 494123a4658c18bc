//! Fuzz targets: functions that take any bytes and must not panic, however the bytes were chosen.
//!
//! `make fuzz` runs each under libFuzzer (`fuzz_targets/`), which looks for inputs that reach new code. `cargo test` runs each with
//! mutations of the files in `corpus/`. Nothing else belongs here: what a target calls is the product's.

mod api;
pub mod mutate;

use ping_api::crd::PingPipeline;
use ping_core::{Event, TimeRange, Token};
use ping_identity::AccessPolicy;
use ping_operator::{cluster_state::ClusterState, validate::validate};
use uuid::Uuid;

/// A target: its name, which is that of its folder in `corpus/`, and what it does with the bytes.
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// Feeds the bytes to the code under test.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 10] = [
    Target { name: "connect_json", run: connect_json },
    Target { name: "connect_proto", run: connect_proto },
    Target { name: "grpc_frames", run: grpc_frames },
    Target { name: "cloud_events", run: cloud_events },
    Target { name: "record", run: record },
    Target { name: "outbox_payload", run: outbox_payload },
    Target { name: "event", run: event },
    Target { name: "time_range", run: time_range },
    Target { name: "manifest", run: manifest },
    Target { name: "access_policy", run: access_policy },
];

/// The body of a call by Connect, as JSON. The first byte chooses the method.
pub fn connect_json(bytes: &[u8]) {
    api::call_method("application/json", bytes);
}

/// The body of a call by Connect, encoded. The first byte chooses the method.
pub fn connect_proto(bytes: &[u8]) {
    api::call_method("application/proto", bytes);
}

/// The body of a call by gRPC-Web, which has the frames of gRPC. The first byte chooses the method.
pub fn grpc_frames(bytes: &[u8]) {
    api::call_method("application/grpc-web+proto", bytes);
}

/// CloudEvents: one, or a batch, as the first byte says.
pub fn cloud_events(bytes: &[u8]) {
    let (form, body) = bytes.split_first().unwrap_or((&0, &[]));
    let form = if form.is_multiple_of(2) { "" } else { "-batch" };
    api::call("/cloudevents", &format!("application/cloudevents{form}+json"), body);
}

/// A record of the log.
pub fn record(bytes: &[u8]) {
    drop(ping_kafka::decode_record(bytes));
}

/// A row of the outbox.
pub fn outbox_payload(bytes: &[u8]) {
    drop(ping_sql::outbox_payload::decode(bytes));
}

/// A token, and an event whose fields are parts of the bytes.
pub fn event(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_string().parse::<Token>(), Ok(token), "a token is read back as it was written");
    }
    let mut parts = text.split('|');
    let mut next = || parts.next().unwrap_or_default();
    let (timestamp, id, source, kind) = (next().parse().unwrap_or(0), next(), next(), next());
    for now in [0, 1_728_926_331_000, i64::MAX] {
        let _ = Event::accept(timestamp, id, source, kind, now, Uuid::nil);
    }
}

/// A range and how it is split for counting.
pub fn time_range(bytes: &[u8]) {
    let number =
        |at: usize| bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_le_bytes);
    let Ok(range) = TimeRange::new(number(0), number(8)) else { return };
    let split = range.split();
    assert!(split.rows.len() <= 2 && split.minutes.len() <= 2 && split.days.len() <= 1, "{split:?}");
    let _ = (range.whole_minutes(), range.whole_windows());
}

/// A PingPipeline as JSON, as far as the operator validates it itself.
pub fn manifest(bytes: &[u8]) {
    if let Ok(pipeline) = serde_json::from_slice::<PingPipeline>(bytes) {
        let _ = validate(&pipeline, &ClusterState::default());
    }
}

/// An access policy in YAML.
pub fn access_policy(bytes: &[u8]) {
    match AccessPolicy::parse(bytes) {
        Ok(policy) => drop(policy),
        Err(error) => assert!(!error.to_string().is_empty(), "an error says what is wrong"),
    }
}
