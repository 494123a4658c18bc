//! Who may call a pipeline's servers, and how their ports are protected.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use ping_api::{
    crd::{
        PingPipeline, SecretKey,
        access::{
            AccessRule, Authentication, ClientCa, ClientCertificates, Permission, Protection, ServiceAccountTokens,
            StaticToken, TokenIssuer,
        },
        quotas::{Quota, Sharing},
    },
    kinds::{Key, Kind},
};
use ping_operator::{
    build::build,
    certificates::{SecretData, Usage, WantedCertificate, names_of, renew},
    cluster_state::{ClusterIssuer, ClusterState},
    connections::settings,
    validate::validate,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fixture::{applied, condition, demo, empty, issued, issued_in, now, object, status_of, with_secret};

fn container(pipeline: &PingPipeline, state: &ClusterState, component: &str) -> Value {
    let deployment = object(pipeline, state, Kind::Deployment, &format!("demo-{component}"));
    deployment["spec"]["template"]["spec"]["containers"][0].clone()
}

fn env(container: &Value, name: &str) -> Value {
    let variables = container["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name).cloned().unwrap_or_default()["value"].clone()
}

fn secret<'a>(state: &'a ClusterState, name: &str) -> Option<&'a SecretData> {
    state.secrets.get(&Key::new(Kind::Secret, "default", name))
}

fn token(state: &ClusterState, name: &str) -> String {
    String::from_utf8(secret(state, name).unwrap()["token"].0.clone()).unwrap()
}

/// The file `name` of the Secret that pods mount.
fn file(pipeline: &PingPipeline, state: &ClusterState, name: &str) -> String {
    let secret = object(pipeline, state, Kind::Secret, "demo-access");
    let data: ByteString = serde_json::from_value(secret["data"][name].clone()).unwrap();
    String::from_utf8(data.0).unwrap()
}

fn policy(pipeline: &PingPipeline, state: &ClusterState, name: &str) -> Value {
    yaml_serde::from_str(&file(pipeline, state, name)).unwrap()
}

/// Reason and message of the refusal of `pipeline`.
pub(crate) fn refusal(pipeline: &PingPipeline, state: &ClusterState) -> String {
    let error = validate(pipeline, state).expect_err("it should have been rejected");
    format!("{}: {error}", error.reason())
}

/// A key of a Secret.
pub(crate) fn key(name: &str, key: &str) -> SecretKey {
    SecretKey { name: name.into(), key: key.into() }
}

/// The certificate of someone else's authority, as cert-manager would write it.
fn own_certificate(state: &mut ClusterState, names: &[&str], with_ca: bool) {
    let wanted = WantedCertificate {
        component: "own",
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        usages: [Usage::Server].into(),
        lifetime: 1000,
    };
    let renewed = renew(None, &[(wanted, None)], now().as_second()).unwrap();
    let text = |data: &SecretData, key: &str| String::from_utf8(data[key].0.clone()).unwrap();
    let pair = ["tls.crt", "tls.key"].map(|key| (key, text(&renewed.certificates[0], key)));
    let ca = ("ca.crt", text(&renewed.authority, "ca.crt"));
    let all: Vec<(&str, String)> = pair.into_iter().chain(with_ca.then_some(ca)).collect();
    let all: Vec<(&str, &str)> = all.iter().map(|(key, value)| (*key, value.as_str())).collect();
    with_secret(state, "default", "own", &all);
}

#[test]
fn an_empty_spec_has_tls_and_needs_tokens_on_every_port() {
    let state = issued(&demo());
    for (component, policy) in [("server", "server.yaml"), ("processor", "processor.yaml")] {
        let container = container(&demo(), &state, component);
        assert_eq!(env(&container, "PING_TLS_CERT"), "/etc/ping/tls/tls.crt");
        assert_eq!(env(&container, "PING_ACCESS_POLICY"), format!("/etc/ping/access/{policy}"));
        assert_eq!(env(&container, "PING_INSECURE"), Value::Null);
        assert_eq!(env(&container, "PING_TLS_CLIENT_CA"), Value::Null);
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["scheme"], "HTTPS", "{component} {probe}");
        }
        let monitor = object(&demo(), &state, Kind::PodMonitor, &format!("demo-{component}"));
        let expected = json!({
            "port": "admin", "path": "/metrics", "scheme": "https",
            "tlsConfig": {
                "ca": { "secret": { "name": "demo-ca", "key": "ca.crt" } },
                "serverName": format!("demo-{component}.default.svc"),
            },
            "authorization": { "credentials": { "name": "demo-metrics-token", "key": "token" } },
        });
        assert_eq!(monitor["spec"]["podMetricsEndpoints"], json!([expected]));
    }
    let desired = build(&validate(&demo(), &state).unwrap());
    let text: String = desired.objects.iter().map(|object| object.to_json().unwrap().to_string()).collect();
    assert!(!text.contains("PING_INSECURE"));
}

#[test]
fn pods_mount_digests_of_tokens_and_no_token_and_each_token_does_one_thing() {
    let state = issued(&demo());
    let tokens = ["demo-token", "demo-operator-token", "demo-metrics-token"].map(|name| token(&state, name));
    assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(tokens.iter().all(|token| token.len() == 64));
    let mounted = object(&demo(), &state, Kind::Secret, "demo-access")["data"].as_object().unwrap().clone();
    for name in mounted.keys() {
        let text = file(&demo(), &state, name);
        assert!(tokens.iter().all(|token| !text.contains(token.as_str())), "a token is in {name}");
    }
    let server = policy(&demo(), &state, "server.yaml");
    let digest = |token: &str| Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (index, (name, secret)) in
        [("operator", "demo-operator-token"), ("metrics", "demo-metrics-token"), ("first", "demo-token")]
            .iter()
            .enumerate()
    {
        assert_eq!(server["tokens"][index], json!({ "name": name, "sha256": digest(&token(&state, secret)) }));
    }
    let rule = |caller: &str, permissions: &[&str]| json!({ "callers": [caller], "permissions": permissions });
    let all = json!([
        rule("token:operator", &["read"]),
        rule("token:metrics", &["metrics"]),
        rule("token:first", &["ingest", "read", "admin", "metrics"]),
    ]);
    assert_eq!((&server["rules"], &server["anonymous"]), (&all, &json!([])));
    let processor = policy(&demo(), &state, "processor.yaml");
    let metrics = json!([rule("token:metrics", &["metrics"]), rule("token:first", &["admin", "metrics"])]);
    assert_eq!(processor["rules"], metrics);
}

#[test]
fn certificates_cover_every_name_of_the_services_and_a_forwarded_port() {
    let mut pipeline = demo();
    pipeline.spec.server.tls.names = vec!["ping.example.test".into(), "192.0.2.7".into()];
    let state = issued(&pipeline);
    let names = |name: &str| names_of(&secret(&state, name).unwrap()["tls.crt"].0).unwrap();
    let server = names("demo-server-tls");
    for service in ["demo-server", "demo-ingest", "demo-query"] {
        for suffix in ["", ".default", ".default.svc", ".default.svc.cluster.local"] {
            assert!(server.contains(&format!("{service}{suffix}")), "{service}{suffix} is not in {server:?}");
        }
    }
    for name in ["localhost", "127.0.0.1", "ping.example.test", "192.0.2.7"] {
        assert!(server.contains(name), "{name} is not in {server:?}");
    }
    assert!(names("demo-processor-tls").contains("demo-processor.default.svc"));
}

#[test]
fn a_token_is_kept_until_its_secret_is_deleted_and_a_short_one_is_replaced() {
    let mut state = issued(&demo());
    let first = token(&state, "demo-token");
    let before = file(&demo(), &state, "server.yaml");
    state = issued_in(state, &demo());
    assert_eq!((token(&state, "demo-token"), file(&demo(), &state, "server.yaml")), (first.clone(), before.clone()));
    state.secrets.remove(&Key::new(Kind::Secret, "default", "demo-token"));
    state = issued_in(state, &demo());
    assert_ne!(token(&state, "demo-token"), first);
    assert_ne!(file(&demo(), &state, "server.yaml"), before);
    with_secret(&mut state, "default", "demo-token", &[("token", "letmein")]);
    assert_eq!(token(&issued_in(state, &demo()), "demo-token").len(), 64);
}

#[test]
fn a_changed_policy_or_certificate_restarts_nothing() {
    let state = issued(&demo());
    let pods = |pipeline: &PingPipeline, state: &ClusterState| {
        object(pipeline, state, Kind::Deployment, "demo-server")["spec"]["template"].clone()
    };
    let mut other = demo();
    other.spec.server.authorization.rules =
        vec![AccessRule { callers: vec!["*".into()], permissions: vec![Permission::Read], ..AccessRule::default() }];
    let renewed = issued(&other);
    assert_ne!(secret(&state, "demo-server-tls"), secret(&renewed, "demo-server-tls"));
    assert_ne!(file(&demo(), &state, "server.yaml"), file(&other, &renewed, "server.yaml"));
    assert_eq!(pods(&demo(), &state), pods(&other, &renewed));
}

#[test]
fn what_is_turned_off_is_off_and_shown() {
    let mut pipeline = demo();
    pipeline.spec.server.tls.mode = Protection::Disable;
    let of = |pipeline: &PingPipeline| {
        let state = issued(pipeline);
        status_of(pipeline, &state, &applied(pipeline, &state, &[]))
    };
    let status = of(&pipeline);
    let (encrypted, reason, message) = condition(&status, "Encrypted");
    assert_eq!((&*encrypted, &*reason), ("False", "Plaintext"));
    assert!(message.contains("spec.server.tls.mode is Disable"), "{message}");
    assert_eq!(condition(&status, "Authenticated").0, "True");
    let access = status.access.unwrap();
    assert_eq!((access.url.as_str(), access.server_name), ("http://demo-server.default.svc:8080", None));

    pipeline.spec.server.authentication.mode = Protection::Disable;
    let (authenticated, reason, message) = condition(&of(&pipeline), "Authenticated");
    assert_eq!((&*authenticated, &*reason), ("False", "Anonymous"));
    assert!(message.contains("spec.server.authentication.mode is Disable"), "{message}");
    let state = issued(&pipeline);
    for name in ["demo-token", "demo-operator-token", "demo-metrics-token", "demo-server-tls"] {
        assert!(secret(&state, name).is_none(), "{name}");
    }
    for component in ["server", "processor"] {
        let container = container(&pipeline, &state, component);
        assert_eq!(env(&container, "PING_INSECURE"), "true");
        assert_eq!(
            (env(&container, "PING_TLS_CERT"), env(&container, "PING_ACCESS_POLICY")),
            (Value::Null, Value::Null)
        );
        assert_eq!(container["readinessProbe"]["httpGet"]["scheme"], "HTTP");
        let monitor = object(&pipeline, &state, Kind::PodMonitor, &format!("demo-{component}"));
        assert_eq!(monitor["spec"]["podMetricsEndpoints"], json!([{ "port": "admin", "path": "/metrics" }]));
    }

    let mut pipeline = demo();
    pipeline.spec.server.authorization.anonymous = vec![Permission::Metrics];
    let (authenticated, _, message) = condition(&of(&pipeline), "Authenticated");
    assert!(authenticated == "False" && message.ends_with("metrics"), "{authenticated} {message}");
    let status = of(&demo());
    assert_eq!(condition(&status, "Encrypted").1, "VerifiedTls");
    assert_eq!(condition(&status, "Authenticated").1, "CredentialsRequired");
    let access = status.access.unwrap();
    assert_eq!(access.url, "https://demo-server.default.svc:8080");
    assert_eq!(access.server_name.as_deref(), Some("demo-server.default.svc"));
    assert_eq!((access.ca_secret.as_deref(), access.token_secret.as_deref()), (Some("demo-ca"), Some("demo-token")));
    assert_eq!(access.hint, "kubectl pingpipeline connect demo -n default");
}

/// All ways to identify a caller in one spec.
fn with_callers() -> PingPipeline {
    let mut pipeline = demo();
    let server = &mut pipeline.spec.server;
    server.authentication = Authentication {
        first_token: false,
        tokens: vec![StaticToken { name: "ci".into(), sha256: key("callers", "ci") }],
        issuers: vec![TokenIssuer {
            name: "corp".into(),
            issuer: "https://login.example.test".into(),
            audiences: vec!["ping".into()],
            jwks_url: Some("https://login.example.test:8443/keys".into()),
            ca: Some(key("callers", "ca")),
            ..TokenIssuer::default()
        }],
        service_accounts: Some(ServiceAccountTokens::default()),
        ..Authentication::default()
    };
    server.authorization.rules = vec![AccessRule {
        callers: vec!["token:ci".into(), "cluster:system:serviceaccount:shop:*".into()],
        permissions: vec![Permission::Ingest],
        sources: vec!["orders-*".into()],
        bind_source: true,
        ..AccessRule::default()
    }];
    pipeline
}

#[test]
fn tokens_issuers_and_service_accounts_become_a_policy() {
    let pipeline = with_callers();
    let mut state = empty();
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    with_secret(&mut state, "default", "callers", &[("ci", &format!("{digest}\n")), ("ca", "certificate")]);
    state.cluster_issuer =
        Some(ClusterIssuer { issuer: "https://kubernetes.default.svc".into(), keys: b"{\"keys\":[]}".to_vec() });
    let state = issued_in(state, &pipeline);
    assert!(secret(&state, "demo-token").is_none(), "there is no first token");
    let found = policy(&pipeline, &state, "server.yaml");
    assert_eq!(found["tokens"][0], json!({ "name": "ci", "sha256": digest }));
    assert_eq!(found["tokens"].as_array().unwrap().len(), 3);
    assert_eq!(
        found["issuers"],
        json!([
            {
                "name": "corp", "issuer": "https://login.example.test", "audiences": ["ping"],
                "jwks": { "url": "https://login.example.test:8443/keys", "caFile": "/etc/ping/access/ca-corp.crt" },
            },
            {
                "name": "cluster", "issuer": "https://kubernetes.default.svc", "audiences": ["ping"],
                "jwks": { "file": "/etc/ping/access/jwks-cluster.json" },
            },
        ])
    );
    assert_eq!(found["rules"][0]["bindSource"], true);
    assert_eq!(file(&pipeline, &state, "jwks-cluster.json"), "{\"keys\":[]}");
    assert_eq!(file(&pipeline, &state, "ca-corp.crt"), "certificate");
    // Servers fetch the keys of the issuer, processors do not.
    let ports = |component: &str| {
        let policy = object(&pipeline, &state, Kind::NetworkPolicy, &format!("demo-{component}"));
        let rules = policy["spec"]["egress"].as_array().unwrap().clone();
        rules
            .iter()
            .filter(|rule| rule["to"].is_null())
            .map(|rule| rule["ports"][0]["port"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!((ports("server"), ports("processor")), (vec![json!(8443)], vec![]));
    assert!(policy(&pipeline, &state, "processor.yaml")["issuers"].as_array().unwrap().is_empty());
}

#[test]
fn quotas_are_in_the_policy_of_servers_only_and_restart_nothing() {
    let mut pipeline = demo();
    let before = issued(&pipeline);
    assert_eq!(policy(&pipeline, &before, "server.yaml")["quotas"], Value::Null, "older servers do not know them");
    pipeline.spec.server.authorization.quotas = vec![
        Quota {
            name: "shop".into(),
            callers: vec!["token:first".into()],
            sources: vec!["orders-*".into()],
            kinds: vec!["order".into()],
            per: Sharing::Quota,
            events_per_second: Some(500),
            bytes_per_second: Some(100_000),
            burst_seconds: Some(5),
            new_sources_per_day: Some(10),
            new_kinds_per_day: Some(20),
        },
        Quota {
            name: "strangers".into(),
            callers: vec!["anonymous".into()],
            new_sources_per_day: Some(0),
            ..Quota::default()
        },
    ];
    let state = issued(&pipeline);
    let expected = json!([
        {
            "name": "shop", "callers": ["token:first"], "sources": ["orders-*"], "kinds": ["order"], "per": "quota",
            "eventsPerSecond": 500, "bytesPerSecond": 100_000, "burstSeconds": 5, "newSourcesPerDay": 10, "newKindsPerDay": 20,
        },
        { "name": "strangers", "callers": ["anonymous"], "per": "caller", "newSourcesPerDay": 0 },
    ]);
    assert_eq!(policy(&pipeline, &state, "server.yaml")["quotas"], expected);
    assert_eq!(policy(&pipeline, &state, "processor.yaml")["quotas"], Value::Null);
    let pods = |pipeline: &PingPipeline, state: &ClusterState| {
        object(pipeline, state, Kind::Deployment, "demo-server")["spec"]["template"].clone()
    };
    assert_eq!(pods(&demo(), &before), pods(&pipeline, &state));
}

#[test]
fn a_given_certificate_is_verified_by_a_name_that_it_covers() {
    let mut pipeline = demo();
    pipeline.spec.server.tls.secret_name = Some("own".into());
    for (names, with_ca, host) in [
        (&["ping.example.test", "*.default.svc"][..], true, "demo-server.default.svc"),
        (&["192.0.2.1", "ping.example.test"], false, "ping.example.test"),
        (&["*.example.test"], false, "ping.example.test"),
    ] {
        let mut state = empty();
        own_certificate(&mut state, names, with_ca);
        let state = issued_in(state, &pipeline);
        assert!(secret(&state, "demo-server-tls").is_none(), "none is issued");
        let connection =
            settings(&validate(&pipeline, &state).unwrap(), &state, "{scheme}://{service}.{namespace}.svc:{port}");
        assert_eq!(connection.address, "https://demo-server.default.svc:8080");
        let tls = connection.tls.unwrap();
        assert_eq!((tls.host.as_str(), tls.ca.is_some()), (host, with_ca), "{names:?}");
        let status = status_of(&pipeline, &state, &applied(&pipeline, &state, &[]));
        assert_eq!(status.access.unwrap().ca_secret.is_some(), with_ca);
    }
    let mut state = empty();
    own_certificate(&mut state, &["192.0.2.1"], true);
    assert!(refusal(&pipeline, &state).contains("has no DNS name. Issue it for demo-server.default.svc"));
}

#[test]
fn servers_that_require_certificates_accept_that_of_the_operator() {
    let mut pipeline = demo();
    let mut state = empty();
    with_secret(&mut state, "default", "clients", &[("ca", "their CA")]);
    for (mode, required) in [(ClientCertificates::Optional, "false"), (ClientCertificates::Required, "true")] {
        pipeline.spec.server.tls.client_ca = Some(ClientCa { ca: key("clients", "ca"), mode });
        let state = issued_in(state.clone(), &pipeline);
        let server = container(&pipeline, &state, "server");
        assert_eq!(env(&server, "PING_TLS_CLIENT_CA"), "/etc/ping/access/client-ca.crt");
        assert_eq!(env(&server, "PING_TLS_CLIENT_REQUIRED"), required);
        assert_eq!(env(&container(&pipeline, &state, "processor"), "PING_TLS_CLIENT_CA"), Value::Null);
        let bundle = file(&pipeline, &state, "client-ca.crt");
        assert!(bundle.starts_with("their CA\n-----BEGIN CERTIFICATE-----"), "{bundle}");
        let connection = settings(&validate(&pipeline, &state).unwrap(), &state, "{scheme}://{service}");
        assert_eq!(connection.tls.unwrap().identity.is_some(), required == "true");
    }
}
