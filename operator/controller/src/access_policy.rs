//! The access policies that servers and processors read. Pure. They hold digests of tokens, never a token.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use ping_api::{
    crd::{
        SecretKey,
        access::{AccessRule, Permission, TokenIssuer},
        quotas::Quota,
        workload::ServerSpec,
    },
    names::Names,
};
use ping_identity::AccessPolicy;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::cluster_state::ClusterIssuer;

/// Folder in which pods mount the files.
pub const FOLDER: &str = "/etc/ping/access";
/// File with the access policy of servers.
pub const SERVER_POLICY: &str = "server.yaml";
/// File with the access policy of processors, which have a port for metrics and nothing else.
pub const PROCESSOR_POLICY: &str = "processor.yaml";
/// File with the CAs of callers' certificates.
pub const CLIENT_CA: &str = "client-ca.crt";
/// File with the keys of the cluster's own issuer.
pub const CLUSTER_KEYS: &str = "jwks-cluster.json";
/// Name of the cluster's own issuer in rules.
const CLUSTER: &str = "cluster";

/// The issuer of ServiceAccount tokens, and for whom these have to be.
pub struct ClusterKeys<'a> {
    /// Accepted audiences.
    pub audiences: &'a [String],
    /// The issuer.
    pub issuer: &'a ClusterIssuer,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    tokens: Vec<Token>,
    issuers: Vec<Issuer>,
    rules: Vec<Rule>,
    anonymous: Vec<Permission>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quotas: Vec<Quota>,
}

#[derive(Clone, Serialize)]
struct Token {
    name: String,
    sha256: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Issuer {
    name: String,
    issuer: String,
    audiences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups_claim: Option<String>,
    jwks: Jwks,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Jwks {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<String>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    callers: Vec<String>,
    permissions: Vec<Permission>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kinds: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    bind_source: bool,
}

/// The files of the Secret that pods mount at [`FOLDER`]. `read` returns the value of a Secret key, if it exists.
///
/// # Errors
/// If servers would refuse the policy. The message names the field and says what to write.
pub fn render<'a>(
    server: &ServerSpec,
    names: &Names,
    read: impl Fn(&SecretKey) -> Option<&'a [u8]>,
    cluster: Option<&ClusterKeys<'_>>,
) -> Result<BTreeMap<String, ByteString>, String> {
    let mut files = BTreeMap::new();
    let mut issuers: Vec<Issuer> =
        server.authentication.issuers.iter().map(|wanted| issuer(wanted, &read, &mut files)).collect();
    if let Some(ClusterKeys { audiences, issuer }) = cluster {
        let file = put(&mut files, CLUSTER_KEYS, &issuer.keys);
        issuers.push(Issuer {
            name: CLUSTER.into(),
            issuer: issuer.issuer.clone(),
            audiences: audiences.to_vec(),
            groups_claim: None,
            jwks: Jwks { file: Some(file), ..Jwks::default() },
        });
    }
    // What the user wrote comes first, so that errors name the right place.
    let given = server.authentication.tokens.iter().map(|token| Token {
        name: token.name.clone(),
        sha256: String::from_utf8_lossy(read(&token.sha256).unwrap_or_default()).trim().to_owned(),
    });
    let mut tokens: Vec<Token> = given.collect();
    let mut rules: Vec<Rule> = server.authorization.rules.iter().map(rule).collect();
    for (name, key, permissions) in generated(server, names) {
        if let Some(token) = read(&key) {
            tokens.push(Token { name: name.into(), sha256: sha256(token) });
            rules.push(rule(&AccessRule {
                callers: vec![format!("token:{name}")],
                permissions,
                ..AccessRule::default()
            }));
        }
    }
    let anonymous = server.authorization.anonymous.clone();
    let processor = for_processors(&tokens, &rules, &anonymous);
    let policy = Policy { tokens, issuers, rules, anonymous, quotas: server.authorization.quotas.clone() };
    for (file, policy) in [(SERVER_POLICY, policy), (PROCESSOR_POLICY, processor)] {
        let text = yaml_serde::to_string(&policy).map_err(|error| error.to_string())?;
        AccessPolicy::parse(text.as_bytes()).map_err(|error| located(&error.to_string()))?;
        put(&mut files, file, text.as_bytes());
    }
    Ok(files)
}

/// The tokens that the operator generates, with what each may do.
fn generated(server: &ServerSpec, names: &Names) -> Vec<(&'static str, SecretKey, Vec<Permission>)> {
    use Permission::{Admin, Ingest, Metrics, Read};
    let mut tokens =
        vec![("operator", names.operator_token(), vec![Read]), ("metrics", names.metrics_token(), vec![Metrics])];
    if server.authentication.first_token {
        tokens.push(("first", names.first_token(), vec![Ingest, Read, Admin, Metrics]));
    }
    tokens
}

fn issuer<'a>(
    wanted: &TokenIssuer,
    read: &impl Fn(&SecretKey) -> Option<&'a [u8]>,
    files: &mut BTreeMap<String, ByteString>,
) -> Issuer {
    let mut file =
        |key: &Option<SecretKey>, name: String| key.as_ref().and_then(read).map(|content| put(files, &name, content));
    let jwks = Jwks {
        url: wanted.jwks_url.clone(),
        file: file(&wanted.jwks, format!("jwks-{}.json", wanted.name)),
        ca_file: file(&wanted.ca, format!("ca-{}.crt", wanted.name)),
    };
    Issuer {
        name: wanted.name.clone(),
        issuer: wanted.issuer.clone(),
        audiences: wanted.audiences.clone(),
        groups_claim: wanted.groups_claim.clone(),
        jwks,
    }
}

/// Adds a file, and returns its path in a pod.
fn put(files: &mut BTreeMap<String, ByteString>, name: &str, content: &[u8]) -> String {
    files.insert(name.into(), ByteString(content.to_vec()));
    format!("{FOLDER}/{name}")
}

fn rule(rule: &AccessRule) -> Rule {
    let AccessRule { callers, permissions, sources, kinds, bind_source } = rule.clone();
    Rule { callers, permissions, sources, kinds, bind_source }
}

/// The policy of processors: static tokens that may read metrics. Processors fetch no keys of issuers, and accept no events.
fn for_processors(tokens: &[Token], rules: &[Rule], anonymous: &[Permission]) -> Policy {
    let concerns = |permission: &Permission| matches!(permission, Permission::Metrics | Permission::Admin);
    let relevant = |rule: &Rule| {
        let mut rule = rule.clone();
        rule.permissions.retain(concerns);
        rule.callers.retain(|caller| caller.starts_with("token:"));
        (!rule.permissions.is_empty() && !rule.callers.is_empty()).then_some(rule)
    };
    Policy {
        tokens: tokens.to_vec(),
        issuers: Vec::new(),
        rules: rules.iter().filter_map(relevant).collect(),
        anonymous: anonymous.iter().copied().filter(concerns).collect(),
        quotas: Vec::new(),
    }
}

/// The message of an invalid policy, with the field of the spec instead of that of the policy.
fn located(message: &str) -> String {
    let field = match message.split(['[', '.', ':']).next() {
        Some("rules" | "anonymous" | "quotas") => "spec.server.authorization.",
        Some("tokens" | "issuers") => "spec.server.authentication.",
        _ => "the access policy is invalid: ",
    };
    format!("{field}{}", message.replace(".jwks.url:", ".jwksUrl:"))
}

/// SHA-256 as hexadecimal digits.
fn sha256(token: &[u8]) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}
