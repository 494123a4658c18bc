//! The keys that an issuer publishes (JWKS).

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

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
}

fn key(json: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(json).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return None;
    }
    let algorithms = algorithms(&jwk);
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    (!algorithms.is_empty()).then(|| Key { id: jwk.common.key_id.map(Into::into), algorithms, key })
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
