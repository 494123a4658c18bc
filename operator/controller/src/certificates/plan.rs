//! What to issue now, given the Secrets and the time. Pure.

use k8s_openapi::ByteString;

use super::{
    CERTIFICATE, CLOCK_SKEW, KEY, NEXT, PUBLISHED_BEFORE_USE, SIGNER, SecretData, WantedCertificate, parsed::Parsed,
};

/// What to do with the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityStep {
    /// Nothing.
    Keep,
    /// Create one: there is none, or it has expired.
    Create,
    /// Create the next one and publish it.
    AddNext,
    /// Let the next one sign from now on.
    Promote,
}

/// What to do with the Secret of an authority, and which of the certificates to issue again.
///
/// `certificates` are those that are wanted, each with its Secret, if that exists. `now` is in seconds since the Unix epoch.
#[must_use]
pub fn plan(
    authority: Option<&SecretData>,
    certificates: &[(WantedCertificate, Option<&SecretData>)],
    now: i64,
) -> (AuthorityStep, Vec<bool>) {
    let (signer, next) = (authority.and_then(|data| pair(data, SIGNER)), authority.and_then(|data| pair(data, NEXT)));
    let step = authority_step(signer.as_ref(), next.as_ref(), now);
    let signs = match step {
        AuthorityStep::Create => None,
        AuthorityStep::Promote => next,
        AuthorityStep::Keep | AuthorityStep::AddNext => signer,
    };
    let is_stale = |(wanted, data): &(WantedCertificate, Option<&SecretData>)| match &signs {
        None => true,
        Some(signer) => !data.is_some_and(|data| is_current(wanted, data, signer, now)),
    };
    (step, certificates.iter().map(is_stale).collect())
}

fn authority_step(signer: Option<&Parsed>, next: Option<&Parsed>, now: i64) -> AuthorityStep {
    let (signer, next) = (signer.filter(|signer| signer.is_valid(now)), next.filter(|next| next.is_valid(now)));
    match (signer, next) {
        (None, None) => AuthorityStep::Create,
        (None, Some(_)) => AuthorityStep::Promote,
        (Some(_), Some(next)) if now - next.not_before >= CLOCK_SKEW + PUBLISHED_BEFORE_USE => AuthorityStep::Promote,
        (Some(signer), None) if signer.is_due(now) => AuthorityStep::AddNext,
        (Some(_), _) => AuthorityStep::Keep,
    }
}

/// True if the Secret holds a certificate as wanted, from this signer, that is not due for renewal.
fn is_current(wanted: &WantedCertificate, data: &SecretData, signer: &Parsed, now: i64) -> bool {
    pair(data, [CERTIFICATE, KEY]).is_some_and(|found| {
        found.issuer == signer.subject
            && found.names == wanted.names
            && found.usages == wanted.usages
            && found.is_valid(now)
            && !found.is_due(now)
    })
}

/// The certificate of a pair of Secret keys, if the private key is there, too.
fn pair(data: &SecretData, [certificate, key]: [&str; 2]) -> Option<Parsed> {
    let present = |key: &str| data.get(key).map(|ByteString(value)| value.as_slice()).filter(|value| !value.is_empty());
    present(key)?;
    Parsed::first(present(certificate)?)
}
