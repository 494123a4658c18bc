//! Topics of others in a shared Kafka. The operator uses them, if they exist and are granted, but neither creates nor changes nor deletes
//! them.

use ping_api::{
    crd::kafka::{KafkaClusterRef, KafkaSpec},
    grant::GrantKind,
    names::Names,
    reason::Reason,
};

use super::{invalid::Invalid, references};
use crate::{cluster_state::ClusterState, pipeline::Topic};

/// Topics that `spec` names outside of the pipeline's prefix in a shared Kafka, each with its field.
#[must_use]
pub fn topics_of_others(spec: &KafkaSpec, names: &Names) -> Vec<(&'static str, String)> {
    let named = [
        ("topic", &spec.topic.name),
        ("deadLetterTopic", &spec.dead_letter_topic.name),
        ("minutesTopic", &spec.minutes_topic.name),
    ];
    let prefix = names.topic_prefix();
    let named = named.into_iter().filter(|_| spec.cluster_ref.is_some());
    let named = named.filter_map(|(field, name)| Some((field, name.clone()?)));
    named.filter(|(_, name)| !name.starts_with(&prefix)).collect()
}

/// Checks that a topic of someone else may be used, exists, and is what the pipeline needs.
pub(super) fn check(
    field: &str,
    topic: Option<&Topic>,
    (reference, namespace): (&KafkaClusterRef, &str),
    names: &Names,
    state: &ClusterState,
) -> Result<(), Invalid> {
    let Some(topic) = topic.filter(|topic| !topic.own) else { return Ok(()) };
    if namespace != names.namespace {
        let named = format!("spec.kafka.{field}.name");
        references::granted(&named, namespace, (GrantKind::KafkaTopic, &topic.name), names, state)?;
    }
    let Some(live) = state.shared_topics.get(&topic.name) else {
        return Err(Invalid::Refused(
            Reason::ReferenceMissing,
            format!(
                "spec.kafka.{field}.name is {}, but Kafka {namespace}/{} has no KafkaTopic of that name, and the operator creates only topics \
                 whose names start with {}. Remove the name, or have the owner of {namespace} create the KafkaTopic",
                topic.name,
                reference.name,
                names.topic_prefix()
            ),
        ));
    };
    let in_sync = live.config.get("min.insync.replicas").and_then(number);
    for (setting, manifest, wanted, found) in [
        ("partitions", "spec.partitions", topic.partitions, live.partitions),
        ("replicas", "spec.replicas", topic.replicas, live.replicas),
        ("minInSyncReplicas", "spec.config.\"min.insync.replicas\"", topic.min_in_sync_replicas, in_sync),
    ] {
        if found != Some(wanted.into()) {
            let message = difference(field, &topic.name, (setting, manifest), wanted, found);
            return Err(Invalid::Conflicting(message));
        }
    }
    Ok(())
}

fn number(value: &serde_json::Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// What is wrong with the topic in `field`, and how to fix it. `found` is `None` if its KafkaTopic does not say.
fn difference(field: &str, topic: &str, (setting, manifest): (&str, &str), wanted: i32, found: Option<i64>) -> String {
    // The spec has these settings for the topic of the events only.
    let (needed, of_spec) = match field {
        "topic" => ("the spec says", found),
        _ => ("the pipeline needs", None),
    };
    let actual = match found {
        Some(found) => format!("has {setting} {found}"),
        None => {
            format!("has a KafkaTopic without {manifest}, so a default of Kafka applies, which the operator cannot see")
        }
    };
    let remedy = match of_spec {
        Some(found) => format!("Set spec.kafka.topic.{setting} to {found}"),
        None => format!("Name a topic whose KafkaTopic has {manifest}: {wanted}"),
    };
    format!(
        "the topic {topic} {actual}, but {needed} {wanted}, and the operator does not change topics of others. {remedy}, or remove \
         spec.kafka.{field}.name"
    )
}
