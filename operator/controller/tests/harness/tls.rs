//! Certificates and TLS servers of tests, also of the kubectl plugin's.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ping_operator::certificates::{BUNDLE, CERTIFICATE, KEY, SecretData, Usage, WantedCertificate, renew};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// The CA in PEM form, and a certificate for `host` from it.
pub(crate) fn issue(host: &str) -> (String, SecretData) {
    let wanted = WantedCertificate {
        component: "server",
        names: [host.to_owned()].into(),
        usages: [Usage::Server].into(),
        lifetime: 3_600,
    };
    let now = k8s_openapi::jiff::Timestamp::now().as_second();
    let mut renewed = renew(None, &[(wanted, None)], now).unwrap();
    (String::from_utf8(renewed.authority[BUNDLE].0.clone()).unwrap(), renewed.certificates.remove(0))
}

/// Accepts TLS connections with `certificate`.
pub(crate) fn acceptor(certificate: &SecretData) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(&certificate[CERTIFICATE].0).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&certificate[KEY].0).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()))
}

/// How many connections a server got.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    opened: Arc<AtomicUsize>,
    trusted: Arc<AtomicUsize>,
}

impl Connections {
    /// All.
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// Those on which the client accepted the certificate. Only then it sends its token.
    pub(crate) fn trusted(&self) -> usize {
        self.trusted.load(Ordering::SeqCst)
    }
}

/// Serves TLS in front of the plaintext server at `inner`.
pub(crate) async fn in_front_of(inner: SocketAddr, certificate: &SecretData) -> (SocketAddr, Connections) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, acceptor, connections) =
        (listener.local_addr().unwrap(), acceptor(certificate), Connections::default());
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, counted) = (acceptor.clone(), counted.clone());
            counted.opened.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let Ok(mut outer) = acceptor.accept(stream).await else { return };
                counted.trusted.fetch_add(1, Ordering::SeqCst);
                let mut inner = TcpStream::connect(inner).await.unwrap();
                // Either side may end first.
                let _ = copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    (address, connections)
}
