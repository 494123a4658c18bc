//! The connection to a collector of traces.

use std::{io, net::SocketAddr, sync::Arc};

use axum::serve::Listener;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};

use crate::{
    authority::{Authority, Certificate, Secret},
    collector::Collector,
    processes::Pingd,
};

struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn collector_with_tls(certificate: &Certificate) -> Collector {
    let chain = CertificateDer::pem_slice_iter(certificate.cert.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    Collector::serve(TlsListener { listener, acceptor: TlsAcceptor::from(Arc::new(config)) }, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_sent_only_to_a_collector_with_a_trusted_certificate() {
    let (authority, other) = (Authority::new("test"), Authority::new("other"));
    let certificate = authority.server(2_040);
    let collector = collector_with_tls(&certificate).await;
    for (trusted, received) in [(&other, false), (&authority, true)] {
        let secret = Secret::new(&certificate, &trusted.pem);
        let (endpoint, ca) = (collector.tls_endpoint(), secret.path("ca.crt"));
        let args = ["--memory", "--otlp-endpoint", &endpoint, "--otlp-certificate", ca.to_str().unwrap()];
        let mut pingd = Pingd::dev(&args).await;
        pingd.ping(json!({})).await;
        assert_eq!(pingd.terminate().await, Some(0), "{}", pingd.log_tail());
        assert_eq!(!collector.spans().is_empty(), received, "{}", pingd.log_tail());
    }
}
