//! Second step: the raw spec and what it refers to become a `Pipeline`, or a refusal in words that say the way out.
//! Pure. Defaults that the schema cannot express are filled in here, once.

mod durability_risks;
mod kafka;
mod scaling;
mod secrets;
mod sources;

use ipnet::IpNet;
use kube::ResourceExt;
use ping_api::{
    crd::{
        Durability, PingPipeline, PingPipelineSpec,
        cache::{CacheSpec, DragonflySpec},
        postgres::PostgresSpec,
        workload::{PodSpec, ServerAutoscaling, ServerSpec},
    },
    kinds::Kind,
    names::Names,
    quantity,
    roles::{Role, deployments},
};

use self::secrets::Fingerprints;
use crate::{
    cluster_state::Refs,
    external::cnpg::{ClusterSeen, ClusterStatus},
    pipeline::{Cache, Pipeline, Postgres, Servers},
};

/// Dragonfly wants 256 MiB, and counts on 80 % of its limit.
const DRAGONFLY_BYTES: f64 = 320.0 * 1024.0 * 1024.0;

/// Why a pipeline is refused. The message says what to do instead.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Invalid {
    /// `Exact` together with settings that can lose acknowledged pings.
    #[error(
        "durability: Exact promises that no acknowledged ping is lost, but {}. Change that, or set durability: BestEffort",
        .0.join("; and ")
    )]
    UnsafeForExact(Vec<String>),
    /// Two settings that exclude each other.
    #[error("{0}")]
    Conflicting(String),
    /// A change that would lose data or that cannot be made.
    #[error("{0}")]
    Irreversible(String),
}

/// Checks `pipeline` against `refs` and fills in what it leaves open.
///
/// # Errors
/// When the pipeline contradicts itself, its promise, or what exists already.
pub fn validate(pipeline: &PingPipeline, refs: &Refs) -> Result<Pipeline, Invalid> {
    let spec = &pipeline.spec;
    let names = Names::of(pipeline);
    let postgres = postgres(&spec.postgres, &names, refs)?;
    let kafka = kafka::kafka(&spec.kafka, &names, refs)?;
    let cache = cache(&spec.cache)?;
    workloads(spec)?;
    sources::sources(&spec.sources)?;
    let hazards = durability_risks::hazards(&postgres, &kafka);
    if spec.durability == Durability::Exact && !hazards.is_empty() {
        return Err(Invalid::UnsafeForExact(hazards));
    }
    let fingerprints = Fingerprints::new(&names, &spec.postgres, &kafka, &cache, refs);
    let mut validated = Pipeline {
        uid: pipeline.uid().unwrap_or_default(),
        durability: spec.durability,
        deletion_policy: spec.deletion_policy,
        hibernate: spec.hibernate,
        servers: servers(spec, &names, &fingerprints, refs),
        retiring: scaling::retiring(spec, &names, refs),
        processor: spec.processor.clone(),
        sources: spec.sources.clone(),
        network_policy: spec.network_policy.clone(),
        monitoring: spec.monitoring.clone(),
        checksums: fingerprints.checksums(),
        processor_replicas: scaling::processors(spec, &names, refs),
        copies: secrets::copies(&names, &kafka, refs),
        names,
        postgres,
        kafka,
        cache,
        hazards,
    };
    validated.processor.pod.image.get_or_insert_with(|| refs.image.clone());
    Ok(validated)
}

/// The Deployments of servers, with all that is known about each.
fn servers(spec: &PingPipelineSpec, names: &Names, fingerprints: &Fingerprints<'_>, refs: &Refs) -> Vec<Servers> {
    let deployment = |(role, mut of_role): (Role, ServerSpec)| {
        of_role.pod.image.get_or_insert_with(|| refs.image.clone());
        Servers {
            role,
            replicas: scaling::servers(&of_role, spec.hibernate, names, role, refs),
            checksum: fingerprints.servers(role),
            spec: of_role,
        }
    };
    deployments(&spec.server).into_iter().map(deployment).collect()
}

fn postgres(spec: &PostgresSpec, names: &Names, refs: &Refs) -> Result<Postgres, Invalid> {
    if let Some(external) = &spec.external {
        if spec.cluster.is_some() {
            return Err(conflicting("give either spec.postgres.cluster or spec.postgres.external, not both"));
        }
        return Ok(Postgres::External(external.clone()));
    }
    let cluster = spec.cluster.clone().unwrap_or_default();
    if cluster.synchronous.number >= cluster.instances && cluster.instances > 1 {
        return Err(Invalid::Conflicting(format!(
            "spec.postgres.cluster.synchronous.number is {}, but {} instances have only {} standbys: every write would \
             wait for ever. Lower the number or raise instances",
            cluster.synchronous.number,
            cluster.instances,
            cluster.instances - 1
        )));
    }
    let live = refs.live.observe::<ClusterSeen, ClusterStatus>(&names.key(Kind::Cluster, names.postgres()));
    if let Some(size) = live.and_then(|live| live.spec.storage.size)
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
        (Some(_), Some(_)) => Err(conflicting("give either spec.cache.dragonfly or spec.cache.external, not both")),
        (None, Some(external)) => Ok(Cache::External(external.clone())),
        (dragonfly, None) => {
            let dragonfly = dragonfly.clone().unwrap_or_else(DragonflySpec::default);
            match dragonfly.resources.memory_limit() {
                Some(bytes) if bytes < DRAGONFLY_BYTES => Err(conflicting(
                    "spec.cache.dragonfly.resources.limits.memory is less than 320Mi: Dragonfly does not start with so \
                     little. Raise it, or leave the limit out",
                )),
                _ => Ok(Cache::Dragonfly(dragonfly)),
            }
        }
    }
}

fn workloads(spec: &PingPipelineSpec) -> Result<(), Invalid> {
    own_names_only("server", &spec.server.pod)?;
    own_names_only("processor", &spec.processor.pod)?;
    let partitions = spec.kafka.topic.partitions;
    if spec.processor.autoscaling.is_none() && spec.processor.replicas > partitions {
        return Err(Invalid::Conflicting(format!(
            "spec.processor.replicas is {}, but the topic has {partitions} partitions, and each is read by one \
             processor: the others would idle. Lower the replicas or raise spec.kafka.topic.partitions",
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
                "spec.{component}.autoscaling wants at least {least} and at most {most} pods. Lower minReplicas{}",
                if component == "processor" { " (there is at most one processor per partition)" } else { "" }
            )));
        }
    }
    Ok(())
}

/// Servers would not start with anything else.
fn proxies(networks: &[String]) -> Result<(), Invalid> {
    match networks.iter().find(|network| network.parse::<IpNet>().is_err()) {
        Some(network) => Err(Invalid::Conflicting(format!(
            "spec.server.trustedProxies has \"{network}\", which is no network. Set an address and a prefix length, such as \
             10.0.0.0/8, or 192.0.2.7/32 for a single proxy"
        ))),
        None => Ok(()),
    }
}

/// Extra variables may not take the names that the operator sets.
fn own_names_only(component: &str, pod: &PodSpec) -> Result<(), Invalid> {
    let taken = pod.env.iter().map(|variable| variable.name.as_str()).find(|name| crate::build::env::is_ours(name));
    match taken {
        Some(name) => Err(Invalid::Conflicting(format!(
            "spec.{component}.env sets {name}, which the operator sets itself. Use the field of the spec that stands \
             for it, or remove it"
        ))),
        None => Ok(()),
    }
}

fn conflicting(message: &str) -> Invalid {
    Invalid::Conflicting(message.into())
}
