//! Which connections are encrypted, and with which files and logins.

use k8s_openapi::ByteString;
use ping_api::{
    crd::{
        PingPipeline, SecretKey,
        tls::{ConnectionTls, TlsMode},
    },
    kinds::{Key, Kind},
};
use ping_operator::{cluster_state::ClusterState, credentials::issue, validate::validate};
use serde_json::{Value, json};

use crate::fixture::{applied, condition, demo, empty, example, issued, now, object, refusal, status_of, with_secret};

fn env(deployment: &Value, name: &str) -> Value {
    let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name).cloned().unwrap_or_default()
}

#[test]
fn the_cache_of_an_empty_spec_has_a_login_per_program_and_a_list_that_admits_no_one_else() {
    let state = issued(&demo());
    let login = &state.secrets[&Key::new(Kind::Secret, "default", "demo-cache-login")];
    let acl = String::from_utf8(login["users.acl"].0.clone()).unwrap();
    let lines: Vec<&str> = acl.lines().collect();
    assert_eq!(lines.len(), 3, "{acl}");
    assert_eq!(lines[0], "user default OFF -@all +auth");
    assert!(lines[1].starts_with("user server ON #") && lines[2].starts_with("user processor ON #"), "{acl}");
    assert!(
        !acl.contains(&String::from_utf8(login["server"].0.clone()).unwrap()),
        "the password itself is in the list"
    );
    assert_ne!(login["server"], login["processor"]);
    assert!([&login["password"], &login["server"]].iter().all(|password| password.0.len() == 64));

    let dragonfly = object(&demo(), &state, Kind::Dragonfly, "demo-cache");
    assert_eq!(dragonfly["spec"]["aclFromSecret"]["key"], "users.acl");
    assert_eq!(dragonfly["spec"]["tlsSecretRef"]["name"], "demo-cache-tls");
    assert_eq!(dragonfly["spec"]["authentication"]["passwordFromSecret"]["key"], "password");
    for program in ["server", "processor"] {
        let deployment = object(&demo(), &state, Kind::Deployment, &format!("demo-{program}"));
        assert_eq!(env(&deployment, "PING_CACHE_USERNAME")["value"], program);
        assert_eq!(env(&deployment, "PING_CACHE_PASSWORD")["valueFrom"]["secretKeyRef"]["key"], program);
        assert_eq!(env(&deployment, "PING_CACHE_URL")["value"], "rediss://demo-cache.default.svc:6379");
        assert_eq!(env(&deployment, "PING_POSTGRES_SSLMODE")["value"], "verify-full");
    }
}

#[test]
fn issued_secrets_are_kept_and_a_given_password_is_used() {
    let mut state = issued(&demo());
    let before = state.issued.clone();
    issue(&demo(), &mut state, now()).unwrap();
    assert_eq!(state.issued, before);
    let mut pipeline = demo();
    let dragonfly = pipeline.spec.cache.dragonfly.get_or_insert_default();
    dragonfly.password = Some(SecretKey { name: "mine".into(), key: "password".into() });
    with_secret(&mut state, "default", "mine", &[("password", "given")]);
    issue(&pipeline, &mut state, now()).unwrap();
    let login = &state.secrets[&Key::new(Kind::Secret, "default", "demo-cache-login")];
    assert_eq!((&login["server"], &login["processor"]), (&ByteString(b"given".into()), &ByteString(b"given".into())));
    assert_ne!(login["password"], login["server"]);
}

/// Only the certificates: CloudNativePG's Secret holds the private key, too.
#[test]
fn pods_mount_no_private_key_of_an_authority() {
    let state = issued(&demo());
    for program in ["server", "processor"] {
        let deployment = object(&demo(), &state, Kind::Deployment, &format!("demo-{program}"));
        let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
        for secret in ["demo-postgres-ca", "demo-ca"] {
            let volume = volumes.iter().find(|volume| volume["secret"]["secretName"] == secret).unwrap();
            assert_eq!(volume["secret"]["items"], json!([{ "key": "ca.crt", "path": "ca.crt" }]));
        }
        assert!(volumes.iter().all(|volume| volume["secret"]["secretName"] != "demo-ca-keys"));
    }
    // Users are told to read this Secret.
    let keys = |name: &str| Vec::from_iter(state.secrets[&Key::new(Kind::Secret, "default", name)].keys().cloned());
    assert_eq!(keys("demo-ca"), ["ca.crt"]);
    assert!(keys("demo-ca-keys").contains(&"signer.key".to_owned()));
}

/// The cluster after CloudNativePG and Strimzi have written the Secrets of `pipeline`, which is called `demo`.
fn started(pipeline: &PingPipeline) -> ClusterState {
    let mut state = issued(pipeline);
    for (name, key) in [
        ("demo-postgres-app", "uri"),
        ("demo-kafka-server", "password"),
        ("demo-kafka-processor", "password"),
        ("demo-kafka-cluster-ca-cert", "ca.crt"),
    ] {
        with_secret(&mut state, "default", name, &[(key, "value")]);
    }
    state
}

#[test]
fn a_changed_secret_of_a_variable_restarts_the_pods_that_have_the_variable() {
    let mut pipeline = demo();
    let licence = json!({ "name": "LICENCE", "valueFrom": { "secretKeyRef": { "name": "licence", "key": "key" } } });
    pipeline.spec.processor.pod.env = vec![serde_json::from_value(licence).unwrap()];
    let fingerprints = |licence: &str| {
        let mut state = started(&pipeline);
        // The operator's own are random.
        with_secret(&mut state, "default", "demo-cache-login", &[("server", "value"), ("processor", "value")]);
        with_secret(&mut state, "default", "licence", &[("key", licence)]);
        ["demo-server", "demo-processor"].map(|name| {
            let deployment = object(&pipeline, &state, Kind::Deployment, name);
            deployment["spec"]["template"]["metadata"]["annotations"].clone()
        })
    };
    let (before, after) = (fingerprints("one"), fingerprints("two"));
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
}

/// The kubelet updates the files of CAs and certificates; only what pods read at their start restarts them.
#[test]
fn a_renewed_certificate_restarts_the_cache_and_nothing_else() {
    let mut state = started(&demo());
    let fingerprints = |state: &ClusterState| {
        let of =
            |kind, name: &str, at: &str| object(&demo(), state, kind, name).pointer(at).unwrap()["annotations"].clone();
        [
            of(Kind::Deployment, "demo-server", "/spec/template/metadata"),
            of(Kind::Deployment, "demo-processor", "/spec/template/metadata"),
            of(Kind::Dragonfly, "demo-cache", "/spec/podMetadata"),
        ]
    };
    let before = fingerprints(&state);
    state.secrets.remove(&Key::new(Kind::Secret, "default", "demo-cache-tls"));
    issue(&demo(), &mut state, now()).unwrap();
    let after = fingerprints(&state);
    assert_eq!(before[..2], after[..2]);
    assert_ne!(before[2], after[2]);
}

fn disabled() -> ConnectionTls {
    ConnectionTls { mode: TlsMode::Disable, ..ConnectionTls::default() }
}

#[test]
fn plaintext_needs_a_setting_and_a_condition_names_it() {
    let encrypted = |pipeline: &PingPipeline| {
        let state = empty();
        condition(&status_of(pipeline, &state, &applied(pipeline, &state, &[])), "Encrypted")
    };
    assert_eq!(encrypted(&demo()).1, "VerifiedTls");
    assert_eq!(encrypted(&example("external-postgres")).1, "VerifiedTls");

    let mut pipeline = example("external-postgres");
    pipeline.spec.postgres.external.as_mut().unwrap().tls = disabled();
    let (status, reason, message) = encrypted(&pipeline);
    assert_eq!((&*status, &*reason), ("False", "Plaintext"));
    assert!(message.contains("spec.postgres.external.tls.mode is Disable"), "{message}");
    let deployment = object(&pipeline, &empty(), Kind::Deployment, "on-own-postgres-server");
    assert_eq!(env(&deployment, "PING_POSTGRES_SSLMODE")["value"], "disable");

    let mut pipeline = example("external-cache");
    let external = pipeline.spec.cache.external.as_mut().unwrap();
    (external.url, external.tls) = ("redis://cache.example.test:6379".into(), disabled());
    assert!(encrypted(&pipeline).2.contains("spec.cache.external.tls.mode is Disable"));

    let mut pipeline = example("external-kafka");
    pipeline.spec.kafka.external.as_mut().unwrap().tls = None;
    assert!(encrypted(&pipeline).2.contains("spec.kafka.external.tls is absent"));
}

#[test]
fn tls_settings_that_contradict_each_other_are_refused() {
    let with_cache = |url: &str, tls: ConnectionTls| {
        let message = refusal(|pipeline| {
            let mut external = example("external-cache").spec.cache.external.unwrap();
            (external.url, external.tls) = (url.into(), tls);
            pipeline.spec.cache.external = Some(external);
        });
        message.to_string()
    };
    assert!(
        with_cache("redis://a:6379", ConnectionTls::default()).contains("set spec.cache.external.tls.mode: Disable")
    );
    assert!(with_cache("rediss://a:6379", disabled()).contains("Use redis://, or remove the mode"));
    let with_ca = ConnectionTls { ca: Some(SecretKey { name: "a".into(), key: "b".into() }), ..disabled() };
    assert!(with_cache("redis://a:6379", with_ca).contains("have no effect"));
}

#[test]
fn an_external_postgres_gets_its_ca_client_certificate_and_reader() {
    let mut pipeline = example("external-postgres");
    let external = pipeline.spec.postgres.external.as_mut().unwrap();
    external.tls.client_certificate = Some("own-certificate".into());
    external.read_uri = Some(SecretKey { name: "own-reader".into(), key: "uri".into() });
    let mut state = empty();
    with_secret(&mut state, "default", "own-reader", &[("uri", "postgres://…")]);
    assert!(
        validate(&pipeline, &state).unwrap_err().to_string().contains("spec.postgres.external.tls.clientCertificate")
    );
    with_secret(&mut state, "default", "own-certificate", &[("tls.crt", "…"), ("tls.key", "…")]);
    let server = object(&pipeline, &state, Kind::Deployment, "on-own-postgres-server");
    assert_eq!(env(&server, "PING_POSTGRES_ROOT_CERT")["value"], "/etc/ping/postgres-ca/ca.crt");
    assert_eq!(env(&server, "PING_POSTGRES_CLIENT_KEY")["value"], "/etc/ping/postgres-certificate/tls.key");
    assert_eq!(env(&server, "PING_POSTGRES_READ_URL")["valueFrom"]["secretKeyRef"]["name"], "own-reader");
    let processor = object(&pipeline, &state, Kind::Deployment, "on-own-postgres-processor");
    assert_eq!(env(&processor, "PING_POSTGRES_READ_URL"), Value::Null);
}
