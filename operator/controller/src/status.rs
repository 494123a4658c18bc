//! Fifth step: what is true now. Pure: the same pass and the same clock give the same status.

mod cache;
mod kafka;
mod postgres;
mod workload;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use ping_api::{
    crd::{
        PingPipeline,
        status::{Components, Endpoints, PingPipelineStatus},
    },
    kinds::Kind,
    roles::Role,
};

use self::{
    condition::{ConditionType, Verdict, conditions},
    reason::Reason,
};
use crate::{
    apply::{Applied, ApplyError},
    cluster_state::Refs,
    pipeline::{Cache, Pipeline, Postgres, Servers},
    validate::Invalid,
};

/// An operator that says nothing about a new object for this long counts as not running, in seconds.
pub const SILENCE_SECONDS: i64 = 30;

/// What one pass saw.
pub struct Scene<'a> {
    /// The validated pipeline.
    pub pipeline: &'a Pipeline,
    /// What was read.
    pub refs: &'a Refs,
    /// What is there after applying.
    pub applied: &'a Applied,
    /// The clock.
    pub now: Timestamp,
}

/// A component's condition, and the short form for its column.
pub struct Judgement {
    /// The condition.
    pub verdict: Verdict,
    /// The column.
    pub summary: String,
}

impl Judgement {
    fn new(summary: impl Into<String>, verdict: Verdict) -> Self {
        Self { verdict, summary: summary.into() }
    }
}

/// Judges one pass over `pipeline`.
#[must_use]
pub fn status(
    pipeline: &PingPipeline,
    validated: Result<&Pipeline, &Invalid>,
    refs: &Refs,
    applied: &Applied,
    now: Timestamp,
) -> PingPipelineStatus {
    let previous = pipeline.status.clone().unwrap_or_default();
    let generation = pipeline.metadata.generation.unwrap_or_default();
    let (verdicts, components, endpoints) = match validated {
        Err(invalid) => (refused(invalid), previous.components.clone(), previous.endpoints.clone()),
        Ok(validated) => {
            let scene = Scene { pipeline: validated, refs, applied, now };
            let (verdicts, components) = judge(pipeline, &scene);
            (verdicts, Some(components), Some(endpoints(validated)))
        }
    };
    PingPipelineStatus {
        observed_generation: Some(generation),
        conditions: conditions(&previous.conditions, verdicts, generation, now),
        components,
        endpoints,
        figures: None,
    }
}

/// A refused spec: what runs keeps running, and what was known about it is kept.
fn refused(invalid: &Invalid) -> Vec<(ConditionType, Verdict)> {
    let reason = match invalid {
        Invalid::UnsafeForExact(_) => Reason::UnsafeForExact,
        Invalid::Conflicting(_) => Reason::Invalid,
        Invalid::Irreversible(_) => Reason::Irreversible,
    };
    let message = invalid.to_string();
    vec![
        (ConditionType::Ready, Verdict::no(reason, &message)),
        (ConditionType::Reconciling, Verdict::no(Reason::Refused, "nothing is changed until the spec is corrected")),
        (ConditionType::Stalled, Verdict::yes(reason, message)),
    ]
}

fn judge(pipeline: &PingPipeline, scene: &Scene<'_>) -> (Vec<(ConditionType, Verdict)>, Components) {
    let judged = [
        (ConditionType::PostgresReady, postgres::judge(scene)),
        (ConditionType::KafkaReady, kafka::judge(scene)),
        (ConditionType::CacheReady, cache::judge(scene)),
        (ConditionType::ServerReady, servers(scene)),
        (ConditionType::ProcessorReady, workload::judge(scene, [("processor", scene.pipeline.processors())])),
    ];
    let [postgres, kafka, cache, server, processor] = judged.each_ref().map(|(_, judgement)| judgement.summary.clone());
    let mut verdicts: Vec<_> =
        judged.into_iter().map(|(condition, judgement)| (condition, judgement.verdict)).collect();
    let ready = ready(pipeline, scene, &verdicts);
    let reconciling = match (ready.is_true(), ready.reason) {
        (true, _) => Verdict::no(Reason::Settled, "everything is as it shall be"),
        (false, Reason::Suspended | Reason::Hibernating) => Verdict::no(ready.reason, &ready.message),
        (false, _) => Verdict::yes(Reason::Progressing, &ready.message),
    };
    verdicts.push((ConditionType::Durable, durable(scene.pipeline)));
    verdicts.push((ConditionType::Ready, ready));
    verdicts.push((ConditionType::Reconciling, reconciling));
    verdicts.push((ConditionType::Stalled, Verdict::no(Reason::Settled, "the spec is accepted")));
    (verdicts, Components { postgres, kafka, cache, server, processor })
}

fn servers(scene: &Scene<'_>) -> Judgement {
    let pipeline = scene.pipeline;
    let all = pipeline.servers.iter().map(|servers| (servers.role.component(), servers.at_least()));
    let mut judgement = workload::judge(scene, all);
    let before = |role: &Role| {
        scene.applied.live.get(&pipeline.names.key(Kind::Deployment, pipeline.names.part(role.component()))).is_some()
    };
    if pipeline.retiring.iter().any(before) {
        judgement.verdict.message += ". Until all are, the servers of before stay";
    }
    judgement
}

/// Ready is what is asked for being there: every component, nothing failed to be written, nothing put to sleep.
fn ready(pipeline: &PingPipeline, scene: &Scene<'_>, verdicts: &[(ConditionType, Verdict)]) -> Verdict {
    if pipeline.spec.suspend {
        return Verdict::no(Reason::Suspended, "spec.suspend is true: nothing is changed. Set it to false to go on");
    }
    if let Some(error) = scene.applied.failures.values().next() {
        let reason = match error {
            ApplyError::NameTaken { .. } => Reason::NameTaken,
            ApplyError::Refused { .. } | ApplyError::Serialize { .. } => Reason::ApplyFailed,
        };
        return Verdict::no(reason, crate::error::chain(error));
    }
    if scene.pipeline.hibernate {
        return Verdict::no(
            Reason::Hibernating,
            "spec.hibernate is true: nothing is served. Set it to false to wake up",
        );
    }
    match verdicts.iter().find(|(_, verdict)| !verdict.is_true()) {
        Some((condition, verdict)) => Verdict::no(verdict.reason, format!("{condition}: {}", verdict.message)),
        None => Verdict::yes(Reason::Ready, "pings are accepted and counted"),
    }
}

fn durable(pipeline: &Pipeline) -> Verdict {
    if !pipeline.hazards.is_empty() {
        let message = format!("acknowledged pings can be lost, for {}", pipeline.hazards.join("; and "));
        return Verdict::no(Reason::Unsafe, message);
    }
    match &pipeline.postgres {
        Postgres::Cluster(_) => {
            Verdict::yes(Reason::Synchronous, "every acknowledged ping is on at least two Postgres instances")
        }
        Postgres::External(_) => Verdict::unknown(
            Reason::Unverified,
            "the operator cannot see how the external Postgres replicates; make sure that it does so synchronously",
        ),
    }
}

fn endpoints(pipeline: &Pipeline) -> Endpoints {
    let names = &pipeline.names;
    let address = |servers: &Servers| {
        let (component, port) = (servers.role.component(), servers.spec.service.port);
        format!("{}.{}.svc:{port}", names.part(component), names.namespace)
    };
    Endpoints {
        server: pipeline.taking().map(address).unwrap_or_default(),
        query: pipeline.answering().filter(|servers| !servers.role.takes_events()).map(address),
        kafka: pipeline.kafka.connection.as_ref().map(|connection| connection.brokers.clone()),
        cache: match &pipeline.cache {
            Cache::Dragonfly(_) if pipeline.hibernate => None,
            Cache::Dragonfly(_) | Cache::External(_) => Some(pipeline.cache_url()),
        },
        postgres_secret: Some(pipeline.postgres_uri().name),
    }
}

/// True when the object is so new that its operator may simply not have got to it.
fn is_new(object: &impl ResourceExt, now: Timestamp) -> bool {
    let age = object.creation_timestamp().map_or(0, |created| now.as_second() - created.0.as_second());
    age < SILENCE_SECONDS
}
