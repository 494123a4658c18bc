//! What an attacker on the network sees of the connection to Postgres, and what a rotation costs.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use ping_ports::{EventStore, TotalsStore, chain};
use ping_postgres::{ClientCertificate, PostgresOptions, PostgresStore, PostgresTls, SslMode};
use ping_testbed::{
    Postgres,
    certificates::Authority,
    link::{Link, LinkState},
    ports::free_port,
};
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::fixture::{LEASE, batch, events};

const PASSWORD: &str = "correct-horse-battery-staple";
/// `SSLRequest`: eight bytes, of which the last four are 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

struct Server {
    postgres: Postgres,
    authority: Authority,
    files: TempDir,
}

impl Server {
    async fn start() -> Self {
        let authority = Authority::new("postgres").unwrap();
        let certificate = authority.server(&["localhost"]).unwrap();
        let postgres = Postgres::start_encrypted(&certificate, &authority).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("ca.crt"), authority.certificate()).unwrap();
        let server = Self { postgres, authority, files };
        server.execute(&format!("ALTER ROLE ping PASSWORD '{PASSWORD}'")).await;
        server
    }

    async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.postgres.socket_url()).await.unwrap();
        connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    fn url(&self) -> String {
        url("localhost", self.postgres.port())
    }

    fn tls(&self) -> PostgresTls {
        PostgresTls { root_cert: Some(self.files.path().join("ca.crt")), ..PostgresTls::default() }
    }

    async fn connect(&self, tls: PostgresTls) -> Result<PostgresStore, String> {
        connect(&self.url(), tls).await
    }
}

fn url(host: &str, port: u16) -> String {
    format!("postgres://ping:{PASSWORD}@{host}:{port}/ping")
}

async fn connect(url: &str, tls: PostgresTls) -> Result<PostgresStore, String> {
    let options = PostgresOptions { tls, ..PostgresOptions::default() };
    PostgresStore::connect(url, &options).await.map_err(|error| chain(&error))
}

/// Records what clients send. Answers the first eight bytes with `answer`, then says nothing.
async fn recorder(answer: &'static [u8]) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let record = Arc::clone(&record);
            tokio::spawn(async move {
                let (mut bytes, mut answered) = ([0; 4_096], false);
                while let Ok(count @ 1..) = client.read(&mut bytes).await {
                    record.lock().extend_from_slice(&bytes[..count]);
                    if !answered {
                        client.write_all(answer).await.unwrap();
                        answered = true;
                    }
                }
            });
        }
    });
    (port, received)
}

#[tokio::test]
async fn a_server_that_declines_tls_receives_neither_user_nor_password() {
    let (port, received) = recorder(b"N").await;
    let root = Authority::new("any").unwrap();
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("ca.crt"), root.certificate()).unwrap();
    let root_cert = PostgresTls { root_cert: Some(files.path().join("ca.crt")), ..PostgresTls::default() };
    let require = PostgresTls { mode: Some(SslMode::Require), ..PostgresTls::default() };
    for tls in [root_cert, require] {
        let error = connect(&url("localhost", port), tls).await.unwrap_err();
        assert!(error.contains("server does not support TLS; no password was sent"), "{error}");
    }
    let received = received.lock().clone();
    assert_eq!(received, [SSL_REQUEST, SSL_REQUEST].concat(), "{}", String::from_utf8_lossy(&received));
}

/// The same server, trusted as it was before: shows that the recorder would have noticed a leak.
#[tokio::test]
async fn without_tls_the_same_server_receives_the_user() {
    let (port, received) = recorder(b"N").await;
    assert!(connect(&url("localhost", port), PostgresTls::default()).await.is_err());
    let text = String::from_utf8_lossy(&received.lock()).into_owned();
    assert!(text.contains("user\0ping\0"), "{text}");
}

#[tokio::test]
async fn an_impostor_is_rejected_before_the_password_is_sent() {
    let server = Server::start().await;
    let own = Authority::new("postgres").unwrap();
    for (leaf, name) in [
        (own.server(&["localhost"]).unwrap(), "BadSignature"),
        (Authority::new("another").unwrap().server(&["localhost"]).unwrap(), "UnknownIssuer"),
        (server.authority.server(&["postgres.other"]).unwrap(), "not valid for name \"localhost\""),
        (server.authority.client("localhost").unwrap(), "invalid peer certificate"),
    ] {
        let impostor = Postgres::start_encrypted(&leaf, &own).await.unwrap();
        let error = connect(&url("localhost", impostor.port()), server.tls()).await.unwrap_err();
        assert!(error.contains(name) && error.contains("check --postgres-root-cert"), "{error}");
    }
    server.connect(server.tls()).await.unwrap();
}

#[tokio::test]
async fn another_machine_is_refused_without_tls() {
    let error = PostgresStore::new(&url("db.example", 5432), &PostgresOptions::default()).err().unwrap();
    let error = chain(&error);
    assert!(error.contains("would not be encrypted") && error.contains("--postgres-sslmode=disable"), "{error}");
    assert!(!error.contains(PASSWORD), "{error}");
}

#[tokio::test]
async fn a_client_certificate_replaces_the_password() {
    let server = Server::start().await;
    server.execute("CREATE ROLE certified LOGIN").await;
    let url = format!("postgres://certified@localhost:{}/ping", server.postgres.port());
    let path = |name: &str| server.files.path().join(name);
    let with_certificate =
        PostgresTls { client: Some(ClientCertificate { cert: path("tls.crt"), key: path("tls.key") }), ..server.tls() };
    let error = connect(&url, with_certificate.clone()).await.unwrap_err();
    assert!(error.contains("tls.crt: No such file"), "{error}");
    server.authority.client("certified").unwrap().write(server.files.path()).unwrap();
    connect(&url, with_certificate.clone()).await.unwrap();
    let error = connect(&url, server.tls()).await.unwrap_err();
    assert!(error.contains("client certificate"), "{error}");
    server.authority.client("another").unwrap().write(server.files.path()).unwrap();
    let error = connect(&url, with_certificate.clone()).await.unwrap_err();
    assert!(error.contains("certified"), "{error}");
    Authority::new("postgres").unwrap().client("certified").unwrap().write(server.files.path()).unwrap();
    assert!(connect(&url, with_certificate).await.is_err());
}

/// Forwards connections and can break all of them, so that a store opens new ones.
async fn proxy(to: u16) -> (u16, Arc<AtomicUsize>, tokio::sync::watch::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, opened) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let (breaker, broken) = tokio::sync::watch::channel(());
    let count = Arc::clone(&opened);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut broken = broken.clone();
            broken.mark_unchanged();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                tokio::select! { _ = copy_bidirectional(&mut client, &mut server) => {}, _ = broken.changed() => {} }
            });
        }
    });
    (port, opened, breaker)
}

#[tokio::test]
async fn a_rotated_ca_needs_no_restart_and_costs_no_call() {
    let server = Server::start().await;
    let (port, opened, breaker) = proxy(server.postgres.port()).await;
    let store = connect(&url("localhost", port), server.tls()).await.unwrap();
    store.migrate().await.unwrap();
    let writer = store.open_writer(LEASE).await.unwrap();
    let commit = async |seq: i64| store.commit(&batch(writer, seq, events([seq.unsigned_abs().into()]))).await;
    commit(1).await.unwrap();

    // First the new CA is published besides the old one, then the server changes its certificate, then the old CA goes.
    let next = Authority::new("next").unwrap();
    let root_cert = server.files.path().join("ca.crt");
    replace(&root_cert, &[server.authority.certificate(), next.certificate()].concat());
    commit(2).await.unwrap();
    server.postgres.replace_certificate(&next.server(&["localhost"]).unwrap()).await.unwrap();
    server.execute("SELECT pg_reload_conf()").await;
    sleep(Duration::from_millis(500)).await;
    // The open connection is not affected.
    commit(3).await.unwrap();
    replace(&root_cert, next.certificate());
    let before = opened.load(Ordering::SeqCst);
    breaker.send(()).unwrap();
    sleep(Duration::from_millis(1_200)).await;
    commit(4).await.unwrap();
    assert!(opened.load(Ordering::SeqCst) > before, "no new connection was opened");
    assert_eq!(store.count(None).await.unwrap().count, 4);

    // With the old CA alone, new connections would fail.
    replace(&root_cert, server.authority.certificate());
    let error = connect(&url("localhost", port), server.tls()).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

/// Like the kubelet: readers see the old content or the new one.
fn replace(path: &Path, content: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, content).unwrap();
    std::fs::rename(next, path).unwrap();
}

#[tokio::test]
async fn queries_need_a_user_who_may_only_read() {
    let server = Server::start().await;
    let store = server.connect(server.tls()).await.unwrap();
    store.migrate().await.unwrap();
    let writer = store.open_writer(LEASE).await.unwrap();
    store.commit(&batch(writer, 1, events([1, 2, 3]))).await.unwrap();
    let role = format!("CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'; GRANT pg_read_all_data TO reader");
    for statement in role.split("; ") {
        server.execute(statement).await;
    }
    let url = server.url().replace("//ping:", "//reader:");
    let reader = connect(&url, server.tls()).await.unwrap();
    assert_eq!(reader.count(None).await.unwrap().count, 3);
    assert_eq!(reader.recount().await.unwrap().rows, 3);
    reads_sources(&reader).await;
    let refused = reader.open_writer(LEASE).await.unwrap_err();
    assert!(ping_ports::chain(&refused).contains("permission denied"), "{refused}");
}

async fn reads_sources(reader: &PostgresStore) {
    use ping_ports::SourceReader;
    reader.as_of().await.unwrap();
    assert!(reader.summary("a source", ping_core::Window(0)).await.unwrap().is_none());
}

/// With 200 ms in each direction, a login takes longer than a call waits for a connection.
#[tokio::test]
async fn a_slow_login_is_finished_for_a_later_call() {
    let server = Server::start().await;
    server.connect(server.tls()).await.unwrap().migrate().await.unwrap();
    let link = Link::start(free_port().unwrap(), server.postgres.port()).await.unwrap();
    link.set(LinkState { delay: Duration::from_millis(200), ..LinkState::default() });
    let options = PostgresOptions { tls: server.tls(), ..PostgresOptions::default() };
    let store = PostgresStore::new(&url("localhost", link.port()), &options).unwrap();
    let mut refused = 0;
    while let Err(error) = store.count(None).await {
        refused += 1;
        assert!(refused < 5, "{}", chain(&error));
    }
    assert!(refused > 0, "the login was not slow");
    for _ in 0..3 {
        store.count(None).await.unwrap();
    }
}
