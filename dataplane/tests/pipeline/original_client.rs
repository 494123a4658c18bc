//! A client generated from the first version of the proto, which had one field per message, still works.

use prost::Message;
use serde_json::{Value, json};
use tonic::{Request, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

use crate::processes::{EXAMPLE, Pingd};

/// The messages of that version, written by hand so that no later field can slip in.
#[derive(Clone, PartialEq, Message)]
struct PingRequest {
    #[prost(int64, tag = "1")]
    timestamp_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PingResponse {}

#[derive(Clone, PartialEq, Message)]
struct TimeRange {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    end: i64,
}

#[derive(Clone, PartialEq, Message)]
struct PingCountRequest {
    #[prost(message, optional, tag = "1")]
    time_range: Option<TimeRange>,
}

#[derive(Clone, PartialEq, Message)]
struct PingCountResponse {
    #[prost(int64, tag = "1")]
    ping_count: i64,
}

async fn call<Q: Message + 'static, A: Message + Default + 'static>(channel: &Channel, method: &str, request: Q) -> A {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path: PathAndQuery = format!("/ping.v1.PingService/{method}").parse().unwrap();
    client.unary(Request::new(request), path, ProstCodec::<Q, A>::default()).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_client_of_the_original_proto_pings_and_counts_by_grpc() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let channel = Channel::from_shared(pingd.api.clone()).unwrap().connect().await.unwrap();
    for place in 0..3 {
        let request = PingRequest { timestamp_ms: EXAMPLE + place };
        assert_eq!(call::<_, PingResponse>(&channel, "Ping", request).await, PingResponse {});
    }
    let now: PingResponse = call(&channel, "Ping", PingRequest { timestamp_ms: 0 }).await;
    assert_eq!(now, PingResponse {});
    pingd.wait_for_count(4).await;
    for (range, expected) in [
        (None, 4),
        (Some(TimeRange { start: EXAMPLE, end: EXAMPLE + 2 }), 2),
        (Some(TimeRange { start: EXAMPLE + 1, end: 0 }), 3),
        (Some(TimeRange { start: EXAMPLE, end: EXAMPLE }), 0),
    ] {
        let request = PingCountRequest { time_range: range.clone() };
        let response: PingCountResponse = call(&channel, "PingCount", request).await;
        assert_eq!(response.ping_count, expected, "{range:?}");
    }
}

/// With the names of the proto and those of proto3 JSON, which every generated client may use.
#[tokio::test]
async fn a_client_of_the_original_proto_pings_and_counts_by_connect_json() {
    let pingd = Pingd::dev(&["--memory"]).await;
    pingd.ping(json!({"timestamp_ms": EXAMPLE})).await;
    pingd.ping(json!({"timestampMs": (EXAMPLE + 1).to_string()})).await;
    pingd.ping(json!({"timestamp_ms": (EXAMPLE + 60_000).to_string()})).await;
    pingd.wait_for_count(3).await;
    let count = async |request: Value| pingd.count(request).await.0;
    assert_eq!(count(json!({})).await, 3);
    assert_eq!(count(json!({"time_range": {"start": EXAMPLE, "end": EXAMPLE + 60_000}})).await, 2);
    assert_eq!(count(json!({"timeRange": {"start": EXAMPLE.to_string()}})).await, 3);
    let (_, response) = pingd.call("PingCount", &json!({"time_range": {"start": EXAMPLE + 1}})).await.unwrap();
    assert_eq!(response["pingCount"], "2", "an int64 is text in proto3 JSON: {response}");
}
