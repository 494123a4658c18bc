//! A TLS handshake that also says what the certificate is.

use std::{io, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring::default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{exit::Exit, failure::Failure, settings::Settings, time};

use super::{certificate::CertificateFacts, report::Finding};

/// What to do about files that cannot be used.
const FILES: &str =
    "check --ca, --cert and --key (PINGCTL_CA, PINGCTL_CERT, PINGCTL_KEY), or those of the context: PEM files";

/// Performs the handshake, and checks the certificate as every call does.
pub(super) async fn run(settings: &Settings, socket: TcpStream, limit: Duration) -> Result<Finding<()>, Failure> {
    let host = settings.addr.host().trim_matches(['[', ']']);
    let name = settings.connection().tls_server_name.as_deref().unwrap_or(host).to_owned();
    let server_name = ServerName::try_from(name.clone()).map_err(|error| {
        Failure::usage(format!("\"{name}\" cannot be the name of a server: {error}"), "correct --tls-server-name")
    })?;
    let seen = Arc::new(Mutex::new(None));
    let config = config(settings, Arc::clone(&seen))?;
    let shaken = timeout(limit, TlsConnector::from(Arc::new(config)).connect(server_name, socket)).await;
    let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let facts = seen.lock().as_deref().and_then(CertificateFacts::read);
    match shaken {
        Ok(stream) => {
            let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str());
            let has_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let proxy = "something between here and the server does not speak HTTP/2, which gRPC needs: use another address, or allow \
                         HTTP/2 there";
            let warning = (!has_http2).then(|| proxy.to_owned());
            let expiry = facts.as_ref().and_then(|facts| facts.expiry_warning(time::now()));
            let described = facts.map(|facts| facts.describe()).unwrap_or_default();
            let detail = format!("{}, {described}", version.unwrap_or("TLS"));
            Ok(Finding::ok(detail, ()).with_warning(expiry.or(warning)))
        }
        Err(error) => Err(explain(&error, facts.as_ref(), &name)),
    }
}

/// Why the handshake failed, and what to do.
fn explain(error: &io::Error, facts: Option<&CertificateFacts>, name: &str) -> Failure {
    let of_tls = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    let fix = match (of_tls, facts) {
        (Some(error @ Error::InvalidCertificate(_)), Some(facts)) => facts.remedy(error, name),
        (Some(Error::AlertReceived(_)), _) => {
            "the server refused the handshake: if it asks for a client certificate, name it with --cert and --key"
                .to_owned()
        }
        (Some(Error::InvalidMessage(_)), _) => {
            "the server does not use TLS at this port: write http:// in --addr".to_owned()
        }
        _ => "check that the server uses TLS at this port; if not, write http:// in --addr".to_owned(),
    };
    Failure {
        exit: Exit::Unavailable,
        code: "unavailable",
        what: "the TLS handshake failed".to_owned(),
        cause: Some(error.to_string()),
        fix: Some(fix),
    }
}

fn config(settings: &Settings, seen: Arc<Mutex<Option<Vec<u8>>>>) -> Result<ClientConfig, Failure> {
    let connection = settings.connection();
    let unusable = |error: Error| Failure::usage(format!("TLS cannot be used: {error}"), FILES);
    let provider = Arc::new(default_provider());
    let roots = Arc::new(roots(connection.ca.as_deref())?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
    let verifier = verifier.map_err(|error| {
        Failure::usage(format!("there is no CA to check the server's certificate with: {error}"), FILES)
    })?;
    let verifier = Recorder { verifier, provider: Arc::clone(&provider), seen };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(unusable)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&connection.cert, &connection.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error.to_string()))?;
            builder.with_client_auth_cert(chain, key).map_err(unusable)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The CAs in the file, or those of the system.
fn roots(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let certificates = match ca {
        Some(path) => certificates(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|error| unreadable(path, &error.to_string()))
}

fn unreadable(path: &Path, cause: &str) -> Failure {
    Failure::usage(format!("{} cannot be used: {cause}", path.display()), FILES)
}

/// Checks certificates as usual, and keeps the last one for the report.
#[derive(Debug)]
struct Recorder {
    verifier: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
    seen: Arc<Mutex<Option<Vec<u8>>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock() = Some(certificate.to_vec());
        self.verifier.verify_server_cert(certificate, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
