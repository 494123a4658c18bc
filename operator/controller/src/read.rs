//! Step 1, the only one that reads from the cluster: objects of the pipeline, its Secrets, and the Kafka cluster it
//! refers to.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams},
};
use ping_api::{
    crd::PingPipeline,
    grant::{GrantKind, PingReferenceGrant},
    kinds::{Dependency, Key, Kind},
    names::{ALLOW_REFERENCE_LABEL, NAMESPACE_LABEL, Names, PIPELINE_LABEL},
};
use serde::Deserialize;

use crate::{
    cluster_state::{ClusterIssuer, ClusterState, Grants, ObservedObjects},
    context::Context,
    error::{is_absent, is_forbidden, present},
    external::{
        Observed,
        cnpg::{ClusterStatus, ObservedCluster},
        strimzi::{ObservedTopic, StrimziStatus},
    },
    ownership::{Owner, Ownership, ownership},
    references::objects,
    validate::topics_of_others,
};

/// End of the name of the Secret with the CA certificate of a Kafka cluster.
const CA_SUFFIX: &str = "-cluster-ca-cert";

/// A read that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what}")]
pub struct ReadError {
    what: String,
    source: kube::Error,
}

/// Reads everything that `pipeline` depends on. Nothing of another namespace is read without a grant there, apart from the grants, and the
/// pipeline's own topics and users.
///
/// # Errors
/// If the API server rejects a request or does not respond. A missing object is not an error.
pub async fn read(pipeline: &PingPipeline, context: &Context) -> Result<ClusterState, ReadError> {
    let names = Names::of(pipeline);
    let dependencies = context.dependencies.served();
    let mut state = ClusterState {
        live: observed_objects(pipeline, &names, &dependencies, context).await?,
        dependencies,
        image: context.image.clone(),
        platform: context.platform.clone(),
        ..ClusterState::default()
    };
    let kafka = kafka_key(pipeline, &names);
    if let Some(namespace) = cross_namespace(pipeline, &names) {
        state.grants = grants(namespace, context).await?;
    }
    let usable = kafka.filter(|key| key.namespace == names.namespace || is_granted(&state, &names, key));
    read_secrets(pipeline, &names, usable.as_ref(), &mut state, context).await?;
    if let Some(key) = usable.filter(|_| state.dependencies.contains(&Dependency::Strimzi)) {
        state.kafka = get(&key, context).await?.as_ref().map(Observed::of);
        if !topics_of_others(&pipeline.spec.kafka, &names).is_empty() {
            state.shared_topics = shared_topics(&key, &Owner::of(pipeline), context).await?;
        }
    }
    if pipeline.spec.server.authentication.service_accounts.is_some() {
        state.cluster_issuer = cluster_issuer(context).await?;
    }
    if pipeline.spec.cache.external.is_none() {
        state.cache_pods = get(&names.key(Kind::StatefulSet, names.cache()), context).await?;
    }
    state.postgres_capacity = postgres_capacity(&names, &state, context).await?;
    Ok(state)
}

/// The capacity of the primary's data volume, whose claim CloudNativePG names like the instance.
async fn postgres_capacity(
    names: &Names,
    state: &ClusterState,
    context: &Context,
) -> Result<Option<String>, ReadError> {
    let cluster = state.live.observe::<ObservedCluster, ClusterStatus>(&names.key(Kind::Cluster, names.postgres()));
    let primary = cluster.and_then(|cluster| cluster.status?.current_primary);
    // A tenant may be able to write that status, so only the name of an instance is read: `NAME-1` and so on.
    let number = |primary: &str| primary.strip_prefix(&names.postgres())?.strip_prefix('-')?.parse::<u32>().ok();
    let Some(primary) = primary.filter(|primary| number(primary).is_some()) else { return Ok(None) };
    let api = Api::<PersistentVolumeClaim>::namespaced(context.client.clone(), &names.namespace);
    let found = match api.get_opt(&primary).await {
        Ok(found) => found.filter(|claim| claim.labels().get("cnpg.io/cluster") == Some(&names.postgres())),
        // The capacity in the spec will do.
        Err(error) if is_forbidden(&error) => None,
        Err(source) => return Err(ReadError { what: format!("PersistentVolumeClaim {primary}"), source }),
    };
    let capacity = found.and_then(|claim| claim.status?.capacity?.remove("storage"));
    Ok(capacity.map(|capacity| capacity.0))
}

fn is_granted(state: &ClusterState, names: &Names, kafka: &Key) -> bool {
    state.grants.allow(&names.namespace, GrantKind::Kafka, &kafka.name)
}

/// The Kafka in `clusterRef`.
fn kafka_key(pipeline: &PingPipeline, names: &Names) -> Option<Key> {
    let reference = pipeline.spec.kafka.cluster_ref.as_ref()?;
    Some(Key::new(Kind::Kafka, reference.namespace.as_ref().unwrap_or(&names.namespace), &reference.name))
}

/// The namespace of `clusterRef`, if it is not the pipeline's.
fn cross_namespace<'a>(pipeline: &'a PingPipeline, names: &Names) -> Option<&'a str> {
    let namespace = pipeline.spec.kafka.cluster_ref.as_ref()?.namespace.as_deref()?;
    (namespace != names.namespace).then_some(namespace)
}

/// The grants in `namespace`.
///
/// # Errors
/// If the API server does not respond, or responds with an unexpected error.
pub async fn grants(namespace: &str, context: &Context) -> Result<Grants, ReadError> {
    let api = Api::<PingReferenceGrant>::namespaced(context.client.clone(), namespace);
    match api.list(&ListParams::default()).await {
        Ok(list) => Ok(Grants::Known(list.items.into_iter().map(|grant| grant.spec).collect())),
        Err(error) if is_absent(&error) => Ok(Grants::default()),
        Err(error) if is_forbidden(&error) => Ok(Grants::Unreadable),
        Err(source) => Err(ReadError { what: format!("the grants in {namespace}"), source }),
    }
}

/// Every object that a reconcile of `pipeline` reads, apart from those it creates. A key without a name stands for all objects of its kind
/// and namespace.
#[must_use]
pub fn references(pipeline: &PingPipeline) -> BTreeSet<Key> {
    let names = Names::of(pipeline);
    let kafka = kafka_key(pipeline, &names);
    let mut keys = secret_keys(pipeline, &names, kafka.as_ref());
    keys.extend(kafka);
    keys.extend(cross_namespace(pipeline, &names).map(|namespace| Key::new(Kind::PingReferenceGrant, namespace, "")));
    keys.insert(names.key(Kind::StatefulSet, names.cache()));
    keys
}

/// All objects that belong to `pipeline`, and those that a deleted pipeline of the same name retained.
///
/// # Errors
/// If the API server rejects a request or does not respond.
pub async fn observed_objects(
    pipeline: &PingPipeline,
    names: &Names,
    dependencies: &BTreeSet<Dependency>,
    context: &Context,
) -> Result<ObservedObjects, ReadError> {
    let served = |kind: &Kind| kind.dependency().is_none_or(|dependency| dependencies.contains(&dependency));
    let own = Kind::ALL.into_iter().filter(|kind| kind.is_created()).filter(served);
    let lists = own.map(|kind| (kind, &*names.namespace)).chain(cross_namespace(pipeline, names).into_iter().flat_map(
        |namespace| [Kind::KafkaTopic, Kind::KafkaUser].into_iter().filter(served).map(move |kind| (kind, namespace)),
    ));
    let owner = Owner::of(pipeline);
    let objects = try_join_all(lists.map(|(kind, namespace)| list(kind, namespace, &owner, context))).await?;
    Ok(ObservedObjects(objects.into_iter().flatten().collect()))
}

async fn list(
    kind: Kind,
    namespace: &str,
    owner: &Owner,
    context: &Context,
) -> Result<Vec<(Key, DynamicObject)>, ReadError> {
    let labels = format!("{PIPELINE_LABEL}={},{NAMESPACE_LABEL}={}", owner.names.pipeline, owner.names.namespace);
    match context.api(kind, namespace).list(&ListParams::default().labels(&labels)).await {
        Ok(list) => {
            let own = |object: &DynamicObject| !matches!(ownership(object, owner), Ownership::Other(_));
            let items = list.items.into_iter().filter(own);
            Ok(items.map(|object| (Key::new(kind, namespace, object.name_any()), object)).collect())
        }
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        // The operator may read another namespace only if its administrator allows it.
        Err(error) if is_forbidden(&error) && namespace != owner.names.namespace => Ok(Vec::new()),
        Err(source) => Err(ReadError { what: format!("objects of kind {} in {namespace}", kind.name()), source }),
    }
}

/// The issuer of the cluster's ServiceAccounts. Kubernetes lets every ServiceAccount read it.
async fn cluster_issuer(context: &Context) -> Result<Option<ClusterIssuer>, ReadError> {
    #[derive(Deserialize)]
    struct Description {
        issuer: String,
    }
    let fetch = async |path: &str| {
        let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        context.client.request_text(request).await
    };
    let failed = |source| ReadError { what: "the issuer of ServiceAccount tokens".into(), source };
    let both = futures::future::try_join(fetch("/.well-known/openid-configuration"), fetch("/openid/v1/jwks")).await;
    let (description, keys) = match both {
        Ok(both) => both,
        Err(error) if is_forbidden(&error) || is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let description: Description =
        serde_json::from_str(&description).map_err(|error| failed(kube::Error::SerdeError(error)))?;
    Ok(Some(ClusterIssuer { issuer: description.issuer, keys: keys.into_bytes() }))
}

async fn get(key: &Key, context: &Context) -> Result<Option<DynamicObject>, ReadError> {
    match present(context.api_of(key).get_opt(&key.name).await) {
        Ok(object) => Ok(object),
        Err(source) => Err(ReadError { what: key.to_string(), source }),
    }
}

/// KafkaTopics of `kafka` that do not belong to `owner`, by their names in Kafka.
async fn shared_topics(
    kafka: &Key,
    owner: &Owner,
    context: &Context,
) -> Result<BTreeMap<String, ObservedTopic>, ReadError> {
    let selected = ListParams::default().labels(&format!("strimzi.io/cluster={}", kafka.name));
    let listed = context.api(Kind::KafkaTopic, &kafka.namespace).list(&selected).await;
    let listed =
        listed.map_err(|source| ReadError { what: format!("the topics in {}", kafka.namespace), source })?.items;
    let others = listed.iter().filter(|topic| ownership(*topic, owner) != Ownership::Own);
    let topic = |object: &DynamicObject| {
        let spec = Observed::<ObservedTopic, StrimziStatus>::of(object).spec;
        (spec.topic_name.clone().unwrap_or_else(|| object.name_any()), spec)
    };
    Ok(others.map(topic).collect())
}

/// Reads the Secrets and ConfigMaps of the pipeline; `kafka` is the shared Kafka if the pipeline may use it.
async fn read_secrets(
    pipeline: &PingPipeline,
    names: &Names,
    kafka: Option<&Key>,
    state: &mut ClusterState,
    context: &Context,
) -> Result<(), ReadError> {
    let fetch = async |key: Key| {
        let api = Api::<Secret>::namespaced(context.client.clone(), &key.namespace);
        match api.get_opt(&key.name).await {
            Ok(secret) => Ok(secret.map(|secret| (key, secret))),
            Err(error) if is_forbidden(&error) && key.namespace != names.namespace => Ok(None),
            Err(source) => Err(ReadError { what: key.to_string(), source }),
        }
    };
    let found = try_join_all(secret_keys(pipeline, names, kafka).into_iter().map(fetch)).await?;
    let (owner, issued) = (Owner::of(pipeline), names.issued_secrets());
    for (key, secret) in found.into_iter().flatten() {
        if key.namespace == names.namespace
            && issued.contains(&key.name)
            && let Ownership::Other(other) = ownership(&secret, &owner)
        {
            state.foreign_secrets.insert(key, other);
            continue;
        }
        if is_allowed(&secret) {
            state.allowed_references.insert(key.clone());
        }
        let of_user = key.namespace != names.namespace && !key.name.ends_with(CA_SUFFIX);
        if of_user && !belongs_to_user(&secret, &key, state) {
            state.unowned_secrets.insert(key);
        } else {
            state.secrets.insert(key, secret.data.unwrap_or_default());
        }
    }
    for key in objects(&pipeline.spec, names).into_iter().filter(|key| key.kind == Kind::ConfigMap) {
        let api = Api::<ConfigMap>::namespaced(context.client.clone(), &key.namespace);
        let found = api.get_opt(&key.name).await;
        let Some(map) = found.map_err(|source| ReadError { what: key.to_string(), source })? else { continue };
        if is_allowed(&map) {
            state.allowed_references.insert(key.clone());
        }
        state.config_maps.insert(key, map.data.unwrap_or_default().into_keys().collect());
    }
    Ok(())
}

fn is_allowed(object: &impl ResourceExt) -> bool {
    object.labels().get(ALLOW_REFERENCE_LABEL).is_some_and(|value| value == "true")
}

/// True if Strimzi made this Secret for the KafkaUser of the pipeline with the same name.
fn belongs_to_user(secret: &Secret, key: &Key, state: &ClusterState) -> bool {
    let user = state.live.get(&Key::new(Kind::KafkaUser, &key.namespace, &key.name));
    let uid = user.and_then(|user| user.metadata.uid.as_ref());
    uid.is_some() && secret.owner_references().iter().any(|owner| owner.kind == "KafkaUser" && Some(&owner.uid) == uid)
}

/// The Secrets that pods of the pipeline read, and their originals in the namespace of the shared `kafka`.
fn secret_keys(pipeline: &PingPipeline, names: &Names, kafka: Option<&Key>) -> BTreeSet<Key> {
    let spec = &pipeline.spec;
    let mut keys: BTreeSet<Key> =
        objects(spec, names).into_iter().filter(|key| key.kind == Kind::Secret && !key.name.is_empty()).collect();
    let mut local = Vec::new();
    if spec.postgres.external.is_none() {
        local.push(names.postgres_uri().name);
    }
    local.extend(names.issued_secrets());
    if let Some(kafka) = kafka {
        let prefix = names.unique();
        let mut originals = vec![format!("{}{CA_SUFFIX}", kafka.name)];
        originals.extend(["server", "processor"].map(|role| format!("{prefix}-{role}")));
        keys.extend(originals.into_iter().map(|name| Key::new(Kind::Secret, &kafka.namespace, name)));
    }
    match (&spec.kafka.cluster_ref, &spec.kafka.external) {
        (Some(_), _) => {
            local.push(names.kafka_ca_copy());
            local.extend(["server", "processor"].map(|role| names.kafka_credentials(role)));
        }
        (None, Some(_)) => {}
        (None, None) => {
            local.push(format!("{}{CA_SUFFIX}", names.kafka()));
            local.extend(["server", "processor"].map(|role| names.kafka_credentials(role)));
        }
    }
    keys.extend(local.into_iter().map(|name| names.key(Kind::Secret, name)));
    keys
}
