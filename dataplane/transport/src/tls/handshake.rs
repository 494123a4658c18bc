//! The handshake, and what a client gets that speaks plaintext to a TLS port.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{PeerCertificate, Tls};
use crate::stream::WriteTimeout;

/// How long a plaintext client may take to read why it is refused.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// What HTTP/1.1 clients are told on a TLS port.
const USE_HTTPS: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
                         connection: close\r\n\r\nthis port needs TLS: use https:// in its address\n";
/// An empty SETTINGS frame, which a server sends first.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// What HTTP/2 clients are told on a TLS port.
const NEEDS_TLS: &[u8] = b"this port needs TLS: use https://";
/// The code of GOAWAY for a connection that is not encrypted as it must be.
const INADEQUATE_SECURITY: u8 = 0xc;

/// A connection after its handshake.
pub(crate) struct Handshake {
    /// Decrypts and encrypts.
    pub(crate) stream: TlsStream<WriteTimeout>,
    /// The peer's certificate, if it presented one.
    pub(crate) certificate: Option<Arc<PeerCertificate>>,
}

/// Runs the handshake. The caller bounds its time.
pub(crate) async fn handshake(stream: TcpStream, peer_timeout: Duration, tls: &Tls) -> io::Result<Handshake> {
    let mut first = [0; 1];
    stream.peek(&mut first).await?;
    // HTTP begins with a method in capitals; a TLS record begins with 0x16.
    if first[0].is_ascii_uppercase() {
        refuse_plaintext(stream, first[0]).await;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the client sent plaintext"));
    }
    let stream = crate::stream::with_write_timeout(stream, peer_timeout);
    let stream = TlsAcceptor::from(tls.current()).accept(stream).await?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = leaf.map(|leaf| PeerCertificate::from_der(leaf)).transpose();
    let certificate = certificate.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Handshake { stream, certificate: certificate.map(Arc::new) })
}

/// Tells the client to use TLS, in the version of HTTP that it speaks, and reads what it sends so that it can read the answer.
async fn refuse_plaintext(mut stream: TcpStream, first: u8) {
    let answer = if first == b'P' && begins_http2(&stream).await { goaway() } else { USE_HTTPS.as_bytes().to_vec() };
    let refusal = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        let mut discarded = [0; 4096];
        while stream.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    };
    // If the client does not read it, there is nothing more to do.
    let _ = timeout(REFUSAL_TIMEOUT, refusal).await;
}

/// Whether the client sent the preface of HTTP/2, and not `POST` or `PUT`.
async fn begins_http2(stream: &TcpStream) -> bool {
    let mut start = [0; 3];
    matches!(stream.peek(&mut start).await, Ok(3)) && &start == b"PRI"
}

fn goaway() -> Vec<u8> {
    let length = 8 + NEEDS_TLS.len() as u8;
    let header = [0, 0, length, 7, 0, 0, 0, 0, 0];
    [&SETTINGS[..], &header, &[0, 0, 0, 0, 0, 0, 0, INADEQUATE_SECURITY], NEEDS_TLS].concat()
}
