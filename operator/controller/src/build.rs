//! Step 3: turns a validated pipeline into the objects of its desired state. Pure and infallible; one component per file.

mod backup;
mod dragonfly;
mod env;
mod kafka;
mod metadata;
mod monitoring;
mod network;
mod postgres;
mod processor;
mod secrets;
mod server;
mod workload;

pub(crate) use self::kafka::CLUSTER_LABEL;
use crate::{desired::Desired, pipeline::Pipeline};

/// Builds all objects in the order in which they are applied: configuration first, then the parts that workloads depend on, then
/// workloads.
#[must_use]
pub fn build(pipeline: &Pipeline) -> Desired {
    let mut desired = Desired::default();
    secrets::build(pipeline, &mut desired);
    network::build(pipeline, &mut desired);
    postgres::build(pipeline, &mut desired);
    kafka::build(pipeline, &mut desired);
    dragonfly::build(pipeline, &mut desired);
    server::build(pipeline, &mut desired);
    processor::build(pipeline, &mut desired);
    monitoring::build(pipeline, &mut desired);
    desired
}
