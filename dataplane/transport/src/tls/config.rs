//! From PEM files to a configuration.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use x509_parser::prelude::X509Error;

use super::certificate;

/// The contents of the files, as cert-manager and Kubernetes name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsPem {
    /// `tls.crt`: the server's certificate, then the intermediate ones.
    pub certificates: Vec<u8>,
    /// `tls.key`: the key of the server's certificate.
    pub key: Vec<u8>,
    /// `ca.crt`: the CAs of client certificates; none if clients are not asked for one.
    pub client_ca: Option<Vec<u8>>,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or without a certificate.
    #[error(
        "the certificate file has no valid PEM certificate; it needs the server's certificate, then the intermediate ones"
    )]
    NoCertificate,
    /// Not PEM, or without a key.
    #[error("the key file has no valid PEM key; it needs one key in PKCS#8, PKCS#1 or SEC1")]
    NoKey,
    /// The certificate has another key, or a key of a kind that is not supported.
    #[error("the key file and the certificate do not fit: {0}; replace both together")]
    Mismatch(#[source] rustls::Error),
    /// The certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(#[from] X509Error),
    /// Not PEM, or without a CA.
    #[error("the client CA file has no valid PEM certificate; it needs the CAs that sign client certificates")]
    NoClientCa,
    /// The CA is not one.
    #[error("a certificate in the client CA file cannot be used: {0}")]
    ClientCa(#[source] rustls::Error),
    /// The verifier cannot be built.
    #[error("client certificates cannot be verified: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// No protocol version is enabled.
    #[error("TLS cannot be configured: {0}")]
    Provider(#[source] rustls::Error),
}

/// A configuration that connections can be answered with.
#[derive(Debug)]
pub struct TlsConfig {
    pub(super) server: Arc<ServerConfig>,
    /// When the certificate expires, in seconds since the Unix epoch.
    pub(super) expires: i64,
}

impl TlsConfig {
    /// The configuration with these files. `client_required` refuses clients without a certificate; it needs `pem.client_ca`.
    ///
    /// # Errors
    /// When a file is invalid, or the key is not that of the certificate.
    pub fn new(pem: &TlsPem, client_required: bool) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&pem.certificates).ok_or(TlsError::NoCertificate)?;
        let leaf = chain.first().ok_or(TlsError::NoCertificate)?;
        let expires = certificate::expires_at(leaf)?;
        let key = PrivateKeyDer::from_pem_slice(&pem.key).map_err(|_| TlsError::NoKey)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Provider)?;
        let builder = match &pem.client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots(authorities)?, provider);
                let verifier = if client_required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build()?)
            }
        };
        let mut server = builder.with_single_cert(chain, key).map_err(TlsError::Mismatch)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { server: Arc::new(server), expires })
    }
}

fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem).ok_or(TlsError::NoClientCa)? {
        roots.add(authority).map_err(TlsError::ClientCa)?;
    }
    Ok(Arc::new(roots))
}

/// The certificates in a PEM file; none if it has none, or one is invalid.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    use super::*;

    fn pem() -> TlsPem {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        TlsPem {
            certificates: cert.pem().into_bytes(),
            key: signing_key.serialize_pem().into_bytes(),
            client_ca: Some(cert.pem().into_bytes()),
        }
    }

    #[test]
    fn valid_files_are_used() {
        assert!(TlsConfig::new(&pem(), true).unwrap().expires > 1_700_000_000);
        TlsConfig::new(&TlsPem { client_ca: None, ..pem() }, false).unwrap();
    }

    #[test]
    fn each_invalid_file_is_named() {
        let error = |pem: TlsPem| TlsConfig::new(&pem, false).unwrap_err().to_string();
        let cases = [
            (error(TlsPem { certificates: b"x".to_vec(), ..pem() }), "the certificate file has no valid PEM"),
            (error(TlsPem { key: Vec::new(), ..pem() }), "the key file has no valid PEM key"),
            (error(TlsPem { key: pem().key, ..pem() }), "the key file and the certificate do not fit"),
            (error(TlsPem { client_ca: Some(pem().key), ..pem() }), "the client CA file has no valid PEM"),
        ];
        for (found, expected) in cases {
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
