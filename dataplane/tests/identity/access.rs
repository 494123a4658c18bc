//! Ports and pages: what answers without credentials, and who may use the admin port.

use std::{process::Stdio, time::Instant};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    policy::{PolicyFile, call, token},
    processes::{Pingd, TIMEOUT, program},
};

async fn server(args: &[&str]) -> (Pingd, PolicyFile) {
    let tokens = [token("reader", "t-reader"), token("admin", "t-admin"), token("scraper", "t-scraper")].join(", ");
    let policy = PolicyFile::new(&format!(
        "tokens: [{tokens}]
rules:
- {{callers: [\"token:reader\"], permissions: [read]}}
- {{callers: [\"token:admin\"], permissions: [admin]}}
- {{callers: [\"token:scraper\"], permissions: [metrics]}}
"
    ));
    let path = policy.path();
    let pingd = Pingd::dev(&[&["--memory", "--access-policy", path.to_str().unwrap()], args].concat()).await;
    (pingd, policy)
}

async fn get(url: &str, token: Option<&str>) -> u16 {
    let mut request = reqwest::Client::new().get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn probes_answer_without_credentials_and_nothing_else_does() {
    let (pingd, _policy) = server(&[]).await;
    let (api, admin) = (&pingd.api, &pingd.admin);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(&format!("{admin}{path}"), None).await, 200, "{path}");
    }
    assert_eq!(call(&format!("{api}/grpc.health.v1.Health/Check"), None, &json!({})).await.0, 200);
    for (token, status) in [(None, 401), (Some("t-reader"), 403), (Some("t-scraper"), 200), (Some("t-admin"), 200)] {
        assert_eq!(get(&format!("{admin}/metrics"), token).await, status, "{token:?}");
    }
    assert_eq!(get(&format!("{admin}/unknown"), None).await, 401);
    for method in [
        "PingService/Ping",
        "PingService/PingCount",
        "EventService/Record",
        "EventService/RecordBatch",
        "SourceService/TopSources",
        "SourceService/GetStatus",
    ] {
        let (status, answer) = call(&format!("{api}/ping.v1.{method}"), None, &json!({})).await;
        assert_eq!((status, &answer["code"]), (401, &json!("unauthenticated")), "{method}");
    }
}

/// Browsers show the document of a 401. It has no data: that needs the token.
#[tokio::test]
async fn the_page_asks_for_a_token_where_reading_needs_one() {
    let (pingd, _policy) = server(&[]).await;
    let answer = reqwest::get(format!("{}/", pingd.api)).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["www-authenticate"]), (401, &"Bearer".parse().unwrap()));
    assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains("form-action 'none'"));
    let page = answer.text().await.unwrap();
    assert!(page.contains("id=\"token\" type=\"password\"") && page.contains("Authorization"), "{page}");
    let open = Pingd::dev(&["--memory"]).await;
    assert_eq!(reqwest::get(format!("{}/", open.api)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_admin_service_needs_its_permission_and_every_call_is_in_the_audit_log() {
    let (pingd, _policy) = server(&["--log-format", "json"]).await;
    for method in ["DeadLetters", "Verify"] {
        let url = format!("{}/ping.v1.AdminService/{method}", pingd.admin);
        for (token, status) in [(None, 401), (Some("t-reader"), 403), (Some("t-scraper"), 403), (Some("t-admin"), 200)]
        {
            assert_eq!(call(&url, token, &json!({})).await.0, status, "{method} {token:?}");
        }
    }
    let log = pingd.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let audited: Vec<_> = lines.filter(|line| line["target"] == "audit").collect();
    let outcome = |line: &Value| line["outcome"].as_str().unwrap().to_owned();
    let of_each = ["unauthenticated", "permission_denied", "permission_denied", "ok"];
    assert_eq!(audited.iter().map(outcome).collect::<Vec<_>>(), of_each.repeat(2));
    let last = &audited[7];
    assert_eq!(
        (&last["caller"], &last["method"]),
        (&json!("token:admin"), &json!("ping.v1.AdminService/Verify")),
        "{last}"
    );
    assert!(last["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{last}");
    assert!(!log.contains("t-admin") && !log.contains("t-reader"));
}

#[tokio::test]
async fn refused_calls_of_the_admin_service_fill_no_disk() {
    let (pingd, _policy) = server(&["--log-format", "json"]).await;
    let started = Instant::now();
    for _ in 0..300 {
        let url = format!("{}/ping.v1.AdminService/{}", pingd.admin, "x".repeat(8_000));
        assert_eq!(call(&url, None, &json!({})).await.0, 401);
    }
    let allowed = 10 * (started.elapsed().as_secs() as usize + 2);
    let log = pingd.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("\"audit\"")).collect();
    assert!(!lines.is_empty() && lines.len() <= allowed, "{} lines", lines.len());
    assert!(lines.iter().all(|line| line.len() < 500), "{}", lines[0]);
}

#[tokio::test]
async fn reflection_is_a_setting() {
    let list = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let status = async |pingd: &Pingd, token: Option<&str>| {
        let body = b"\0\0\0\0\x14{\"listServices\": \"\"} ".to_vec();
        let mut request = reqwest::Client::new()
            .post(format!("{}{list}", pingd.api))
            .header("content-type", "application/connect+json")
            .body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap().contains("\"ping.v1.PingService\""))
    };
    let (closed, _policy) = server(&[]).await;
    assert!(!status(&closed, None).await.1);
    assert_eq!(status(&closed, Some("t-reader")).await, (200, true));
    let (open, _policy) = server(&["--reflection", "open"]).await;
    assert_eq!(status(&open, None).await, (200, true));
    let off = Pingd::dev(&["--memory", "--reflection", "off"]).await;
    assert!(!status(&off, None).await.1);
}

#[tokio::test]
async fn only_pages_of_the_allowed_origins_may_call_from_a_browser() {
    let preflight = async |pingd: &Pingd, origin: &str| {
        let request =
            reqwest::Client::new().request(reqwest::Method::OPTIONS, format!("{}/ping.v1.PingService/Ping", pingd.api));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        request.header("access-control-request-headers", "authorization,content-type").send().await.unwrap()
    };
    let allowed = |answer: &reqwest::Response| answer.headers().get("access-control-allow-origin").cloned();
    let none = Pingd::dev(&["--memory"]).await;
    assert_eq!(allowed(&preflight(&none, "https://page.example").await), None);
    let (some, _policy) =
        server(&["--cors-origin", "https://page.example", "--cors-origin", "http://localhost:3000"]).await;
    for origin in ["https://page.example", "http://localhost:3000"] {
        let answer = preflight(&some, origin).await;
        assert_eq!((answer.status().as_u16(), allowed(&answer)), (200, Some(origin.parse().unwrap())));
        assert!(answer.headers()["vary"].to_str().unwrap().to_lowercase().contains("origin"));
    }
    for origin in ["https://evil.example", "https://page.example.evil", "null", "http://page.example"] {
        assert_eq!(allowed(&preflight(&some, origin).await), None, "{origin}");
    }
}

#[tokio::test]
async fn an_open_server_does_not_listen_where_others_can_reach_it() {
    for (args, flag) in [
        (["--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"], "--listen"),
        (["--listen", "127.0.0.1:0", "--admin-listen", "0.0.0.0:0"], "--admin-listen"),
    ] {
        let output = Command::new(program()).args(["dev", "--memory"]).args(args).stdin(Stdio::null()).output();
        let output = tokio::time::timeout(TIMEOUT, output).await.expect("it ends").unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(
            text.contains(&format!("{flag} 0.0.0.0:0"))
                && text.contains("--insecure")
                && text.contains("--access-policy"),
            "{text}"
        );
    }
    let pingd = Pingd::dev(&["--memory", "--insecure"]).await;
    pingd.ping(json!({})).await;
}

/// The page of a host whose name resolves to 127.0.0.1 has the origin of the server.
#[tokio::test]
async fn an_open_server_answers_requests_to_localhost_and_addresses_only() {
    let get = async |url: String, host: &str| {
        let answer = reqwest::Client::new().get(url).header("host", host).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let open = Pingd::dev(&["--memory"]).await;
    for url in [format!("{}/", open.api), format!("{}/metrics", open.admin)] {
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080"] {
            assert_eq!(get(url.clone(), host).await.0, 200, "{host}");
        }
        let (status, text) = get(url.clone(), "evil.example:8080").await;
        assert!(status == 403 && text.contains("--insecure"), "{status} {text}");
    }
    let ping = reqwest::Client::new().post(format!("{}/ping.v1.PingService/Ping", open.api)).json(&json!({}));
    assert_eq!(ping.header("host", "evil.example").send().await.unwrap().status(), 403);
    open.wait_for_count(0).await;

    let insecure = Pingd::dev(&["--memory", "--insecure"]).await;
    assert_eq!(get(format!("{}/", insecure.api), "pings.example").await.0, 200);
    let (closed, _policy) = server(&[]).await;
    assert_eq!(get(format!("{}/", closed.api), "pings.example").await.0, 401, "it needs a token by any name");
}
