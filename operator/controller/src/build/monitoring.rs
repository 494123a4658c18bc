//! PodMonitors. `apply` skips them while their CRD is not installed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use ping_api::kinds::Kind;

use super::metadata::{metadata, selector};
use crate::{
    desired::Desired,
    external::{
        ExternalObject,
        cnpg::pods_of,
        monitoring::{Endpoint, PodMonitorSpec},
    },
    pipeline::{Pipeline, Postgres},
};

pub(super) fn build(pipeline: &Pipeline, desired: &mut Desired) {
    if !pipeline.monitoring.enabled {
        return;
    }
    let own = |component: &'static str| (component, selector(pipeline.names.selector(component)), "admin");
    let mut monitors: Vec<(&str, LabelSelector, &'static str)> =
        pipeline.servers.iter().map(|servers| servers.role.component()).chain(["processor"]).map(own).collect();
    if let Postgres::Cluster(_) = pipeline.postgres {
        monitors.push(("postgres", pods_of(&pipeline.names.postgres()), "metrics"));
    }
    for (component, selector, port) in monitors {
        let name = pipeline.names.part(component);
        let monitor = ExternalObject {
            metadata: metadata(pipeline, &name, component),
            spec: PodMonitorSpec { selector, pod_metrics_endpoints: vec![Endpoint { port, path: "/metrics" }] },
        };
        desired.push(Kind::PodMonitor, &pipeline.names.namespace, &name, monitor);
    }
}
