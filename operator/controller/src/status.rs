//! Step 5: the status. Pure: the same input and clock give the same status.

mod backup;
mod cache;
mod component;
mod encryption;
mod kafka;
mod postgres;
mod workload;

use k8s_openapi::jiff::Timestamp;
use ping_api::{
    condition::ConditionType,
    crd::{
        PingPipeline,
        status::{Access, Components, Endpoints, PingPipelineStatus},
    },
    kinds::Kind,
    names::Names,
    reason::Reason,
    roles::Role,
};

use self::component::ComponentStatus;
pub use self::component::{SILENCE_SECONDS, StatusInput};
use crate::{
    apply::{Applied, ApplyError},
    cluster_state::ClusterState,
    condition::{ConditionValue, conditions},
    pipeline::{Cache, Pipeline, Postgres, Security, ServerDeployment},
    validate::Invalid,
};

/// The status of `pipeline` after a reconcile.
#[must_use]
pub fn status(
    pipeline: &PingPipeline,
    validated: Result<&Pipeline, &Invalid>,
    state: &ClusterState,
    applied: &Applied,
    now: Timestamp,
) -> PingPipelineStatus {
    let previous = pipeline.status.clone().unwrap_or_default();
    let generation = pipeline.metadata.generation.unwrap_or_default();
    let (values, of_spec) = match validated {
        Err(invalid) => {
            (refused(invalid), PingPipelineStatus { components: Some(unknown_components()), ..previous.clone() })
        }
        Ok(validated) => {
            let input = StatusInput { pipeline: validated, state, applied, now };
            let (values, components) = evaluate(pipeline, &input);
            let of_spec = PingPipelineStatus {
                components: Some(components),
                access: Some(access(validated)),
                endpoints: Some(endpoints(validated)),
                postgres_volume: postgres::volume(validated, state),
                restored_at: validated.restore.as_ref().map(|restore| restore.at.clone()),
                ..PingPipelineStatus::default()
            };
            (values, of_spec)
        }
    };
    PingPipelineStatus {
        observed_generation: Some(generation),
        conditions: conditions(&previous.conditions, values, generation, now),
        stats: None,
        ..of_spec
    }
}

/// Conditions of a rejected spec. What runs follows from an earlier spec, so whether it is complete is unknown. Conditions that follow from a spec
/// alone, such as `Durable`, are kept: they describe what runs.
fn refused(invalid: &Invalid) -> Vec<(ConditionType, ConditionValue)> {
    let reason = invalid.reason();
    let message = invalid.to_string();
    let unchanged =
        ConditionValue::not_met(Reason::Refused, "only certificates and keys are renewed until this is corrected");
    let unchecked = ConditionValue::unknown(Reason::Refused, "not checked until the spec is accepted; see Stalled");
    let observed = ConditionType::COMPONENTS.into_iter().chain([ConditionType::BackedUp]);
    let mut values: Vec<_> = observed.map(|kind| (kind, unchecked.clone())).collect();
    values.extend([
        (ConditionType::Ready, ConditionValue::not_met(reason, &message)),
        (ConditionType::Reconciling, unchanged),
        (ConditionType::Stalled, ConditionValue::met(reason, message)),
    ]);
    values
}

fn unknown_components() -> Components {
    let [postgres, kafka, cache, server, processor] = [(); 5].map(|()| "-".to_owned());
    Components { postgres, kafka, cache, server, processor }
}

/// Conditions of a valid pipeline, and the summary of each component.
fn evaluate(pipeline: &PingPipeline, input: &StatusInput<'_>) -> (Vec<(ConditionType, ConditionValue)>, Components) {
    let components = [
        (ConditionType::PostgresReady, postgres::status(input)),
        (ConditionType::KafkaReady, kafka::status(input)),
        (ConditionType::CacheReady, cache::status(input)),
        (ConditionType::ServerReady, servers(input)),
        (ConditionType::ProcessorReady, workload::status(input, [("processor", input.pipeline.processors())])),
    ];
    let [postgres, kafka, cache, server, processor] = components.each_ref().map(|(_, status)| status.summary.clone());
    let mut values: Vec<_> = components.into_iter().map(|(kind, status)| (kind, status.condition)).collect();
    let ready = ready(pipeline, input, &values);
    let stalled = stalled(input, &ready);
    let reconciling = match (ready.is_met(), ready.reason) {
        (true, _) => ConditionValue::not_met(Reason::Settled, "the pipeline matches its spec"),
        (false, Reason::Suspended | Reason::Hibernating) => ConditionValue::not_met(ready.reason, &ready.message),
        (false, reason) if stalled.is_met() => ConditionValue::not_met(reason, &ready.message),
        (false, _) => ConditionValue::met(Reason::Progressing, &ready.message),
    };
    values.push((ConditionType::Durable, durable(input.pipeline)));
    values.push((ConditionType::BackedUp, backup::backed_up(input)));
    values.push((ConditionType::Encrypted, encryption::encrypted(input.pipeline)));
    values.push((ConditionType::Authenticated, encryption::authenticated(input.pipeline)));
    values.push((ConditionType::Ready, ready));
    values.push((ConditionType::Reconciling, reconciling));
    values.push((ConditionType::Stalled, stalled));
    (values, Components { postgres, kafka, cache, server, processor })
}

/// `Stalled`: the pipeline is not ready, and waiting does not help. The operator retries all the same.
fn stalled(input: &StatusInput<'_>, ready: &ConditionValue) -> ConditionValue {
    let rejected = input.applied.failures.values().any(ApplyError::is_permanent);
    match !ready.is_met() && (ready.reason.needs_action() || (ready.reason == Reason::ApplyFailed && rejected)) {
        true => ConditionValue::met(ready.reason, &ready.message),
        false => ConditionValue::not_met(Reason::Settled, "nothing needs to be corrected"),
    }
}

fn servers(input: &StatusInput<'_>) -> ComponentStatus {
    let pipeline = input.pipeline;
    let deployments = pipeline.servers.iter().map(|servers| (servers.role.component(), servers.at_least()));
    let mut status = workload::status(input, deployments);
    let exists = |role: &Role| {
        let key = pipeline.names.key(Kind::Deployment, pipeline.names.part(role.component()));
        input.applied.live.get(&key).is_some()
    };
    if pipeline.retiring.iter().any(exists) {
        status.condition.message += ". The previous servers keep running until all new ones are available";
    }
    status
}

/// `Ready`: every component is ready, all objects were written, and the pipeline neither is suspended nor hibernates.
fn ready(
    pipeline: &PingPipeline,
    input: &StatusInput<'_>,
    components: &[(ConditionType, ConditionValue)],
) -> ConditionValue {
    if pipeline.spec.suspend {
        return ConditionValue::not_met(
            Reason::Suspended,
            "spec.suspend is true, so the operator changes nothing. Set it to false to resume",
        );
    }
    if let Some(error) = input.applied.failures.values().next() {
        let reason = match error {
            ApplyError::NameConflict { .. } => Reason::NameConflict,
            ApplyError::Refused { .. } | ApplyError::Serialize { .. } => Reason::ApplyFailed,
        };
        return ConditionValue::not_met(reason, crate::error::chain(error));
    }
    if input.pipeline.hibernate {
        return ConditionValue::not_met(
            Reason::Hibernating,
            "spec.hibernate is true, so no servers are running. Set it to false to start the pipeline",
        );
    }
    match components.iter().find(|(_, value)| !value.is_met()) {
        Some((kind, value)) => ConditionValue::not_met(value.reason, format!("{kind}: {}", value.message)),
        None => ConditionValue::met(Reason::Ready, "events are accepted and counted"),
    }
}

fn durable(pipeline: &Pipeline) -> ConditionValue {
    if !pipeline.durability_risks.is_empty() {
        let message = format!("acknowledged events can be lost: {}", pipeline.durability_risks.join("; and "));
        return ConditionValue::not_met(Reason::Unsafe, message);
    }
    match &pipeline.postgres {
        Postgres::Cluster(_) => ConditionValue::met(
            Reason::Synchronous,
            "every acknowledged event is stored on at least two Postgres instances",
        ),
        Postgres::External(_) => ConditionValue::unknown(
            Reason::Unverified,
            "the operator cannot check how the external Postgres replicates; make sure that it replicates synchronously",
        ),
    }
}

fn access(pipeline: &Pipeline) -> Access {
    let Security { tls, first_token, .. } = &pipeline.security;
    let Names { pipeline: name, namespace } = &pipeline.names;
    let scheme = if tls.is_some() { "https" } else { "http" };
    Access {
        url: format!("{scheme}://{}", endpoints(pipeline).server),
        server_name: tls.as_ref().map(|tls| tls.server.host.clone()),
        ca_secret: tls.as_ref().and_then(|tls| tls.server.ca.as_ref()).map(|ca| ca.name.clone()),
        token_secret: first_token.then(|| pipeline.names.first_token().name),
        hint: format!("kubectl pingpipeline connect {name} -n {namespace}"),
    }
}

fn endpoints(pipeline: &Pipeline) -> Endpoints {
    let names = &pipeline.names;
    let address = |servers: &ServerDeployment| {
        let (component, port) = (servers.role.component(), servers.spec.service.port);
        format!("{}.{}.svc:{port}", names.part(component), names.namespace)
    };
    Endpoints {
        server: pipeline.ingest_servers().map(address).unwrap_or_default(),
        query: pipeline.query_servers().filter(|servers| !servers.role.ingests()).map(address),
        kafka: pipeline.kafka.connection.as_ref().map(|connection| connection.brokers.clone()),
        cache: match &pipeline.cache {
            Cache::Dragonfly(_) if pipeline.hibernate => None,
            Cache::Dragonfly(_) | Cache::External(_) => Some(pipeline.cache_url()),
        },
        postgres_secret: Some(pipeline.postgres_uri().name),
    }
}
