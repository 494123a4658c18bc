//! An issuer as a Kubernetes API server is one: it says where its keys are, has a certificate of a private authority, and answers only calls
//! with a token.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
    time::{Duration, sleep},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::{
    authority::{Authority, Certificate},
    issuer::{Key, claims, jwks},
    policy::{PolicyFile, call},
    processes::{Pingd, TIMEOUT},
};

const READER: &str = "a-service-accounts-token";

/// What an issuer answers, and the `Authorization` that it got.
#[derive(Default)]
struct Answers {
    /// The description; by default, that of the issuer itself.
    description: Option<String>,
    keys: String,
    seen: Vec<(String, Option<String>)>,
}

/// A running issuer.
struct DiscoveredIssuer {
    url: String,
    answers: Arc<Mutex<Answers>>,
    _tasks: JoinSet<()>,
}

impl DiscoveredIssuer {
    async fn start(certificate: &Certificate, key: &Key) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(certificate.cert.as_bytes()).unwrap()];
        let secret = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(chain, secret).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers = Arc::new(Mutex::new(Answers { keys: jwks(&[key]), ..Answers::default() }));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, acceptor, address, Arc::clone(&answers)));
        Self { url: format!("https://{address}"), answers, _tasks: tasks }
    }

    fn seen(&self) -> Vec<(String, Option<String>)> {
        self.answers.lock().seen.clone()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, address: SocketAddr, answers: Arc<Mutex<Answers>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let mut request = vec![0; 4_096];
        let length = stream.read(&mut request).await.unwrap_or_default();
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let authorization =
            request.lines().find_map(|line| line.to_lowercase().strip_prefix("authorization: ").map(Into::into));
        let is_reader = authorization == Some(format!("bearer {READER}"));
        let body = {
            let mut answers = answers.lock();
            answers.seen.push((path.clone(), authorization));
            let own = json!({ "issuer": format!("https://{address}"), "jwks_uri": format!("https://{address}/openid/v1/jwks") });
            match &*path {
                "/.well-known/openid-configuration" => answers.description.clone().unwrap_or_else(|| own.to_string()),
                _ => answers.keys.clone(),
            }
        };
        let (status, body) = if is_reader { ("200 OK", body) } else { ("401 Unauthorized", String::new()) };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = stream.write_all((head + &body).as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

/// A server that trusts the issuer; its token and CA are in files.
struct Fixture {
    issuer: DiscoveredIssuer,
    key: Key,
    pingd: Pingd,
    folder: tempfile::TempDir,
    _policy: PolicyFile,
}

impl Fixture {
    async fn start(authority: &Authority, token: &str) -> Self {
        Self::start_with(authority, token, |_| None).await
    }

    /// `description`: the issuer's, from its URL. It is there before the server, which fetches keys as soon as it starts.
    async fn start_with(authority: &Authority, token: &str, description: impl FnOnce(&str) -> Option<String>) -> Self {
        let key = Key::new("a");
        let issuer = DiscoveredIssuer::start(&authority.server(2_040), &key).await;
        issuer.answers.lock().description = description(&issuer.url);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.crt"), &authority.pem).unwrap();
        std::fs::write(folder.path().join("token"), format!("{token}\n")).unwrap();
        let (url, files) = (&issuer.url, folder.path().display());
        let policy = PolicyFile::new(&format!(
            "issuers: [{{name: cluster, issuer: \"{url}\", audiences: [ping], jwks: {{caFile: {files}/ca.crt, tokenFile: {files}/token}}}}]\n\
             rules: [{{callers: [\"cluster:*\"], permissions: [ingest]}}]"
        ));
        let path = policy.path();
        let pingd = Pingd::dev(&["--memory", "--access-policy", path.to_str().unwrap()]).await;
        Self { issuer, key, pingd, folder, _policy: policy }
    }

    async fn ping(&self) -> u16 {
        let token = self.key.sign(&claims(&json!({ "iss": self.issuer.url })));
        call(&format!("{}/ping.v1.PingService/Ping", self.pingd.api), Some(&token), &json!({})).await.0
    }

    /// Keys are fetched at most once in ten seconds.
    async fn until_accepted(&self) {
        let started = Instant::now();
        while self.ping().await != 200 {
            assert!(started.elapsed() < TIMEOUT, "{}", self.pingd.log());
            sleep(Duration::from_millis(500)).await;
        }
    }
}

#[tokio::test]
async fn keys_are_found_by_discovery_with_the_ca_and_the_token_in_files() {
    let fixture = Fixture::start(&Authority::new("cluster"), READER).await;
    assert_eq!(fixture.ping().await, 200);
    let paths: Vec<String> = fixture.issuer.seen().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/.well-known/openid-configuration", "/openid/v1/jwks"]);
}

#[tokio::test]
async fn a_replaced_token_and_a_replaced_ca_are_read_again() {
    let authority = Authority::new("cluster");
    let fixture = Fixture::start(&authority, "expired").await;
    assert_ne!(fixture.ping().await, 200);
    // In this order, because the server may read both at any time.
    std::fs::write(fixture.folder.path().join("ca.crt"), Authority::new("stranger").pem).unwrap();
    std::fs::write(fixture.folder.path().join("token"), READER).unwrap();
    sleep(Duration::from_secs(11)).await;
    assert_ne!(fixture.ping().await, 200, "the issuer's certificate is of another authority");
    std::fs::write(fixture.folder.path().join("ca.crt"), &authority.pem).unwrap();
    fixture.until_accepted().await;
}

#[tokio::test]
async fn a_description_of_another_issuer_is_refused_and_another_server_gets_no_token() {
    let authority = Authority::new("cluster");
    let elsewhere = DiscoveredIssuer::start(&authority.server(2_040), &Key::new("a")).await;
    let other = &elsewhere.url;
    let of_another = |own: &str| json!({ "issuer": other, "jwks_uri": format!("{own}/openid/v1/jwks") }).to_string();
    let fixture = Fixture::start_with(&authority, READER, |own| Some(of_another(own))).await;
    assert_ne!(fixture.ping().await, 200, "the description is of another issuer");
    let own = &fixture.issuer.url;
    let with_keys_elsewhere = json!({ "issuer": own, "jwks_uri": format!("{other}/openid/v1/jwks") });
    fixture.issuer.answers.lock().description = Some(with_keys_elsewhere.to_string());
    sleep(Duration::from_secs(11)).await;
    assert_ne!(fixture.ping().await, 200, "the other server answers only calls with a token");
    let seen = elsewhere.seen();
    assert!(!seen.is_empty() && seen.iter().all(|(_, authorization)| authorization.is_none()), "{seen:?}");
    fixture.issuer.answers.lock().description = None;
    fixture.until_accepted().await;
}
