//! Encrypted connections, client certificates and their replacement.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ping_client::{Client, TlsFiles};
use ping_proto::{PingRequest, StreamPingsRequest};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::transport::Channel;

use crate::{
    authority::{Authority, Certificate, Secret},
    policy::{PolicyFile, metric},
    processes::{Pingd, TIMEOUT},
};

async fn start(secret: &Secret, args: &[&str], http: reqwest::Client) -> Pingd {
    let flags = secret.flags();
    let all: Vec<_> = flags.iter().map(String::as_str).chain(args.iter().copied()).collect();
    Pingd::dev_with_tls(&all, http).await
}

async fn grpc(pingd: &Pingd, secret: &Secret) -> Client {
    let files = TlsFiles { ca: Some(secret.path("ca.crt")), ..TlsFiles::default() };
    let endpoint = Channel::from_shared(pingd.api.clone()).unwrap().tls_config(files.config().unwrap()).unwrap();
    Client::new(endpoint.connect().await.unwrap())
}

fn socket(address: &str) -> &str {
    address.split_once("://").unwrap().1
}

#[tokio::test]
async fn both_ports_are_encrypted_for_every_protocol() {
    let authority = Authority::new("test");
    let secret = Secret::new(&authority.server(2_040), &authority.pem);
    let pingd = start(&secret, &[], authority.http(None)).await;
    pingd.ping(json!({})).await;
    let client = grpc(&pingd, &secret).await;
    client.ping(PingRequest::default()).await.unwrap();
    let batches = tokio_stream::iter([StreamPingsRequest { pings: vec![PingRequest::default()] }]);
    let mut answers = client.stream_pings(batches).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().accepted, 1);
    pingd.wait_for_count(3).await;
    assert_eq!(pingd.verify().await.0, 200);
}

#[tokio::test]
async fn a_client_that_trusts_another_authority_does_not_connect() {
    let (authority, other) = (Authority::new("test"), Authority::new("other"));
    let secret = Secret::new(&authority.server(2_040), &authority.pem);
    let pingd = start(&secret, &[], authority.http(None)).await;
    let error = other.http(None).get(format!("{}/", pingd.api)).send().await.unwrap_err();
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
}

#[tokio::test]
async fn plaintext_on_a_tls_port_is_refused_in_words_and_so_is_the_reverse() {
    let authority = Authority::new("test");
    let secret = Secret::new(&authority.server(2_040), &authority.pem);
    let pingd = start(&secret, &[], authority.http(None)).await;
    for address in [&pingd.api, &pingd.admin] {
        let plain = address.replace("https://", "http://");
        let answer = reqwest::get(format!("{plain}/healthz")).await.unwrap();
        assert_eq!(answer.status(), 400);
        assert!(answer.text().await.unwrap().contains("this port needs TLS"));
    }
    let plain = pingd.api.replace("https://", "http://");
    let error = Client::connect(&plain).await.unwrap().ping(PingRequest::default()).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("this port needs TLS") || text.contains("INADEQUATE_SECURITY"), "{text}");

    let open = Pingd::dev(&["--memory"]).await;
    let secured = open.api.replace("http://", "https://");
    let error = timeout(TIMEOUT, authority.http(None).get(secured).send()).await.expect("it ends").unwrap_err();
    assert!(format!("{error:?}").contains("InvalidContentType"), "{error:?}");
}

#[tokio::test]
async fn a_client_certificate_is_an_identity_if_the_right_authority_signed_it() {
    let (authority, stranger) = (Authority::new("test"), Authority::new("stranger"));
    let secret = Secret::new(&authority.server(2_040), &authority.pem);
    let policy = PolicyFile::new("rules: [{callers: [\"cert:orders.shop\"], permissions: [ingest], bindSource: true}]");
    let (ca, path) = (secret.path("ca.crt"), policy.path());
    let args = ["--tls-client-ca", ca.to_str().unwrap(), "--access-policy", path.to_str().unwrap()];
    let pingd = start(&secret, &args, authority.http(None)).await;
    let ping = async |certificate: Option<&Certificate>, source: &str| {
        let request = authority.http(certificate).post(format!("{}/ping.v1.PingService/Ping", pingd.api));
        request.json(&json!({"source": source})).send().await.map(|answer| answer.status().as_u16())
    };
    let orders = authority.client("orders.shop");
    assert_eq!(ping(Some(&orders), "orders.shop").await.unwrap(), 200);
    assert_eq!(ping(Some(&orders), "other").await.unwrap(), 403, "the source is bound to the certificate");
    assert_eq!(ping(Some(&authority.client("mail.shop")), "orders.shop").await.unwrap(), 403);
    assert_eq!(ping(None, "orders.shop").await.unwrap(), 401);
    // It has the right name, and is signed by itself or by another authority.
    let own = rcgen::generate_simple_self_signed(["orders.shop".to_owned()]).unwrap();
    let own = Certificate { cert: own.cert.pem(), key: own.signing_key.serialize_pem() };
    for forged in [own, stranger.client("orders.shop")] {
        assert!(ping(Some(&forged), "orders.shop").await.is_err(), "the server ends the handshake");
    }
}

#[tokio::test]
async fn a_server_may_require_client_certificates() {
    let authority = Authority::new("test");
    let secret = Secret::new(&authority.server(2_040), &authority.pem);
    let ca = secret.path("ca.crt");
    let own = authority.client("a.shop");
    let args = ["--tls-client-ca", ca.to_str().unwrap(), "--tls-client-required"];
    let pingd = start(&secret, &args, authority.http(Some(&own))).await;
    pingd.ping(json!({})).await;
    let without = authority.http(None);
    assert!(without.get(format!("{}/", pingd.api)).send().await.is_err());
    let probe = without.get(format!("{}/healthz", pingd.admin)).send().await.unwrap();
    assert_eq!(probe.status(), 200, "kubelet has no certificate");
}

#[tokio::test]
async fn a_replaced_certificate_is_used_while_calls_succeed_and_an_invalid_one_is_not() {
    let authority = Authority::new("test");
    let mut secret = Secret::new(&authority.server(2_040), &authority.pem);
    let http = authority.http(None);
    let pingd = Arc::new(start(&secret, &[], http.clone()).await);
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let caller = tokio::spawn({
        let (pingd, stop, calls) = (Arc::clone(&pingd), Arc::clone(&stop), Arc::clone(&calls));
        async move {
            while !stop.load(Ordering::Relaxed) {
                // A new connection each time; panics on any error.
                pingd.ping(json!({})).await;
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let metrics = async || http.get(format!("{}/metrics", pingd.admin)).send().await.unwrap().text().await.unwrap();
    let expiry = "ping_transport_tls_certificate_expiry_timestamp_seconds";
    let before = metric(&metrics().await, expiry);
    secret.replace(&authority.server(2_041), &authority.pem);
    let started = Instant::now();
    while metric(&metrics().await, expiry) < before + 300.0 * 24.0 * 3_600.0 {
        assert!(started.elapsed() < TIMEOUT, "the new certificate is not used");
        sleep(Duration::from_millis(200)).await;
    }
    let after = metric(&metrics().await, expiry);
    // The key of another certificate.
    let broken = Certificate { key: authority.server(2_042).key, ..authority.server(2_043) };
    secret.replace(&broken, &authority.pem);
    while metric(&metrics().await, "ping_transport_tls_reload_failures_total") < 1.0 {
        assert!(started.elapsed() < TIMEOUT, "the failure is not counted");
        sleep(Duration::from_millis(200)).await;
    }
    assert!(pingd.log().contains("the key file and the certificate do not fit"));
    assert_eq!(metric(&metrics().await, expiry), after, "the old certificate stays");
    let seen = calls.load(Ordering::Relaxed);
    while calls.load(Ordering::Relaxed) < seen + 10 {
        assert!(started.elapsed() < TIMEOUT && !caller.is_finished(), "calls fail");
        sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::Relaxed);
    caller.await.unwrap();
}

#[tokio::test]
async fn slow_handshakes_do_not_delay_others_and_are_closed() {
    let authority = Authority::new("test");
    let secret = Secret::new(&authority.server(2_040), &authority.pem);
    let args = ["--header-timeout-seconds", "3", "--max-connections", "60"];
    let pingd = start(&secret, &args, authority.http(None)).await;
    let mut slow = Vec::new();
    for index in 0..50 {
        let mut stream = TcpStream::connect(socket(&pingd.api)).await.unwrap();
        if index % 2 == 0 {
            // The beginning of a handshake.
            stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
        }
        slow.push(stream);
    }
    timeout(Duration::from_secs(2), pingd.ping(json!({}))).await.expect("others are served");
    for mut stream in slow {
        let mut rest = Vec::new();
        let closed = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "a slow handshake is not closed");
    }
    let metrics =
        authority.http(None).get(format!("{}/metrics", pingd.admin)).send().await.unwrap().text().await.unwrap();
    assert!(metric(&metrics, "ping_transport_closed_connections_total{reason=\"handshake\"}") >= 50.0, "{metrics}");
}
