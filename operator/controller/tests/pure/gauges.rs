//! What the operator's metrics say, from which alerts follow.

use ping_api::{crd::PingPipeline, kinds::Kind};
use ping_operator::gauges::{backed_up, ready};
use serde_json::json;

use crate::{
    fixture::{applied, demo, empty, example, status_of},
    status::{all_ready, state},
};

/// The gauge of readiness. All components are ready, but for Kafka if `is_kafka_failed`.
fn readiness(pipeline: &PingPipeline, is_kafka_failed: bool) -> Option<bool> {
    let mut statuses = all_ready();
    if is_kafka_failed {
        let failure = json!({ "conditions": [{ "type": "NotReady", "status": "True", "reason": "Fault" }] });
        statuses.push((Kind::Kafka, "demo-kafka", failure));
    }
    ready(&status_of(pipeline, &state(), &applied(&demo(), &state(), &statuses)))
}

#[test]
fn a_pipeline_that_hibernates_or_is_suspended_is_not_reported_as_broken() {
    let pipeline = |suspend, hibernate| {
        let mut pipeline = demo();
        (pipeline.spec.suspend, pipeline.spec.hibernate) = (suspend, hibernate);
        pipeline
    };
    assert_eq!(readiness(&pipeline(false, false), false), Some(true));
    assert_eq!(readiness(&pipeline(false, false), true), Some(false));
    assert_eq!(readiness(&pipeline(true, false), false), Some(true), "running pods keep running");
    assert_eq!(readiness(&pipeline(true, false), true), Some(false), "a failure is one while it is suspended, too");
    for suspend in [false, true] {
        assert_eq!(readiness(&pipeline(suspend, true), false), None, "suspend: {suspend}");
    }
    let mut refused = demo();
    refused.spec.processor.replicas = 99;
    assert_eq!(readiness(&refused, false), Some(false));
}

#[test]
fn backups_are_reported_for_a_pipeline_that_has_them_and_runs() {
    let gauge = |pipeline: &PingPipeline| {
        backed_up(&pipeline.spec, &status_of(pipeline, &empty(), &applied(pipeline, &empty(), &[])))
    };
    assert_eq!(gauge(&demo()), None, "it has none");
    let mut production = example("production");
    assert_eq!(gauge(&production), Some(false), "none has ended yet");
    production.spec.hibernate = true;
    assert_eq!(gauge(&production), None);
}
