//! An issuer of tokens, with an endpoint for its keys.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use rcgen::PublicKeyData;
use ring::hmac;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

pub(crate) use crate::token_key::{Key, jwks, message};

/// The claim `iss` of its tokens.
pub const ISSUER: &str = "https://issuer.example";

/// A token of `key` that uses its public key as a shared secret.
pub fn sign_with_public_key_as_secret(key: &Key, claims: &Value) -> String {
    let message = message(&json!({"alg": "HS256", "kid": key.id}), claims);
    let secret = hmac::Key::new(hmac::HMAC_SHA256, key.pair.der_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&secret, message.as_bytes())))
}

/// A token without a signature.
pub fn unsigned(claims: &Value) -> String {
    format!("{}.", message(&json!({"alg": "none"}), claims))
}

/// Seconds since the Unix epoch.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Valid claims, with `changes`.
pub fn claims(changes: &Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "sub": "system:serviceaccount:shop:orders", "aud": ["ping", "other"],
                            "exp": now() + 600, "nbf": now() - 10, "iat": now() - 10});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// Serves the keys of an issuer, until it is dropped.
pub struct KeyServer {
    pub url: String,
    keys: Arc<Mutex<String>>,
    fetches: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl KeyServer {
    pub async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let (keys, fetches) = (Arc::new(Mutex::new(jwks(keys))), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn(serve(listener, Arc::clone(&keys), Arc::clone(&fetches)));
        Self { url, keys, fetches, task }
    }

    /// Publishes other keys.
    pub fn publish(&self, keys: &[&Key]) {
        *self.keys.lock() = jwks(keys);
    }

    /// How often the keys were fetched.
    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, keys: Arc<Mutex<String>>, fetches: Arc<AtomicUsize>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        fetches.fetch_add(1, Ordering::SeqCst);
        let body = keys.lock().clone();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = stream.write_all((head + &body).as_bytes()).await;
    }
}
