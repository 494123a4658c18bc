//! One reconcile of one PingPipeline: read → validate → build → apply → status.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use ping_api::{
    crd::PingPipeline,
    kinds::Key,
    names::{FINALIZER, Names},
};
use serde_json::json;

use crate::{
    apply::{Applied, apply, apply_renewals},
    build::build,
    certificates::CertificateError,
    cluster_state::ObservedObjects,
    connections::settings,
    context::Context,
    credentials::issue,
    desired::Desired,
    error::chain,
    metrics::Outcome,
    ownership::Owner,
    read::{ReadError, read, references},
    renewal::renewals,
    report::{ReportError, report},
    status::status,
    teardown::{TeardownError, teardown},
    validate::validate,
};

/// A reconcile that failed. The controller retries it with a growing delay.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A certificate cannot be issued.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Writing failed.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Deleting failed.
    #[error(transparent)]
    Teardown(#[from] TeardownError),
    /// The finalizer could not be added.
    #[error("cannot add the finalizer")]
    Finalizer(#[source] kube::Error),
}

/// Reconciles `pipeline`: adds the finalizer to a new one, tears down a deleted one, and runs the five steps for all others.
///
/// This does not use `kube::runtime::finalizer`, which removes the finalizer as soon as the cleanup returns without an error:
/// our teardown waits for other operators across several reconciles, and waiting is not an error.
///
/// # Errors
/// If the API server rejects a request or does not respond. Waiting for other operators is not an error.
pub async fn reconcile(pipeline: &PingPipeline, context: &Context) -> Result<(Outcome, Action), ReconcileError> {
    let has_finalizer = pipeline.finalizers().iter().any(|name| name == FINALIZER);
    match (&pipeline.metadata.deletion_timestamp, has_finalizer) {
        (Some(_), true) => Ok((Outcome::Deleting, teardown(pipeline, context).await?)),
        (Some(_), false) => Ok((Outcome::Deleting, Action::await_change())),
        (None, false) => {
            add_finalizer(pipeline, context).await.map_err(ReconcileError::Finalizer)?;
            run_steps(pipeline, context).await
        }
        (None, true) => run_steps(pipeline, context).await,
    }
}

/// The five steps. An invalid or suspended pipeline is not built. For an invalid one, Secrets that expire or rotate are renewed; for a suspended
/// one, nothing is applied.
async fn run_steps(pipeline: &PingPipeline, context: &Context) -> Result<(Outcome, Action), ReconcileError> {
    let mut state = read(pipeline, context).await?;
    issue(pipeline, &mut state, Timestamp::now())?;
    let validated = validate(pipeline, &state);
    if let Ok(validated) = &validated {
        let settings = settings(validated, &state, &context.server_address);
        if let Err(error) = context.connections.set(&Names::of(pipeline).into(), settings) {
            tracing::warn!(error = chain(&error), "cannot connect to the servers for the count");
        }
    }
    let desired = validated.as_ref().ok().filter(|_| !pipeline.spec.suspend).map(build);
    context.index.set(&Names::of(pipeline).into(), watched_objects(pipeline, desired.as_ref(), &state.live));
    let owner = Owner::of(pipeline);
    let applied = match (&desired, &validated) {
        (Some(desired), _) => apply(desired, &state, &owner, context).await,
        (None, Err(_)) if !pipeline.spec.suspend => {
            let renewals = renewals(pipeline, &state, Timestamp::now())?;
            apply_renewals(&renewals, &state, &owner, context).await
        }
        (None, _) => Applied::unchanged(&state),
    };
    let status = status(pipeline, validated.as_ref(), &state, &applied, Timestamp::now());
    Ok(report(pipeline, status, applied, context).await?)
}

/// Every object that this reconcile reads or creates. Watch events on them trigger the next reconcile.
fn watched_objects(pipeline: &PingPipeline, desired: Option<&Desired>, live: &ObservedObjects) -> BTreeSet<Key> {
    let created = desired.into_iter().flat_map(|desired| &desired.objects).map(|object| &object.key);
    references(pipeline).into_iter().chain(created.chain(live.0.keys()).cloned()).collect()
}

/// The patch contains the resource version, so that it cannot overwrite finalizers that others set in the meantime.
async fn add_finalizer(pipeline: &PingPipeline, context: &Context) -> Result<(), kube::Error> {
    let mut finalizers = pipeline.finalizers().to_vec();
    finalizers.push(FINALIZER.to_owned());
    let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": pipeline.resource_version() } });
    let api = Api::<PingPipeline>::namespaced(context.client.clone(), &pipeline.namespace().unwrap_or_default());
    api.patch(&pipeline.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await.map(|_| ())
}
