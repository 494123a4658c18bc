//! A kubelet that forwards ports and does nothing else: the control plane of these tests has no nodes. It speaks the protocol
//! `v4.channel.k8s.io`: each message begins with the number of a channel, and each channel with the number of its port.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        http::HeaderValue,
    },
};

use crate::{harness::TestNamespace, tls};

/// Starts a kubelet at `host`, and makes the Node `name` of it. Every port is forwarded to `to`.
pub(crate) async fn start(test: &TestNamespace, name: &str, host: std::net::IpAddr, to: SocketAddr) {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tls::acceptor(&tls::issue("kubelet").1);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    forward(stream, to).await;
                }
            });
        }
    });
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
    test.control_plane.kubectl_with_input(["create", "-f", "-"], &node.to_string()).await.unwrap();
    let status = json!({ "status": {
        "addresses": [{ "type": "InternalIP", "address": host }],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
    } });
    test.kubectl(&["patch", "node", name, "--subresource=status", "--type=merge", "-p", &status.to_string()]).await;
}

async fn forward(stream: TlsStream<TcpStream>, to: SocketAddr) {
    let mut ports = Vec::new();
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let accept = |request: &Request, mut response: Response| {
        let query = request.uri().query().unwrap_or_default();
        let wanted = query.split('&').find_map(|pair| pair.strip_prefix("port=")).unwrap_or_default();
        ports.extend(wanted.split(',').filter_map(|port| port.parse::<u16>().ok()));
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("v4.channel.k8s.io"));
        Ok(response)
    };
    let mut channels = accept_hdr_async(stream, accept).await.unwrap();
    let port = ports[0].to_le_bytes();
    for channel in [0, 1] {
        channels.send(Message::binary(vec![channel, port[0], port[1]])).await.unwrap();
    }
    let mut pod = TcpStream::connect(to).await.unwrap();
    let mut bytes = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            message = channels.next() => match message {
                Some(Ok(Message::Binary(message))) if message.len() > 1 => pod.write_all(&message[1..]).await.unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            },
            length = pod.read(&mut bytes) => match length {
                Ok(length) if length > 0 => {
                    let message = [&[0], &bytes[..length]].concat();
                    if channels.send(Message::binary(message)).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
