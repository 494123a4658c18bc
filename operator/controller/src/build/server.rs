//! The servers: Deployment, Service and autoscaler, for both roles or for each role.

use k8s_openapi::{
    api::{
        autoscaling::v2::{
            HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget, ResourceMetricSource,
        },
        core::v1::{Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use ping_api::{crd::workload::ServerAutoscaling, kinds::Kind};
use ping_runtime::env as names;

use super::{
    env,
    metadata::{metadata, scale_target},
    workload,
};
use crate::{
    access_policy::SERVER_POLICY,
    desired::Desired,
    pipeline::{Credentials, Pipeline, ServerDeployment},
};

/// Kinds of the objects that belong to a server Deployment.
const KINDS: [Kind; 7] = [
    Kind::Service,
    Kind::ServiceAccount,
    Kind::PodDisruptionBudget,
    Kind::Deployment,
    Kind::HorizontalPodAutoscaler,
    Kind::NetworkPolicy,
    Kind::PodMonitor,
];

pub(super) fn build(pipeline: &Pipeline, desired: &mut Desired) {
    for servers in &pipeline.servers {
        deploy(pipeline, servers, desired);
    }
    for role in &pipeline.retiring {
        for kind in KINDS {
            desired.keep(pipeline.names.key(kind, pipeline.names.part(role.component())));
        }
    }
}

fn deploy(pipeline: &Pipeline, servers: &ServerDeployment, desired: &mut Desired) {
    let ServerDeployment { role, spec, replicas, checksum } = servers;
    let component = role.component();
    let name = pipeline.names.part(component);
    let namespace = &pipeline.names.namespace;
    desired.push(Kind::Service, namespace, &name, service(pipeline, servers, &name));
    let Some(connection) = &pipeline.kafka.connection else {
        for kind in [Kind::ServiceAccount, Kind::PodDisruptionBudget, Kind::Deployment, Kind::HorizontalPodAutoscaler] {
            desired.keep(pipeline.names.key(kind, &name));
        }
        return;
    };
    // Query servers do not connect to Kafka.
    let credentials = if role.ingests() { &connection.server } else { &Credentials::None };
    let mut variables = vec![env::value(names::LISTEN, "0.0.0.0:8080"), env::value(names::ROLE, role.as_str())];
    variables.extend(env::security(pipeline, SERVER_POLICY, true));
    variables.extend(env::shared(pipeline, "server", connection, credentials, &spec.pod));
    variables.extend(env::postgres_read_url(pipeline).filter(|_| role.queries()));
    variables.extend(env::name_limits(&pipeline.sources));
    variables.push(env::value(names::LANES, &spec.lanes.to_string()));
    if !spec.trusted_proxies.is_empty() {
        variables.push(env::value(names::TRUSTED_PROXIES, &spec.trusted_proxies.join(",")));
    }
    variables.extend(spec.pod.env.iter().cloned());
    let scaled = spec.autoscaling.as_ref().filter(|_| !pipeline.hibernate);
    let parts = workload::Workload {
        component,
        program: "server",
        pod: &spec.pod,
        resources: &spec.resources,
        replicas: *replicas,
        checksum,
        connection,
        credentials,
        env: variables,
        certificate: pipeline.security.tls.as_ref().map(|tls| &tls.server),
        ports: &[("api", 8080), ("admin", 8081)],
        surge: true,
    };
    workload::build(pipeline, parts, desired);
    if let Some(scaling) = scaled {
        let autoscaler = autoscaler(pipeline, component, &name, scaling);
        desired.push(Kind::HorizontalPodAutoscaler, namespace, &name, autoscaler);
    }
}

fn service(pipeline: &Pipeline, servers: &ServerDeployment, name: &str) -> Service {
    let (wanted, component) = (&servers.spec.service, servers.role.component());
    let mut metadata = metadata(pipeline, name, component);
    metadata.annotations = (!wanted.annotations.is_empty()).then(|| wanted.annotations.clone());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(wanted.service_type.as_str().into()),
            selector: Some(pipeline.names.selector(component)),
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

fn autoscaler(
    pipeline: &Pipeline,
    component: &str,
    name: &str,
    scaling: &ServerAutoscaling,
) -> HorizontalPodAutoscaler {
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
        metadata: metadata(pipeline, name, component),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: scale_target(name),
            min_replicas: Some(scaling.min_replicas),
            max_replicas: scaling.max_replicas,
            metrics: Some(vec![metric]),
            ..HorizontalPodAutoscalerSpec::default()
        }),
        ..HorizontalPodAutoscaler::default()
    }
}
