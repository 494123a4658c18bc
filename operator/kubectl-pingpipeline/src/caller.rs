//! Calls servers of a pipeline: with the CA and the token that its status names, over a forwarded port.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use ping_api::{
    crd::{PingPipeline, status::Access},
    names::Names,
    roles::Role,
};
use reqwest::{Certificate, Identity, StatusCode, redirect::Policy};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    cluster::{Cluster, CredentialArgs},
    forward::{Forward, Target},
};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No answer, or one that is not understood.
    #[error("no answer from a server")]
    Unanswered(#[source] reqwest::Error),
    /// The server refused.
    #[error("a server answered with {0}: {1}")]
    Status(StatusCode, String),
}

impl CallError {
    /// Whether a retry cannot help.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Status(code, _) if is_final(*code))
    }
}

/// True for client errors that a retry cannot fix: all 4xx codes except for a missing pod, a timeout and rate limiting.
pub(crate) fn is_final(code: StatusCode) -> bool {
    code.is_client_error() && ![404, 408, 429].contains(&code.as_u16())
}

/// Retries of a call that may be repeated.
const RETRIES: u32 = 10;
/// Pause before a retry.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Calls the servers with one role.
pub(crate) struct Caller {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    target: Target,
    _forward: Forward,
}

impl Caller {
    /// Calls the port named `port` (`api` or `admin`) of the servers with `role`. Requires permission to get the Secrets in
    /// `status.access`, to list pods and to create `pods/portforward`.
    ///
    /// # Errors
    /// If the operator has not reported how to connect, or a Secret or file cannot be read.
    pub(crate) async fn connect(
        cluster: &Cluster,
        pipeline: &PingPipeline,
        role: Role,
        port: &'static str,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let names = Names::of(pipeline);
        let access = pipeline.status.as_ref().and_then(|status| status.access.clone());
        let access = access.with_context(|| {
            format!("the operator has not reported how to connect to {}; check that it is running", pipeline.name_any())
        })?;
        let labels = names.selector(role.component());
        let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let target = Target {
            client: cluster.client.clone(),
            namespace: names.namespace.clone(),
            selector: selector.join(","),
            port,
        };
        let forward = Forward::start(target.clone()).await?;
        // Servers never redirect. Another program that answers must not choose where the request goes.
        let mut builder = reqwest::Client::builder().timeout(timeout).redirect(Policy::none()).no_proxy();
        let url = match &access.server_name {
            None => format!("http://{}", forward.address),
            Some(host) => {
                builder = builder.resolve(host, forward.address);
                format!("https://{host}:{}", forward.address.port())
            }
        };
        if let Some(name) = &access.ca_secret {
            let bundle = secret(&cluster.client, &names.namespace, name, "ca.crt").await?;
            let authorities =
                Certificate::from_pem_bundle(&bundle).with_context(|| format!("ca.crt of Secret {name}"))?;
            builder = builder.tls_built_in_root_certs(false);
            builder = authorities.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        if let Some(path) = &cluster.credentials.client_certificate {
            let identity = Identity::from_pem(&read(path)?);
            builder =
                builder.identity(identity.with_context(|| format!("{} has no certificate and key", path.display()))?);
        }
        let token = token(&cluster.client, &names.namespace, &access, &cluster.credentials).await?;
        Ok(Self { http: builder.build()?, url, token, target, _forward: forward })
    }

    /// Whether a pod is ready to be called.
    ///
    /// # Errors
    /// If the API server does not answer.
    pub(crate) async fn is_ready(&self) -> anyhow::Result<bool> {
        self.target.is_ready().await
    }

    /// Calls `method`, such as `ping.v1.PingService/Ping`, once.
    ///
    /// # Errors
    /// If there is no answer, or the server refuses.
    pub(crate) async fn call<T: DeserializeOwned>(&self, method: &str, body: &impl Serialize) -> Result<T, CallError> {
        let mut request = self.http.post(format!("{}/{method}", self.url)).json(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(CallError::Unanswered)?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.map_err(CallError::Unanswered)?;
            return Err(CallError::Status(status, text.trim().to_owned()));
        }
        response.json().await.map_err(CallError::Unanswered)
    }

    /// Calls `method`, again if that may help. Only for calls that are safe to repeat, such as an event with an id.
    ///
    /// # Errors
    /// If there is no answer, or the server refuses.
    pub(crate) async fn call_with_retries<T: DeserializeOwned>(
        &self,
        method: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        let mut retries = 0;
        loop {
            match self.call(method, body).await {
                Err(error) if retries < RETRIES && !error.is_final() => {
                    retries += 1;
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}

/// The token of the command line, else the first one. It is not sent in plaintext.
async fn token(
    client: &Client,
    namespace: &str,
    access: &Access,
    credentials: &CredentialArgs,
) -> anyhow::Result<Option<String>> {
    if access.server_name.is_none() {
        return Ok(None);
    }
    let token = match (&credentials.token_file, &access.token_secret) {
        (Some(path), _) => read(path)?,
        (None, Some(name)) => secret(client, namespace, name, "token").await?,
        (None, None) => return Ok(None),
    };
    Ok(Some(String::from_utf8_lossy(&token).trim().to_owned()))
}

async fn secret(client: &Client, namespace: &str, name: &str, key: &str) -> anyhow::Result<Vec<u8>> {
    let found = Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await;
    let found = found.with_context(|| format!("cannot read Secret {name}"))?;
    let data = found.with_context(|| format!("Secret {name} does not exist yet"))?.data.unwrap_or_default();
    data.get(key).map(|value| value.0.clone()).with_context(|| format!("Secret {name} has no key {key}"))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_pod_is_not_a_rejection() {
        let final_after = |code| is_final(StatusCode::from_u16(code).unwrap());
        assert!([400, 401, 403, 409].into_iter().all(final_after));
        assert!(![404, 429, 500, 502, 503, 504].into_iter().any(final_after));
    }
}
