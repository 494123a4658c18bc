//! Tenants against each other: two namespaces with the most hostile names, a shared Kafka in a third, and one operator. In each test the
//! attacker fails.

use std::collections::BTreeSet;

use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use ping_api::{kinds::Kind, names::Names};
use ping_operator::scope::Scope;
use serde_json::{Value, json};

use crate::harness::{
    TestNamespace,
    fake_operators::{
        api, grant, make_kafka, make_pods_ready, make_secrets, revoke, set_allowed_secret, set_secret, set_user_secret,
    },
    operator::{Operator, settings},
    shape::shape,
    until,
};

/// An operator that manages the namespaces of `tenants` and may read `kafka`.
fn operator_of(tenants: &[&TestNamespace], kafka: &str) -> Operator {
    let mut settings = settings(tenants[0], "http://127.0.0.1:9");
    settings.scope = Scope::Namespaces {
        watched: tenants.iter().map(|tenant| tenant.namespace.clone()).collect(),
        referenced: [kafka.to_owned()].into(),
    };
    Operator::start(tenants[0].client.clone(), settings)
}

fn unique(test: &TestNamespace, pipeline: &str) -> String {
    Names { namespace: test.namespace.clone(), pipeline: pipeline.into() }.unique()
}

fn on_kafka(kafka: &str) -> Value {
    json!({ "kafka": { "clusterRef": { "name": "events", "namespace": kafka } } })
}

async fn becomes(test: &TestNamespace, pipeline: &str, kind: &str, reason: &str, words: &str) {
    until(&format!("{kind} of {pipeline} with {reason} and \"{words}\""), async || {
        let (_, now, message) = test.condition(pipeline, kind).await;
        if now == reason && message.contains(words) { Ok(()) } else { Err(format!("{now}: {message}")) }
    })
    .await;
}

async fn names(test: &TestNamespace, kind: Kind, namespace: &str) -> BTreeSet<String> {
    let listed = api(test, kind, namespace).list(&ListParams::default()).await.unwrap();
    listed.iter().map(ResourceExt::name_any).collect()
}

/// Strimzi's part: the Secret of each user, with a password that names it.
async fn make_users(test: &TestNamespace, kafka: &str, pipeline: &str) {
    for role in ["server", "processor"] {
        let user = format!("{}-{role}", unique(test, pipeline));
        until("the user", async || {
            api(test, Kind::KafkaUser, kafka).get_opt(&user).await.unwrap().ok_or("none".to_owned())
        })
        .await;
        set_user_secret(test, kafka, &user, json!({ "password": format!("{}/{pipeline}/{role}", test.namespace) }))
            .await;
    }
}

async fn password(test: &TestNamespace, pipeline: &str) -> Result<String, String> {
    let secrets = api(test, Kind::Secret, &test.namespace);
    let copy = secrets.get_opt(&format!("{pipeline}-kafka-server")).await.unwrap().ok_or("no copy")?;
    let encoded = copy.data["data"]["password"].as_str().ok_or("no password")?.to_owned();
    let bytes: k8s_openapi::ByteString = serde_json::from_value(json!(encoded)).unwrap();
    Ok(String::from_utf8(bytes.0).unwrap())
}

/// `iso-t` with the pipeline `a-b`, and `iso-t-a` with the pipeline `b`: joined with `-` both are `iso-t-a-b`. And the longest names.
#[tokio::test(flavor = "multi_thread")]
async fn tenants_with_hostile_names_get_their_own_users_topics_and_passwords() {
    let long = format!("iso-{}", "n".repeat(59));
    let one = TestNamespace::new("iso-t").await;
    let other = TestNamespace::new("iso-t-a").await;
    let longest = TestNamespace::new(&long).await;
    let kafka = "iso-t-kafka";
    one.make_namespace(kafka).await;
    make_kafka(&one, kafka).await;
    let from: Vec<Value> = [&one, &other, &longest].iter().map(|test| json!({ "namespace": test.namespace })).collect();
    crate::harness::fake_operators::grant_from(&one, kafka, json!(from), json!([{ "kind": "Kafka" }])).await;
    let _operator = operator_of(&[&one, &other, &longest], kafka);
    let (name, prefix) = ("p".repeat(40), "p".repeat(39));
    let tenants = [(&one, "a-b"), (&other, "b"), (&longest, &*name), (&longest, &*prefix)];
    for (test, pipeline) in tenants {
        test.create(pipeline, on_kafka(kafka)).await;
    }
    for (test, pipeline) in tenants {
        make_users(test, kafka, pipeline).await;
    }
    for (test, pipeline) in tenants {
        let expected = format!("{}/{pipeline}/server", test.namespace);
        until("the own password", async || {
            let copied = password(test, pipeline).await?;
            if copied == expected { Ok(()) } else { Err(copied) }
        })
        .await;
    }
    assert_eq!(names(&one, Kind::KafkaUser, kafka).await.len(), 8, "two users each");
    assert_eq!(names(&one, Kind::KafkaTopic, kafka).await.len(), 12, "three topics each");
    let topics = api(&one, Kind::KafkaTopic, kafka).list(&ListParams::default()).await.unwrap();
    let in_kafka: BTreeSet<&str> =
        topics.iter().map(|topic| topic.data["spec"]["topicName"].as_str().unwrap()).collect();
    assert_eq!(in_kafka.len(), 12);
    assert!(in_kafka.contains("iso-t.a-b.pings") && in_kafka.contains("iso-t-a.b.pings"), "{in_kafka:?}");
    // The deletion of one takes nothing of the other along.
    one.pipelines().delete("a-b", &DeleteParams::default()).await.unwrap();
    let users = [unique(&one, "a-b"), unique(&other, "b")].map(|prefix| format!("{prefix}-server"));
    until("the end of the users of one", async || {
        let left = names(&one, Kind::KafkaUser, kafka).await;
        if left.len() == 6 && !left.contains(&users[0]) && left.contains(&users[1]) {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
    assert_eq!(names(&one, Kind::KafkaTopic, kafka).await.len(), 12, "Retain keeps the topics");
}

/// The attacker of issue 22: a Kafka of another team, without its consent.
#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_in_another_namespace_is_used_only_while_a_grant_allows_it() {
    let (test, kafka) = (TestNamespace::new("iso-grant").await, "iso-grant-kafka");
    test.make_namespace(kafka).await;
    make_kafka(&test, kafka).await;
    let _operator = operator_of(&[&test], kafka);
    test.create("demo", on_kafka(kafka)).await;
    becomes(&test, "demo", "Stalled", "ReferenceNotGranted", "kubectl apply -f -").await;
    for kind in [Kind::KafkaUser, Kind::KafkaTopic] {
        assert!(names(&test, kind, kafka).await.is_empty(), "{kind:?} without a grant");
    }
    // A grant for someone else, or for something else, is none.
    grant(&test, kafka, json!([{ "kind": "Kafka", "name": "other" }, { "kind": "KafkaTopic", "name": "events" }]))
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    becomes(&test, "demo", "Stalled", "ReferenceNotGranted", "").await;
    // The remedy in the message, as it is.
    let (_, _, message) = test.condition("demo", "Stalled").await;
    let manifest = message.split('\'').nth(1).unwrap();
    test.control_plane.kubectl_with_input(["apply", "-f", "-"], manifest).await.unwrap();
    make_users(&test, kafka, "demo").await;
    until("the Deployment", async || {
        api(&test, Kind::Deployment, &test.namespace).get_opt("demo-server").await.unwrap().ok_or("none".to_owned())
    })
    .await;
    make_pods_ready(&test).await;
    // Without it, running pods keep running, and nothing new is made.
    api(&test, Kind::PingReferenceGrant, kafka).delete("iso-grant-kafka", &DeleteParams::default()).await.unwrap();
    revoke(&test, kafka).await;
    becomes(&test, "demo", "Stalled", "ReferenceNotGranted", "running pods keep running").await;
    becomes(&test, "demo", "Ready", "ReferenceNotGranted", "").await;
    assert!(api(&test, Kind::Deployment, &test.namespace).get_opt("demo-server").await.unwrap().is_some());
    let user = format!("{}-server", unique(&test, "demo"));
    api(&test, Kind::KafkaUser, kafka).delete(&user, &DeleteParams::default()).await.unwrap();
    test.change("demo", json!({ "server": { "lanes": 2 } })).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(!names(&test, Kind::KafkaUser, kafka).await.contains(&user), "the owner of Kafka has removed the user");
    // What the pipeline made is still its own, so a deletion cleans up.
    test.pipelines().delete("demo", &DeleteParams::default()).await.unwrap();
    until("the end of the users", async || {
        let left = names(&test, Kind::KafkaUser, kafka).await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

fn topic(name: &str) -> Value {
    json!({
        "apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaTopic",
        "metadata": { "name": name, "labels": { "strimzi.io/cluster": "events" } },
        "spec": { "partitions": 6, "replicas": 3, "config": { "min.insync.replicas": 2, "retention.ms": 1 } },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_another_team_is_neither_reached_nor_changed_nor_deleted() {
    let (test, kafka) = (TestNamespace::new("iso-topic").await, "iso-topic-kafka");
    test.make_namespace(kafka).await;
    make_kafka(&test, kafka).await;
    let topics = api(&test, Kind::KafkaTopic, kafka);
    topics.patch("orders", &PatchParams::apply("owner"), &Patch::Apply(topic("orders"))).await.unwrap();
    let before = topics.get("orders").await.unwrap();
    grant(&test, kafka, json!([{ "kind": "Kafka", "name": "events" }])).await;
    let _operator = operator_of(&[&test], kafka);
    let mut spec = on_kafka(kafka);
    spec["deletionPolicy"] = json!("Delete");
    spec["kafka"]["topic"] = json!({ "name": "orders" });
    test.create("demo", spec).await;
    becomes(&test, "demo", "Stalled", "ReferenceNotGranted", "to: [{kind: KafkaTopic, name: \"orders\"}]").await;
    assert!(names(&test, Kind::KafkaUser, kafka).await.is_empty(), "no user before the topic is granted");
    grant(&test, kafka, json!([{ "kind": "Kafka", "name": "events" }, { "kind": "KafkaTopic", "prefix": "ord" }]))
        .await;
    make_users(&test, kafka, "demo").await;
    let user = api(&test, Kind::KafkaUser, kafka).get(&format!("{}-server", unique(&test, "demo"))).await.unwrap();
    assert!(user.data["spec"]["authorization"]["acls"].to_string().contains("\"orders\""));
    delete_pipeline(&test).await;
    let after = topics.get("orders").await.unwrap();
    assert_eq!((after.uid(), after.resource_version()), (before.uid(), before.resource_version()), "untouched");
    assert_eq!(names(&test, Kind::KafkaTopic, kafka).await, ["orders".to_owned()].into(), "its own topics are gone");
}

/// Deletes the pipeline `demo`, and waits until its teardown is over.
async fn delete_pipeline(test: &TestNamespace) {
    test.pipelines().delete("demo", &DeleteParams::default()).await.unwrap();
    until("the end of the pipeline", async || {
        let left = test.pipelines().get_opt("demo").await.unwrap();
        if left.is_none() { Ok(()) } else { Err("it is still there".into()) }
    })
    .await;
}

/// An object in the way, with all labels of the pipeline: labels are anyone's to set.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_stolen_labels_is_neither_changed_nor_deleted() {
    let (test, kafka) = (TestNamespace::new("iso-labels").await, "iso-labels-kafka");
    test.make_namespace(kafka).await;
    make_kafka(&test, kafka).await;
    grant(&test, kafka, json!([{ "kind": "Kafka", "name": "events" }])).await;
    let labels = json!({ "pingpipeline.io/pipeline": "demo", "pingpipeline.io/namespace": "iso-labels" });
    let user = format!("{}-server", unique(&test, "demo"));
    let theirs = json!({
        "apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaUser",
        "metadata": { "name": user, "labels": labels }, "spec": { "authentication": { "type": "tls" } },
    });
    let users = api(&test, Kind::KafkaUser, kafka);
    users.patch(&user, &PatchParams::apply("attacker"), &Patch::Apply(theirs)).await.unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "bystander", "labels": labels },
        "stringData": { "password": "hunter2" },
    });
    let secrets = api(&test, Kind::Secret, &test.namespace);
    secrets.patch("bystander", &PatchParams::apply("tenant"), &Patch::Apply(secret)).await.unwrap();
    let before = [users.get(&user).await.unwrap(), secrets.get("bystander").await.unwrap()];
    let _operator = operator_of(&[&test], kafka);
    let mut spec = on_kafka(kafka);
    spec["deletionPolicy"] = json!("Delete");
    test.create("demo", spec).await;
    becomes(&test, "demo", "Stalled", "NameConflict", "by its labels only. Delete or rename it").await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    delete_pipeline(&test).await;
    let after = [users.get(&user).await.unwrap(), secrets.get("bystander").await.unwrap()];
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.uid(), before.resource_version()), (after.uid(), after.resource_version()), "{after:?}");
    }
}

/// A Postgres, Kafka or cache of someone else with the name of the pipeline's: no pod uses it, and no NetworkPolicy isolates it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_that_would_use_a_component_of_someone_else() {
    let listener = json!({ "name": "tls", "port": 9093, "type": "internal", "tls": true });
    for (kind, part, spec) in [
        (Kind::Cluster, "postgres", json!({ "instances": 1, "storage": { "size": "1Gi" } })),
        (Kind::Kafka, "kafka", json!({ "kafka": { "listeners": [listener] } })),
        (Kind::Dragonfly, "cache", json!({ "replicas": 1 })),
    ] {
        let test = TestNamespace::new(&format!("iso-taken-{part}")).await;
        let (name, resource) = (format!("demo-{part}"), kind.api_resource());
        let theirs = json!({
            "apiVersion": resource.api_version, "kind": resource.kind, "metadata": { "name": name }, "spec": spec,
        });
        let objects = api(&test, kind, &test.namespace);
        let before = objects.patch(&name, &PatchParams::apply("team"), &Patch::Apply(theirs)).await.unwrap();
        let _operator = Operator::plain(&test);
        test.create("demo", json!({})).await;
        let words = format!("{} {}/{name} already exists", kind.name(), test.namespace);
        becomes(&test, "demo", "Stalled", "NameConflict", &words).await;
        let made: Vec<String> = shape(&test).await.into_keys().collect();
        assert!(made.is_empty(), "{made:?}");
        let after = objects.get(&name).await.unwrap();
        assert_eq!((after.uid(), after.resource_version()), (before.uid(), before.resource_version()), "untouched");
        objects.delete(&name, &DeleteParams::default()).await.unwrap();
        until("servers", async || {
            api(&test, Kind::Deployment, &test.namespace).get_opt("demo-server").await.unwrap().ok_or("none".to_owned())
        })
        .await;
    }
}

/// A Secret that someone placed under the name of the pipeline's Kafka user.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_no_kafka_user_owns_is_not_copied() {
    let (test, kafka) = (TestNamespace::new("iso-copy").await, "iso-copy-kafka");
    test.make_namespace(kafka).await;
    make_kafka(&test, kafka).await;
    grant(&test, kafka, json!([{ "kind": "Kafka", "name": "events" }])).await;
    let user = format!("{}-server", unique(&test, "demo"));
    set_secret(&test, kafka, &user, json!({ "password": "of someone else" })).await;
    let _operator = operator_of(&[&test], kafka);
    test.create("demo", on_kafka(kafka)).await;
    becomes(&test, "demo", "Stalled", "NameConflict", &format!("delete secret {user}")).await;
    assert_eq!(password(&test, "demo").await, Err("no copy".into()));
    api(&test, Kind::Secret, kafka).delete(&user, &DeleteParams::default()).await.unwrap();
    // Secrets of another namespace are not watched.
    test.change("demo", json!({ "server": { "lanes": 2 } })).await.unwrap();
    make_users(&test, kafka, "demo").await;
    test.change("demo", json!({ "server": { "lanes": 3 } })).await.unwrap();
    until("the own password", async || {
        let copied = password(&test, "demo").await?;
        if copied == "iso-copy/demo/server" { Ok(()) } else { Err(copied) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_images_of_others_are_not_used() {
    let test = TestNamespace::new("iso-spy").await;
    let _operator = Operator::plain(&test);
    make_secrets(&test, "victim", "hunter2").await;
    let spy = |name: &str| json!([{ "name": "SPY", "valueFrom": { "secretKeyRef": { "name": name, "key": "uri" } } }]);
    test.create("spy", json!({ "server": { "env": spy("victim-postgres-app") } })).await;
    becomes(&test, "spy", "Stalled", "SecretNotAllowed", "pingpipeline.io/allow-reference=true").await;
    test.change("spy", json!({ "server": { "env": spy("later") } })).await.unwrap();
    becomes(&test, "spy", "Stalled", "SecretMissing", "Create it with the key uri and the label").await;
    set_secret(&test, &test.namespace, "later", json!({ "uri": "hunter2" })).await;
    becomes(&test, "spy", "Stalled", "SecretNotAllowed", "").await;
    test.change("spy", json!({ "server": { "env": [], "image": "evil.test/pingd:1" } })).await.unwrap();
    becomes(&test, "spy", "Stalled", "ImageNotAllowed", "allowedImages").await;
    test.change("spy", json!({ "server": { "image": null, "env": [{ "name": "LD_PRELOAD", "value": "/a.so" }] } }))
        .await
        .unwrap();
    becomes(&test, "spy", "Stalled", "Invalid", "LD_PRELOAD").await;
    assert!(names(&test, Kind::Deployment, &test.namespace).await.is_empty(), "nothing was made");
    set_allowed_secret(&test, "later", json!({ "uri": "mine" })).await;
    test.change("spy", json!({ "server": { "env": spy("later") } })).await.unwrap();
    test.wait_for("spy", "Stalled", "False").await;
}

/// A pipeline in a namespace that the operator does not watch, and a Kafka in one that it may not read.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_of_named_namespaces_leaves_others_alone() {
    let (test, stranger) = (TestNamespace::new("iso-scope").await, TestNamespace::new("iso-scope-not").await);
    let _operator = operator_of(&[&test], "iso-scope-kafka");
    stranger.create("demo", json!({})).await;
    test.create("demo", json!({})).await;
    until("the watched one", async || {
        api(&test, Kind::Deployment, &test.namespace).get_opt("demo-server").await.unwrap().ok_or("none".to_owned())
    })
    .await;
    let status = stranger.pipelines().get("demo").await.unwrap().status;
    assert!(status.is_none(), "{status:?}");
}
