//! Recounts: `AdminService.Verify` on the admin port of a server. The port is not part of the Service, so the request goes through
//! the API server to a pod.

use anyhow::Context as _;
use http::{Request, header};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};
use ping_api::{crd::PingPipeline, names::Names, roles::query_role};
use ping_proto::VerifyResponse;

/// Name of the admin port of a server's container.
const ADMIN_PORT: &str = "admin";

/// Asks a ready server that answers queries to recount every row. Requires permission to list pods and to create `pods/proxy`.
///
/// # Errors
/// When no server is ready, or it does not answer.
pub(crate) async fn recount(client: &Client, pipeline: &PingPipeline) -> anyhow::Result<VerifyResponse> {
    let component = query_role(&pipeline.spec.server).component();
    let names = Names::of(pipeline);
    let namespace = pipeline.namespace().context("the pipeline has no namespace")?;
    let selector: Vec<_> = names.selector(component).iter().map(|(key, value)| format!("{key}={value}")).collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pods = pods.list(&ListParams::default().labels(&selector.join(","))).await?;
    let (pod, port) = pods
        .iter()
        .filter(|pod| is_ready(pod))
        .find_map(|pod| Some((pod.name_any(), admin_port(pod)?)))
        .with_context(|| format!("no pod of {} is ready; see `kubectl get pods`", names.part(component)))?;
    let path = format!("/api/v1/namespaces/{namespace}/pods/http:{pod}:{port}/proxy/ping.v1.AdminService/Verify");
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json").body(b"{}".to_vec())?;
    client.request(request).await.with_context(|| format!("pod {pod} did not recount"))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn admin_port(pod: &Pod) -> Option<i32> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.find(|port| port.name.as_deref() == Some(ADMIN_PORT)).map(|port| port.container_port)
}
