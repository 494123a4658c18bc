//! The pod, Services and Secrets of a Kafka with Strimzi's names and labels. One node is both broker and controller.

use kube::{ResourceExt as _, api::DynamicObject};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::cluster_client::{ClusterClient, owner, restricted};

const IMAGE: &str = "testbed/kafka:4.3.1";
/// The port of the listener without a password. It is on the pod's loopback address, so only the stand-in can use it.
pub(super) const ADMIN_PORT: u16 = 9091;

/// A Kafka and its only node pool.
pub(super) struct Broker<'a> {
    pub(super) kafka: &'a DynamicObject,
    pub(super) pool: &'a DynamicObject,
}

impl Broker<'_> {
    pub(super) fn name(&self) -> String {
        self.kafka.name_any()
    }

    pub(super) fn namespace(&self) -> String {
        self.kafka.namespace().unwrap_or_default()
    }

    /// The name of the StatefulSet, chosen so that its pod has the name that Strimzi would use.
    pub(super) fn set(&self) -> String {
        format!("{}-{}", self.name(), self.pool.name_any())
    }

    pub(super) fn pod(&self) -> String {
        format!("{}-0", self.set())
    }

    pub(super) fn listener_port(&self) -> i64 {
        self.kafka.data.pointer("/spec/kafka/listeners/0/port").and_then(Value::as_i64).unwrap_or(9093)
    }

    pub(super) fn bootstrap(&self) -> String {
        format!("{}-kafka-bootstrap.{}.svc", self.name(), self.namespace())
    }

    fn metadata(&self, name: &str) -> Value {
        json!({ "name": name, "namespace": self.namespace(), "labels": self.labels(), "ownerReferences": [owner(self.kafka)] })
    }

    fn labels(&self) -> Value {
        json!({
            "app.kubernetes.io/managed-by": "strimzi-cluster-operator", "strimzi.io/cluster": self.name(),
            "strimzi.io/kind": "Kafka", "strimzi.io/name": format!("{}-kafka", self.name()),
            "strimzi.io/pool-name": self.pool.name_any(),
        })
    }

    /// Applies all resources of the Kafka and its pool, and returns the StatefulSet.
    pub(super) async fn apply(&self, client: &ClusterClient) -> anyhow::Result<DynamicObject> {
        self.create_certificates(client).await?;
        for (name, headless) in [("brokers", true), ("bootstrap", false)] {
            let name = format!("{}-kafka-{name}", self.name());
            let mut service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": self.metadata(&name),
                "spec": { "selector": self.labels(), "ports": [{ "name": "tcp-clients", "port": self.listener_port() }] },
            });
            if headless {
                service["spec"]["clusterIP"] = json!("None");
                service["spec"]["publishNotReadyAddresses"] = json!(true);
            }
            client.apply(service).await?;
        }
        let config = json!({ "server.properties": self.properties(), "start.sh": START });
        client.apply(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": self.metadata(&self.pod()), "data": config })).await?;
        client.apply(self.network_policy()).await?;
        client.apply(self.stateful_set()).await
    }

    /// Creates the CA and the broker's certificate once. (Strimzi also renews them before they expire.)
    async fn create_certificates(&self, client: &ClusterClient) -> anyhow::Result<()> {
        let secrets = ping_api::kinds::Kind::Secret.api_resource();
        let (ca, broker) = (format!("{}-cluster-ca-cert", self.name()), self.pod());
        if client.get(&secrets, &self.namespace(), &ca).await?.is_some() {
            return Ok(());
        }
        let ca_key = KeyPair::generate()?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "cluster-ca v0");
        let certificate = authority.self_signed(&ca_key)?.pem();
        let brokers = format!("{}.{}-kafka-brokers.{}.svc", self.pod(), self.name(), self.namespace());
        let key = KeyPair::generate()?;
        let signed =
            CertificateParams::new([self.bootstrap(), brokers])?.signed_by(&key, &Issuer::new(authority, ca_key))?;
        let keystore = format!("{}{}", key.serialize_pem(), signed.pem());
        for (name, data) in [(&broker, json!({ "keystore.pem": keystore })), (&ca, json!({ "ca.crt": certificate }))] {
            let metadata = self.metadata(name);
            client
                .apply(json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data }))
                .await?;
        }
        Ok(())
    }

    fn properties(&self) -> String {
        let (port, brokers) = (self.listener_port(), format!("{}-kafka-brokers.{}.svc", self.name(), self.namespace()));
        let mut lines = vec![
            "process.roles=broker,controller\nnode.id=0\ncontroller.quorum.voters=0@127.0.0.1:9090".to_owned(),
            format!("listeners=CONTROLLER://127.0.0.1:9090,ADMIN://127.0.0.1:{ADMIN_PORT},CLIENTS://:{port}"),
            format!("advertised.listeners=ADMIN://127.0.0.1:{ADMIN_PORT},CLIENTS://{}.{brokers}:{port}", self.pod()),
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,ADMIN:PLAINTEXT,CLIENTS:SASL_SSL".into(),
            "controller.listener.names=CONTROLLER\ninter.broker.listener.name=ADMIN".into(),
            "sasl.enabled.mechanisms=SCRAM-SHA-512".into(),
            "listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;".into(),
            "ssl.keystore.type=PEM\nssl.keystore.location=/etc/kafka-certificate/keystore.pem".into(),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS".into(),
            "log.dirs=/var/lib/kafka/data\ngroup.initial.rebalance.delay.ms=0\noffsets.topic.num.partitions=1".into(),
            "transaction.state.log.num.partitions=1".into(),
        ];
        for (name, value) in self.kafka.data["spec"]["kafka"]["config"].as_object().into_iter().flatten() {
            lines.push(format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), Into::into)));
        }
        lines.join("\n")
    }

    /// Like Strimzi's, without the ports for its operators and other brokers, which are on the loopback address here. A listener without peers
    /// admits everyone.
    fn network_policy(&self) -> Value {
        let listener = &self.kafka.data["spec"]["kafka"]["listeners"][0];
        let peers = listener["networkPolicyPeers"].as_array().cloned().unwrap_or_default();
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": self.metadata(&format!("{}-network-policy-kafka", self.name())),
            "spec": {
                "podSelector": { "matchLabels": {
                    "strimzi.io/cluster": self.name(), "strimzi.io/kind": "Kafka", "strimzi.io/name": format!("{}-kafka", self.name()),
                } },
                "policyTypes": ["Ingress"],
                "ingress": [{ "from": peers, "ports": [{ "port": self.listener_port(), "protocol": "TCP" }] }],
            },
        })
    }

    fn stateful_set(&self) -> Value {
        let volume = &self.pool.data["spec"]["storage"]["volumes"][0];
        let delete_claim = volume["deleteClaim"] == json!(true);
        // The name that Strimzi gives to a volume of a JBOD: the operator deletes claims by it.
        let claim = format!("data-{}", volume["id"]);
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": self.metadata(&self.set()),
            "spec": {
                "replicas": 1, "serviceName": format!("{}-kafka-brokers", self.name()),
                "selector": { "matchLabels": self.labels() },
                "persistentVolumeClaimRetentionPolicy": { "whenDeleted": if delete_claim { "Delete" } else { "Retain" }, "whenScaled": "Retain" },
                "template": {
                    "metadata": { "labels": self.labels() },
                    "spec": {
                        "enableServiceLinks": false,
                        "securityContext": {
                            "runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532,
                            "seccompProfile": { "type": "RuntimeDefault" },
                        },
                        "containers": [{
                            "name": "kafka", "image": IMAGE, "command": ["sh", "/etc/kafka/start.sh"],
                            "ports": [{ "name": "tcp-clients", "containerPort": self.listener_port() }],
                            "readinessProbe": { "tcpSocket": { "port": self.listener_port() }, "periodSeconds": 2 },
                            "resources": self.pool.data["spec"]["resources"], "securityContext": restricted(),
                            "volumeMounts": [
                                { "name": claim, "mountPath": "/var/lib/kafka" },
                                { "name": "settings", "mountPath": "/etc/kafka" },
                                { "name": "certificate", "mountPath": "/etc/kafka-certificate" },
                            ],
                        }],
                        "volumes": [
                            { "name": "settings", "configMap": { "name": self.pod() } },
                            { "name": "certificate", "secret": { "secretName": self.pod() } },
                        ],
                    },
                },
                "volumeClaimTemplates": [{
                    "metadata": { "name": claim },
                    "spec": {
                        "accessModes": ["ReadWriteOnce"], "storageClassName": volume["class"],
                        "resources": { "requests": { "storage": volume["size"] } },
                    },
                }],
            },
        })
    }
}

const START: &str = "\
set -eu
export JAVA_TOOL_OPTIONS=
java -Xmx64m -cp '/opt/kafka/libs/*' kafka.tools.StorageTool format --ignore-formatted \\
  -t 4L6g3nShT-eMCtK--X86sw -c /etc/kafka/server.properties
exec java -Xms256m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' kafka.Kafka /etc/kafka/server.properties
";
