//! `pingctl doctor`

use serde_json::{Value, json};

use crate::{
    programs::{Server, free_port, pingctl},
    secure::Secured,
};

/// The outcomes of the steps that were reached, and the last of these steps.
fn outcomes(report: &Value) -> (Vec<String>, Value) {
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 8, "{report}");
    let reached: Vec<_> = steps.iter().filter(|step| step["outcome"] != "skipped").cloned().collect();
    let outcomes = reached.iter().map(|step| step["outcome"].as_str().unwrap().to_owned()).collect();
    (outcomes, reached.last().unwrap().clone())
}

/// Asserts that the diagnosis ends at `step`, with these words in its detail and its fix.
#[track_caller]
fn fails_at(arguments: &str, step: &str, words: &[&str]) {
    let report = pingctl(&format!("doctor -o json {arguments}")).json(1);
    let (outcomes, last) = outcomes(&report);
    assert_eq!((&last["step"], &last["outcome"], &report["healthy"]), (&json!(step), &json!("failed"), &json!(false)));
    assert!(outcomes[..outcomes.len() - 1].iter().all(|outcome| outcome != "failed"), "{report}");
    let text = format!("{} {}", last["detail"], last["fix"]);
    assert!(words.iter().all(|word| text.contains(word)) && last["fix"].is_string(), "{words:?}: {text}");
}

#[test]
fn a_healthy_server_passes_every_step() {
    let server = Server::start();
    server.ctl("ping").text(0);
    let report = server.ctl("doctor -o json").json(0);
    assert_eq!(outcomes(&report).0, ["ok"; 8], "{report}");
    let text = server.ctl("doctor").text(0);
    assert!(text.contains("ok       TCP              connected to 127.0.0.1:") && text.contains("exact"), "{text}");
}

#[test]
fn every_failure_ends_at_its_step_with_a_fix() {
    let port = free_port();
    fails_at("--addr nowhere.invalid:1", "nameResolution", &["nowhere.invalid", "spelling"]);
    fails_at(&format!("--addr 127.0.0.1:{port}"), "tcp", &["refused", "start a server"]);
    fails_at("--addr localhost:1 --token-file /nonexistent/token", "configuration", &["/nonexistent/token", "log in"]);
    fails_at("--context prd", "configuration", &["no context", "prd"]);
    let server = Server::start();
    let https = format!("--addr https://127.0.0.1:{}", server.port());
    fails_at(&https, "tls", &["write http://"]);
    fails_at(&format!("--addr 127.0.0.1:{}", server.admin_port()), "http", &["no pingd API", "8081"]);
}

#[test]
fn certificates_and_credentials_are_diagnosed() {
    let secured = Secured::start();
    let address = format!("--addr {}", secured.address());
    let (ca, token) = (format!("--ca {}", secured.path("tls.crt")), format!("--token-file {}", secured.path("token")));
    let report = pingctl(&format!("doctor -o json {address} {ca} {token}")).json(0);
    assert_eq!(outcomes(&report).0, ["ok"; 8], "{report}");
    assert!(report["steps"][3]["detail"].as_str().unwrap().contains("certificate for 127.0.0.1, valid until"));
    fails_at(&format!("{address} --ca {}", secured.path("other.crt")), "tls", &["--ca"]);
    let other_name = format!("{address} {ca} --tls-server-name ping.example");
    fails_at(&other_name, "tls", &["is for 127.0.0.1, not for ping.example"]);
    fails_at(&format!("{address} --ca /nonexistent/ca.crt"), "tls", &["/nonexistent/ca.crt"]);
    fails_at(&format!("{address} {ca}"), "authentication", &["log in"]);
    fails_at(&format!("{address} {ca} --token-file {}", secured.path("wrong")), "authentication", &["log in"]);
    let plaintext = format!("--addr http://127.0.0.1:{}", secured.server.port());
    fails_at(&plaintext, "http", &["no secure connection", "https://"]);
    fails_at(&format!("{address} {ca} --token-file {}", secured.path("writer")), "permission", &["`read`"]);
}
