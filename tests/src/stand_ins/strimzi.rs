//! A stand-in for Strimzi's cluster, topic and user operators with the features that a pipeline needs. Statuses are those of
//! version 1.2.0, as recorded in `shared/captured/strimzi-*.txt`. The pods meet the restricted standard, as with
//! `STRIMZI_POD_SECURITY_PROVIDER_CLASS=restricted`.

use std::collections::HashMap;

use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt as _, api::DynamicObject};
use ping_api::kinds::Kind;
use serde_json::{Value, json};

use super::{
    cluster_client::{ClusterClient, number, owner, text},
    kafka::{ADMIN_PORT, Broker},
};

const FINALIZER: &str = "strimzi.io/topic-operator";
const CLUSTER: &str = "strimzi.io/cluster";

pub(super) async fn reconcile_all(client: &ClusterClient) -> anyhow::Result<()> {
    let pools = client.list(&Kind::KafkaNodePool.api_resource()).await?;
    let kafkas = client.list(&Kind::Kafka.api_resource()).await?;
    let mut ready = HashMap::new();
    for kafka in kafkas.iter().filter(|kafka| kafka.metadata.deletion_timestamp.is_none()) {
        let (name, namespace) = (kafka.name_any(), kafka.namespace());
        let mut own =
            pools.iter().filter(|pool| pool.namespace() == namespace && pool.labels().get(CLUSTER) == Some(&name));
        if let (Some(pool), None) = (own.next(), own.next()) {
            let broker = Broker { kafka, pool };
            if reconcile_kafka(client, &broker).await? {
                ready.insert((namespace, name), broker);
            }
        }
    }
    let broker_of = |object: &DynamicObject| ready.get(&(object.namespace(), object.labels().get(CLUSTER)?.clone()));
    for topic in client.list(&Kind::KafkaTopic.api_resource()).await? {
        if let Some(broker) = broker_of(&topic) {
            reconcile_topic(client, broker, &topic).await?;
        }
    }
    for user in client.list(&Kind::KafkaUser.api_resource()).await? {
        if let Some(broker) = broker_of(&user).filter(|_| user.metadata.deletion_timestamp.is_none()) {
            reconcile_user(client, broker, &user).await?;
        }
    }
    Ok(())
}

/// True if Kafka is ready.
async fn reconcile_kafka(client: &ClusterClient, broker: &Broker<'_>) -> anyhow::Result<bool> {
    let replicas = number(broker.pool, "/spec/replicas");
    anyhow::ensure!(replicas == 1, "{} requests {replicas} nodes, but this stand-in supports one", broker.name());
    let set = broker.apply(client).await?;
    let is_ready = number(&set, "/status/readyReplicas") == 1;
    if is_ready {
        let (address, port) = (broker.bootstrap(), broker.listener_port());
        let listener = json!({
            "name": broker.kafka.data["spec"]["kafka"]["listeners"][0]["name"],
            "bootstrapServers": format!("{address}:{port}"), "addresses": [{ "host": address, "port": port }],
        });
        let mut status = ready(broker.kafka);
        status["listeners"] = json!([listener]);
        status["kafkaVersion"] = json!("4.3.1");
        client.set_status(&Kind::Kafka.api_resource(), broker.kafka, status).await?;
    }
    Ok(is_ready)
}

async fn reconcile_topic(client: &ClusterClient, broker: &Broker<'_>, topic: &DynamicObject) -> anyhow::Result<()> {
    let resource = Kind::KafkaTopic.api_resource();
    let name = match text(topic, "/spec/topicName") {
        name if name.is_empty() => topic.name_any(),
        name => name,
    };
    let has_finalizer = topic.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if topic.metadata.deletion_timestamp.is_some() {
        if has_finalizer {
            admin(client, broker, &tool(TOPICS, &format!("--delete --if-exists --topic {name}"))).await?;
            client.set_finalizers(&resource, topic, &[]).await?;
        }
        return Ok(());
    }
    if !has_finalizer {
        client.set_finalizers(&resource, topic, &[FINALIZER]).await?;
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
    let add_partitions = format!("--alter --topic {name} --partitions {partitions}");
    let configure = format!("--alter --entity-type topics --entity-name {name} --add-config {}", settings.join(","));
    // Kafka rejects a change to the current number of partitions.
    let script = format!(
        "{}\ncase $({}) in *'PartitionCount: {partitions}'*) ;; *) {} ;; esac\n{}",
        tool(TOPICS, &create),
        tool(TOPICS, &format!("--describe --topic {name}")),
        tool(TOPICS, &add_partitions),
        tool(CONFIGS, &configure)
    );
    let status = match admin(client, broker, &script).await {
        Ok(_) => ready(topic),
        Err(error) => {
            let mut condition = condition("Ready", "False");
            condition["reason"] = json!("KafkaError");
            condition["message"] = json!(format!("{error:#}"));
            json!({ "observedGeneration": topic.metadata.generation, "conditions": [condition] })
        }
    };
    client.set_status(&resource, topic, with(status, "topicName", &name)).await
}

async fn reconcile_user(client: &ClusterClient, broker: &Broker<'_>, user: &DynamicObject) -> anyhow::Result<()> {
    let (name, namespace) = (user.name_any(), user.namespace().unwrap_or_default());
    let exists = client.get(&Kind::Secret.api_resource(), &namespace, &name).await?.is_some();
    if exists && user.metadata.generation == Some(number(user, "/status/observedGeneration")) {
        return Ok(());
    }
    // Like the real operator: a deleted Secret is recreated with another password.
    if !exists {
        let password = format!("{:032x}", rand::random::<u128>());
        let scram = format!(
            "--alter --entity-type users --entity-name {name} --add-config SCRAM-SHA-512=[password={password}]"
        );
        admin(client, broker, &tool(CONFIGS, &scram)).await?;
        let jaas = format!(
            "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"{name}\" password=\"{password}\";"
        );
        client
            .apply(json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": { "name": name, "namespace": namespace, "ownerReferences": [owner(user)], "labels": { CLUSTER: broker.name(), "strimzi.io/kind": "KafkaUser" } },
                "stringData": { "password": password, "sasl.jaas.config": jaas },
            }))
            .await?;
    }
    let rules = user.data["spec"]["authorization"]["acls"].as_array().cloned().unwrap_or_default();
    let rules: Vec<String> = rules.iter().map(|rule| tool(ACLS, &acl(&name, rule))).collect();
    admin(client, broker, &rules.join("\n")).await?;
    let status = with(ready(user), "username", &name);
    client.set_status(&Kind::KafkaUser.api_resource(), user, with(status, "secret", &name)).await
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

/// The command line of one of Kafka's own tools in the pod.
fn tool(class: &str, arguments: &str) -> String {
    format!(
        "java -Xmx64m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp '/opt/kafka/libs/*:/opt/kafka/tools/*' {class} --bootstrap-server 127.0.0.1:{ADMIN_PORT} {arguments}"
    )
}

async fn admin(client: &ClusterClient, broker: &Broker<'_>, script: &str) -> anyhow::Result<String> {
    client.execute(&broker.namespace(), &broker.pod(), script).await
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
