//! Step 2: turns the spec and the state of the cluster into a validated `Pipeline`, or rejects it with a message that says what to
//! do. Pure. Defaults that the schema cannot express are set here, once.

mod access;
mod durability_risks;
mod events;
mod images;
mod invalid;
mod kafka;
mod recovery;
mod references;
mod scaling;
mod secrets;
mod shared_topics;
mod sources;
mod tls;
mod tracing;

use ipnet::IpNet;
use kube::ResourceExt;
use ping_api::{
    crd::{
        Durability, PingPipeline, PingPipelineSpec,
        cache::{CacheSpec, DragonflySpec},
        postgres::PostgresSpec,
        workload::{PodSpec, ServerAutoscaling, ServerSpec},
    },
    env,
    kinds::Kind,
    names::Names,
    quantity,
    roles::{Role, deployments},
};

pub use self::{invalid::Invalid, shared_topics::topics_of_others};
use self::{invalid::conflicting, secrets::Fingerprints};
use crate::{
    cluster_state::ClusterState,
    external::cnpg::{ClusterStatus, ObservedCluster},
    pipeline::{Cache, Pipeline, Postgres, ServerDeployment},
};

/// Dragonfly needs 256 MiB and uses 80 % of its limit.
const MIN_DRAGONFLY_BYTES: f64 = 320.0 * 1024.0 * 1024.0;

/// Validates `pipeline` against `state` and sets defaults.
///
/// # Errors
/// If settings conflict with each other, with the durability guarantee, or with existing objects.
pub fn validate(pipeline: &PingPipeline, state: &ClusterState) -> Result<Pipeline, Invalid> {
    let spec = &pipeline.spec;
    let names = Names::of(pipeline);
    let postgres = postgres(&spec.postgres, &names, state)?;
    let kafka = kafka::kafka(&spec.kafka, &names, state)?;
    let cache = cache(&spec.cache)?;
    workloads(spec)?;
    events::events(&spec.events)?;
    sources::sources(&spec.sources)?;
    tracing::tracing(spec)?;
    let durability_risks = durability_risks::durability_risks(&postgres, &kafka);
    if spec.durability == Durability::Exact && !durability_risks.is_empty() {
        return Err(Invalid::UnsafeForExact(durability_risks));
    }
    images::images(spec, state)?;
    secrets::own(&names, state)?;
    references::local(spec, &names, state)?;
    let security = access::access(spec, &names, state)?;
    let fingerprints = Fingerprints::new(spec, &names, &postgres, &kafka, &cache, state);
    let mut validated = Pipeline {
        uid: pipeline.uid().unwrap_or_default(),
        restore: recovery::restore(&postgres, &names, state),
        durability: spec.durability,
        deletion_policy: spec.deletion_policy,
        hibernate: spec.hibernate,
        servers: servers(spec, &names, &fingerprints, state),
        retiring: scaling::retiring(spec, &names, state),
        security,
        processor: spec.processor.clone(),
        events: spec.events.clone(),
        sources: spec.sources.clone(),
        network_policy: spec.network_policy.clone(),
        platform: state.platform.clone(),
        monitoring: spec.monitoring.clone(),
        tracing: spec.tracing.clone(),
        checksums: fingerprints.checksums(),
        processor_replicas: scaling::processors(spec, &names, state),
        copies: secrets::copies(&names, &kafka, state),
        issued: state.issued.clone(),
        names,
        postgres,
        kafka,
        cache,
        durability_risks,
    };
    validated.processor.pod.image.get_or_insert_with(|| state.image.clone());
    Ok(validated)
}

/// The server Deployments with their effective settings.
fn servers(
    spec: &PingPipelineSpec,
    names: &Names,
    fingerprints: &Fingerprints<'_>,
    state: &ClusterState,
) -> Vec<ServerDeployment> {
    let deployment = |(role, mut of_role): (Role, ServerSpec)| {
        of_role.pod.image.get_or_insert_with(|| state.image.clone());
        ServerDeployment {
            role,
            replicas: scaling::servers(&of_role, spec.hibernate, names, role, state),
            checksum: fingerprints.servers(role),
            spec: of_role,
        }
    };
    deployments(&spec.server).into_iter().map(deployment).collect()
}

fn postgres(spec: &PostgresSpec, names: &Names, state: &ClusterState) -> Result<Postgres, Invalid> {
    if let Some(external) = &spec.external {
        if spec.cluster.is_some() {
            return Err(conflicting("set either spec.postgres.cluster or spec.postgres.external, not both"));
        }
        tls::check("spec.postgres.external.tls", &external.tls)?;
        return Ok(Postgres::External(external.clone()));
    }
    let cluster = spec.cluster.clone().unwrap_or_default();
    if cluster.synchronous.number >= cluster.instances && cluster.instances > 1 {
        return Err(Invalid::Conflicting(format!(
            "spec.postgres.cluster.synchronous.number is {}, but {} instances have only {} standbys, so every write would \
             wait forever. Lower the number or raise instances",
            cluster.synchronous.number,
            cluster.instances,
            cluster.instances - 1
        )));
    }
    let live = state.live.observe::<ObservedCluster, ClusterStatus>(&names.key(Kind::Cluster, names.postgres()));
    let live = live.map(|live| live.spec);
    recovery::recovery(&cluster, names, live.as_ref())?;
    if let Some(size) = live.and_then(|live| live.storage.size)
        && let (Some(now), Some(wanted)) = (quantity::parse(&size), quantity::parse(&cluster.storage.size))
        && wanted < now
    {
        return Err(Invalid::Irreversible(format!(
            "spec.postgres.cluster.storage.size is {}, but the volumes have {size}, and a volume cannot shrink. Set \
             {size}, or create a second PingPipeline with the smaller size and copy the data",
            cluster.storage.size
        )));
    }
    Ok(Postgres::Cluster(Box::new(cluster)))
}

fn cache(spec: &CacheSpec) -> Result<Cache, Invalid> {
    match (&spec.dragonfly, &spec.external) {
        (Some(_), Some(_)) => Err(conflicting("set either spec.cache.dragonfly or spec.cache.external, not both")),
        (None, Some(external)) => {
            tls::cache(external)?;
            Ok(Cache::External(external.clone()))
        }
        (dragonfly, None) => {
            let dragonfly = dragonfly.clone().unwrap_or_else(DragonflySpec::default);
            match dragonfly.resources.memory_limit() {
                Some(bytes) if bytes < MIN_DRAGONFLY_BYTES => Err(conflicting(
                    "spec.cache.dragonfly.resources.limits.memory is less than 320Mi, and Dragonfly does not start with less. \
                     Raise it, or remove the limit",
                )),
                _ => Ok(Cache::Dragonfly(dragonfly)),
            }
        }
    }
}

fn workloads(spec: &PingPipelineSpec) -> Result<(), Invalid> {
    unreserved_variables("server", &spec.server.pod)?;
    unreserved_variables("processor", &spec.processor.pod)?;
    let partitions = spec.kafka.topic.partitions;
    if spec.processor.autoscaling.is_none() && spec.processor.replicas > partitions {
        return Err(Invalid::Conflicting(format!(
            "spec.processor.replicas is {}, but the topic has {partitions} partitions, and each partition is read by one \
             processor, so the others would be idle. Lower the replicas or raise spec.kafka.topic.partitions",
            spec.processor.replicas
        )));
    }
    proxies(&spec.server.trusted_proxies)?;
    let server = deployments(&spec.server).into_iter().filter_map(|(role, spec)| {
        let ServerAutoscaling { min_replicas, max_replicas, .. } = spec.autoscaling?;
        let component = if role == Role::All { "server".into() } else { format!("server.{}", role.as_str()) };
        Some((component, min_replicas, max_replicas))
    });
    let processor = spec
        .processor
        .autoscaling
        .as_ref()
        .map(|scaling| ("processor".to_owned(), scaling.min_replicas, scaling.max_replicas.min(partitions)));
    for (component, least, most) in server.chain(processor) {
        if least > most {
            return Err(Invalid::Conflicting(format!(
                "spec.{component}.autoscaling requires at least {least} and at most {most} pods. Lower minReplicas{}",
                if component == "processor" { " (there is at most one processor per partition)" } else { "" }
            )));
        }
    }
    Ok(())
}

/// Checks the CIDRs of trusted proxies. Servers would not start with an invalid one.
fn proxies(networks: &[String]) -> Result<(), Invalid> {
    match networks.iter().find(|network| network.parse::<IpNet>().is_err()) {
        Some(network) => Err(Invalid::Conflicting(format!(
            "spec.server.trustedProxies contains \"{network}\", which is not a CIDR. Set an address and a prefix length, such as \
             10.0.0.0/8, or 192.0.2.7/32 for a single proxy"
        ))),
        None => Ok(()),
    }
}

/// Rejects environment variables that the operator sets itself.
fn unreserved_variables(component: &str, pod: &PodSpec) -> Result<(), Invalid> {
    let reserved = pod.env.iter().map(|variable| variable.name.as_str()).find(|name| env::is_reserved(name));
    match reserved {
        Some(name) => Err(Invalid::Conflicting(format!(
            "spec.{component}.env contains {name}, which the operator sets itself or which overrides a security setting. Use the \
             corresponding field of the spec, or remove it"
        ))),
        None => Ok(()),
    }
}
