//! The Prometheus operator: `PodMonitor`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use ping_api::crd::SecretKey;
use serde::Serialize;

/// `PodMonitor.spec`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodMonitorSpec {
    /// Pods to scrape.
    pub selector: LabelSelector,
    /// Ports to scrape.
    pub pod_metrics_endpoints: Vec<Endpoint>,
}

/// A port to scrape.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its name.
    pub port: &'static str,
    /// Its path.
    pub path: &'static str,
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<&'static str>,
    /// How the certificate of the port is verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
    /// The bearer token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// How a certificate is verified.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsConfig {
    /// The CA; none means the public CAs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateSource>,
    /// The name that the certificate must cover.
    pub server_name: String,
}

/// Where a certificate is.
#[derive(Clone, Debug, Serialize)]
pub struct CertificateSource {
    /// In this Secret key.
    pub secret: SecretKey,
}

/// A bearer token.
#[derive(Clone, Debug, Serialize)]
pub struct Authorization {
    /// The Secret key that holds it.
    pub credentials: SecretKey,
}
