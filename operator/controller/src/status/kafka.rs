//! Status of Kafka. On failure, Strimzi sets `NotReady: True` and no `Ready`; a topic has `Ready: False`.

use ping_api::{
    kinds::{Dependency, Key, Kind},
    reason::Reason,
};

use super::component::{ComponentStatus, StatusInput, external_secret, is_new, missing, silent};
use crate::{
    condition::ConditionValue,
    external::{Observed, strimzi::StrimziStatus, true_condition},
    pipeline::{CleanupPolicy, Kafka, KafkaMode, SharedKafka, Topic},
};

pub(super) fn status(input: &StatusInput<'_>) -> ComponentStatus {
    let mode = &input.pipeline.kafka.mode;
    if let KafkaMode::External(external) = mode {
        let password = external.sasl.as_ref().map(|sasl| &sasl.password);
        let ca = external.tls.as_ref().and_then(|tls| tls.ca.as_ref());
        let secrets = [password, ca].into_iter().flatten().map(|key| external_secret(input, key));
        let missing = secrets.into_iter().find(|secret| !secret.condition.is_met());
        let ready = || ConditionValue::met(Reason::External, required_topics(&input.pipeline.kafka));
        return missing.unwrap_or_else(|| ComponentStatus::new("external", ready()));
    }
    let served = input.state.dependencies.contains(&Dependency::Strimzi);
    if input.applied.missing.contains(&Dependency::Strimzi) || !served {
        return missing(Dependency::Strimzi);
    }
    if let KafkaMode::Shared(reference) = mode
        && input.pipeline.kafka.connection.is_none()
    {
        return ComponentStatus::new("missing", unresolved(input, reference));
    }
    let conditions = objects(input).into_iter().map(|key| condition(input, &key));
    match conditions.into_iter().find(|condition| !condition.is_met()) {
        Some(condition) => ComponentStatus::new(condition.reason.as_str(), condition),
        None => {
            let condition = ConditionValue::met(Reason::Ready, "Kafka, its topics and its users are ready");
            ComponentStatus::new("Ready", condition)
        }
    }
}

/// The topics that the owner of an external Kafka has to create.
fn required_topics(kafka: &Kafka) -> String {
    let topic = |topic: &Topic| match topic.cleanup_policy {
        CleanupPolicy::Delete(_) => topic.name.clone(),
        CleanupPolicy::Compact => format!("{} (cleanup.policy=compact)", topic.name),
    };
    format!("these topics must exist: {}", kafka.topics().map(topic).collect::<Vec<_>>().join(", "))
}

fn unresolved(input: &StatusInput<'_>, reference: &SharedKafka) -> ConditionValue {
    let name = format!("Kafka {}/{}", reference.namespace, reference.name);
    let message = match (&input.state.kafka, reference.authentication) {
        (None, _) => format!("{name} does not exist; create it or correct spec.kafka.clusterRef"),
        (Some(_), None) => format!("{name} does not have this listener; correct spec.kafka.clusterRef.listener"),
        (Some(_), Some(_)) => {
            let message = format!("{name} has not reported the address of its listener yet");
            return ConditionValue::not_met(Reason::Provisioning, message);
        }
    };
    ConditionValue::not_met(Reason::ReferenceMissing, message)
}

/// The objects that must be ready, in the order in which they become ready.
fn objects(input: &StatusInput<'_>) -> Vec<Key> {
    // Node pools report no status of their own while their Kafka is healthy.
    let kinds = [Kind::Kafka, Kind::KafkaTopic, Kind::KafkaUser];
    let of_kind =
        |kind| input.applied.desired.iter().chain(input.applied.live.0.keys()).filter(move |key| key.kind == kind);
    let mut keys: Vec<Key> = Vec::new();
    for key in kinds.into_iter().flat_map(of_kind) {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

fn condition(input: &StatusInput<'_>, key: &Key) -> ConditionValue {
    let Some(object) = input.applied.live.get(key) else {
        return ConditionValue::not_met(Reason::Provisioning, format!("{key} does not exist yet"));
    };
    let observed: Observed<serde_json::Value, StrimziStatus> = Observed::of(object);
    let status = observed.status.unwrap_or_default();
    let failure = status.conditions.iter().find(|condition| {
        (condition.kind == "NotReady" && condition.status == "True")
            || (condition.kind == "Ready" && condition.status == "False")
    });
    if let Some(failure) = failure {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let message = format!("{key}: {} {}", text(&failure.reason), text(&failure.message));
        return ConditionValue::not_met(Reason::Failed, message);
    }
    for pause in ["ReconciliationPaused", "Unmanaged"] {
        if true_condition(&status.conditions, pause).is_some() {
            let message = format!("{key} is {pause}; remove the annotation that causes it");
            return ConditionValue::not_met(Reason::Paused, message);
        }
    }
    let current = status.observed_generation.is_none_or(|observed| Some(observed) >= object.metadata.generation);
    match (true_condition(&status.conditions, "Ready"), current) {
        (Some(_), true) => ConditionValue::met(Reason::Ready, format!("{key} is ready")),
        (Some(_), false) => {
            let message = format!("Strimzi has not processed the latest change of {key} yet");
            ConditionValue::not_met(Reason::Provisioning, message)
        }
        (None, _) if status.conditions.is_empty() && !is_new(object, input.now) => {
            silent(Dependency::Strimzi, &key.to_string())
        }
        (None, _) => ConditionValue::not_met(Reason::Provisioning, format!("{key} is being created")),
    }
}
