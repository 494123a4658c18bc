//! Fetches the keys of an issuer.

use std::{path::Path, time::Duration};

use reqwest::{Certificate, Client, Url, header, redirect::Policy};
use serde::Deserialize;

use crate::issuer::{Issuer, KeyLocation};

/// Longest time for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer, key file, CA file or token file, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// Where OpenID Connect Discovery expects an issuer's description.
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// Why keys are not available.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("cannot read {0}: {1}")]
    File(Box<str>, #[source] std::io::Error),
    #[error("{0} has more than {MAX_BYTES} bytes")]
    TooLarge(Box<str>),
    #[error("{0} has no valid PEM certificate")]
    Ca(Box<str>),
    #[error("cannot fetch {0}")]
    Http(Box<str>, #[source] reqwest::Error),
    #[error("{0} answered with HTTP {1}; redirects are not followed")]
    Status(Box<str>, u16),
    #[error("{0} is not a description of an issuer: {1}")]
    Discovery(Box<str>, #[source] serde_json::Error),
    #[error("{0} describes another issuer than the access policy names")]
    OtherIssuer(Box<str>),
    #[error("{0} is not an https:// URL")]
    Insecure(Box<str>),
}

#[derive(Deserialize)]
struct Description {
    issuer: String,
    jwks_uri: String,
}

/// Whether an answer from this URL can be trusted: it is encrypted, or does not leave the machine.
pub(crate) fn is_secure(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let is_loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

/// The issuer's JWKS.
pub(crate) async fn jwks(issuer: &Issuer) -> Result<Vec<u8>, FetchError> {
    match &issuer.keys {
        KeyLocation::File(path) => file(path).await,
        KeyLocation::Url(url) => get(&client(issuer).await?, url, token(issuer).await?.as_deref()).await,
        KeyLocation::Discovery => {
            let (client, token) = (client(issuer).await?, token(issuer).await?);
            let url = format!("{}{DISCOVERY_PATH}", issuer.issuer.trim_end_matches('/'));
            let text = get(&client, &url, token.as_deref()).await?;
            let description: Description =
                serde_json::from_slice(&text).map_err(|error| FetchError::Discovery(url.as_str().into(), error))?;
            if *description.issuer != *issuer.issuer {
                return Err(FetchError::OtherIssuer(url.into()));
            }
            if !is_secure(&description.jwks_uri) {
                return Err(FetchError::Insecure(description.jwks_uri.into()));
            }
            // The token is for the issuer: another server must not get it.
            let token = token.filter(|_| has_same_origin(&url, &description.jwks_uri));
            get(&client, &description.jwks_uri, token.as_deref()).await
        }
    }
}

fn has_same_origin(first: &str, second: &str) -> bool {
    matches!((Url::parse(first), Url::parse(second)), (Ok(first), Ok(second)) if first.origin() == second.origin())
}

/// A client for one fetch: the CA file may have been replaced since the last one.
async fn client(issuer: &Issuer) -> Result<Client, FetchError> {
    let mut builder = Client::builder().timeout(TIMEOUT).redirect(Policy::none());
    if let Some(path) = &issuer.ca_file {
        let name = || path.display().to_string().into();
        let authorities = Certificate::from_pem_bundle(&file(path).await?).map_err(|_| FetchError::Ca(name()))?;
        if authorities.is_empty() {
            return Err(FetchError::Ca(name()));
        }
        builder = builder.tls_built_in_root_certs(false);
        builder = authorities.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    builder.build().map_err(|error| FetchError::Http(issuer.issuer.clone(), error))
}

async fn token(issuer: &Issuer) -> Result<Option<String>, FetchError> {
    let Some(path) = &issuer.token_file else { return Ok(None) };
    Ok(Some(String::from_utf8_lossy(&file(path).await?).trim().to_owned()))
}

async fn get(client: &Client, url: &str, token: Option<&str>) -> Result<Vec<u8>, FetchError> {
    let failed = |error: reqwest::Error| FetchError::Http(url.into(), error.without_url());
    let mut request = client.get(url).header(header::ACCEPT, "application/json");
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let mut answer = request.send().await.map_err(failed)?;
    if answer.status() != 200 {
        return Err(FetchError::Status(url.into(), answer.status().as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLarge(url.into()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn file(path: &Path) -> Result<Vec<u8>, FetchError> {
    let name = || path.display().to_string().into();
    let bytes = tokio::fs::read(path).await.map_err(|error| FetchError::File(name(), error))?;
    if bytes.len() > MAX_BYTES { Err(FetchError::TooLarge(name())) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_trusted_from_this_machine_only() {
        assert!(
            ["https://a.example/x", "http://127.0.0.1:1", "http://[::1]/", "http://localhost:1"]
                .iter()
                .all(|url| is_secure(url))
        );
        assert!(
            ["http://a.example", "http://localhost.example", "file:///x", "x", ""].iter().all(|url| !is_secure(url))
        );
        assert!(has_same_origin("https://a/x", "https://a:443/y") && !has_same_origin("https://a", "https://b"));
    }
}
