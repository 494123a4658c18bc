//! Settings of callers that are refused, and in which words.

use ping_api::crd::{
    PingPipeline,
    access::{AccessRule, Permission, Protection, ServiceAccountTokens, StaticToken, TokenIssuer},
    quotas::Quota,
};
use ping_operator::cluster_state::ClusterState;

use crate::{
    access::{key, refusal},
    fixture::{demo, empty, with_secret},
};

type Spoil<'a> = &'a dyn Fn(&mut PingPipeline);

/// Why `spec: {}` is refused after `spoil`.
fn refused(spoil: Spoil<'_>, state: &ClusterState) -> String {
    let mut pipeline = demo();
    spoil(&mut pipeline);
    refusal(&pipeline, state)
}

#[test]
fn a_token_itself_or_one_that_is_not_allowed_is_refused_with_a_remedy() {
    let mut state = ClusterState { cluster_issuer: None, ..empty() };
    with_secret(&mut state, "default", "callers", &[("ci", "t0ken-in-clear-text")]);
    let token = |name: &'static str| {
        move |pipeline: &mut PingPipeline| {
            pipeline.spec.server.authentication.tokens =
                vec![StaticToken { name: "ci".into(), sha256: key(name, "ci") }];
        }
    };
    let message = refused(&token("callers"), &state);
    assert!(message.contains("SecretMissing: spec.server.authentication.tokens[0].sha256"), "{message}");
    assert!(message.contains("sha256sum") && !message.contains("t0ken-in-clear-text"), "{message}");
    let message = refused(&token("gone"), &state);
    assert!(
        message.contains("does not exist") && message.contains("pingpipeline.io/allow-reference=true"),
        "{message}"
    );
    let mut unlabelled = state.clone();
    unlabelled.allowed_references.clear();
    assert!(
        refused(&token("callers"), &unlabelled).starts_with("SecretNotAllowed: spec.server.authentication.tokens[0]")
    );
}

#[test]
fn every_mistake_in_callers_rules_and_certificates_is_refused_with_its_field() {
    let mut state = ClusterState { cluster_issuer: None, ..empty() };
    with_secret(&mut state, "default", "callers", &[("tls.crt", "x"), ("tls.key", "x")]);
    let issuer = |url: &'static str| {
        move |pipeline: &mut PingPipeline| {
            let issuer = TokenIssuer {
                name: "corp".into(),
                issuer: url.into(),
                audiences: vec!["ping".into()],
                ..TokenIssuer::default()
            };
            pipeline.spec.server.authentication.issuers = vec![issuer];
        }
    };
    let message = refused(&issuer("http://login.example.test"), &state);
    assert!(
        message.contains("Invalid: spec.server.authentication.issuers[0].issuer: is not an https:// URL"),
        "{message}"
    );
    let rule = |pipeline: &mut PingPipeline| {
        let rule =
            AccessRule { callers: vec!["ci".into()], permissions: vec![Permission::Read], ..AccessRule::default() };
        pipeline.spec.server.authorization.rules = vec![rule];
    };
    let message = refused(&rule, &state);
    assert!(message.contains("spec.server.authorization.rules[0].callers[0]: \"ci\" is not a caller"), "{message}");
    let accounts = |pipeline: &mut PingPipeline| {
        pipeline.spec.server.authentication.service_accounts = Some(ServiceAccountTokens::default());
    };
    let message = refused(&accounts, &state);
    assert!(message.contains("IssuerUnreadable") && message.contains("kubectl create clusterrolebinding"), "{message}");
    let certificate = |pipeline: &mut PingPipeline| pipeline.spec.server.tls.secret_name = Some("callers".into());
    assert!(refused(&certificate, &state).contains("is not a certificate in PEM form"));
}

fn quota(name: &str, caller: &str) -> Quota {
    Quota { name: name.into(), callers: vec![caller.into()], events_per_second: Some(1), ..Quota::default() }
}

/// What the CRD's rules refuse, too, is here for objects from before it had them.
#[test]
fn every_mistake_in_quotas_is_refused_with_its_field() {
    let mistakes: [(&str, &[Quota]); 6] = [
        (
            "quotas[0].callers[0]: \"ci\" is not a caller; write token:NAME, cert:NAME, ISSUER:SUBJECT, group:ISSUER:GROUP, anonymous, or *",
            &[quota("a", "ci")],
        ),
        ("quotas[1].name: \"a\" is the name of another quota", &[quota("a", "*"), quota("a", "*")]),
        ("quotas[0]: limits nothing", &[Quota { events_per_second: None, ..quota("a", "*") }]),
        ("quotas[0].eventsPerSecond: is 0", &[Quota { events_per_second: Some(0), ..quota("a", "*") }]),
        (
            "quotas[0].newKindsPerDay: is less than newSourcesPerDay",
            &[Quota { new_sources_per_day: Some(2), new_kinds_per_day: Some(1), ..quota("a", "*") }],
        ),
        (
            "quotas[0].burstSeconds: has no effect",
            &[Quota {
                events_per_second: None,
                new_sources_per_day: Some(2),
                burst_seconds: Some(2),
                ..quota("a", "*")
            }],
        ),
    ];
    for (words, quotas) in mistakes {
        let message = refused(&|pipeline| pipeline.spec.server.authorization.quotas = quotas.to_vec(), &empty());
        assert!(
            message.contains(&format!("Invalid: spec.server.authorization.{words}")),
            "{words} is not in {message}"
        );
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let mut state = empty();
    with_secret(&mut state, "default", "callers", &[("tls.crt", "x"), ("tls.key", "x")]);
    let contradictions: [(&str, Spoil); 4] = [
        ("secretName, names and clientCa have no effect", &|pipeline| {
            pipeline.spec.server.tls.mode = Protection::Disable;
            pipeline.spec.server.tls.names = vec!["a".into()];
        }),
        ("Remove one of them", &|pipeline| {
            pipeline.spec.server.tls.secret_name = Some("callers".into());
            pipeline.spec.server.tls.names = vec!["a".into()];
        }),
        ("have no effect. Remove them, or set mode: Required", &|pipeline| {
            pipeline.spec.server.authentication.mode = Protection::Disable;
            pipeline.spec.server.authorization.anonymous = vec![Permission::Read];
        }),
        ("have no effect. Remove them, or set mode: Required", &|pipeline| {
            pipeline.spec.server.authentication.mode = Protection::Disable;
            pipeline.spec.server.authorization.quotas = vec![quota("all", "*")];
        }),
    ];
    for (words, spoil) in contradictions {
        let message = refused(spoil, &state);
        assert!(message.contains(words), "{words} is not in {message}");
    }
}
