//! Step 3 for a pipeline whose spec is refused: Secrets that expire or rotate, as an earlier spec asked for them. Without this, a spec that is
//! refused for long would end in an outage. Pure, except that keys are random.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use kube::ResourceExt;
use ping_api::{
    crd::{PingPipeline, SecretKey, kafka::KafkaClusterRef},
    kinds::Kind,
    names::Names,
};

use crate::{
    access_policy::{CLIENT_CA, CLUSTER_KEYS},
    certificates::{BUNDLE, CertificateError, Renewed, SecretData, WantedCertificate, renew},
    cluster_state::ClusterState,
    credentials::known_certificates,
    desired::Desired,
};

/// Secrets of the pipeline by name.
type Existing = BTreeMap<String, Secret>;

/// The Secrets of `pipeline` that have to change now: certificates that are due, copies of Kafka's Secrets, and the keys of the cluster's
/// ServiceAccounts. Secrets that do not exist are not created. Nothing of the refused spec is used but `clusterRef`, which cannot change.
///
/// # Errors
/// If a certificate cannot be issued.
pub fn renewals(pipeline: &PingPipeline, state: &ClusterState, now: Timestamp) -> Result<Desired, CertificateError> {
    let names = Names::of(pipeline);
    let secrets = state.live.0.iter().filter(|(key, _)| key.kind == Kind::Secret);
    // The API server returns no Secret that cannot be parsed.
    let secrets = secrets.filter_map(|(_, object)| object.clone().try_parse::<Secret>().ok());
    let existing: Existing = secrets.map(|secret| (secret.name_any(), secret)).collect();
    let mut renewed = certificates(&names, &existing, now)?;
    renewed.extend(access_files(&names, &existing, &renewed, state));
    renewed.extend(copies(pipeline, &names, &existing, state));
    let mut desired = Desired::default();
    for (name, data) in renewed {
        if let Some(secret) = existing.get(&name).filter(|secret| secret.data.as_ref() != Some(&data)) {
            desired.push(Kind::Secret, &names.namespace, &name, with_data(secret, data));
        }
    }
    Ok(desired)
}

/// The authority, and every certificate with the names that it has.
fn certificates(
    names: &Names,
    existing: &Existing,
    now: Timestamp,
) -> Result<BTreeMap<String, SecretData>, CertificateError> {
    let Some(authority) = data(existing, &names.authority_keys()) else { return Ok(BTreeMap::new()) };
    let again = |(name, component, lifetime): (String, &'static str, i64)| {
        let data = data(existing, &name)?;
        Some((name, WantedCertificate::again(data, component, lifetime)?, data))
    };
    let found: Vec<_> = known_certificates(names).into_iter().filter_map(again).collect();
    let wanted: Vec<_> = found.iter().map(|(_, wanted, data)| (wanted.clone(), Some(*data))).collect();
    let Renewed { authority, certificates } = renew(Some(authority), &wanted, now.as_second())?;
    let SecretKey { name, key } = names.authority();
    let bundle = authority.get(&key).cloned().unwrap_or_default();
    let mut renewed = BTreeMap::from([(names.authority_keys(), authority), (name, [(key, bundle)].into())]);
    renewed.extend(found.into_iter().map(|(name, ..)| name).zip(certificates));
    Ok(renewed)
}

/// The files of servers: with the present authority, which also signs the operator's certificate, and the present keys of the cluster.
fn access_files(
    names: &Names,
    existing: &Existing,
    renewed: &BTreeMap<String, SecretData>,
    state: &ClusterState,
) -> Option<(String, SecretData)> {
    let mut files = data(existing, &names.access())?.clone();
    let authority = names.authority().name;
    let bundle = |data: Option<&SecretData>| data.and_then(|data| data.get(BUNDLE)).cloned();
    if let Some(ByteString(file)) = files.get_mut(CLIENT_CA)
        && let Some((before, after)) = bundle(data(existing, &authority)).zip(bundle(renewed.get(&authority)))
        && let Some(given) = file.strip_suffix(before.0.as_slice())
    {
        *file = [given, &after.0].concat();
    }
    if let Some((file, issuer)) = files.get_mut(CLUSTER_KEYS).zip(state.cluster_issuer.as_ref()) {
        file.0.clone_from(&issuer.keys);
    }
    Some((names.access(), files))
}

/// The copies of Secrets of a Kafka in another namespace, with the values of their originals. Without its original, a copy stays as it is.
fn copies(
    pipeline: &PingPipeline,
    names: &Names,
    existing: &Existing,
    state: &ClusterState,
) -> BTreeMap<String, SecretData> {
    let Some(KafkaClusterRef { name, namespace: Some(namespace), .. }) = &pipeline.spec.kafka.cluster_ref else {
        return BTreeMap::new();
    };
    let users =
        ["server", "processor"].map(|role| (format!("{}-{role}", names.unique()), names.kafka_credentials(role)));
    let all = [(format!("{name}-cluster-ca-cert"), names.kafka_ca_copy())].into_iter().chain(users);
    let renewed = |(original, copy): (String, String)| {
        let value = |key: &String| Some(ByteString(state.secret(namespace, &original, key)?.to_vec()));
        let keys = data(existing, &copy)?.keys();
        let data: Option<SecretData> = keys.map(|key| Some((key.clone(), value(key)?))).collect();
        Some((copy, data?))
    };
    all.filter_map(renewed).collect()
}

fn data<'a>(existing: &'a Existing, name: &str) -> Option<&'a SecretData> {
    existing.get(name)?.data.as_ref()
}

/// `secret` with other content, and without what the API server has added.
fn with_data(secret: &Secret, data: SecretData) -> Secret {
    let ObjectMeta { name, namespace, labels, owner_references, .. } = secret.metadata.clone();
    Secret {
        metadata: ObjectMeta { name, namespace, labels, owner_references, ..ObjectMeta::default() },
        type_: secret.type_.clone(),
        data: Some(data),
        ..Secret::default()
    }
}
