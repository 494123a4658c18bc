//! What gRPC tools ask a server about itself: its health, and its API.

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::processes::Pingd;

#[tokio::test]
async fn health_answers_for_every_service_and_a_watch_reports_changes_only() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let channel = Channel::from_shared(pingd.api.clone()).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let services = ["", "ping.v1.PingService", "ping.v1.EventService", "ping.v1.SourceService", "ping.v1.LiveService"];
    for service in services {
        let request = HealthCheckRequest { service: service.into() };
        let mut status = health.check(request.clone()).await.unwrap().into_inner().status;
        while status != 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            status = health.check(request.clone()).await.unwrap().into_inner().status;
        }
    }
    let unknown = health.check(HealthCheckRequest { service: "ping.v1.Nothing".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status, 1);
    assert!(timeout(Duration::from_secs(2), watch.next()).await.is_err(), "the state did not change");
    let list = reqwest::Client::new().post(format!("{}/grpc.health.v1.Health/List", pingd.api)).json(&json!({}));
    let list: Value = list.send().await.unwrap().json().await.unwrap();
    for service in services {
        assert_eq!(list["statuses"][service]["status"], "SERVING", "{list}");
    }
}

/// More requests than the memory budget has room for at once.
#[tokio::test]
async fn a_stream_of_reflection_holds_one_request_at_a_time() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    let pingd = Pingd::dev(&["--memory", "--max-request-memory", "16777216"]).await;
    let channel = Channel::from_shared(pingd.api.clone()).unwrap().connect().await.unwrap();
    let request = ServerReflectionRequest {
        host: "x".repeat(12_000),
        message_request: Some(MessageRequest::FileContainingSymbol("no.such.Service".into())),
    };
    let requests = futures::stream::iter(std::iter::repeat_n(request, 3_000)).chain(futures::stream::pending());
    let opened = ServerReflectionClient::new(channel).server_reflection_info(requests).await;
    let mut answers = opened.unwrap().into_inner().take(3_000);
    let mut answered = 0;
    while let Some(answer) = answers.next().await {
        answer.unwrap();
        answered += 1;
    }
    assert_eq!(answered, 3_000);
    let held = pingd.metric("ping_transport_budget_bytes").await;
    assert!(held < 200_000.0, "the stream holds {held} bytes");
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let pingd = Pingd::dev(&["--memory"]).await;
    let channel = Channel::from_shared(pingd.api.clone()).unwrap().connect().await.unwrap();
    let expected = [
        "grpc.health.v1.Health",
        "ping.v1.EventService",
        "ping.v1.LiveService",
        "ping.v1.PingService",
        "ping.v1.SourceService",
    ];
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let answer = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner().next().await;
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(expected.iter().all(|name| names.contains(name)) && !names.contains(&"ping.v1.AdminService"), "{names:?}");
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            "ping.v1.PingService".into(),
        )),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let answer = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner().next().await;
    let described = answer.unwrap().unwrap().message_response;
    let is_file =
        matches!(described, Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)));
    assert!(is_file, "{described:?}");
}
