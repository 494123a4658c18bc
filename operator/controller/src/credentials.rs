//! Step 1b: the Secrets that the operator issues for a pipeline. Existing ones are kept until they are due.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{ByteString, jiff::Timestamp};
use ping_api::{
    crd::{
        PingPipeline, SecretKey,
        access::{ClientCertificates, Protection, ServerTls},
        workload::ServerSpec,
    },
    kinds::{Key, Kind},
    names::Names,
    roles::Role,
};
use ping_runtime::cache_acl;
use sha2::{Digest, Sha256};

use crate::{
    certificates::{CertificateError, Renewed, SecretData, Usage, WantedCertificate, renew},
    cluster_state::ClusterState,
    issued::IssuedSecret,
};

/// Secret key of the password that protects the cache if it cannot read its access control list. No program uses it.
pub const DEFAULT_PASSWORD: &str = "password";
/// Secret key of the cache's access control list.
pub const ACL: &str = "users.acl";

/// Lifetime of the cache's certificate, in seconds: a year. Dragonfly reads it when it starts, so renewing it restarts the cache.
const CACHE_CERTIFICATE_LIFETIME: i64 = 365 * 24 * 60 * 60;
/// Lifetime of the certificates of servers, processors and the operator, in seconds: 90 days. They are read again without a restart.
const PORT_CERTIFICATE_LIFETIME: i64 = 90 * 24 * 60 * 60;
/// Shortest token that is kept, in bytes. Someone may have emptied the Secret, or written a word into it that can be guessed.
const MIN_TOKEN_BYTES: usize = 32;
const OPAQUE: &str = "Opaque";
const TLS: &str = "kubernetes.io/tls";

/// Issues what is missing or due, and adds it to `state`: a certificate authority, certificates of the cache, servers and processors,
/// the logins of the cache, and tokens.
///
/// # Errors
/// If a certificate cannot be issued.
pub fn issue(pipeline: &PingPipeline, state: &mut ClusterState, now: Timestamp) -> Result<(), CertificateError> {
    let names = Names::of(pipeline);
    let mut issued = certificates(pipeline, &names, state, now)?;
    if pipeline.spec.cache.external.is_none() {
        let given = pipeline.spec.cache.dragonfly.as_ref().and_then(|dragonfly| dragonfly.password.as_ref());
        let given = given.and_then(|key| state.secret(&names.namespace, &key.name, &key.key));
        let data = logins(state.secrets.get(&names.key(Kind::Secret, names.cache_login())), given);
        issued.push(IssuedSecret { name: names.cache_login(), component: "cache", type_: OPAQUE, data });
    }
    issued.extend(tokens(&pipeline.spec.server, &names, state));
    for secret in &issued {
        state.secrets.insert(Key::new(Kind::Secret, &names.namespace, &secret.name), secret.data.clone());
    }
    state.issued = issued;
    Ok(())
}

/// The authority and every certificate that the spec needs; nothing if it needs none.
fn certificates(
    pipeline: &PingPipeline,
    names: &Names,
    state: &ClusterState,
    now: Timestamp,
) -> Result<Vec<IssuedSecret>, CertificateError> {
    let wanted = wanted_certificates(pipeline, names);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let read = |name: &str| state.secrets.get(&names.key(Kind::Secret, name));
    let with_data: Vec<_> = wanted.iter().map(|(name, wanted)| (wanted.clone(), read(name))).collect();
    let Renewed { authority, certificates } = renew(read(&names.authority_keys()), &with_data, now.as_second())?;
    let SecretKey { name, key } = names.authority();
    let trusted = authority.get(&key).cloned().unwrap_or_default();
    let of_authority =
        |name: String, data: SecretData| IssuedSecret { name, component: "authority", type_: OPAQUE, data };
    let mut issued = vec![of_authority(names.authority_keys(), authority), of_authority(name, [(key, trusted)].into())];
    issued.extend(wanted.into_iter().zip(certificates).map(|((name, wanted), data)| IssuedSecret {
        name,
        component: wanted.component,
        type_: TLS,
        data,
    }));
    Ok(issued)
}

/// The certificates that a spec may need: the name of the Secret, the component, and the lifetime in seconds.
pub(crate) fn known_certificates(names: &Names) -> [(String, &'static str, i64); 4] {
    [
        (names.cache_certificate(), "cache", CACHE_CERTIFICATE_LIFETIME),
        (names.server_certificate(), "server", PORT_CERTIFICATE_LIFETIME),
        (names.processor_certificate(), "processor", PORT_CERTIFICATE_LIFETIME),
        (names.operator_certificate(), "operator", PORT_CERTIFICATE_LIFETIME),
    ]
}

/// The certificates that the spec needs, by the name of their Secret.
fn wanted_certificates(pipeline: &PingPipeline, names: &Names) -> Vec<(String, WantedCertificate)> {
    let (spec, mut wanted) = (&pipeline.spec, Vec::new());
    if spec.cache.external.is_none() {
        wanted.push((names.cache_certificate(), cache_certificate(names)));
    }
    let ServerTls { mode, secret_name, names: more, client_ca } = &spec.server.tls;
    if *mode == Protection::Disable {
        return wanted;
    }
    if secret_name.is_none() {
        // For both layouts, so that switching between them needs no other certificate.
        let mut covered: BTreeSet<String> =
            Role::ALL.into_iter().flat_map(|role| service_names(names, role.component())).collect();
        // Clients that forward a port.
        covered.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        covered.extend(more.iter().cloned());
        wanted.push((names.server_certificate(), port_certificate("server", covered, Usage::Server)));
    }
    let processor = service_names(names, "processor").into();
    wanted.push((names.processor_certificate(), port_certificate("processor", processor, Usage::Server)));
    if client_ca.as_ref().is_some_and(|client| client.mode == ClientCertificates::Required) {
        let certificate = port_certificate("operator", BTreeSet::new(), Usage::Client);
        wanted.push((names.operator_certificate(), certificate));
    }
    wanted
}

fn port_certificate(component: &'static str, names: BTreeSet<String>, usage: Usage) -> WantedCertificate {
    WantedCertificate { component, names, usages: [usage].into(), lifetime: PORT_CERTIFICATE_LIFETIME }
}

/// The names of the Service of `component`, from the shortest to the longest.
fn service_names(names: &Names, component: &str) -> [String; 4] {
    let (service, host) = (names.part(component), names.service_host(component));
    [service.clone(), format!("{service}.{}", names.namespace), host.clone(), format!("{host}.cluster.local")]
}

/// The tokens that the spec needs. Existing ones are kept.
fn tokens(server: &ServerSpec, names: &Names, state: &ClusterState) -> Vec<IssuedSecret> {
    if server.authentication.mode == Protection::Disable {
        return Vec::new();
    }
    let first = server.authentication.first_token.then(|| names.first_token());
    let keys = first.into_iter().chain([names.operator_token(), names.metrics_token()]);
    let token = |SecretKey { name, key }: SecretKey| {
        let existing = state.secret(&names.namespace, &name, &key).filter(|token| token.len() >= MIN_TOKEN_BYTES);
        let value = existing.map_or_else(new_password, |token| ByteString(token.to_vec()));
        IssuedSecret { name, component: "access", type_: OPAQUE, data: [(key, value)].into() }
    };
    keys.map(token).collect()
}

fn cache_certificate(names: &Names) -> WantedCertificate {
    let (service, namespace) = (names.cache(), &names.namespace);
    WantedCertificate {
        component: "cache",
        names: [service.clone(), format!("{service}.{namespace}"), format!("{service}.{namespace}.svc")].into(),
        usages: [Usage::Server].into(),
        lifetime: CACHE_CERTIFICATE_LIFETIME,
    }
}

/// A password per program, and the access control list that follows from them. `given` is the password from the spec, if its
/// Secret exists.
fn logins(existing: Option<&SecretData>, given: Option<&[u8]>) -> SecretData {
    let keep = |key: &str| {
        let kept = existing.and_then(|data| data.get(key)).filter(|ByteString(password)| !password.is_empty());
        kept.cloned().unwrap_or_else(new_password)
    };
    let of_program = |program: &str| given.map_or_else(|| keep(program), |given| ByteString(given.to_vec()));
    let programs = [("server", cache_acl::SERVER), ("processor", cache_acl::PROCESSOR)];
    let mut lines = vec![cache_acl::DEFAULT_USER.to_owned()];
    let mut data = BTreeMap::from([(DEFAULT_PASSWORD.to_owned(), keep(DEFAULT_PASSWORD))]);
    for (program, rules) in programs {
        let password = of_program(program);
        lines.push(cache_acl::user(program, &sha256(&password.0), rules));
        data.insert(program.into(), password);
    }
    data.insert(ACL.into(), ByteString((lines.join("\n") + "\n").into_bytes()));
    data
}

/// 256 random bits as hexadecimal digits.
fn new_password() -> ByteString {
    let random: [u8; 32] = rand::random();
    ByteString(hex(&random).into_bytes())
}

fn sha256(password: &[u8]) -> String {
    hex(&Sha256::digest(password))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
