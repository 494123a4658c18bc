//! `spec.server.tls`, `authentication` and `authorization`: how callers reach the servers, who they are, and what they may do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    quotas::Quota,
    schema::{SecretKey, rule},
};

/// Names of the tokens that the operator generates.
pub const GENERATED_TOKENS: [&str; 3] = ["first", "operator", "metrics"];

/// Whether something that protects the pipeline is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protection {
    /// In force.
    #[default]
    Required,
    /// Turned off.
    Disable,
}

/// Encryption of the servers' ports. It also applies to the admin port of processors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.mode != 'Disable' || (!has(self.secretName) && !has(self.names) && !has(self.clientCa))",
        "mode: Disable serves everything in plaintext, so secretName, names and clientCa have no effect. Remove them, or set mode: Required",
    ),
    rule(
        "!has(self.secretName) || !has(self.names)",
        "names are those of the certificate that the operator issues, but secretName brings its own. Remove one of them",
    ),
]))]
pub struct ServerTls {
    /// `Required` (default): TLS on the API and the admin port. `Disable`: everything is sent in plaintext, tokens included, and the
    /// condition `Encrypted` says so.
    pub mode: Protection,
    /// Name of a Secret of type `kubernetes.io/tls` with the servers' certificate (`tls.crt`, `tls.key`, and `ca.crt` if its CA is not a
    /// public one), for example from cert-manager. Absent: the operator issues one for the names of the Services, and renews it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// Names and addresses of the certificate that the operator issues, besides those of the Services and `localhost`; for example that
    /// of a load balancer. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub names: Vec<String>,
    /// Certificates of callers (mutual TLS). Absent: callers are not asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<ClientCa>,
}

/// Certificates of callers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientCa {
    /// Secret key that holds the CAs of callers' certificates (PEM).
    pub ca: SecretKey,
    /// `Optional` (default): callers may present a certificate or a token. `Required`: connections to the API without a certificate are
    /// refused.
    #[serde(default)]
    pub mode: ClientCertificates,
}

/// Whether callers need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientCertificates {
    /// Callers may present one.
    #[default]
    Optional,
    /// Callers must present one.
    Required,
}

/// Who callers are. All of these ways to identify a caller can be combined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.mode != 'Disable' || (!has(self.tokens) && !has(self.issuers) && !has(self.serviceAccounts))",
        "mode: Disable lets everyone do everything, so tokens, issuers and serviceAccounts have no effect. Remove them, or set mode: Required",
    ),
]))]
pub struct Authentication {
    /// `Required` (default): calls need valid credentials and a rule that allows them. `Disable`: anyone who reaches the servers may
    /// record, read and recount events, and the condition `Authenticated` says so.
    pub mode: Protection,
    /// True (default) generates a token that may do everything, in the Secret `<name>-token`. Delete the Secret to get another one; the
    /// old one is refused within two minutes.
    pub first_token: bool,
    /// Static tokens. They are `token:<name>` in rules. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tokens: Vec<StaticToken>,
    /// Issuers of JSON Web Tokens (OpenID Connect). Callers are `<issuer>:<sub>` in rules, and `group:<issuer>:<group>`. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub issuers: Vec<TokenIssuer>,
    /// Accepts tokens of this cluster's ServiceAccounts. Callers are `cluster:system:serviceaccount:<namespace>:<name>` in rules. Absent:
    /// not accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccountTokens>,
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            mode: Protection::Required,
            first_token: true,
            tokens: Vec::new(),
            issuers: Vec::new(),
            service_accounts: None,
        }
    }
}

/// A static token. Only its digest is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    rule("!(self.name in ['first', 'operator', 'metrics'])", "first, operator and metrics are tokens that the operator generates. Use another name"),
]))]
pub struct StaticToken {
    /// Name of the caller.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[-.a-z0-9]+$"))]
    pub name: String,
    /// Secret key that holds the SHA-256 of the token as 64 hexadecimal digits: `printf %s "$TOKEN" | sha256sum`.
    pub sha256: SecretKey,
}

/// An issuer of JSON Web Tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule("!has(self.jwksUrl) || !has(self.jwks)", "set either jwksUrl or jwks, not both"),
]))]
pub struct TokenIssuer {
    /// Name in rules.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[-.a-z0-9]+$"))]
    pub name: String,
    /// The claim `iss` of its tokens.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// One of these must be in the claim `aud` of a token.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    pub audiences: Vec<String>,
    /// Claim with the groups of the caller. Absent: `groups`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub groups_claim: Option<String>,
    /// URL of its keys (JWKS). Absent: where its discovery document says, unless `jwks` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub jwks_url: Option<String>,
    /// Secret key that holds its keys (JWKS). Absent: they are fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<SecretKey>,
    /// Secret key that holds the CAs of the URL's certificate (PEM). Absent: the public CAs are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKey>,
}

/// Tokens of this cluster's ServiceAccounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceAccountTokens {
    /// One of these must be in the claim `aud` of a token: `kubectl create token <name> --audience ping`. Default `ping`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    pub audiences: Vec<String>,
}

impl Default for ServiceAccountTokens {
    fn default() -> Self {
        Self { audiences: vec!["ping".into()] }
    }
}

/// What callers may do, and how much. What no rule allows is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Authorization {
    /// Rules, in any order. Default none: only the generated tokens may do anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub rules: Vec<AccessRule>,
    /// Permissions of callers without credentials, for all sources and kinds. Default none. If there are any, the condition
    /// `Authenticated` says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub anonymous: Vec<Permission>,
    /// How much callers may send. An event counts towards every quota that names its caller and covers its source and kind. Default none:
    /// nothing is limited.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub quotas: Vec<Quota>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessRule {
    /// Callers: `token:NAME`, `cert:NAME`, `ISSUER:SUBJECT` or `group:ISSUER:GROUP`. `*` stands for any text.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    pub callers: Vec<String>,
    /// What they may do.
    #[schemars(length(min = 1, max = 4))]
    pub permissions: Vec<Permission>,
    /// Patterns of sources. `*` stands for any text. Absent: all sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub sources: Vec<String>,
    /// Patterns of kinds. Absent: all kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    pub kinds: Vec<String>,
    /// True requires that the source is the caller's subject. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bind_source: bool,
}

/// A permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Record events.
    Ingest,
    /// Read counts, statistics and statuses.
    Read,
    /// Recount, and use everything else on the admin port.
    Admin,
    /// Read metrics.
    Metrics,
}

impl Permission {
    /// The value as in the spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }
}
