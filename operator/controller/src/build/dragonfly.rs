//! The Dragonfly cache. It is removed during hibernation and later rebuilt from Postgres.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, PersistentVolumeClaimSpec, SecurityContext, TopologySpreadConstraint, VolumeResourceRequirements,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use ping_api::{
    crd::{
        SecretKey,
        cache::{DragonflySpec as Wanted, Snapshot as WantedSnapshot},
        workload::Resources,
    },
    kinds::Kind,
    names::SECRETS_ANNOTATION,
};

use super::metadata::{metadata, resources, restricted, selector};
use crate::{
    credentials::{ACL, DEFAULT_PASSWORD},
    desired::Desired,
    external::{
        ExternalObject,
        dragonfly::{Authentication, DragonflySpec, PodMetadata, SecretName, Snapshot},
    },
    pipeline::{Cache, Pipeline},
};

const COMPONENT: &str = "cache";
/// ID of the user `dfly` in Dragonfly's image, which owns the data folder.
const USER: i64 = 999;
const THREAD_BYTES: f64 = 256.0 * 1024.0 * 1024.0;

pub(super) fn build(pipeline: &Pipeline, desired: &mut Desired) {
    let Cache::Dragonfly(dragonfly) = &pipeline.cache else { return };
    if pipeline.hibernate {
        return;
    }
    let name = pipeline.names.cache();
    let spec = spec(pipeline, dragonfly, &name);
    let metadata = metadata(pipeline, &name, COMPONENT);
    desired.push(Kind::Dragonfly, &pipeline.names.namespace, &name, ExternalObject { metadata, spec });
}

fn spec(pipeline: &Pipeline, wanted: &Wanted, name: &str) -> DragonflySpec {
    let apart = TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(selector([("app".to_owned(), name.to_owned())].into())),
        ..TopologySpreadConstraint::default()
    };
    // The Dragonfly operator does not watch Secrets, and Dragonfly reads them when it starts. This annotation restarts the pods.
    let annotations = [(SECRETS_ANNOTATION.to_owned(), pipeline.checksums.cache.clone())].into();
    let login = pipeline.names.cache_login();
    let from_login = |key: &str| SecretKey { name: login.clone(), key: key.into() };
    DragonflySpec {
        replicas: wanted.replicas,
        image: wanted.image.clone(),
        args: args(&wanted.resources),
        resources: resources(&wanted.resources),
        // Dragonfly ignores this password while the access control list applies. Without it, a list that Dragonfly cannot read would
        // leave the cache open to everyone.
        authentication: Authentication { password_from_secret: from_login(DEFAULT_PASSWORD) },
        acl_from_secret: from_login(ACL),
        tls_secret_ref: SecretName { name: pipeline.names.cache_certificate() },
        snapshot: wanted.snapshot.as_ref().map(snapshot),
        // It would admit the whole namespace, and policies add up. See `network`.
        network_policy_enabled: false,
        // The Dragonfly operator refuses labels that it sets itself: `app` and the `app.kubernetes.io/…` that we give to other pods.
        pod_metadata: PodMetadata { labels: pipeline.names.ownership(), annotations },
        topology_spread_constraints: vec![apart],
        pod_security_context: restricted(USER),
        container_security_context: SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            ..SecurityContext::default()
        },
    }
}

/// Flags of Dragonfly. A script uses several keys, and on one shard it costs the same as on Redis: 0.2 instead of 3 ms. A full cache must
/// refuse changes, not evict keys (docs/adr/0034).
fn args(resources: &Resources) -> Vec<String> {
    let threads = threads(resources);
    ["--cache_mode=false", "--num_shards=1", &format!("--proactor_threads={threads}")].map(str::to_owned).into()
}

fn snapshot(wanted: &WantedSnapshot) -> Snapshot {
    let size = Quantity(wanted.storage.size.clone());
    Snapshot {
        cron: wanted.schedule.clone(),
        persistent_volume_claim_spec: PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: wanted.storage.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), size)].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        },
    }
}

/// By default, Dragonfly starts one thread per core of the node, and exits if it has less than 256 MiB per thread. It uses 80 % of
/// the memory limit.
fn threads(resources: &Resources) -> i64 {
    let Some(bytes) = resources.memory_limit() else { return 1 };
    ((bytes * 0.8 / THREAD_BYTES) as i64).clamp(1, 16)
}
