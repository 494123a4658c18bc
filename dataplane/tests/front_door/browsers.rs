//! What pages and caches need: counts over GET, and headers for them.

use http::Method;
use serde_json::{Value, json};

use crate::processes::Pingd;

#[tokio::test]
async fn counts_are_available_by_get_and_a_count_of_zero_is_shown() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let get = async |method: &str, message: &str| {
        let query = [("encoding", "json"), ("message", message), ("connect", "v1")];
        reqwest::Client::new().get(format!("{}/ping.v1.{method}", pingd.api)).query(&query).send().await.unwrap()
    };
    let answer = get("PingService/PingCount", "{}").await;
    assert_eq!(answer.headers()["cache-control"], "public, max-age=1");
    let count: Value = answer.json().await.unwrap();
    assert_eq!((&count["pingCount"], &count["exact"]), (&json!("0"), &json!(true)), "{count}");
    let strong = get("PingService/PingCount", r#"{"strong":true}"#).await;
    assert_eq!((strong.status().as_u16(), strong.headers().get("cache-control")), (200, None));
    let ping = get("PingService/Ping", "{}").await;
    assert_eq!(ping.status(), 405, "a method with effects needs POST");
    let stats: Value = get("SourceService/SourceStats", r#"{"source":"nobody"}"#).await.json().await.unwrap();
    assert_eq!(stats["count"], "0", "{stats}");
}

/// A cache may keep an answer for a page that a caller without an `Origin` has got, and for a caller that cannot decompress it.
#[tokio::test]
async fn answers_that_may_be_cached_are_for_every_caller() {
    let pingd = Pingd::dev(&["--memory", "--cors-origin", "https://page.example"]).await;
    let url = format!("{}/ping.v1.PingService/PingCount", pingd.api);
    let http = reqwest::Client::new();
    let get = http.get(&url).query(&[("encoding", "json"), ("message", "{}"), ("connect", "v1")]);
    let page = get.try_clone().unwrap().header("origin", "https://page.example");
    for (request, allowed) in [(get, None), (page, Some("https://page.example"))] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let origin = answer.headers().get("access-control-allow-origin").map(|origin| origin.to_str().unwrap());
        assert_eq!(origin, allowed);
        let vary: Vec<_> = answer.headers().get_all("vary").iter().filter_map(|value| value.to_str().ok()).collect();
        let vary = vary.join(", ");
        assert!(vary.contains("accept-encoding") && vary.contains("origin"), "{vary}");
    }
    let preflight = http.request(Method::OPTIONS, url).header("origin", "https://page.example");
    let answer = preflight.header("access-control-request-method", "POST").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["access-control-max-age"]),
        (200, &"7200".parse().unwrap())
    );
}
