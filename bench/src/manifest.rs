//! The benchmarked configuration, read from `examples/two-cores.yaml`.

use anyhow::Context;
use ping_api::{
    crd::{PingPipeline, PingPipelineSpec},
    roles::{Role, deployments},
};

const MANIFEST: &str = include_str!("../../examples/two-cores.yaml");

/// The pipeline for a node with two cores.
pub(crate) fn two_cores() -> anyhow::Result<PingPipelineSpec> {
    let pipeline: PingPipeline = yaml_serde::from_str(MANIFEST).context("examples/two-cores.yaml")?;
    Ok(pipeline.spec)
}

/// The Postgres parameters that it sets.
pub(crate) fn postgres_parameters(spec: &PingPipelineSpec) -> Vec<(&str, &str)> {
    let clusters = spec.postgres.cluster.iter();
    clusters.flat_map(|cluster| &cluster.parameters).map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The millicores that `program`, under its name in the report, requests.
pub(crate) fn millicores(spec: &PingPipelineSpec, program: &str) -> anyhow::Result<u32> {
    let of_role = |expected| {
        let mut all = deployments(&spec.server).into_iter();
        all.find_map(|(role, servers)| (role == expected).then_some(servers.resources))
    };
    let resources = match program {
        "Postgres" => spec.postgres.cluster.as_ref().map(|cluster| cluster.resources.clone()),
        "Kafka" => spec.kafka.cluster.as_ref().map(|cluster| cluster.brokers.resources.clone()),
        "cache" => spec.cache.dragonfly.as_ref().map(|cache| cache.resources.clone()),
        "server" => of_role(Role::Ingest),
        "query server" => of_role(Role::Query),
        "processor" => Some(spec.processor.resources.clone()),
        _ => None,
    };
    let cores = resources.and_then(|resources| resources.cpu_request());
    let cores = cores.with_context(|| format!("examples/two-cores.yaml requests no CPU for {program}"))?;
    Ok((cores * 1_000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_two_cores_admits_it_and_keeps_a_tenth_for_the_system() {
        let spec = two_cores().unwrap();
        let programs = ["Postgres", "Kafka", "cache", "server", "query server", "processor"];
        let all: u32 = programs.iter().map(|program| millicores(&spec, program).unwrap()).sum();
        assert_eq!(all, 1_800);
    }
}
