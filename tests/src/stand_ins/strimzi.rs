//! Strimzi: its cluster operator, topic operator and user operator, as far as a pipeline needs them. Statuses are those of
//! version 1.2.0, as recorded in `shared/captured/strimzi-*.txt`; the pods meet the restricted standard, as they do under
//! `STRIMZI_POD_SECURITY_PROVIDER_CLASS=restricted`.

use std::collections::HashMap;

use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt as _, api::DynamicObject};
use ping_api::kinds::Kind;
use serde_json::{Value, json};

use super::{
    kafka::{ADMIN_PORT, Broker},
    world::{World, number, owner, text},
};

const FINALIZER: &str = "strimzi.io/topic-operator";
const CLUSTER: &str = "strimzi.io/cluster";

pub(super) async fn pass(world: &World) -> anyhow::Result<()> {
    let pools = world.list(&Kind::KafkaNodePool.api_resource()).await?;
    let kafkas = world.list(&Kind::Kafka.api_resource()).await?;
    let mut ready = HashMap::new();
    for kafka in kafkas.iter().filter(|kafka| kafka.metadata.deletion_timestamp.is_none()) {
        let (name, namespace) = (kafka.name_any(), kafka.namespace());
        let mut own =
            pools.iter().filter(|pool| pool.namespace() == namespace && pool.labels().get(CLUSTER) == Some(&name));
        if let (Some(pool), None) = (own.next(), own.next()) {
            let broker = Broker { kafka, pool };
            if run(world, &broker).await? {
                ready.insert((namespace, name), broker);
            }
        }
    }
    let broker_of = |object: &DynamicObject| ready.get(&(object.namespace(), object.labels().get(CLUSTER)?.clone()));
    for topic in world.list(&Kind::KafkaTopic.api_resource()).await? {
        if let Some(broker) = broker_of(&topic) {
            topic_pass(world, broker, &topic).await?;
        }
    }
    for user in world.list(&Kind::KafkaUser.api_resource()).await? {
        if let Some(broker) = broker_of(&user).filter(|_| user.metadata.deletion_timestamp.is_none()) {
            user_pass(world, broker, &user).await?;
        }
    }
    Ok(())
}

/// True if it serves.
async fn run(world: &World, broker: &Broker<'_>) -> anyhow::Result<bool> {
    let replicas = number(broker.pool, "/spec/replicas");
    anyhow::ensure!(replicas == 1, "{} wants {replicas} nodes: this stand-in has one", broker.name());
    let set = broker.apply(world).await?;
    let serves = number(&set, "/status/readyReplicas") == 1;
    if serves {
        let (address, port) = (broker.bootstrap(), broker.listener_port());
        let listener = json!({
            "name": broker.kafka.data["spec"]["kafka"]["listeners"][0]["name"],
            "bootstrapServers": format!("{address}:{port}"), "addresses": [{ "host": address, "port": port }],
        });
        let mut status = ready(broker.kafka);
        status["listeners"] = json!([listener]);
        status["kafkaVersion"] = json!("4.3.1");
        world.set_status(&Kind::Kafka.api_resource(), broker.kafka, status).await?;
    }
    Ok(serves)
}

async fn topic_pass(world: &World, broker: &Broker<'_>, topic: &DynamicObject) -> anyhow::Result<()> {
    let resource = Kind::KafkaTopic.api_resource();
    let name = match text(topic, "/spec/topicName") {
        name if name.is_empty() => topic.name_any(),
        name => name,
    };
    let mine = topic.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if topic.metadata.deletion_timestamp.is_some() {
        if mine {
            admin(world, broker, &tool(TOPICS, &format!("--delete --if-exists --topic {name}"))).await?;
            world.set_finalizers(&resource, topic, &[]).await?;
        }
        return Ok(());
    }
    if !mine {
        world.set_finalizers(&resource, topic, &[FINALIZER]).await?;
    }
    if topic.metadata.generation == Some(number(topic, "/status/observedGeneration")) {
        return Ok(());
    }
    let (partitions, replicas) = (number(topic, "/spec/partitions"), number(topic, "/spec/replicas"));
    let settings: Vec<String> = topic.data["spec"]["config"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), Into::into)))
        .collect();
    let create =
        format!("--create --if-not-exists --topic {name} --partitions {partitions} --replication-factor {replicas}");
    let grow = format!("--alter --topic {name} --partitions {partitions}");
    let configure = format!("--alter --entity-type topics --entity-name {name} --add-config {}", settings.join(","));
    // Kafka refuses to "grow" to the number that there is.
    let script = format!(
        "{}\ncase $({}) in *'PartitionCount: {partitions}'*) ;; *) {} ;; esac\n{}",
        tool(TOPICS, &create),
        tool(TOPICS, &format!("--describe --topic {name}")),
        tool(TOPICS, &grow),
        tool(CONFIGS, &configure)
    );
    let status = match admin(world, broker, &script).await {
        Ok(_) => ready(topic),
        Err(error) => {
            let mut condition = condition("Ready", "False");
            condition["reason"] = json!("KafkaError");
            condition["message"] = json!(format!("{error:#}"));
            json!({ "observedGeneration": topic.metadata.generation, "conditions": [condition] })
        }
    };
    world.set_status(&resource, topic, with(status, "topicName", &name)).await
}

async fn user_pass(world: &World, broker: &Broker<'_>, user: &DynamicObject) -> anyhow::Result<()> {
    let (name, namespace) = (user.name_any(), user.namespace().unwrap_or_default());
    let there = world.get(&Kind::Secret.api_resource(), &namespace, &name).await?.is_some();
    if there && user.metadata.generation == Some(number(user, "/status/observedGeneration")) {
        return Ok(());
    }
    // As the real one: a Secret that somebody deleted comes back with another password.
    if !there {
        let password = format!("{:032x}", rand::random::<u128>());
        let scram = format!(
            "--alter --entity-type users --entity-name {name} --add-config SCRAM-SHA-512=[password={password}]"
        );
        admin(world, broker, &tool(CONFIGS, &scram)).await?;
        let jaas = format!(
            "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{name}\" password=\"{password}\";"
        );
        world
            .apply(json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": { "name": name, "namespace": namespace, "ownerReferences": [owner(user)], "labels": { CLUSTER: broker.name(), "strimzi.io/kind": "KafkaUser" } },
                "stringData": { "password": password, "sasl.jaas.config": jaas },
            }))
            .await?;
    }
    let rules = user.data["spec"]["authorization"]["acls"].as_array().cloned().unwrap_or_default();
    let rules: Vec<String> = rules.iter().map(|rule| tool(ACLS, &acl(&name, rule))).collect();
    admin(world, broker, &rules.join("\n")).await?;
    let status = with(ready(user), "username", &name);
    world.set_status(&Kind::KafkaUser.api_resource(), user, with(status, "secret", &name)).await
}

fn acl(user: &str, rule: &Value) -> String {
    let resource = &rule["resource"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let on = match word(&resource["type"]).as_str() {
        "cluster" => "--cluster".to_owned(),
        kind => format!("--{kind} {}", word(&resource["name"])),
    };
    let operations = rule["operations"].as_array().cloned().unwrap_or_default();
    let operations: String = operations.iter().map(|operation| format!(" --operation {}", word(operation))).collect();
    format!("--add --force --allow-principal User:{user} {on}{operations}")
}

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const ACLS: &str = "org.apache.kafka.tools.AclCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";

/// A line that runs one of Kafka's own tools in the pod.
fn tool(class: &str, arguments: &str) -> String {
    format!(
        "java -Xmx64m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '/opt/kafka/libs/*:/opt/kafka/tools/*' {class} --bootstrap-server 127.0.0.1:{ADMIN_PORT} {arguments}"
    )
}

async fn admin(world: &World, broker: &Broker<'_>, script: &str) -> anyhow::Result<String> {
    world.execute(&broker.namespace(), &broker.pod(), script).await
}

fn ready(object: &DynamicObject) -> Value {
    json!({ "observedGeneration": object.metadata.generation, "conditions": [condition("Ready", "True")] })
}

fn condition(kind: &str, status: &str) -> Value {
    json!({ "type": kind, "status": status, "lastTransitionTime": Timestamp::now().to_string() })
}

fn with(mut status: Value, name: &str, value: &str) -> Value {
    status[name] = json!(value);
    status
}
