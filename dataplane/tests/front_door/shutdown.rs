//! A server that stops while clients keep their streams open.

use std::time::{Duration, Instant};

use buffa::bytes::Bytes;
use futures::StreamExt;
use tokio::time::sleep;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::{processes::Pingd, wire};

#[tokio::test]
async fn a_watch_of_health_and_reflection_end_when_the_server_stops() {
    let mut pingd = Pingd::dev(&["--memory", "--drain-seconds", "15"]).await;
    let channel = Channel::from_shared(pingd.api.clone()).unwrap().connect().await.unwrap();
    let mut watch = HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status, 1);
    let opened = ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::pending()).await;
    let mut reflection = opened.unwrap().into_inner();
    let started = Instant::now();
    let stopped = tokio::spawn(async move { (pingd.terminate().await, pingd) });
    // A watch may report that the server is about to stop.
    while watch.next().await.is_some() {}
    assert!(reflection.next().await.is_none());
    let (code, pingd) = stopped.await.unwrap();
    assert_eq!(code, Some(0), "{}", pingd.log_tail());
    assert!(started.elapsed() < Duration::from_secs(14), "it takes as long as it may: {:?}", started.elapsed());
    assert!(!pingd.log().contains("did not finish"), "{}", pingd.log_tail());
}

/// The answers of its streams cannot be sent, so they do not end.
#[tokio::test]
async fn a_client_that_reads_nothing_does_not_keep_a_server_from_stopping() {
    let mut pingd = Pingd::dev(&["--memory", "--drain-seconds", "3"]).await;
    let (requests, connection) = wire::connect_http2(&pingd.api, 0).await;
    let mut streams = Vec::new();
    for _ in 0..10 {
        let request = http::Request::post(format!("{}/ping.v1.EventService/RecordStream", pingd.api));
        let request = request.header("content-type", "application/grpc").body(()).unwrap();
        let (_, mut stream) = requests.clone().ready().await.unwrap().send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 0x0a, 0]), false).unwrap();
        streams.push(stream);
    }
    pingd.wait_for_count(10).await;
    sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    assert_eq!(pingd.terminate().await, Some(0), "the lanes end once the drain time is over\n{}", pingd.log_tail());
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    connection.abort();
}
