//! Every protocol on one port: responses, and errors for invalid input.

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::StreamExt;
use ping_client::Client;
use ping_proto::{PingCountRequest, PingRequest, StreamPingsRequest, VerifyRequest};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::processes::{EXAMPLE, Pingd};

#[tokio::test]
async fn bad_input_is_refused_in_words() {
    let pingd = Pingd::dev(&["--memory"]).await;
    for (body, word) in [
        (json!({"timestamp_ms": -1}), "negative"),
        (json!({"timestamp_ms": 1_728_926_331}), "seconds"),
        (json!({"timestamp_ms": i64::MAX}), "ahead"),
        (json!({"timestamp_ms": "yesterday"}), "timestamp_ms: expected an integer"),
        (json!({"timestamp_ms": EXAMPLE, "event_id": "7"}), "UUID"),
        (json!({"timestamp_ms": EXAMPLE, "source": "x".repeat(300)}), "255"),
        (json!([1, 2]), "the JSON body: expected an object"),
    ] {
        let (status, answer) = pingd.call("Ping", &body).await.unwrap();
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_argument")), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(word), "{answer} should say {word}");
    }
    let too_long = json!({"timestamp_ms": EXAMPLE, "source": "x".repeat(100_000)});
    let (status, answer) = pingd.call("Ping", &too_long).await.unwrap();
    assert_eq!((status, &answer["code"]), (429, &json!("resource_exhausted")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("limit 65536"), "{answer}");
    let (status, answer) = pingd.call("PingCount", &json!({"timeRange": {"start": 9, "end": 5}})).await.unwrap();
    assert_eq!((status, &answer["code"]), (400, &json!("invalid_argument")));
    assert_eq!(pingd.count(json!({"strong": true})).await.0, 0, "none was recorded");
}

#[tokio::test]
async fn other_methods_and_media_types_get_an_error_of_the_protocol() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let http = reqwest::Client::new();
    let url = format!("{}/ping.v1.PingService/Ping", pingd.api);
    let get = http.get(&url).send().await.unwrap();
    assert_eq!((get.status().as_u16(), get.headers()["allow"].to_str().unwrap()), (405, "POST"));
    let text = http.post(&url).header("content-type", "text/plain").body("x").send().await.unwrap();
    assert_eq!(text.status(), 415);
    let unknown = http.post(format!("{}/ping.v1.PingService/Pong", pingd.api)).send().await.unwrap();
    assert_eq!(unknown.status(), 404);
    let error: Value = unknown.json().await.unwrap();
    assert_eq!(error["code"], "unimplemented");
    assert!(error["message"].as_str().unwrap().starts_with("unknown method /ping.v1.PingService/Pong"), "{error}");
}

#[tokio::test]
async fn a_browser_gets_a_page_that_needs_nothing_from_elsewhere() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let answer = reqwest::get(format!("{}/", pingd.api)).await.unwrap().error_for_status().unwrap();
    let header = |name| answer.headers()[name].to_str().unwrap().to_owned();
    let (kind, policy) = (header("content-type"), header("content-security-policy"));
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    let page = answer.text().await.unwrap();
    assert!(kind.starts_with("text/html"), "{kind}");
    let between = |start: &str, end: &str| {
        page.split_once(start)
            .and_then(|(_, rest)| rest.split_once(end))
            .unwrap_or_else(|| panic!("no {start} in {page}"))
            .0
    };
    for content in [between("<script type=\"module\">", "</script>"), between("<style>", "</style>")] {
        let hash = BASE64_STANDARD.encode(digest(&SHA256, content.as_bytes()));
        assert!(policy.contains(&format!("'sha256-{hash}'")), "a browser would block this: {content}");
    }
}

#[tokio::test]
async fn the_same_id_is_one_event_and_another_content_is_a_conflict() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let id = "018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f";
    for _ in 0..3 {
        pingd.ping(json!({"timestampMs": EXAMPLE, "eventId": id})).await;
    }
    let (status, answer) = pingd.call("Ping", &json!({"timestampMs": EXAMPLE + 1, "eventId": id})).await.unwrap();
    assert_eq!((status, &answer["code"]), (409, &json!("already_exists")), "{answer}");
    pingd.wait_for_count(1).await;
}

/// Both services take the id under the same names, so a retry counts once by either.
#[tokio::test]
async fn a_retry_with_the_same_event_id_counts_once_in_both_services() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let mut expected = 0;
    for first in ["PingService/Ping", "EventService/Record"] {
        for retry in ["PingService/Ping", "EventService/Record"] {
            let id = uuid::Uuid::now_v7().to_string();
            for (method, name) in [(first, "eventId"), (retry, "eventId"), (retry, "event_id")] {
                let body = json!({name: id, "source": "a", "kind": "retried", "timestampMs": EXAMPLE, "receipt": true});
                let (status, answer) = pingd.ask(method, &body).await.unwrap();
                assert_eq!((status, &answer["eventId"]), (200, &json!(id)), "{method} {name}: {answer}");
            }
            expected += 1;
        }
    }
    let id = uuid::Uuid::now_v7().to_string();
    for accepted in ["1", "0"] {
        let body = json!({"events": [{"eventId": id, "source": "a", "timestampMs": EXAMPLE}]});
        let (status, answer) = pingd.ask("EventService/RecordBatch", &body).await.unwrap();
        assert_eq!((status, &answer["accepted"]), (200, &json!(accepted)), "{answer}");
    }
    expected += 1;
    pingd.wait_for_count(expected).await;
}

#[tokio::test]
async fn an_invalid_token_is_refused_with_advice() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let (status, answer) = pingd.call("PingCount", &json!({"after": "yesterday"})).await.unwrap();
    let message = "`after` is not a valid token; use the `token` returned by Ping with receipt=true";
    assert_eq!((status, &answer["code"], &answer["message"]), (400, &json!("invalid_argument"), &json!(message)));
    assert_eq!(answer["details"][0]["type"], "google.rpc.BadRequest", "{answer}");
}

#[tokio::test]
async fn binary_connect_bodies_work() {
    use buffa::Message;
    let pingd = Pingd::dev(&["--memory"]).await;
    let ping = PingRequest { timestamp_ms: EXAMPLE, ..PingRequest::default() };
    let answer = reqwest::Client::new()
        .post(format!("{}/ping.v1.PingService/Ping", pingd.api))
        .header("content-type", "application/proto")
        .body(ping.encode_to_vec())
        .send()
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), answer.bytes().await.unwrap().len()), (200, 0));
    pingd.wait_for_count(1).await;
}

#[tokio::test]
async fn grpc_clients_ping_count_and_verify() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let client = Client::connect(&pingd.api).await.unwrap();
    let ping = PingRequest { timestamp_ms: EXAMPLE, receipt: true, ..PingRequest::default() };
    let receipt = client.ping(ping).await.unwrap().into_inner();
    let count = PingCountRequest { after: receipt.token.unwrap(), ..PingCountRequest::default() };
    let answer = client.ping_count(count).await.unwrap().into_inner();
    assert_eq!((answer.ping_count, answer.exact), (1, true));
    let refused = client.ping(PingRequest { timestamp_ms: -1, ..PingRequest::default() }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let admin = Client::connect(&pingd.admin).await.unwrap();
    let proof = admin.verify(VerifyRequest {}).await.unwrap().into_inner();
    assert!(proof.exact && proof.rows == 1, "{proof:?}");
}

#[tokio::test]
async fn a_stream_acknowledges_batches_in_order_and_lists_what_it_refused() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let client = Client::connect(&pingd.api).await.unwrap();
    let batch = |place: i64| {
        let good = (0..100).map(|_| PingRequest { timestamp_ms: EXAMPLE + place, ..PingRequest::default() });
        let bad = PingRequest { timestamp_ms: -1, ..PingRequest::default() };
        StreamPingsRequest { pings: good.chain([bad]).collect() }
    };
    let batches = tokio_stream::iter((0..50).map(batch));
    let answers: Vec<_> = client.stream_pings(batches).await.unwrap().into_inner().collect().await;
    assert_eq!(answers.len(), 50);
    for (place, answer) in answers.into_iter().enumerate() {
        let answer = answer.unwrap();
        assert_eq!((answer.batches, answer.accepted), (place as i64 + 1, 100));
        assert_eq!((answer.refused.len(), answer.refused[0].index), (1, 100));
        assert!(answer.refused[0].message.contains("negative"), "{:?}", answer.refused);
    }
    pingd.wait_for_count(5_000).await;
}

#[tokio::test]
async fn a_batch_without_a_valid_ping_is_acknowledged_at_once() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let client = Client::connect(&pingd.api).await.unwrap();
    let bad = StreamPingsRequest { pings: vec![PingRequest { timestamp_ms: -1, ..PingRequest::default() }] };
    let batches = tokio_stream::iter([StreamPingsRequest::default(), bad]);
    let answers: Vec<_> = client.stream_pings(batches).await.unwrap().into_inner().collect().await;
    let refused: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().refused.len()).collect();
    assert_eq!(refused, [0, 1]);
    pingd.ping(json!({})).await;
    pingd.wait_for_count(1).await;
}

#[tokio::test]
async fn grpc_web_is_answered_on_the_same_port() {
    use buffa::Message;
    let pingd = Pingd::dev(&["--memory"]).await;
    let message = PingRequest { timestamp_ms: EXAMPLE, ..PingRequest::default() }.encode_to_vec();
    let mut body = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    body.extend(message);
    let answer = reqwest::Client::new()
        .post(format!("{}/ping.v1.PingService/Ping", pingd.api))
        .header("content-type", "application/grpc-web+proto")
        .header("origin", "https://page.example")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers().get("access-control-allow-origin"), None, "pages of other origins may not call");
    let bytes = answer.bytes().await.unwrap();
    assert!(bytes.ends_with(b"grpc-status: 0\r\n"), "{bytes:?}");
    pingd.wait_for_count(1).await;
}

#[tokio::test]
async fn health_and_reflection_are_there_for_grpc_tools() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let channel = tonic::transport::Channel::from_shared(pingd.api.clone()).unwrap().connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: "ping.v1.PingService".into() };
    let mut serving = false;
    for _ in 0..50 {
        let status = health.check(request.clone()).await.unwrap().into_inner().status();
        serving = status == tonic_health::pb::health_check_response::ServingStatus::Serving;
        if serving {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(serving);
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let answer = reflection.server_reflection_info(tokio_stream::iter([ask])).await.unwrap();
    let answer = answer.into_inner().next().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(services)) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    assert!(
        names.contains(&"ping.v1.PingService".into()) && names.contains(&"grpc.health.v1.Health".into()),
        "{names:?}"
    );
}

#[tokio::test]
async fn curl_speaks_to_it_as_the_readme_says() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let curl = async |method: &str, body: &str| {
        let url = format!("{}/ping.v1.PingService/{method}", pingd.api);
        let args = ["-sf", "-X", "POST", &url, "-H", "Content-Type: application/json", "-d", body];
        let output = Command::new("curl").args(args).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(curl("Ping", r#"{"timestamp_ms": 1728926331000}"#).await, "{}");
    pingd.wait_for_count(1).await;
    assert!(curl("PingCount", "{}").await.contains(r#""pingCount":"1""#));
}
