//! Which connections must work: the arrows of the architecture diagram, and nothing else.

/// The ports that anything in the diagram listens on.
pub(crate) const PORTS: [u16; 9] = [53, 5432, 6379, 8000, 8080, 8081, 9093, 9187, 9999];
/// The port of the API server.
pub(crate) const API_SERVER: u16 = 6443;

const SERVERS: &[&str] = &["server", "ingest", "query"];
/// Roles with a policy for what they connect to.
const CONFINED: &[&str] = &["server", "ingest", "query", "processor", "cache", "operator"];
/// Roles with a policy for who connects to them.
const GUARDED: &[&str] = &["server", "ingest", "query", "processor", "postgres", "cache", "kafka", "operator"];

/// kube-router applies all rules of a policy to what its pods receive and to what they send. So the pods of one policy reach each other
/// where only its ingress rules allow it.
const OF_ONE_POLICY: &str = "one policy selects both of them";

/// What the pipeline's spec says about its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policies {
    /// As in the example: everyone may call the servers, and metrics are read in the pipeline's namespace.
    Default,
    /// Only the roles `client` and `prometheus` may call and read metrics.
    Restricted,
    /// The pipeline has none. Those of the operator and of Kafka stay.
    Disabled,
}

/// A pod, or what is like one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) role: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) node: &'a str,
}

/// A row of the table.
pub(crate) struct Flow {
    from: Vec<&'static str>,
    to: &'static [&'static str],
    ports: &'static [u16],
    pub(crate) reason: &'static str,
}

/// Every connection that policies have to allow.
#[rustfmt::skip]
fn flows() -> Vec<Flow> {
    let flow = |from: &[&'static str], to, ports, reason| Flow { from: from.to_vec(), to, ports, reason };
    vec![
        flow(&["client"], SERVERS, &[8080], "a caller records and counts"),
        flow(&["operator"], SERVERS, &[8080], "the operator asks for the count, in either layout of the servers"),
        flow(&["operator"], &["server-of-other"], &[8080], "the operator asks every pipeline in its namespaces"),
        flow(SERVERS, &["postgres"], &[5432], "a server commits events and reads totals"),
        flow(&["server", "ingest"], &["kafka"], &[9093], "a server publishes its outbox"),
        flow(&["server", "query"], &["cache"], &[6379], "a server reads counts"),
        flow(&["processor"], &["kafka"], &[9093], "a processor consumes the log"),
        flow(&["processor"], &["cache"], &[6379], "a processor flushes counters"),
        flow(&["processor"], &["postgres"], &[5432], "a processor flushes views and audits"),
        flow(&["postgres"], &["postgres"], &[5432, 8000], "a standby replicates, and instances ask each other for their status"),
        flow(&["cloudnative-pg"], &["postgres"], &[5432, 8000], "CloudNativePG manages its instances"),
        flow(&["dragonfly-operator"], &["cache"], &[9999], "the Dragonfly operator manages the cache"),
        flow(&["prometheus"], &["server", "ingest", "query", "processor"], &[8081], "Prometheus reads metrics"),
        flow(&["prometheus"], &["postgres"], &[9187], "Prometheus reads metrics"),
        flow(&["next-to-operator"], &["operator"], &[8081], "metrics of the operator are read in its namespace"),
        flow(&["operator"], &["operator"], &[8081], OF_ONE_POLICY),
        flow(CONFINED, &["dns"], &[53], "names are resolved"),
        flow(&["operator"], &["api-server"], &[API_SERVER], "the operator reads and writes objects"),
    ]
}

/// Why a connection has to work; none if it has to fail.
pub(crate) fn why_allowed(policies: Policies, from: Place<'_>, to: Place<'_>, port: u16) -> Option<&'static str> {
    if from.role == "node" && from.node == to.node {
        return Some("the kubelet probes the pods of its node");
    }
    let disabled = policies == Policies::Disabled;
    let confined = CONFINED.contains(&from.role) && (!disabled || from.role == "operator");
    let guarded = GUARDED.contains(&to.role) && (!disabled || ["operator", "kafka"].contains(&to.role));
    if !confined && !guarded {
        return Some("no policy selects either of them");
    }
    if disabled && to.role == "kafka" && port == 9093 && !confined {
        return Some("without peers, the listener admits everyone");
    }
    if policies == Policies::Default && (!confined || from.role == to.role) {
        if SERVERS.contains(&to.role) && port == 8080 {
            return Some(if confined { OF_ONE_POLICY } else { "everyone may call" });
        }
        // Any pod there may be Prometheus.
        let scraped = why_allowed(Policies::Restricted, Place { role: "prometheus", ..from }, to, port).is_some();
        if from.namespace == crate::test_cluster::NAMESPACE && scraped {
            return Some(if confined { OF_ONE_POLICY } else { "metrics are read in the pipeline's namespace" });
        }
        if ["client", "prometheus"].contains(&from.role) {
            return None;
        }
    }
    let row = flows()
        .into_iter()
        .find(|flow| flow.from.contains(&from.role) && flow.to.contains(&to.role) && flow.ports.contains(&port));
    row.map(|flow| flow.reason)
}
