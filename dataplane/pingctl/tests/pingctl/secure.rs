//! `pingctl` and a server with TLS and an access policy.

use std::{fs, path::Path};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

use crate::programs::{Server, pingctl};

pub(crate) const TOKEN: &str = "a-token-for-tests";

/// A server with its files. Its certificate is its own authority.
pub(crate) struct Secured {
    pub(crate) server: Server,
    folder: TempDir,
}

impl Secured {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| fs::write(folder.path().join(name), content).unwrap();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        write("tls.crt", &cert.pem());
        write("tls.key", &signing_key.serialize_pem());
        write("other.crt", &generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem());
        let hex = |token: &str| -> String {
            digest(&SHA256, token.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let (ci, writer) = (hex(TOKEN), hex("a-token-that-may-not-read"));
        write(
            "policy.yaml",
            &format!(
                "tokens: [{{name: ci, sha256: {ci}}}, {{name: writer, sha256: {writer}}}]\n\
                 rules: [{{callers: [\"token:ci\"], permissions: [ingest, read, admin]}},\n\
                         {{callers: [\"token:writer\"], permissions: [ingest]}}]\n"
            ),
        );
        write("token", &format!("{TOKEN}\n"));
        write("wrong", "another-token");
        write("writer", "a-token-that-may-not-read");
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let files = [path("tls.crt"), path("tls.key"), path("policy.yaml")];
        let arguments = ["--tls-cert", &files[0], "--tls-key", &files[1], "--access-policy", &files[2]];
        Self { server: Server::start_with(0, &arguments), folder }
    }

    /// The address of the API.
    pub(crate) fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.server.port())
    }

    pub(crate) fn path(&self, name: &str) -> String {
        Path::join(self.folder.path(), name).display().to_string()
    }

    /// Runs `pingctl` with these arguments against the API, by this scheme.
    fn ctl(&self, scheme: &str, arguments: &str) -> crate::programs::Finished {
        pingctl(&format!("{arguments} --addr {scheme}://127.0.0.1:{}", self.server.port()))
    }
}

#[test]
fn a_token_and_the_servers_authority_are_enough_for_every_command() {
    let secured = Secured::start();
    let files = format!("--ca {} --token-file {}", secured.path("tls.crt"), secured.path("token"));
    secured.ctl("https", &format!("ping --source a {files}")).text(0);
    let count = secured.ctl("https", &format!("count --strong --json {files}")).json(0);
    assert_eq!(count["pingCount"], "1");
    secured.ctl("https", &format!("load --mode stream --rate 200/s --duration 1s --sources 1 {files}")).text(0);
    let admin = format!("--admin-addr https://127.0.0.1:{}", secured.server.admin_port());
    assert_eq!(secured.ctl("https", &format!("verify --json {admin} {files}")).json(0)["exact"], true);
}

#[test]
fn missing_and_wrong_credentials_are_refused_with_a_fix() {
    let secured = Secured::start();
    let ca = format!("--retries 0 --json --ca {}", secured.path("tls.crt"));
    for arguments in [ca.clone(), format!("{ca} --token-file {}", secured.path("wrong"))] {
        let error = secured.ctl("https", &format!("count {arguments}")).error(4);
        assert_eq!(error["error"]["code"], "unauthenticated");
        assert!(error["error"]["message"].as_str().unwrap().contains("--token-file"), "{error}");
    }
    let missing = secured.ctl("https", &format!("count {ca} --token-file /nonexistent/token")).error(4);
    assert!(missing["error"]["message"].as_str().unwrap().contains("/nonexistent/token"), "{missing}");
}

#[test]
fn a_connection_that_is_not_secure_says_so() {
    let secured = Secured::start();
    let common = "count --retries 0 --json";
    let other = format!("{common} --ca {}", secured.path("other.crt"));
    for finished in [secured.ctl("https", &other), secured.ctl("http", common)] {
        let error = finished.error(3);
        assert!(error["error"]["message"].as_str().unwrap().contains("no secure connection"), "{error}");
    }
    let open = Server::start();
    let reverse =
        pingctl(&format!("{common} --ca {} --addr https://127.0.0.1:{}", secured.path("tls.crt"), open.port()));
    let error = reverse.error(3);
    assert!(error["error"]["message"].as_str().unwrap().contains("no secure connection"), "{error}");
}

#[test]
fn a_token_does_not_leave_the_machine_in_plaintext() {
    let secured = Secured::start();
    let error =
        pingctl(&format!("count --json --token-file {} --addr http://192.0.2.1:1", secured.path("token"))).error(2);
    assert!(error["error"]["message"].as_str().unwrap().contains("in plaintext"), "{error}");
}
