//! PodMonitors. `apply` skips them while their CRD is not installed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use ping_api::kinds::Kind;

use super::metadata::{metadata, selector};
use crate::{
    desired::Desired,
    external::{
        ExternalObject,
        cnpg::pods_of,
        monitoring::{Authorization, CertificateSource, Endpoint, PodMonitorSpec, TlsConfig},
    },
    pipeline::{Pipeline, PortCertificate, Postgres},
};

const PATH: &str = "/metrics";

pub(super) fn build(pipeline: &Pipeline, desired: &mut Desired) {
    if !pipeline.monitoring.enabled {
        return;
    }
    let (server, processor) = match &pipeline.security.tls {
        Some(tls) => (Some(&tls.server), Some(&tls.processor)),
        None => (None, None),
    };
    let servers = pipeline.servers.iter().map(|servers| (servers.role.component(), server));
    for (component, certificate) in servers.chain([("processor", processor)]) {
        let pods = selector(pipeline.names.selector(component));
        push(pipeline, component, pods, endpoint(pipeline, certificate), desired);
    }
    if let Postgres::Cluster(_) = pipeline.postgres {
        let plain = Endpoint { port: "metrics", path: PATH, scheme: None, tls_config: None, authorization: None };
        push(pipeline, "postgres", pods_of(&pipeline.names.postgres()), plain, desired);
    }
}

/// The admin port of servers or processors.
fn endpoint(pipeline: &Pipeline, certificate: Option<&PortCertificate>) -> Endpoint {
    let tls_config = certificate.map(|PortCertificate { ca, host, .. }| TlsConfig {
        ca: ca.clone().map(|secret| CertificateSource { secret }),
        server_name: host.clone(),
    });
    // A token is not sent in plaintext.
    let may_send = pipeline.security.authenticated && tls_config.is_some();
    Endpoint {
        port: "admin",
        path: PATH,
        scheme: tls_config.is_some().then_some("https"),
        tls_config,
        authorization: may_send.then(|| Authorization { credentials: pipeline.names.metrics_token() }),
    }
}

fn push(
    pipeline: &Pipeline,
    component: &'static str,
    selector: LabelSelector,
    endpoint: Endpoint,
    desired: &mut Desired,
) {
    let name = pipeline.names.part(component);
    let monitor = ExternalObject {
        metadata: metadata(pipeline, &name, component),
        spec: PodMonitorSpec { selector, pod_metrics_endpoints: vec![endpoint] },
    };
    desired.push(Kind::PodMonitor, &pipeline.names.namespace, &name, monitor);
}
