//! The servers: Deployment, Service, autoscaler.

use k8s_openapi::{
    api::{
        autoscaling::v2::{
            CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
            MetricTarget, ResourceMetricSource,
        },
        core::v1::{Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use ping_runtime::env as names;

use super::{env, metadata, workload};
use crate::{crd::workload::ServerAutoscaling, kinds::Kind, object::Desired, pipeline::Pipeline};

const ROLE: &str = "server";

pub(super) fn build(pipeline: &Pipeline, desired: &mut Desired) {
    let name = pipeline.names.part(ROLE);
    let namespace = &pipeline.names.namespace;
    desired.push(Kind::Service, namespace, &name, service(pipeline, &name));
    let Some(connection) = &pipeline.kafka.connection else {
        for kind in [Kind::ServiceAccount, Kind::PodDisruptionBudget, Kind::Deployment, Kind::HorizontalPodAutoscaler] {
            desired.keep(pipeline.names.key(kind, &name));
        }
        return;
    };
    let spec = &pipeline.server;
    let mut variables = vec![env::value(names::LISTEN, "0.0.0.0:8080")];
    variables.extend(env::common(pipeline, connection, &connection.server, &spec.pod));
    variables.push(env::value(names::LANES, &spec.lanes.to_string()));
    variables.extend(spec.pod.env.iter().cloned());
    let scaled = spec.autoscaling.as_ref().filter(|_| !pipeline.hibernate);
    let parts = workload::Workload {
        role: ROLE,
        pod: &spec.pod,
        replicas: scaled.is_none().then(|| pipeline.servers()),
        checksum: &pipeline.checksums.server,
        connection,
        login: &connection.server,
        env: variables,
        ports: &[("api", 8080), ("admin", 8081)],
        surge: true,
    };
    workload::build(pipeline, parts, desired);
    if let Some(scaling) = scaled {
        desired.push(Kind::HorizontalPodAutoscaler, namespace, &name, autoscaler(pipeline, &name, scaling));
    }
}

fn service(pipeline: &Pipeline, name: &str) -> Service {
    let wanted = &pipeline.server.service;
    let mut metadata = metadata(pipeline, name, ROLE);
    metadata.annotations = (!wanted.annotations.is_empty()).then(|| wanted.annotations.clone());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(wanted.service_type.as_str().into()),
            selector: Some(pipeline.names.selector(ROLE)),
            ports: Some(vec![ServicePort {
                name: Some("api".into()),
                port: wanted.port,
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::String("api".into())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn autoscaler(pipeline: &Pipeline, name: &str, scaling: &ServerAutoscaling) -> HorizontalPodAutoscaler {
    let metric = MetricSpec {
        type_: "Resource".into(),
        resource: Some(ResourceMetricSource {
            name: "cpu".into(),
            target: MetricTarget {
                type_: "Utilization".into(),
                average_utilization: Some(scaling.target_cpu_percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    };
    HorizontalPodAutoscaler {
        metadata: metadata(pipeline, name, ROLE),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: deployment(name),
            min_replicas: Some(scaling.min_replicas),
            max_replicas: scaling.max_replicas,
            metrics: Some(vec![metric]),
            ..HorizontalPodAutoscalerSpec::default()
        }),
        ..HorizontalPodAutoscaler::default()
    }
}

/// The Deployment that an autoscaler acts on.
pub(super) fn deployment(name: &str) -> CrossVersionObjectReference {
    CrossVersionObjectReference { api_version: Some("apps/v1".into()), kind: "Deployment".into(), name: name.into() }
}
