//! TLS settings of connections to components that the operator does not manage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::{SecretKey, rule};

/// How connections to an external component are encrypted. The files are read again for each new connection, so replacing a
/// certificate in its Secret restarts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rule(
        "self.mode != 'Disable' || (!has(self.ca) && !has(self.clientCertificate))",
        "mode: Disable sends everything in plaintext, so ca and clientCertificate have no effect. Remove them, or set mode: VerifyFull",
    ),
]))]
pub struct ConnectionTls {
    /// `VerifyFull` (default): the server must have a certificate for the host name, from a trusted CA. `Disable`: everything is
    /// sent in plaintext, passwords included, and the condition `Encrypted` says so.
    pub mode: TlsMode,
    /// Secret key that holds the CA certificates (PEM). Absent: the public CAs are trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKey>,
    /// Name of a Secret of type `kubernetes.io/tls` with the certificate of servers and processors (`tls.crt`, `tls.key`), for a
    /// component that asks for one. Absent: no certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub client_certificate: Option<String>,
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// Encrypted; certificate and host name are verified.
    #[default]
    VerifyFull,
    /// Plaintext.
    Disable,
}
