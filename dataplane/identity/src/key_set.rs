//! The keys that an issuer publishes (JWKS).

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use crate::bearer;

/// The algorithms that are allowed: those with a public key. `none` and those with a shared secret are not among them.
const ALLOWED: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// Maximum number of keys of an issuer.
const MAX_KEYS: usize = 100;

/// Whether tokens may be signed by `algorithm`.
pub(crate) fn is_allowed(algorithm: Algorithm) -> bool {
    ALLOWED.contains(&algorithm)
}

/// One key, and the algorithms that it may be used with.
#[derive(Debug)]
pub(crate) struct Key {
    id: Option<Box<str>>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) key: DecodingKey,
    /// Identifies the key. It does not depend on what else the issuer says about it.
    pub(crate) digest: [u8; 32],
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Vec<Key>);

/// Why a JWKS cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeySetError {
    #[error("it is not a JWKS, a JSON object with a list `keys`: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has {0} keys; the limit is {MAX_KEYS}")]
    TooMany(usize),
    #[error("none of its keys can verify a signature by RS*, PS*, ES256, ES384 or EdDSA")]
    NoKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWKS. Keys that cannot verify an allowed algorithm are ignored: issuers may publish others, too.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let document: Document = serde_json::from_slice(json)?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(document.keys.len()));
        }
        let keys: Vec<_> = document.keys.into_iter().filter_map(key).collect();
        if keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(Self(keys)) }
    }

    /// The key with this id for this algorithm. A token without a key id needs an issuer with one key.
    pub(crate) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self.0.iter().filter(|key| key.algorithms.contains(&algorithm));
        match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }

    /// Whether the key with this digest is one of them.
    pub(crate) fn has(&self, digest: &[u8; 32]) -> bool {
        self.0.iter().any(|key| key.digest == *digest)
    }
}

/// The members of a JWK that are the key itself, by RFC 7638, and its id.
const IDENTIFYING: [&str; 7] = ["kid", "kty", "crv", "x", "y", "n", "e"];

fn key(json: Value) -> Option<Key> {
    let identifying = IDENTIFYING.map(|member| json.get(member).cloned().unwrap_or_default());
    let digest = bearer::sha256(&Value::from(identifying.to_vec()).to_string());
    let jwk: Jwk = serde_json::from_value(json).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return None;
    }
    let algorithms = algorithms(&jwk);
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    (!algorithms.is_empty()).then(|| Key { id: jwk.common.key_id.map(Into::into), algorithms, key, digest })
}

/// The allowed algorithms that a key fits, by its kind and, if it names one, by its own algorithm.
fn algorithms(jwk: &Jwk) -> Vec<Algorithm> {
    let fitting = |algorithm: &Algorithm| match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => algorithm.family() == AlgorithmFamily::Rsa,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => *algorithm == Algorithm::ES256,
            EllipticCurve::P384 => *algorithm == Algorithm::ES384,
            _ => false,
        },
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519 && *algorithm == Algorithm::EdDSA,
        _ => false,
    };
    let own = jwk.common.key_algorithm.map(|algorithm| format!("{algorithm:?}"));
    let named = |algorithm: &Algorithm| own.as_ref().is_none_or(|own| *own == format!("{algorithm:?}"));
    ALLOWED.into_iter().filter(|algorithm| fitting(algorithm) && named(algorithm)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ec(id: &str) -> Value {
        let coordinate = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4";
        json!({"kty": "EC", "crv": "P-256", "x": coordinate, "y": coordinate, "kid": id})
    }

    fn parse(keys: Vec<Value>) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn a_key_is_found_by_its_id_and_algorithm() {
        let keys = parse(vec![ec("a"), ec("b")]).unwrap();
        assert!(keys.find(Some("b"), Algorithm::ES256).is_some());
        assert!(keys.find(Some("c"), Algorithm::ES256).is_none());
        assert!(keys.find(Some("a"), Algorithm::ES384).is_none() && keys.find(Some("a"), Algorithm::RS256).is_none());
        assert!(keys.find(None, Algorithm::ES256).is_none(), "there are two");
        assert!(parse(vec![ec("a")]).unwrap().find(None, Algorithm::ES256).is_some());
    }

    #[test]
    fn a_key_is_the_same_whatever_else_is_said_about_it() {
        let mut described = ec("a");
        described["alg"] = "ES256".into();
        described["x5t"] = "abc".into();
        let digest = parse(vec![ec("a")]).unwrap().0[0].digest;
        assert!(parse(vec![ec("b"), described]).unwrap().has(&digest));
        assert!(!parse(vec![ec("b")]).unwrap().has(&digest));
    }

    #[test]
    fn keys_for_other_purposes_are_ignored() {
        let mut encrypting = ec("a");
        encrypting["use"] = "enc".into();
        let mut other = ec("b");
        other["alg"] = "ES384".into();
        let secret = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "c", "alg": "HS256"});
        let unknown = json!({"kty": "XX", "kid": "d"});
        let ignored = vec![encrypting, other, secret, unknown, json!(7)];
        assert!(matches!(parse(ignored.clone()), Err(KeySetError::NoKey)));
        let keys = parse([ignored, vec![ec("e")]].concat()).unwrap();
        assert_eq!(keys.0.len(), 1);
    }

    #[test]
    fn a_document_of_another_form_or_size_is_refused() {
        assert!(matches!(KeySet::parse(b"<html>"), Err(KeySetError::Json(_))));
        assert!(matches!(parse(vec![ec("a"); MAX_KEYS + 1]), Err(KeySetError::TooMany(_))));
    }
}
