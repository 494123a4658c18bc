//! A packet capture on the nodes while all components open connections and events pass through them. No event id, source, token, password or
//! private key is readable in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, api::ListParams};
use memchr::memmem;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::test_cluster::{NAMESPACE, TestCluster};

/// What listens where. A capture without TLS records of one of these ports proves nothing about it.
const PORTS: [(u16, &str); 5] =
    [(5432, "Postgres"), (6379, "the cache"), (8080, "servers"), (8081, "processors"), (9093, "Kafka")];
/// How long new connections may take.
const TIMEOUT: Duration = Duration::from_secs(240);
/// Shorter values of Secrets could be in a packet by chance.
const SHORTEST_SECRET: usize = 12;
/// Sent before the pods are replaced, and again after it.
const EVENTS: u64 = 5;
/// What the keys of secret values in Secrets contain. Other keys have names of users and hosts, or certificates.
const SECRET_KEYS: [&str; 6] = ["password", "token", ".key", "pgpass", "uri", "jaas"];

pub(crate) async fn nothing_is_readable(cluster: &TestCluster) {
    let mut captures = Vec::new();
    for node in cluster.cluster.nodes() {
        let process = node.pid().expect("a running node").number();
        captures.push(Capture::start(process, &cluster.cluster.folder().join(format!("e2e-{process}.pcap"))).await);
    }
    let source = format!("source-{}", Uuid::from_u128(rand::random()).simple());
    let mut ids = send_events(cluster, &source).await;
    // Logins happen when connections are opened.
    let selector = "--selector=app.kubernetes.io/component in (server, processor)";
    cluster.kubectl(&["delete", "pods", selector]).await;
    let recovered = async || cluster.is_true("Ready").await && cluster.is_true("Exact").await;
    cluster.wait_until("Ready and Exact with new pods", TIMEOUT, recovered).await;
    let visible = plaintext_request(cluster).await;
    ids.extend(send_events(cluster, &source).await);

    let mut files = Vec::new();
    for capture in captures {
        files.push(capture.stop().await);
    }
    for (port, component) in PORTS {
        let mut records = 0;
        for file in &files {
            records += tls_records(file, port).await;
        }
        assert!(records > 0, "the capture has no TLS records of {component}");
    }
    let packets: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let is_readable = |needle: &[u8]| packets.iter().any(|packets| memmem::find(packets, needle).is_some());
    assert!(is_readable(visible.as_bytes()), "a request in plaintext is not in the capture");
    let mut secret_values = secrets(cluster).await;
    secret_values.push(("the source".into(), source.into_bytes()));
    for id in &ids {
        secret_values.push((format!("event id {id}"), id.as_bytes().to_vec()));
        secret_values.push((format!("event id {id} as text"), id.to_string().into_bytes()));
        secret_values.push((format!("event id {id} as hexadecimal text"), id.simple().to_string().into_bytes()));
    }
    let readable: Vec<_> = secret_values.iter().filter(|(_, value)| is_readable(value)).map(|(name, _)| name).collect();
    assert!(readable.is_empty(), "readable on the network: {readable:?}");
    let bytes: usize = packets.iter().map(Vec::len).sum();
    println!("{} secret values are not readable in {bytes} bytes of packets", secret_values.len());
}

/// Sends events, and waits until they are counted.
async fn send_events(cluster: &TestCluster, source: &str) -> Vec<Uuid> {
    let before = cluster.count().await;
    let ids: Vec<_> = (0..EVENTS).map(|_| Uuid::from_u128(rand::random())).collect();
    for id in &ids {
        cluster.pingctl(&["ping", "--id", &id.to_string(), "--source", source]).await;
    }
    cluster.total_becomes(before + EVENTS).await;
    ids
}

/// Sends a request without TLS to a server, which shows that the capture contains what is readable. Returns its path.
async fn plaintext_request(cluster: &TestCluster) -> String {
    let path = format!("/readable-{}", Uuid::from_u128(rand::random()).simple());
    let url = format!("http://{}{path}", cluster.address().await);
    let command = ["-s", "--max-time", "3", "-o", "/dev/null", "-w", "%{http_code}", &url];
    let output = cluster.try_run(Path::new("curl"), &command).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "400", "plaintext is refused");
    path
}

/// The passwords, tokens and private keys in the Secrets of the pipeline's namespace, with their names.
async fn secrets(cluster: &TestCluster) -> Vec<(String, Vec<u8>)> {
    let client = cluster.pipelines.clone().into_client();
    let found = Api::<Secret>::namespaced(client, NAMESPACE).list(&ListParams::default()).await.unwrap();
    let mut values = Vec::new();
    for secret in found {
        let name = secret.metadata.name.unwrap_or_default();
        for (key, ByteString(value)) in secret.data.unwrap_or_default() {
            if !SECRET_KEYS.iter().any(|part| key.contains(part)) {
                continue;
            }
            // A key in PEM form may be encoded in other lines.
            let line = value.split(|byte| *byte == b'\n').max_by_key(|line| line.len()).unwrap_or_default();
            if line.len() >= SHORTEST_SECRET {
                values.push((format!("{key} of Secret {name}"), line.to_vec()));
            }
        }
    }
    assert!(values.iter().any(|(name, _)| name.contains("password")), "no password among {values:?}");
    values
}

/// A running capture of all interfaces of one node.
struct Capture {
    tcpdump: Child,
    file: PathBuf,
}

impl Capture {
    /// Starts it in the network namespace of `process`.
    async fn start(process: i32, file: &Path) -> Self {
        let mut command = Command::new("nsenter");
        let tcpdump = "--net tcpdump -i any -Z root -U --immediate-mode -B 65536";
        command.arg(format!("--target={process}")).args(tcpdump.split(' '));
        command.arg("-w").arg(file).arg("tcp");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut capture = Self { tcpdump: command.spawn().unwrap(), file: file.to_owned() };
        // The file's header is written once the interfaces are open.
        while fs::metadata(file).map_or(0, |file| file.len()) == 0 {
            assert!(capture.tcpdump.try_wait().unwrap().is_none(), "tcpdump ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        capture
    }

    /// Ends it; the file that it wrote.
    async fn stop(self) -> PathBuf {
        let process = Pid::from_raw(self.tcpdump.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(process, Signal::INT).unwrap();
        let output = self.tcpdump.wait_with_output().await.unwrap();
        let report = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && report.contains("\n0 packets dropped by kernel"), "{report}");
        self.file
    }
}

/// How many packets in `file` to or from `port` begin with application data in a TLS record.
async fn tls_records(file: &Path, port: u16) -> usize {
    let filter = format!("tcp port {port} and tcp[((tcp[12] & 0xf0) >> 2)] = 23");
    let output = Command::new("tcpdump").arg("-nr").arg(file).arg(filter).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().count()
}
