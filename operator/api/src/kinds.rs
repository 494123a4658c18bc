//! All kinds of objects that the operator creates or reads, and the operators that provide their CRDs.

use kube::api::{ApiResource, GroupVersionKind};

/// An API that another operator provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependency {
    /// CloudNativePG: Postgres clusters.
    CloudNativePg,
    /// The Barman Cloud plugin of CloudNativePG: backups.
    BarmanCloud,
    /// Strimzi: Kafka clusters, topics, users.
    Strimzi,
    /// The Dragonfly operator: caches.
    Dragonfly,
    /// The Prometheus operator: PodMonitors. The only optional dependency.
    Prometheus,
}

impl Dependency {
    /// All dependencies.
    pub const ALL: [Self; 5] =
        [Self::CloudNativePg, Self::BarmanCloud, Self::Strimzi, Self::Dragonfly, Self::Prometheus];

    /// Name for messages.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::CloudNativePg => "CloudNativePG",
            Self::BarmanCloud => "the Barman Cloud plugin of CloudNativePG",
            Self::Strimzi => "Strimzi",
            Self::Dragonfly => "the Dragonfly operator",
            Self::Prometheus => "the Prometheus operator",
        }
    }

    /// API group and version.
    #[must_use]
    pub fn group_version(self) -> (&'static str, &'static str) {
        match self {
            Self::CloudNativePg => ("postgresql.cnpg.io", "v1"),
            Self::BarmanCloud => ("barmancloud.cnpg.io", "v1"),
            Self::Strimzi => ("kafka.strimzi.io", "v1"),
            Self::Dragonfly => ("dragonflydb.io", "v1alpha1"),
            Self::Prometheus => ("monitoring.coreos.com", "v1"),
        }
    }

    /// The kinds that the operator uses from this API.
    pub fn kinds(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| kind.dependency() == Some(self))
    }
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of Kubernetes and of the other operators")]
pub enum Kind {
    ServiceAccount,
    Service,
    Secret,
    Deployment,
    StatefulSet,
    PodDisruptionBudget,
    HorizontalPodAutoscaler,
    NetworkPolicy,
    Cluster,
    ScheduledBackup,
    ObjectStore,
    Kafka,
    KafkaNodePool,
    KafkaTopic,
    KafkaUser,
    Dragonfly,
    PodMonitor,
    ConfigMap,
    PingReferenceGrant,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 19] = [
        Self::ServiceAccount,
        Self::Service,
        Self::Secret,
        Self::Deployment,
        Self::StatefulSet,
        Self::PodDisruptionBudget,
        Self::HorizontalPodAutoscaler,
        Self::NetworkPolicy,
        Self::Cluster,
        Self::ScheduledBackup,
        Self::ObjectStore,
        Self::Kafka,
        Self::KafkaNodePool,
        Self::KafkaTopic,
        Self::KafkaUser,
        Self::Dragonfly,
        Self::PodMonitor,
        Self::ConfigMap,
        Self::PingReferenceGrant,
    ];

    /// The dependency that provides this kind; `None` for built-in kinds.
    #[must_use]
    pub fn dependency(self) -> Option<Dependency> {
        match self {
            Self::Cluster | Self::ScheduledBackup => Some(Dependency::CloudNativePg),
            Self::ObjectStore => Some(Dependency::BarmanCloud),
            Self::Kafka | Self::KafkaNodePool | Self::KafkaTopic | Self::KafkaUser => Some(Dependency::Strimzi),
            Self::Dragonfly => Some(Dependency::Dragonfly),
            Self::PodMonitor => Some(Dependency::Prometheus),
            _ => None,
        }
    }

    /// True for kinds that the operator creates. It only reads the others.
    #[must_use]
    pub fn is_created(self) -> bool {
        !matches!(self, Self::StatefulSet | Self::ConfigMap | Self::PingReferenceGrant)
    }

    /// True for kinds of which a pipeline uses objects in another namespace, with a grant there.
    #[must_use]
    pub fn is_shared(self) -> bool {
        matches!(self, Self::Kafka | Self::KafkaTopic | Self::KafkaUser | Self::PingReferenceGrant)
    }

    /// True for kinds of which other objects of a pipeline use one by its name, or by the name of the Secret that its operator makes.
    #[must_use]
    pub fn is_referred_to(self) -> bool {
        matches!(
            self,
            Self::ServiceAccount
                | Self::Secret
                | Self::Deployment
                | Self::Cluster
                | Self::ObjectStore
                | Self::Kafka
                | Self::KafkaUser
                | Self::Dragonfly
        )
    }

    /// True for kinds that hold data. They are never pruned.
    #[must_use]
    pub fn holds_data(self) -> bool {
        matches!(self, Self::Cluster | Self::Kafka | Self::KafkaNodePool | Self::KafkaTopic)
    }

    /// True for kinds that `Retain` keeps on deletion: data and its backups.
    #[must_use]
    pub fn is_retained(self) -> bool {
        self.holds_data() || matches!(self, Self::ObjectStore | Self::ScheduledBackup)
    }

    /// The API resource.
    #[must_use]
    pub fn api_resource(self) -> ApiResource {
        let (group, version, plural) = self.path();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, self.name()), plural)
    }

    /// The kind as written in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::Secret => "Secret",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::Cluster => "Cluster",
            Self::ScheduledBackup => "ScheduledBackup",
            Self::ObjectStore => "ObjectStore",
            Self::Kafka => "Kafka",
            Self::KafkaNodePool => "KafkaNodePool",
            Self::KafkaTopic => "KafkaTopic",
            Self::KafkaUser => "KafkaUser",
            Self::Dragonfly => "Dragonfly",
            Self::PodMonitor => "PodMonitor",
            Self::ConfigMap => "ConfigMap",
            Self::PingReferenceGrant => "PingReferenceGrant",
        }
    }

    /// Group, version and plural.
    #[must_use]
    pub fn path(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "serviceaccounts"),
            Self::Service => ("", "v1", "services"),
            Self::Secret => ("", "v1", "secrets"),
            Self::Deployment => ("apps", "v1", "deployments"),
            Self::StatefulSet => ("apps", "v1", "statefulsets"),
            Self::PodDisruptionBudget => ("policy", "v1", "poddisruptionbudgets"),
            Self::HorizontalPodAutoscaler => ("autoscaling", "v2", "horizontalpodautoscalers"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "networkpolicies"),
            Self::Cluster => ("postgresql.cnpg.io", "v1", "clusters"),
            Self::ScheduledBackup => ("postgresql.cnpg.io", "v1", "scheduledbackups"),
            Self::ObjectStore => ("barmancloud.cnpg.io", "v1", "objectstores"),
            Self::Kafka => ("kafka.strimzi.io", "v1", "kafkas"),
            Self::KafkaNodePool => ("kafka.strimzi.io", "v1", "kafkanodepools"),
            Self::KafkaTopic => ("kafka.strimzi.io", "v1", "kafkatopics"),
            Self::KafkaUser => ("kafka.strimzi.io", "v1", "kafkausers"),
            Self::Dragonfly => ("dragonflydb.io", "v1alpha1", "dragonflies"),
            Self::PodMonitor => ("monitoring.coreos.com", "v1", "podmonitors"),
            Self::ConfigMap => ("", "v1", "configmaps"),
            Self::PingReferenceGrant => ("pingpipeline.io", "v1alpha1", "pingreferencegrants"),
        }
    }
}

/// One object: kind, namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The object `name` of `kind` in `namespace`.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}
