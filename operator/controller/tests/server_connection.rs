//! The operator asks a server for the count over TLS: it verifies the server, and shows its token to no one else.
#![cfg(test)]

#[expect(dead_code, reason = "the plugin's tests use more of it")]
#[path = "harness/tls.rs"]
mod tls;

use std::net::SocketAddr;

use ping_operator::{
    certificates::SecretData,
    error::chain,
    server_connection::{ConnectionSettings, Count, ServerConnection, StatsError, TlsSettings},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::tls::{acceptor, issue};

const TOKEN: &str = "the-operators-token";
const HOST: &str = "demo-server.default.svc";

/// Answers each request that has the token with a count of 42, and each other one with 401.
async fn serve(certificate: &SecretData) -> SocketAddr {
    let acceptor = acceptor(certificate);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = vec![0; 4_096];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
                let is_known = request.contains(&format!("authorization: bearer {TOKEN}"));
                let body = if is_known { r#"{"pingCount": "42"}"# } else { "{}" };
                let status = if is_known { "200 OK" } else { "401 Unauthorized" };
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _ = stream.shutdown().await;
            });
        }
    });
    address
}

async fn count(address: &str, ca: &str, host: &str, token: &str) -> Result<Count, StatsError> {
    let tls = TlsSettings { host: host.into(), ca: Some(ca.into()), identity: None };
    let settings = ConnectionSettings { address: address.into(), tls: Some(tls), token: Some(token.into()) };
    ServerConnection::new(&settings)?.count().await
}

#[tokio::test]
async fn a_server_is_verified_by_the_name_of_its_certificate_wherever_it_is() {
    let (authority, certificate) = issue(HOST);
    let address = format!("https://{}", serve(&certificate).await);
    assert_eq!(count(&address, &authority, HOST, TOKEN).await.unwrap().total, 42);
    let error = chain(&count(&address, &authority, HOST, "another").await.unwrap_err());
    assert!(error.contains("401: it does not accept the operator's token"), "{error}");
    let (stranger, _) = issue(HOST);
    for (ca, host) in [(&stranger, HOST), (&authority, "other.default.svc")] {
        let error = count(&address, ca, host, TOKEN).await.unwrap_err();
        assert!(matches!(error, StatsError::Request { .. }), "{}", chain(&error));
        assert!(chain(&error).contains("invalid peer certificate"), "{}", chain(&error));
    }
}

#[tokio::test]
async fn the_token_is_not_sent_in_plaintext() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let request = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4_096];
        let length = stream.read(&mut request).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let (authority, _) = issue(HOST);
    count(&address, &authority, HOST, TOKEN).await.unwrap_err();
    let request = request.await.unwrap();
    assert!(request.starts_with("POST") && !request.contains(TOKEN), "{request}");
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let settings = |address: &str, ca: &[u8]| {
        let tls = TlsSettings { host: HOST.into(), ca: Some(ca.to_vec()), identity: Some(b"nonsense".to_vec()) };
        let settings = ConnectionSettings { address: address.into(), tls: Some(tls), token: None };
        chain(&ServerConnection::new(&settings).err().unwrap())
    };
    assert!(settings("nonsense", b"").contains("not a URL; check --server-address"));
    assert!(settings("https://a:1", b"").starts_with("cannot connect to https://a:1: "));
}
