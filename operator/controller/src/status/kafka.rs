//! Is Kafka ready? Strimzi's failure is `NotReady: True` without any `Ready`; a topic says `Ready: False`.

use ping_api::kinds::{Dependency, Key, Kind};

use super::{
    Judgement, Scene,
    condition::Verdict,
    is_new,
    postgres::{external_secret, missing, silent},
    reason::Reason,
};
use crate::{
    external::{Observed, said, strimzi::StrimziStatus},
    pipeline::{Kafka, KafkaReference, KafkaSource, Keeps, Topic},
};

pub(super) fn judge(scene: &Scene<'_>) -> Judgement {
    let source = &scene.pipeline.kafka.source;
    if let KafkaSource::External(external) = source {
        let password = external.sasl.as_ref().map(|sasl| &sasl.password);
        let ca = external.tls.as_ref().and_then(|tls| tls.ca.as_ref());
        let secrets = [password, ca].into_iter().flatten().map(|key| external_secret(scene, key));
        let unusable = secrets.into_iter().find(|judgement| !judgement.verdict.is_true());
        let fine = || Judgement::new("external", Verdict::yes(Reason::External, must_exist(&scene.pipeline.kafka)));
        return unusable.unwrap_or_else(fine);
    }
    if scene.applied.missing.contains(&Dependency::Strimzi) || !scene.refs.dependencies.contains(&Dependency::Strimzi) {
        return missing(Dependency::Strimzi);
    }
    if let KafkaSource::Reference(reference) = source
        && scene.pipeline.kafka.connection.is_none()
    {
        return Judgement::new("missing", unresolved(scene, reference));
    }
    let verdicts = objects(scene).into_iter().map(|key| verdict(scene, &key));
    match verdicts.into_iter().find(|verdict| !verdict.is_true()) {
        Some(verdict) => Judgement::new(verdict.reason.as_str(), verdict),
        None => Judgement::new("Ready", Verdict::yes(Reason::Ready, "Kafka, topics and users are ready")),
    }
}

/// Nobody but its owner makes topics in an external Kafka.
fn must_exist(kafka: &Kafka) -> String {
    let topic = |topic: &Topic| match topic.keeps {
        Keeps::All(_) => topic.name.clone(),
        Keeps::Last => format!("{} (cleanup.policy=compact)", topic.name),
    };
    format!("its topics must exist: {}", kafka.topics().map(topic).collect::<Vec<_>>().join(", "))
}

fn unresolved(scene: &Scene<'_>, reference: &KafkaReference) -> Verdict {
    let name = format!("Kafka {}/{}", reference.namespace, reference.name);
    let message = match (&scene.refs.kafka, reference.authentication) {
        (None, _) => format!("{name} does not exist; create it or correct spec.kafka.clusterRef"),
        (Some(_), None) => format!("{name} has no such listener; correct spec.kafka.clusterRef.listener"),
        (Some(_), Some(_)) => format!("{name} has not told the address of its listener yet"),
    };
    Verdict::no(Reason::ReferenceMissing, message)
}

/// What has to be ready, in the order in which it becomes so.
fn objects(scene: &Scene<'_>) -> Vec<Key> {
    let wanted = [Kind::Kafka, Kind::KafkaNodePool, Kind::KafkaTopic, Kind::KafkaUser];
    let of_kind =
        |kind| scene.applied.desired.iter().chain(scene.applied.live.0.keys()).filter(move |key| key.kind == kind);
    let mut keys: Vec<Key> = Vec::new();
    for key in wanted.into_iter().flat_map(of_kind) {
        // Pools say nothing of their own while their Kafka is fine.
        if key.kind != Kind::KafkaNodePool && !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    keys
}

fn verdict(scene: &Scene<'_>, key: &Key) -> Verdict {
    let Some(object) = scene.applied.live.get(key) else {
        return Verdict::no(Reason::Provisioning, format!("{key} is not there yet"));
    };
    let observed: Observed<serde_json::Value, StrimziStatus> = Observed::of(object);
    let status = observed.status.unwrap_or_default();
    let failure = status.conditions.iter().find(|condition| {
        (condition.kind == "NotReady" && condition.status == "True")
            || (condition.kind == "Ready" && condition.status == "False")
    });
    if let Some(failure) = failure {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        return Verdict::no(Reason::Failed, format!("{key}: {} {}", text(&failure.reason), text(&failure.message)));
    }
    for pause in ["ReconciliationPaused", "Unmanaged"] {
        if said(&status.conditions, pause).is_some() {
            return Verdict::no(Reason::Paused, format!("{key} is {pause}; remove the annotation that says so"));
        }
    }
    let current = status.observed_generation.is_none_or(|seen| Some(seen) >= object.metadata.generation);
    match (said(&status.conditions, "Ready"), current) {
        (Some(_), true) => Verdict::yes(Reason::Ready, format!("{key} is ready")),
        (Some(_), false) => {
            Verdict::no(Reason::Provisioning, format!("Strimzi has not taken up the change of {key} yet"))
        }
        (None, _) if status.conditions.is_empty() && !is_new(object, scene.now) => {
            silent(Dependency::Strimzi, &key.to_string())
        }
        (None, _) => Verdict::no(Reason::Provisioning, format!("{key} is being set up")),
    }
}
