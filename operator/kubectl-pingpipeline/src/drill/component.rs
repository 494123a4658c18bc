//! The components of a pipeline, and how their pods are found.

use anyhow::bail;
use clap::ValueEnum;
use ping_api::{
    crd::PingPipeline,
    names::{COMPONENT_LABEL, Names},
    roles::{deployments, ingest_role, query_role},
};

/// A component with pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Component {
    Server,
    Processor,
    Postgres,
    Kafka,
    Cache,
}

/// Components with an egress NetworkPolicy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    Server,
    Processor,
}

/// The component label of the servers or processors that connect to `target`.
pub(super) fn component(from: Workload, target: Component, pipeline: &PingPipeline) -> &'static str {
    match (from, target) {
        (Workload::Processor, _) => "processor",
        (Workload::Server, Component::Cache) => query_role(&pipeline.spec.server).component(),
        (Workload::Server, _) => ingest_role(&pipeline.spec.server).component(),
    }
}

/// Label selector for the pods of a component. Fails if the component is not managed by the pipeline.
pub(super) fn selector(component: Component, pipeline: &PingPipeline) -> anyhow::Result<String> {
    let (names, spec) = (Names::of(pipeline), &pipeline.spec);
    let own = |components: &[&str]| {
        let labels = names.instance().into_iter().map(|(key, value)| format!("{key}={value}"));
        let component = format!("{COMPONENT_LABEL} in ({})", components.join(","));
        labels.chain([component]).collect::<Vec<_>>().join(",")
    };
    Ok(match component {
        Component::Server => {
            let roles = deployments(&spec.server).into_iter();
            own(&roles.map(|(role, _)| role.component()).collect::<Vec<_>>())
        }
        Component::Processor => own(&["processor"]),
        Component::Postgres if spec.postgres.external.is_none() => {
            format!("cnpg.io/cluster={},cnpg.io/instanceRole=primary", names.postgres())
        }
        Component::Kafka if spec.kafka.external.is_none() && spec.kafka.cluster_ref.is_none() => {
            format!("strimzi.io/name={}-kafka", names.kafka())
        }
        Component::Cache if spec.cache.external.is_none() => format!("app={}", names.cache()),
        Component::Postgres | Component::Kafka | Component::Cache => bail!(
            "{} does not run its own {}. Cause the failure by other means, then run `kubectl pingpipeline verify`",
            names.pipeline,
            format!("{component:?}").to_lowercase()
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pipeline(spec: Value) -> PingPipeline {
        serde_json::from_value(json!({
            "apiVersion": "pingpipeline.io/v1alpha1", "kind": "PingPipeline", "metadata": { "name": "demo" }, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn only_managed_components_are_killed() {
        let own = pipeline(json!({}));
        assert_eq!(selector(Component::Cache, &own).unwrap(), "app=demo-cache");
        assert!(selector(Component::Server, &own).unwrap().ends_with("app.kubernetes.io/component in (server)"));
        let split = pipeline(json!({ "server": { "query": {} } }));
        assert!(selector(Component::Server, &split).unwrap().ends_with("in (ingest,query)"));
        let shared = pipeline(json!({ "kafka": { "clusterRef": { "name": "big", "namespace": "kafka" } } }));
        let error = selector(Component::Kafka, &shared).unwrap_err().to_string();
        assert!(error.contains("demo does not run its own kafka"), "{error}");
        assert!(selector(Component::Postgres, &shared).is_ok());
    }
}
