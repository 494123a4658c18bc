//! References to Secrets and ConfigMaps of the pipeline's namespace, and to Kafka in another one.

use ping_api::{
    crd::{PingPipelineSpec, kafka::KafkaClusterRef},
    grant::GrantKind,
    kinds::Kind,
    names::{ALLOW_REFERENCE_LABEL, Names},
    reason::Reason,
};

use super::invalid::{Invalid, conflicting};
use crate::{
    cluster_state::{ClusterState, Grants},
    references::{Reference, references},
};

/// Rejects references to what does not exist or is not labelled for it. A missing object is an error, too: pods that wait for a Secret
/// would read whatever later appears under its name.
pub(super) fn local(spec: &PingPipelineSpec, names: &Names, state: &ClusterState) -> Result<(), Invalid> {
    for reference in references(spec) {
        let object = reference.object(names);
        let (exists, has_key) = match reference.kind {
            Kind::ConfigMap => {
                let keys = state.config_maps.get(&object);
                (keys.is_some(), keys.is_some_and(|keys| keys.contains(&reference.key)))
            }
            _ => {
                let found = state.secrets.contains_key(&object);
                (found, state.secret(&object.namespace, &object.name, &reference.key).is_some())
            }
        };
        if exists && !state.allowed_references.contains(&object) {
            return Err(not_allowed(&reference, names));
        }
        if !has_key {
            return Err(missing(&reference, names, exists));
        }
    }
    Ok(())
}

fn not_allowed(reference: &Reference, names: &Names) -> Invalid {
    let Reference { field, kind, name, .. } = reference;
    let namespace = &names.namespace;
    Invalid::Refused(
        Reason::SecretNotAllowed,
        format!(
            "{field} refers to {} {namespace}/{name}, which does not allow it. If pipelines in {namespace} may use its contents, \
             run: kubectl -n {namespace} label {} {name} {ALLOW_REFERENCE_LABEL}=true",
            kind.name(),
            kind.name().to_lowercase(),
        ),
    )
}

fn missing(reference: &Reference, names: &Names, exists: bool) -> Invalid {
    let Reference { field, kind, name, key } = reference;
    let (namespace, kind) = (&names.namespace, kind.name());
    let remedy = match exists {
        true => format!("which has no key {key}. Add the key, or correct the reference"),
        false => format!(
            "which does not exist. Create it with the key {key} and the label {ALLOW_REFERENCE_LABEL}=true, or correct the reference"
        ),
    };
    Invalid::Refused(Reason::SecretMissing, format!("{field} refers to {kind} {namespace}/{name}, {remedy}"))
}

/// Rejects a Kafka in another namespace that is not granted.
pub(super) fn granted_kafka(reference: &KafkaClusterRef, names: &Names, state: &ClusterState) -> Result<(), Invalid> {
    let Some(namespace) = reference.namespace.as_ref().filter(|namespace| **namespace != names.namespace) else {
        return Ok(());
    };
    // Others are asked to run a command with these names.
    if !is_object_name(namespace) || !is_object_name(&reference.name) {
        return Err(conflicting(
            "spec.kafka.clusterRef has a name or namespace that no object can have. Use lower-case letters, digits, '-' and '.'",
        ));
    }
    granted("spec.kafka.clusterRef", namespace, (GrantKind::Kafka, &reference.name), names, state)
}

fn is_object_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

/// Rejects an object in another namespace that is not granted, with the grant that would allow it.
pub(super) fn granted(
    field: &str,
    namespace: &str,
    (kind, name): (GrantKind, &str),
    names: &Names,
    state: &ClusterState,
) -> Result<(), Invalid> {
    if state.grants.allow(&names.namespace, kind, name) {
        return Ok(());
    }
    let (from, kind) = (&names.namespace, kind.as_str());
    let refused = |message| Err(Invalid::Refused(Reason::ReferenceNotGranted, message));
    if state.grants == Grants::Unreadable {
        return refused(format!(
            "{field} refers to {kind} {name} in namespace {namespace}, which this operator may not read. Have the operator's \
             administrator add it: helm upgrade … --set 'referenceNamespaces={{{namespace}}}'. Then a PingReferenceGrant in \
             {namespace} has to allow the reference"
        ));
    }
    let grant = format!(
        "{{apiVersion: pingpipeline.io/v1alpha1, kind: PingReferenceGrant, metadata: {{namespace: \"{namespace}\", name: \"{from}-{}\"}}, \
         spec: {{from: [{{namespace: \"{from}\"}}], to: [{{kind: {kind}, name: \"{name}\"}}]}}}}",
        kind.to_lowercase()
    );
    refused(format!(
        "{field} refers to {kind} {name} in namespace {namespace}, where no PingReferenceGrant allows it. Nothing is created or changed; \
         running pods keep running. To allow it, someone who may write to {namespace} runs: echo '{grant}' | kubectl apply -f -"
    ))
}
