//! Peers, rules and ports of NetworkPolicies.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::super::metadata::selector;

/// Label of a namespace with its name. The API server sets it, and no one can change it.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Every pod in the namespaces with these labels.
pub(super) fn namespaces(labels: &BTreeMap<String, String>) -> NetworkPolicyPeer {
    NetworkPolicyPeer { namespace_selector: Some(selector(labels.clone())), ..NetworkPolicyPeer::default() }
}

/// Every pod in one namespace.
pub(super) fn namespace(name: &str) -> NetworkPolicyPeer {
    namespaces(&[(NAMESPACE_NAME.to_owned(), name.to_owned())].into())
}

/// Pods in one namespace.
pub(super) fn in_namespace(name: &str, pods: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(pods), ..namespace(name) }
}

/// Pods in the namespace of the policy.
pub(super) fn pods(pods: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(pods), ..NetworkPolicyPeer::default() }
}

pub(super) fn from(peers: Vec<NetworkPolicyPeer>, ports: &[i32]) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule { from: Some(peers), ports: Some(ports.iter().map(|port| tcp(*port)).collect()) }
}

pub(super) fn to(peer: NetworkPolicyPeer, ports: &[i32]) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { to: Some(vec![peer]), ports: Some(ports.iter().map(|port| tcp(*port)).collect()) }
}

/// Any address, for components outside of the cluster.
pub(super) fn to_any(port: i32) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule { to: None, ports: Some(vec![tcp(port)]) }
}

pub(super) fn tcp(number: i32) -> NetworkPolicyPort {
    port("TCP", number)
}

pub(super) fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort { port: Some(IntOrString::Int(number)), protocol: Some(protocol.into()), end_port: None }
}
