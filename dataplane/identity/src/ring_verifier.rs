//! Lets `jsonwebtoken` check signatures with ring, the provider that TLS uses, so that no second library for cryptography is linked.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind, new_error},
    signature::{self, Verifier},
};
use ring::signature as keys;

/// Verifies; it cannot sign, and knows no shared secrets.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: refuse_to_sign,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `jsonwebtoken` use ring. Idempotent.
pub(crate) fn install() {
    // An error says that it is installed already: no other provider is in this program.
    let _ = RING.install_default();
}

fn refuse_to_sign(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(new_error(ErrorKind::UnsupportedAlgorithm))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if algorithm.family() != key.family() || method(*algorithm).is_none() {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
}

/// How ring verifies an algorithm.
enum Method {
    Rsa(&'static keys::RsaParameters),
    Bytes(&'static dyn keys::VerificationAlgorithm),
}

fn method(algorithm: Algorithm) -> Option<Method> {
    Some(match algorithm {
        Algorithm::RS256 => Method::Rsa(&keys::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Method::Rsa(&keys::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Method::Rsa(&keys::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Method::Rsa(&keys::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Method::Rsa(&keys::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Method::Rsa(&keys::RSA_PSS_2048_8192_SHA512),
        Algorithm::ES256 => Method::Bytes(&keys::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Method::Bytes(&keys::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Method::Bytes(&keys::ED25519),
        _ => return None,
    })
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (method(self.algorithm), self.key.kind()) {
            (Some(Method::Rsa(parameters)), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                keys::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Some(Method::Bytes(algorithm)), DecodingKeyKind::SecretOrDer(key)) => {
                keys::UnparsedPublicKey::new(algorithm, key).verify(message, signature)
            }
            _ => return Err(signature::Error::new()),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
