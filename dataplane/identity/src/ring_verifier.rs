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

#[cfg(test)]
mod tests {
    use jsonwebtoken::crypto::verify;

    use super::*;

    /// Made with OpenSSL: RSA of 2,048 bits, PKCS #1 with SHA-256.
    const MODULUS: &str = "tFzclp2cO0bNfrMnWrTCQUDxPXePNSU12gMKwIw8DQ4hNE8sdJP21OJx5bohj1zjhmNdVHy8EqY7D52FgyjQcf-7gcp4wvv-mXHQTvXMj8duyeQ38VPYtz7ZWY6UDsdufuERFqTq9eQYnQu5dM09Yd38RIAVmdxNh45TI8ucGbl6q0VQhXyFE7c2cHEja2Ec810Sqlb0qCknxAz1Ciw-G6m1YXrHhecYwhzTDMJ9gLBmCQYwgeQgvH8k7FNOipwOH9OotziXY9eEy9i53RlS1h696Ksm3_0KbVvms-3avENXzepO-CAxe-zEd6Gkm0qU_RRulFVX-PB0UhGAKBesJQ";
    const MESSAGE: &[u8] = b"eyJhbGciOiJSUzI1NiJ9.e30";
    const SIGNATURE: &str = "S6AG4-RxwqZkS9LwywU6NZtaSuusvtCDCHvKDeSLUPoxnIy8MAFp1c3XE0YIXdH3DEpskahPhX6FWq3FhYlkN3sUab6L0M103H75aL6xhxSjZZpoaTOml9JWGbpf6CnVGB418DrqKQ4Ih8kMhsj-7SSxxFmCd-tVhhHG6z4C00hywcKnmA0PwjyIrTylgKwlgXKhfiddwJovApv3zkyZ95e33yLmdQa_BQhUqCbgKHkhRZLkKdXQhvgW5NhLovnPsg0O58s-ATL7Gm9lMFHsnt1_JefVNrwEDQjgjFWV6KO1IT_iiWE8I2kuz6nl4V6aFrIxwNhX_n-vyhjawYrNyg";

    #[test]
    fn a_signature_by_rsa_is_verified_and_one_for_other_content_is_not() {
        install();
        let key = DecodingKey::from_rsa_components(MODULUS, "AQAB").unwrap();
        assert_eq!(verify(SIGNATURE, MESSAGE, &key, Algorithm::RS256), Ok(true));
        assert_eq!(verify(SIGNATURE, b"eyJhbGciOiJSUzI1NiJ9.e31", &key, Algorithm::RS256), Ok(false));
        assert_eq!(verify(SIGNATURE, MESSAGE, &key, Algorithm::PS256), Ok(false));
    }

    #[test]
    fn no_key_is_used_as_a_shared_secret() {
        install();
        let key = DecodingKey::from_rsa_components(MODULUS, "AQAB").unwrap();
        let secret = DecodingKey::from_secret(b"secret").unwrap();
        for (key, algorithm) in [(&key, Algorithm::HS256), (&secret, Algorithm::HS256), (&key, Algorithm::ES256)] {
            assert!(verify(SIGNATURE, MESSAGE, key, algorithm).is_err(), "{algorithm:?}");
        }
    }
}
