//! Processors: Deployment and autoscaler.

use k8s_openapi::{
    api::autoscaling::v2::{
        HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricIdentifier, MetricSpec, MetricTarget,
        PodsMetricSource,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use ping_api::{crd::workload::ProcessorAutoscaling, kinds::Kind};
use ping_runtime::env as names;

use super::{
    env,
    metadata::{metadata, scale_target},
    workload,
};
use crate::{access_policy::PROCESSOR_POLICY, desired::Desired, pipeline::Pipeline};

const ROLE: &str = "processor";

pub(super) fn build(pipeline: &Pipeline, desired: &mut Desired) {
    let name = pipeline.names.part(ROLE);
    let Some(connection) = &pipeline.kafka.connection else {
        for kind in [Kind::ServiceAccount, Kind::PodDisruptionBudget, Kind::Deployment, Kind::HorizontalPodAutoscaler] {
            desired.keep(pipeline.names.key(kind, &name));
        }
        return;
    };
    let spec = &pipeline.processor;
    let mut variables = env::shared(pipeline, ROLE, connection, &connection.processor, &spec.pod);
    variables.extend(env::security(pipeline, PROCESSOR_POLICY, false));
    variables.extend([
        env::value(names::FLUSH_RECORDS, &spec.flush.records.to_string()),
        env::value(names::FLUSH_INTERVAL_MS, &spec.flush.interval_ms.to_string()),
    ]);
    variables.extend(pipeline.restore.as_ref().map(|restore| env::value(names::RESTORE_ID, &restore.id)));
    variables.extend(pipeline.kafka.minutes.as_ref().map(|topic| env::value(names::KAFKA_MINUTES_TOPIC, &topic.name)));
    variables.extend(spec.pod.env.iter().cloned());
    let scaled = spec.autoscaling.as_ref().filter(|_| !pipeline.hibernate);
    let parts = workload::Workload {
        component: ROLE,
        program: ROLE,
        pod: &spec.pod,
        resources: &spec.resources,
        replicas: pipeline.processor_replicas,
        checksum: &pipeline.checksums.processor,
        connection,
        credentials: &connection.processor,
        env: variables,
        certificate: pipeline.security.tls.as_ref().map(|tls| &tls.processor),
        ports: &[("admin", 8081)],
        surge: false,
    };
    workload::build(pipeline, parts, desired);
    if let Some(scaling) = scaled {
        let autoscaler = autoscaler(pipeline, &name, scaling);
        desired.push(Kind::HorizontalPodAutoscaler, &pipeline.names.namespace, &name, autoscaler);
    }
}

/// Scales by consumer lag, up to one processor per partition.
fn autoscaler(pipeline: &Pipeline, name: &str, scaling: &ProcessorAutoscaling) -> HorizontalPodAutoscaler {
    let metric = MetricSpec {
        type_: "Pods".into(),
        pods: Some(PodsMetricSource {
            metric: MetricIdentifier { name: "ping_count_lag_records".into(), selector: None },
            target: MetricTarget {
                type_: "AverageValue".into(),
                average_value: Some(Quantity(scaling.target_lag_records.to_string())),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    };
    HorizontalPodAutoscaler {
        metadata: metadata(pipeline, name, ROLE),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: scale_target(name),
            min_replicas: Some(scaling.min_replicas),
            max_replicas: scaling.max_replicas.min(pipeline.kafka.topic.partitions),
            metrics: Some(vec![metric]),
            ..HorizontalPodAutoscalerSpec::default()
        }),
        ..HorizontalPodAutoscaler::default()
    }
}
