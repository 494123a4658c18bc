//! A pipeline with traffic of every kind, and the embedded program with TLS, scraped by Prometheus.

use std::time::{Duration, Instant};

use ping_testbed::{
    Parts,
    prometheus::{Prometheus, Target},
};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    authority::{Authority, Secret},
    policy::PolicyFile,
    processes::{Pingd, TIMEOUT},
};

/// Everyone may do everything, within a quota.
const POLICY: &str = "anonymous: [ingest, read, admin, metrics]
quotas: [{name: everyone, callers: [anonymous], eventsPerSecond: 100000}]";

/// A pipeline under a Prometheus.
pub struct Scraped {
    pub parts: Parts,
    pub server: Pingd,
    pub processor: Pingd,
    pub embedded: Pingd,
    pub prometheus: Prometheus,
    authority: Authority,
    /// Of the embedded program.
    certificate: Secret,
    _policy: PolicyFile,
}

impl Scraped {
    /// Starts everything. Prometheus evaluates `rules`.
    pub async fn start(rules: &str) -> Self {
        let parts = Parts::start().await.unwrap();
        Pingd::migrate(&parts).await;
        let policy = PolicyFile::new(POLICY);
        let policy_path = policy.path().to_str().unwrap().to_owned();
        let authority = Authority::new("ca");
        let certificate = Secret::new(&authority.server(2099), &authority.pem);
        let flags = certificate.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let with_policy = ["--access-policy", &policy_path];
        let (server, processor, embedded) = tokio::join!(
            Pingd::server_with(&parts, &with_policy),
            Pingd::processor(&parts, &[]),
            Pingd::dev_with_tls(&flags, authority.http(None)),
        );
        let ca = certificate.path("ca.crt");
        let targets =
            [("demo-server", &server, None), ("demo-processor", &processor, None), ("dev", &embedded, Some(&*ca))]
                .map(|(job, program, ca)| Target { job, url: &program.admin, ca });
        let prometheus = Prometheus::start(&targets, rules).await.unwrap();
        Self { parts, server, processor, embedded, prometheus, authority, certificate, _policy: policy }
    }

    /// Gives the embedded program another certificate, which expires after `lifetime`.
    pub fn certify(&mut self, lifetime: Duration) {
        let certificate = self.authority.server_for(lifetime);
        self.certificate.replace(&certificate, &self.authority.pem);
    }

    /// Sends events and queries, right and wrong ones, for a few scrapes.
    pub async fn traffic(&self) {
        let until = Instant::now() + Duration::from_secs(12);
        let mut events = 0;
        while Instant::now() < until {
            for program in [&self.server, &self.embedded] {
                program.ping(json!({})).await;
                let event = json!({"source": format!("s{}", events % 7), "kind": "failed"});
                for (method, body) in [
                    ("EventService/Record", event.clone()),
                    ("EventService/RecordBatch", json!({"events": [event]})),
                    ("PingService/PingCount", json!({})),
                    ("PingService/PingCount", json!({"strong": true})),
                    ("SourceService/SourceStats", json!({"source": "s1"})),
                    ("SourceService/TopSources", json!({"limit": 3})),
                    ("SourceService/GetStatus", json!({"source": "s1"})),
                ] {
                    let (status, answer) = program.ask(method, &body).await.unwrap();
                    assert_eq!(status, 200, "{method}: {answer}");
                }
                let (status, _) = program.ask("PingService/Ping", &json!({"timestampMs": "1"})).await.unwrap();
                assert_eq!(status, 400);
                let (status, _) = program.ask("PingService/Nothing", &json!({})).await.unwrap();
                assert_eq!(status, 404);
            }
            events += 3;
            sleep(Duration::from_millis(100)).await;
        }
        self.server.wait_for_count(events).await;
    }

    /// Waits until `expression` selects something.
    pub async fn eventually(&self, expression: &str) {
        let started = Instant::now();
        while self.prometheus.query(expression).unwrap().is_empty() {
            assert!(started.elapsed() < TIMEOUT, "nothing is selected by {expression}");
            sleep(Duration::from_millis(500)).await;
        }
    }
}
