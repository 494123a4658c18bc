//! `ping-operator run` runs the operator, and `ping-operator crd` prints its CRDs.

use std::{net::SocketAddr, time::Duration};

use clap::{Parser, Subcommand};
use kube::{Config, CustomResourceExt};
use ping_api::{crd::PingPipeline, grant::PingReferenceGrant};
use ping_operator::{
    cluster_state::Platform,
    run::{Settings, run},
    scope::Scope,
};
use ping_runtime::{env, shutdown, telemetry};

/// Returns memory to the system after a burst of reconciles; glibc's allocator keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Operator for PingPipelines.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator, using the current kubeconfig or the in-cluster configuration.
    Run(Box<Run>),
    /// Print a CRD as YAML.
    Crd {
        /// Which CRD.
        #[arg(value_enum, default_value = "pingpipelines")]
        plural: Plural,
    },
}

/// The CRDs, by plural.
#[derive(Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "lower")]
enum Plural {
    PingPipelines,
    PingReferenceGrants,
}

#[derive(Parser)]
struct Run {
    /// Manage the pipelines in this namespace; can be repeated. Default: all namespaces, which needs permissions in the whole cluster.
    #[arg(long)]
    namespace: Vec<String>,
    /// Let pipelines use Kafka clusters in this namespace, if a PingReferenceGrant there allows it; can be repeated.
    #[arg(long, requires = "namespace")]
    reference_namespace: Vec<String>,
    /// Image that pipelines may use besides the default, such as registry.example.test/pingd:*; can be repeated. A star stands for any
    /// characters except a slash.
    #[arg(long)]
    allowed_image: Vec<String>,
    /// Namespace of the operator's pods, from which NetworkPolicies admit it. Default: it runs outside of the cluster.
    #[arg(long)]
    operator_namespace: Option<String>,
    /// Namespace of the CloudNativePG operator, from which NetworkPolicies admit it.
    #[arg(long, default_value = "cnpg-system")]
    cloudnative_pg_namespace: String,
    /// Namespace of the Dragonfly operator, from which NetworkPolicies admit it.
    #[arg(long, default_value = "dragonfly-operator-system")]
    dragonfly_namespace: String,
    /// Namespace of the cluster's DNS, to which NetworkPolicies admit pods.
    #[arg(long, default_value = "kube-system")]
    dns_namespace: String,
    /// Image with pingd, for pipelines that do not set one.
    #[arg(long, default_value = concat!("pingpipeline/pingd:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// URL template for requests to servers, with the placeholders {scheme}, {name}, {namespace}, {service} and {port}. The operator's
    /// token is sent to https:// addresses only.
    #[arg(long, default_value = "{scheme}://{service}.{namespace}.svc:{port}")]
    server_address: String,
    /// Interval between updates of the stats in the status, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    stats_interval_seconds: u64,
    /// Address of the admin port: /healthz, /readyz and /metrics.
    #[arg(long, env = env::ADMIN_LISTEN, default_value = "0.0.0.0:8081")]
    admin_listen: SocketAddr,
    /// Namespace of the Lease for leader election. Default: no leader election.
    #[arg(long)]
    lease_namespace: Option<String>,
    /// Unique name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "ping-operator")]
    identity: String,
    /// Log filter.
    #[arg(long, env = env::LOG, default_value = "info,kube_runtime=warn")]
    log: String,
    /// Log format: text, json or auto (text on a terminal, otherwise json).
    #[arg(long, env = env::LOG_FORMAT, default_value = "auto")]
    log_format: telemetry::LogFormat,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crd { plural } => {
            let crd = match plural {
                Plural::PingPipelines => PingPipeline::crd(),
                Plural::PingReferenceGrants => PingReferenceGrant::crd(),
            };
            print!("{}", yaml_serde::to_string(&crd)?);
            Ok(())
        }
        Command::Run(arguments) => {
            telemetry::init(&arguments.log, arguments.log_format)?;
            let shutdown = shutdown::on_signal()?;
            let config = Config::infer().await?;
            run(config, arguments.settings(), shutdown).await
        }
    }
}

impl Run {
    fn settings(self) -> Settings {
        let scope = match self.namespace.is_empty() {
            true => Scope::Cluster,
            false => Scope::Namespaces {
                watched: self.namespace.into_iter().collect(),
                referenced: self.reference_namespace.into_iter().collect(),
            },
        };
        Settings {
            scope,
            image: self.image,
            platform: Platform {
                allowed_images: self.allowed_image,
                operator_namespace: self.operator_namespace,
                cloudnative_pg_namespace: self.cloudnative_pg_namespace,
                dragonfly_namespace: self.dragonfly_namespace,
                dns_namespace: self.dns_namespace,
            },
            server_address: self.server_address,
            stats_interval: Duration::from_secs(self.stats_interval_seconds),
            admin_listen: self.admin_listen,
            lease_namespace: self.lease_namespace,
            identity: self.identity,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_reference_of_flags_is_current() {
        let introduction = "<!-- Written by `make reference`. -->\n\nThe chart sets these from its values. A flag takes precedence over its \
                            environment variable.";
        let page = ping_testbed::reference::flags(Cli::command().name("ping-operator"), introduction);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/ping-operator.md");
        ping_testbed::reference::is_current(path.as_ref(), &page).unwrap();
    }
}
