//! Names and labels of all objects that belong to a pipeline. Pure functions of the pipeline's name and namespace.

use std::collections::BTreeMap;

use crate::{
    crd::{PingPipeline, SecretKey, kafka::KafkaClusterRef},
    kinds::{Key, Kind},
};

/// Field manager of the operator, and the value of `app.kubernetes.io/managed-by`.
pub const OPERATOR: &str = "ping-operator";
/// Label: name of the pipeline that an object belongs to.
pub const PIPELINE_LABEL: &str = "pingpipeline.io/pipeline";
/// Label: namespace of the pipeline that an object belongs to.
pub const NAMESPACE_LABEL: &str = "pingpipeline.io/namespace";
/// Label: the component that an object belongs to, such as `server`.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Annotation: fingerprint of the manifest that was last applied.
pub const APPLIED_ANNOTATION: &str = "pingpipeline.io/applied";
/// Annotation of pod templates: fingerprint of the Secrets that the pods read at startup.
pub const SECRETS_ANNOTATION: &str = "pingpipeline.io/secrets";
/// Annotation of a PingPipeline: `true` removes Strimzi's finalizer from topics whose deletion is blocked.
pub const FORCE_ANNOTATION: &str = "pingpipeline.io/force-delete";
/// Finalizer of a PingPipeline.
pub const FINALIZER: &str = "pingpipeline.io/teardown";

/// Names of the objects of one pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline's namespace.
    pub namespace: String,
}

impl Names {
    /// The names for `pipeline`.
    #[must_use]
    pub fn of(pipeline: &PingPipeline) -> Self {
        Self {
            pipeline: pipeline.metadata.name.clone().unwrap_or_default(),
            namespace: pipeline.metadata.namespace.clone().unwrap_or_default(),
        }
    }

    /// `<pipeline>-<part>`.
    #[must_use]
    pub fn part(&self, part: &str) -> String {
        format!("{}-{part}", self.pipeline)
    }

    /// The CloudNativePG cluster; its Services' names start with it.
    #[must_use]
    pub fn postgres(&self) -> String {
        self.part("postgres")
    }

    /// The Secret key to which CloudNativePG writes the connection URI.
    #[must_use]
    pub fn postgres_uri(&self) -> SecretKey {
        SecretKey { name: self.part("postgres-app"), key: "uri".into() }
    }

    /// The pipeline's own Strimzi Kafka cluster.
    #[must_use]
    pub fn kafka(&self) -> String {
        self.part("kafka")
    }

    /// Prefix of the names of topics and users. In a shared Kafka cluster it includes the namespace.
    #[must_use]
    pub fn kafka_prefix(&self, reference: Option<&KafkaClusterRef>) -> String {
        match reference {
            Some(_) => format!("{}-{}", self.namespace, self.pipeline),
            None => self.pipeline.clone(),
        }
    }

    /// The Secret in the pipeline's namespace that holds the Kafka credentials of `role` (`server` or `processor`).
    #[must_use]
    pub fn kafka_credentials(&self, role: &str) -> String {
        self.part(&format!("kafka-{role}"))
    }

    /// The Secret in the pipeline's namespace that holds a copy of the CA of a Kafka cluster in another namespace.
    #[must_use]
    pub fn kafka_ca_copy(&self) -> String {
        self.part("kafka-ca")
    }

    /// The Dragonfly and its Service.
    #[must_use]
    pub fn cache(&self) -> String {
        self.part("cache")
    }

    /// Labels by which the operator finds the objects of this pipeline.
    #[must_use]
    pub fn ownership(&self) -> BTreeMap<String, String> {
        [(PIPELINE_LABEL.to_owned(), self.pipeline.clone()), (NAMESPACE_LABEL.to_owned(), self.namespace.clone())]
            .into()
    }

    /// Labels of an object of `component`, including the labels that Kubernetes recommends.
    #[must_use]
    pub fn labels(&self, component: &str) -> BTreeMap<String, String> {
        let mut labels = self.ownership();
        labels.extend(
            [
                ("app.kubernetes.io/name", "ping"),
                ("app.kubernetes.io/instance", self.pipeline.as_str()),
                (COMPONENT_LABEL, component),
                ("app.kubernetes.io/part-of", "pingpipeline"),
                ("app.kubernetes.io/managed-by", OPERATOR),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        labels
    }

    /// Labels that select the pods of `component`. They never change.
    #[must_use]
    pub fn selector(&self, component: &str) -> BTreeMap<String, String> {
        let mut labels = self.instance();
        labels.insert(COMPONENT_LABEL.into(), component.into());
        labels
    }

    /// Labels that select the pods of servers and processors.
    #[must_use]
    pub fn instance(&self) -> BTreeMap<String, String> {
        [("app.kubernetes.io/name", "ping"), ("app.kubernetes.io/instance", self.pipeline.as_str())]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    /// The object of `kind` called `name` in the pipeline's namespace.
    #[must_use]
    pub fn key(&self, kind: Kind, name: impl Into<String>) -> Key {
        Key::new(kind, self.namespace.clone(), name)
    }
}
