//! The custom resource `PingReferenceGrant`, and what grants allow. Pure.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Allows PingPipelines of other namespaces to use objects of the namespace that this grant is in.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "pingpipeline.io",
    version = "v1alpha1",
    kind = "PingReferenceGrant",
    plural = "pingreferencegrants",
    singular = "pingreferencegrant",
    shortname = "prg",
    doc = "A PingReferenceGrant allows PingPipelines of other namespaces to use a Kafka cluster, or topics, of its own namespace. Without a grant, a reference to another namespace is rejected.",
    category = "ping",
    namespaced,
    derive = "PartialEq",
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from[*].namespace"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PingReferenceGrantSpec {
    /// Namespaces whose PingPipelines may use the objects in `to`. Anyone who may create PingPipelines there may then use them.
    #[schemars(length(min = 1, max = 64))]
    pub from: Vec<GrantFrom>,
    /// Objects of this namespace that they may use.
    #[schemars(length(min = 1, max = 64))]
    pub to: Vec<GrantTo>,
}

/// Who may use the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrantFrom {
    /// Name of the namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
}

/// What may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [
    crate::crd::schema::rule("self.kind == 'KafkaTopic' || !has(self.prefix)", "prefix applies to kind KafkaTopic only"),
    crate::crd::schema::rule("self.kind != 'KafkaTopic' || has(self.name) != has(self.prefix)", "a grant for topics needs either a name or a prefix"),
]))]
pub struct GrantTo {
    /// Kind of the objects.
    pub kind: GrantKind,
    /// For kind Kafka: name of the Kafka object; absent: every Kafka of this namespace. For kind KafkaTopic: name of the topic in Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// For kind KafkaTopic: start of the names of the topics in Kafka. Absent: `name` applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub prefix: Option<String>,
}

/// Kinds that a grant can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GrantKind {
    /// A Strimzi Kafka cluster. Pipelines may create topics there whose names start with `<namespace>.<pipeline>.`, and users who can
    /// reach nothing else.
    Kafka,
    /// Topics with other names. They must exist; pipelines read and write them, and never change or delete them.
    KafkaTopic,
}

impl GrantKind {
    /// The kind as written in a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka",
            Self::KafkaTopic => "KafkaTopic",
        }
    }
}

/// True if one of `grants`, all of the namespace of the object, allows pipelines of namespace `from` to use the object.
#[must_use]
pub fn allows(grants: &[PingReferenceGrantSpec], from: &str, kind: GrantKind, name: &str) -> bool {
    let matches = |to: &GrantTo| {
        to.kind == kind
            && match (&to.name, &to.prefix) {
                (Some(only), None) => only == name,
                (None, Some(prefix)) => kind == GrantKind::KafkaTopic && name.starts_with(prefix.as_str()),
                (None, None) => kind == GrantKind::Kafka,
                (Some(_), Some(_)) => false,
            }
    };
    grants
        .iter()
        .any(|grant| grant.from.iter().any(|allowed| allowed.namespace == from) && grant.to.iter().any(matches))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(from: &str, kind: GrantKind, name: Option<&str>, prefix: Option<&str>) -> PingReferenceGrantSpec {
        let to = GrantTo { kind, name: name.map(Into::into), prefix: prefix.map(Into::into) };
        PingReferenceGrantSpec { from: vec![GrantFrom { namespace: from.into() }], to: vec![to] }
    }

    #[test]
    fn a_grant_allows_what_it_names_and_nothing_else() {
        let kafka = [grant("team", GrantKind::Kafka, Some("events"), None)];
        assert!(allows(&kafka, "team", GrantKind::Kafka, "events"));
        for (from, kind, name) in [
            ("team-a", GrantKind::Kafka, "events"),
            ("tea", GrantKind::Kafka, "events"),
            ("", GrantKind::Kafka, "events"),
            ("team", GrantKind::Kafka, "events-2"),
            ("team", GrantKind::KafkaTopic, "events"),
        ] {
            assert!(!allows(&kafka, from, kind, name), "{from} {kind:?} {name}");
        }
        assert!(allows(&[grant("team", GrantKind::Kafka, None, None)], "team", GrantKind::Kafka, "any"));
    }

    #[test]
    fn topics_are_granted_by_name_or_prefix_and_never_all_at_once() {
        let topic = |name, prefix| [grant("team", GrantKind::KafkaTopic, name, prefix)];
        let is_allowed = |grants: &[_], name| allows(grants, "team", GrantKind::KafkaTopic, name);
        assert!(is_allowed(&topic(Some("orders"), None), "orders"));
        assert!(!is_allowed(&topic(Some("orders"), None), "orders.eu"));
        assert!(is_allowed(&topic(None, Some("orders.")), "orders.eu"));
        assert!(!is_allowed(&topic(None, Some("orders.")), "orders"));
        assert!(!is_allowed(&topic(None, None), "orders"));
        assert!(!is_allowed(&topic(Some("orders"), Some("o")), "orders"));
    }
}
