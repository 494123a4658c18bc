//! What is renewed while the spec is refused.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    jiff::{SignedDuration, Timestamp},
};
use ping_api::{
    crd::{
        PingPipeline,
        access::{ClientCa, ClientCertificates, ServiceAccountTokens},
        kafka::KafkaClusterRef,
    },
    kinds::Kind,
};
use ping_operator::{
    build::build, certificates::names_of, cluster_state::ClusterState, renewal::renewals, validate::validate,
};
use serde_json::json;

use crate::{
    access::key,
    fixture::{demo, empty, issued, live, now, with_secret},
};

/// Files by Secret.
type Renewed = BTreeMap<String, BTreeMap<String, String>>;

/// The cluster after `pipeline` was accepted and its Secrets were written.
fn accepted(pipeline: &PingPipeline) -> ClusterState {
    let mut state = issued(pipeline);
    let desired = build(&validate(pipeline, &state).unwrap());
    for object in desired.objects.iter().filter(|object| object.key.kind == Kind::Secret) {
        let live = serde_json::from_value(object.to_json().unwrap()).unwrap();
        state.live.0.insert(object.key.clone(), live);
    }
    state
}

/// What is renewed after some days, while a spec is refused that also asks for another name in the certificate.
fn renewed(pipeline: &PingPipeline, state: &ClusterState, days: i64) -> Renewed {
    let mut refused = pipeline.clone();
    refused.spec.processor.replicas = 99;
    refused.spec.server.tls.names = vec!["refused.example.test".into()];
    assert!(validate(&refused, state).is_err());
    let at: Timestamp = now() + SignedDuration::from_hours(days * 24);
    let desired = renewals(&refused, state, at).unwrap();
    let content = |object: &ping_operator::desired::Object| {
        let data: BTreeMap<String, ByteString> =
            serde_json::from_value(object.to_json().unwrap()["data"].clone()).unwrap();
        let text = |(name, value): (String, ByteString)| (name, String::from_utf8(value.0).unwrap());
        (object.key.name.clone(), data.into_iter().map(text).collect())
    };
    desired.objects.iter().map(content).collect()
}

fn names(renewed: &Renewed) -> Vec<&str> {
    renewed.keys().map(String::as_str).collect()
}

#[test]
fn certificates_that_are_due_are_renewed_with_the_names_of_the_accepted_spec() {
    let state = accepted(&demo());
    assert_eq!(names(&renewed(&demo(), &state, 1)), [""; 0]);
    let renewed = renewed(&demo(), &state, 61);
    assert_eq!(names(&renewed), ["demo-processor-tls", "demo-server-tls"]);
    let covered = names_of(renewed["demo-server-tls"]["tls.crt"].as_bytes()).unwrap();
    assert!(covered.contains("demo-server.default.svc") && !covered.contains("refused.example.test"), "{covered:?}");
}

#[test]
fn nothing_is_created_for_a_pipeline_that_was_never_accepted() {
    assert_eq!(names(&renewed(&demo(), &empty(), 61)), [""; 0]);
}

#[test]
fn servers_trust_the_next_authority_before_it_signs_the_certificate_of_the_operator() {
    let mut pipeline = demo();
    let ca = key("callers", "issuer-ca");
    pipeline.spec.server.tls.client_ca = Some(ClientCa { mode: ClientCertificates::Required, ca });
    let renewed = renewed(&pipeline, &accepted(&pipeline), 740);
    let bundle = &renewed["demo-ca"]["ca.crt"];
    assert_eq!(bundle.matches("BEGIN").count(), 2, "the authority, and the next one");
    assert_eq!(renewed["demo-access"]["client-ca.crt"], format!("secret\n{bundle}"));
}

#[test]
fn new_keys_of_the_cluster_are_accepted() {
    let mut pipeline = demo();
    pipeline.spec.server.authentication.service_accounts = Some(ServiceAccountTokens::default());
    let mut state = accepted(&pipeline);
    state.cluster_issuer.as_mut().unwrap().keys = b"new".to_vec();
    let renewed = renewed(&pipeline, &state, 1);
    assert_eq!(names(&renewed), ["demo-access"]);
    let files = &renewed["demo-access"];
    assert_eq!(files["jwks-cluster.json"], "new");
    assert!(files["server.yaml"].contains("jwks-cluster.json"));
}

#[test]
fn copies_follow_their_originals() {
    let mut pipeline = demo();
    let reference = json!({ "name": "events", "namespace": "kafka" });
    pipeline.spec.kafka.cluster_ref = Some(serde_json::from_value::<KafkaClusterRef>(reference).unwrap());
    let mut state = empty();
    for (name, file) in [("demo-kafka-ca", "ca.crt"), ("demo-kafka-server", "password")] {
        let (key, copy) = live(Kind::Secret, "default", name, json!({ "data": { file: "b2xk" } }));
        state.live.0.insert(key, copy);
    }
    with_secret(&mut state, "kafka", "events-cluster-ca-cert", &[("ca.crt", "new"), ("ca.p12", "other")]);
    let renewed = renewed(&pipeline, &state, 1);
    assert_eq!(names(&renewed), ["demo-kafka-ca"], "the other original is missing");
    assert_eq!(renewed["demo-kafka-ca"], [("ca.crt".to_owned(), "new".to_owned())].into());
}
