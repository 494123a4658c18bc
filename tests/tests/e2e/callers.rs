//! Credentials of callers are replaced under load, in the order that the documentation gives: add the new one, switch, remove the old one.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use crate::{
    at,
    load::Load,
    report::Report,
    test_cluster::{NAMESPACE, TestCluster},
    token_key::{Key, jwks},
};

/// The kubelet updates mounted files within about a minute and a half, and servers read them within seconds.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(240);
/// Each call of `pingctl` that begins ten seconds after the last reading of its token reads it again, however slow the machine is.
const REREAD: Duration = Duration::from_secs(15);

pub(crate) async fn token(cluster: &TestCluster, report: &mut Report) {
    let [old, new] =
        ["old", "new"].map(|name| (name, format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())));
    accept_tokens(cluster, &[&old]).await;
    let file = TokenFile::create(cluster, &old.1);
    let connection = cluster.connection().await.with_credentials(&[("--token-file", &file.0)]);
    let load = Load::start_with_one_retry(cluster, &connection).await;
    accept_tokens(cluster, &[&old, &new]).await;
    file.replace(&new.1).await;
    accept_tokens(cluster, &[&new]).await;
    every_server_answers(cluster, "the old token is refused", &bearer(&old.1), 401).await;
    report.add("a caller's token rotated", load.finish(cluster).await);
}

/// Tokens of an issuer whose keys are in a Secret.
pub(crate) async fn issuer_key(cluster: &TestCluster, report: &mut Report) {
    let [old, new] = ["old", "new"].map(Key::new);
    let publish = async |keys: &[&Key]| secret(cluster, "issuer-keys", &json!({ "jwks.json": jwks(keys) })).await;
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3_600;
    let claims = json!({ "iss": "https://issuer.example", "sub": "caller", "aud": "ping", "exp": expires });
    let [old_token, new_token] = [&old, &new].map(|key| key.sign(&claims));
    publish(&[&old]).await;
    let keys = json!({ "name": "issuer-keys", "key": "jwks.json" });
    let issuers = json!([{ "name": "e2e", "issuer": claims["iss"], "audiences": ["ping"], "jwks": keys }]);
    let rules = json!([{ "callers": ["e2e:caller"], "permissions": ["ingest", "read"] }]);
    let server = json!({ "authentication": { "issuers": issuers }, "authorization": { "rules": rules } });
    cluster.patch(&json!({ "spec": { "server": server } }).to_string()).await;
    every_server_answers(cluster, "the issuer's tokens are accepted", &bearer(&old_token), 200).await;

    let file = TokenFile::create(cluster, &old_token);
    let connection = cluster.connection().await.with_credentials(&[("--token-file", &file.0)]);
    let load = Load::start_with_one_retry(cluster, &connection).await;
    publish(&[&old, &new]).await;
    every_server_answers(cluster, "the issuer's new key is known", &bearer(&new_token), 200).await;
    file.replace(&new_token).await;
    publish(&[&new]).await;
    every_server_answers(cluster, "tokens of the old key are refused", &bearer(&old_token), 401).await;
    report.add("an issuer's key rotated", load.finish(cluster).await);
}

/// The file from which the load reads its token.
struct TokenFile(PathBuf);

impl TokenFile {
    fn create(cluster: &TestCluster, token: &str) -> Self {
        let file = cluster.cluster.folder().join("e2e-caller-token");
        fs::write(&file, token).unwrap();
        Self(file)
    }

    /// Replaces the token, and waits until the load has read it.
    async fn replace(&self, token: &str) {
        // At once: the client must not read half of it.
        let next = self.0.with_extension("next");
        fs::write(&next, token).unwrap();
        fs::rename(&next, &self.0).unwrap();
        tokio::time::sleep(REREAD).await;
    }
}

fn bearer(token: &str) -> [String; 2] {
    ["-H".into(), format!("Authorization: Bearer {token}")]
}

fn sha256(token: &str) -> String {
    digest(&SHA256, token.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Has servers accept these tokens, and waits until all do.
async fn accept_tokens(cluster: &TestCluster, tokens: &[&(&str, String)]) {
    let digests: Map<String, Value> =
        tokens.iter().map(|(name, token)| ((*name).to_owned(), sha256(token).into())).collect();
    secret(cluster, "callers", &Value::Object(digests)).await;
    let names: Vec<_> =
        tokens.iter().map(|(name, _)| json!({ "name": name, "sha256": { "name": "callers", "key": name } })).collect();
    let callers: Vec<_> = tokens.iter().map(|(name, _)| format!("token:{name}")).collect();
    let rules = json!([{ "callers": callers, "permissions": ["ingest", "read"] }]);
    let server = json!({ "authentication": { "tokens": names }, "authorization": { "rules": rules } });
    cluster.patch(&json!({ "spec": { "server": server } }).to_string()).await;
    for (name, token) in tokens {
        every_server_answers(cluster, &format!("token {name} is accepted"), &bearer(token), 200).await;
    }
}

/// Callers have no token here, but a certificate. While both CAs are accepted, callers move from one to the other.
pub(crate) async fn client_ca(cluster: &TestCluster, report: &mut Report) {
    let [old, new] = ["old", "new"].map(|name| ClientCertificate::issue(cluster, name));
    let client_ca = async |authorities: &[&ClientCertificate]| {
        let bundle: String = authorities.iter().map(|authority| authority.ca.as_str()).collect();
        secret(cluster, "callers-ca", &json!({ "ca.crt": bundle })).await;
    };
    client_ca(&[&old]).await;
    let rules = json!([{ "callers": ["cert:e2e.example"], "permissions": ["ingest", "read"] }]);
    let ca = json!({ "ca": { "name": "callers-ca", "key": "ca.crt" } });
    let server = json!({ "tls": { "clientCa": ca }, "authorization": { "rules": rules } });
    cluster.patch(&json!({ "spec": { "server": server } }).to_string()).await;
    every_server_answers(cluster, "the old CA is accepted", &old.options(), 200).await;

    let connection = cluster.connection().await;
    let load = Load::start_with_one_retry(cluster, &connection.clone().with_credentials(&old.files())).await;
    client_ca(&[&old, &new]).await;
    every_server_answers(cluster, "the new CA is accepted, too", &new.options(), 200).await;
    report.add("the CA of callers rotated: added", load.finish(cluster).await);

    let load = Load::start_with_one_retry(cluster, &connection.with_credentials(&new.files())).await;
    client_ca(&[&new]).await;
    // The handshake fails.
    every_server_answers(cluster, "the old CA is refused", &old.options(), 0).await;
    report.add("the CA of callers rotated: removed", load.finish(cluster).await);
}

/// A CA, and the files of a certificate for `e2e.example` from it.
struct ClientCertificate {
    ca: String,
    cert: PathBuf,
    key: PathBuf,
}

impl ClientCertificate {
    fn issue(cluster: &TestCluster, name: &str) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, format!("{name} CA of callers"));
        let ca = authority.self_signed(&ca_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["e2e.example".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let signed = params.signed_by(&key, &Issuer::new(authority, ca_key)).unwrap();
        let folder = cluster.cluster.folder();
        let [cert_file, key_file] = ["crt", "key"].map(|kind| folder.join(format!("e2e-{name}.{kind}")));
        fs::write(&cert_file, signed.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        Self { ca, cert: cert_file, key: key_file }
    }

    /// Options of pingctl.
    fn files(&self) -> [(&'static str, &PathBuf); 2] {
        [("--cert", &self.cert), ("--key", &self.key)]
    }

    /// Options of curl.
    fn options(&self) -> [String; 4] {
        let [cert, key] = [&self.cert, &self.key].map(|path| path.to_string_lossy().into_owned());
        ["--cert".into(), cert, "--key".into(), key]
    }
}

/// Waits until every server answers a count with `status` to a caller with these options of curl; 0 if the connection fails.
async fn every_server_answers(cluster: &TestCluster, what: &str, options: &[String], status: u16) {
    let answers = async || {
        let servers = cluster.pods(NAMESPACE, "app.kubernetes.io/component=server").await;
        let mut all = !servers.is_empty();
        for pod in servers {
            let Some(node) = cluster.node_of(&pod) else { return false };
            let address = at(&pod, "/status/podIP").as_str().unwrap_or_default().to_owned();
            let url = format!("https://{address}:8080/ping.v1.PingService/PingCount");
            let mut command = vec!["-sk", "--max-time", "3", "-o", "/dev/null", "-w", "%{http_code}", "-d", "{}", &url];
            command.extend(["-H", "Content-Type: application/json"]);
            command.extend(options.iter().map(String::as_str));
            let output = cluster.try_run_from(node, "curl", &command).await;
            all &= String::from_utf8_lossy(&output.stdout).trim().parse() == Ok(status);
        }
        all
    };
    cluster.wait_until(what, TIMEOUT, answers).await;
}

/// Writes a Secret that the pipeline may refer to.
async fn secret(cluster: &TestCluster, name: &str, data: &Value) {
    let metadata = json!({ "name": name, "labels": { "pingpipeline.io/allow-reference": "true" } });
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data });
    cluster.apply(&secret.to_string()).await;
}
