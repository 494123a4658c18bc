//! Requests as bytes on a connection, for what no client library would send.

use std::{io::Write, time::Duration};

use buffa::bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use h2::client::SendRequest;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// Connects from `from`, a loopback address: limits per address can then tell callers apart.
pub async fn connect(api: &str, from: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{from}:0").parse().unwrap())?;
    socket.connect(api.trim_start_matches("http://").parse().unwrap()).await
}

/// Connects by HTTP/2. The streams have this window for answers: with 0, the server cannot send any.
pub async fn connect_http2(api: &str, window: u32) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let connection = connect(api, "127.0.0.1").await.unwrap();
    let (requests, connection) =
        h2::client::Builder::new().initial_window_size(window).handshake(connection).await.unwrap();
    (requests, tokio::spawn(connection))
}

/// A request by HTTP/1.1, with its body.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// The same bytes, compressed.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Reads one response with a Content-Length; its status and body.
pub async fn response(stream: &mut TcpStream) -> (u16, String) {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                return (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned());
            }
        }
        let mut part = [0; 4096];
        let read = timeout(Duration::from_secs(30), stream.read(&mut part)).await.expect("an answer in time").unwrap();
        assert!(read > 0, "the server closed the connection after {text:?}");
        received.extend_from_slice(&part[..read]);
    }
}

/// Sends a request and reads its response on the same connection.
pub async fn exchange(stream: &mut TcpStream, request: &[u8]) -> (u16, String) {
    stream.write_all(request).await.unwrap();
    response(stream).await
}

/// Waits until the peer closes the connection; false if it does not in time.
pub async fn is_closed_within(stream: &mut TcpStream, time: Duration) -> bool {
    let mut rest = Vec::new();
    timeout(time, stream.read_to_end(&mut rest)).await.is_ok()
}

/// Whether the peer has not closed the connection, which has nothing to read.
pub fn is_open(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0; 64]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Sends a body by gRPC over HTTP/2; the HTTP status and `grpc-status`, which is empty if there is none.
pub async fn grpc(api: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let (requests, connection) = h2::client::handshake(connect(api, "127.0.0.1").await.unwrap()).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(format!("{api}/ping.v1.{path}"));
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(headers) {
        request = request.header(*name, *value);
    }
    let mut requests = requests.ready().await.unwrap();
    let (response, mut stream) = requests.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(body.to_vec().into(), true).unwrap();
    let response = response.await.unwrap();
    let (status, mut found) = (response.status().as_u16(), response.headers().get("grpc-status").cloned());
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let received = data.unwrap().len();
        body.flow_control().release_capacity(received).unwrap();
    }
    if let Some(trailers) = body.trailers().await.unwrap() {
        found = found.or_else(|| trailers.get("grpc-status").cloned());
    }
    connection.abort();
    (status, found.map(|status| status.to_str().unwrap().to_owned()).unwrap_or_default())
}
