//! Tokens that an issuer signed.

use std::sync::Arc;

use jsonwebtoken::{
    Algorithm, Validation, dangerous, decode, decode_header,
    errors::{Error, ErrorKind},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    AuthenticationError,
    identity::Identity,
    issuer::Issuer,
    key_set::{Key, is_allowed},
};

/// How far the clocks of issuer and server may differ, in seconds.
pub(crate) const LEEWAY_SECONDS: u64 = 30;

/// What a token says of its signature. Nothing of it is verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) issuer: String,
    pub(crate) key_id: Option<String>,
    pub(crate) algorithm: Algorithm,
}

#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

/// Whether the token has the form of a JWT.
pub(crate) fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Reads which key of which issuer the token claims to be signed with.
pub(crate) fn claimed(token: &str) -> Result<Claimed, AuthenticationError> {
    // Also refuses `alg: none`, which is not an algorithm.
    let header = decode_header(token).map_err(|_| AuthenticationError::Malformed)?;
    if !is_allowed(header.alg) {
        return Err(AuthenticationError::Algorithm);
    }
    let claims: IssuerClaim = dangerous::insecure_decode_claims(token).map_err(|_| AuthenticationError::Malformed)?;
    Ok(Claimed { issuer: claims.iss, key_id: header.kid, algorithm: header.alg })
}

/// Verifies the token with a key of its issuer. Returns the identity, and when the token expires.
pub(crate) fn verify(token: &str, key: &Key, issuer: &Arc<Issuer>) -> Result<(Identity, i64), AuthenticationError> {
    let mut validation = Validation::new_for_family(key.key.family());
    validation.algorithms.clone_from(&key.algorithms);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
    validation.set_issuer(&[&issuer.issuer]);
    validation.set_audience(&issuer.audiences);
    let token = decode::<Map<String, Value>>(token, &key.key, &validation);
    let claims = token.map_err(|error| refusal(&error, issuer))?.claims;
    let subject = claims.get("sub").and_then(Value::as_str).filter(|subject| !subject.is_empty());
    let subject = subject.ok_or(AuthenticationError::Malformed)?.into();
    let groups = claims.get(&*issuer.groups_claim).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let groups = groups.iter().filter_map(Value::as_str).map(Into::into).collect();
    let expires = claims.get("exp").and_then(|exp| exp.as_i64().or_else(|| seconds(exp.as_f64()?)));
    let expires = expires.ok_or(AuthenticationError::Malformed)?;
    Ok((Identity::Issued { issuer: Arc::clone(issuer), subject, groups, key: key.digest }, expires))
}

/// A number of seconds that the validation has accepted: it is finite and not negative.
fn seconds(number: f64) -> Option<i64> {
    format!("{:.0}", number.floor()).parse().ok()
}

fn refusal(error: &Error, issuer: &Issuer) -> AuthenticationError {
    match error.kind() {
        ErrorKind::InvalidSignature => AuthenticationError::Signature(issuer.name.clone()),
        ErrorKind::ExpiredSignature => AuthenticationError::Expired,
        ErrorKind::ImmatureSignature => AuthenticationError::Premature,
        ErrorKind::InvalidAudience => AuthenticationError::Audience(issuer.audiences.join("\" or \"").into()),
        ErrorKind::InvalidIssuer => AuthenticationError::Issuer,
        ErrorKind::InvalidAlgorithm => AuthenticationError::Algorithm,
        _ => AuthenticationError::Malformed,
    }
}
