//! Certificates that the operator issues: an authority per pipeline, and a certificate for each component that needs one.
//!
//! [`plan`] decides, from the Secrets and the time, what to issue now. It is pure. [`renew`] carries it out; keys are random.
//!
//! An authority is replaced in three steps, so that at no time does a client meet a certificate whose authority it does not know yet:
//! 1. After two thirds of its lifetime, a next authority is created and added to the bundle that clients trust.
//! 2. A day later, when every pod has the new bundle, the next authority starts signing, and all certificates are issued again.
//! 3. The previous authority stays in the bundle until it expires.

mod parsed;
mod plan;
mod renew;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;

pub use self::{
    plan::{AuthorityStep, plan},
    renew::{CertificateError, Renewed, renew},
};

/// Secret key of the bundle that clients trust.
pub const BUNDLE: &str = "ca.crt";
/// Secret key of a certificate.
pub const CERTIFICATE: &str = "tls.crt";
/// Secret key of a certificate's private key.
pub const KEY: &str = "tls.key";
/// Secret keys of the authority that signs: its certificate and private key.
const SIGNER: [&str; 2] = ["signer.crt", "signer.key"];
/// Secret keys of the authority that will sign next.
const NEXT: [&str; 2] = ["next.crt", "next.key"];

const DAY: i64 = 24 * 60 * 60;
/// Lifetime of an authority, in seconds.
const AUTHORITY_LIFETIME: i64 = 3 * 365 * DAY;
/// Seconds for which an authority is published before it signs.
const PUBLISHED_BEFORE_USE: i64 = DAY;
/// Certificates are valid from this many seconds before they are issued: clocks of nodes may differ by more than an hour.
const CLOCK_SKEW: i64 = 90 * 60;

/// The DNS names and IP addresses of the first certificate in `pem`; `None` if there is none, or it is malformed.
#[must_use]
pub fn names_of(pem: &[u8]) -> Option<BTreeSet<String>> {
    parsed::Parsed::first(pem).map(|parsed| parsed.names)
}

/// The content of a Secret.
pub type SecretData = BTreeMap<String, ByteString>;

/// A certificate that a component needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedCertificate {
    /// The component, which becomes the common name; at most 64 bytes.
    pub component: &'static str,
    /// DNS names and IP addresses that it covers.
    pub names: BTreeSet<String>,
    /// What it may be used for.
    pub usages: BTreeSet<Usage>,
    /// Lifetime in seconds. It is renewed after two thirds of it. It never outlives its authority.
    pub lifetime: i64,
}

impl WantedCertificate {
    /// The certificate in `data` once more, for `lifetime` seconds; `None` if there is none, or it is malformed.
    #[must_use]
    pub fn again(data: &SecretData, component: &'static str, lifetime: i64) -> Option<Self> {
        let parsed::Parsed { names, usages, .. } = parsed::Parsed::first(&data.get(CERTIFICATE)?.0)?;
        Some(Self { component, names, usages, lifetime })
    }
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    /// To prove the identity of a server.
    Server,
    /// To prove the identity of a client.
    Client,
}
