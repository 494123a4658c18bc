//! CloudEvents by HTTP.

use serde_json::{Value, json};

use crate::processes::Pingd;

const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json; charset=UTF-8";

/// Sends a body; returns HTTP status and answer.
async fn send(pingd: &Pingd, content_type: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}/cloudevents", pingd.api);
    let request = reqwest::Client::new().post(url).header("content-type", content_type).body(body.to_string());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/shops/7", "type": "com.example.sale", "data": {"price": [1, {}]}})
}

#[tokio::test]
async fn cloud_events_are_counted_once_by_id_and_source() {
    let pingd = Pingd::dev(&["--memory"]).await;
    for _ in 0..2 {
        assert_eq!(send(&pingd, ONE, &event("order-1")).await, (200, json!({})));
    }
    let mut elsewhere = event("order-1");
    elsewhere["source"] = json!("/shops/8");
    assert_eq!(send(&pingd, ONE, &elsewhere).await.0, 200);
    let batch = json!([event("order-1"), event("order-2"), event("018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f")]);
    let (status, answer) = send(&pingd, BATCH, &batch).await;
    assert_eq!((status, &answer["accepted"], &answer["refused"]), (200, &json!("2"), &json!([])), "{answer}");
    assert_eq!(pingd.count(json!({"strong": true})).await.0, 4);
    // The API knows the events by the same ids. The second is what Python computes for the first event's source and id.
    for id in ["018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f", "795bd8ff-fa31-51c5-ae97-c4fb777f9779"] {
        let same = json!({"eventId": id, "source": "/shops/7", "kind": "com.example.sale"});
        assert_eq!(pingd.ask("EventService/Record", &same).await.unwrap().0, 200);
    }
    assert_eq!(pingd.count(json!({"strong": true})).await.0, 4);
}

#[tokio::test]
async fn the_time_of_a_cloud_event_is_that_of_the_event() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let mut at = event("1");
    at["time"] = json!("2024-10-14T19:18:51+02:00");
    assert_eq!(send(&pingd, ONE, &at).await.0, 200);
    let range = json!({"strong": true, "timeRange": {"start": 1_728_926_331_000_i64, "end": 1_728_926_331_001_i64}});
    assert_eq!(pingd.count(range).await.0, 1);
    at["time"] = json!("2024-10-14T19:18:52+02:00");
    let (status, answer) = send(&pingd, ONE, &at).await;
    assert_eq!((status, &answer["code"]), (409, &json!("already_exists")), "{answer}");
}

#[tokio::test]
async fn limits_and_errors_are_those_of_the_api() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let with = |attribute: &str, value: Value| {
        let mut event = event("1");
        event[attribute] = value;
        event
    };
    for (body, words) in [
        (with("specversion", json!("0.3")), "specversion: "),
        (with("time", json!("today")), "time: not a time of RFC 3339"),
        (with("time", json!("1999-01-01T00:00:00Z")), "before the year 2000"),
        (with("source", json!("x".repeat(256))), "source must be at most 255 bytes"),
        (with("type", json!("x".repeat(65))), "kind must be at most 64 bytes"),
        (json!([]), "the JSON body: expected an object"),
    ] {
        let (status, answer) = send(&pingd, ONE, &body).await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_argument")), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(words), "{answer}");
    }
    // An event that is no CloudEvent makes the batch fail; one that the API refuses is listed.
    let (status, answer) = send(&pingd, BATCH, &json!([event("1"), {"specversion": "1.0"}])).await;
    assert!(status == 400 && answer["message"].as_str().unwrap().starts_with("[1]: missing field `id`"), "{answer}");
    assert_eq!(pingd.count(json!({"strong": true})).await.0, 0);
    let (status, answer) = send(&pingd, BATCH, &json!([event("1"), with("type", json!("x".repeat(65)))])).await;
    let refused = (&answer["refused"][0]["index"], &answer["refused"][0]["code"]);
    assert_eq!((status, refused), (200, (&json!(1), &json!("invalid_argument"))), "{answer}");
    let (status, answer) = send(&pingd, ONE, &with("data", json!("x".repeat(100_000)))).await;
    assert_eq!((status, &answer["code"]), (429, &json!("resource_exhausted")), "{answer}");
    let (status, answer) = send(&pingd, BATCH, &Value::from(vec![event("1"); 10_001])).await;
    assert!(status == 400 && answer["message"].as_str().unwrap().contains("at most 10000"), "{answer}");
    let (status, answer) = send(&pingd, "application/json", &event("1")).await;
    assert!(status == 415 && answer["message"].as_str().unwrap().contains("application/cloudevents+json"), "{answer}");
}
