//! `ping-operator run` runs the operator, and `ping-operator crd` prints its CRD.

use std::{net::SocketAddr, time::Duration};

use clap::{Parser, Subcommand};
use kube::{Config, CustomResourceExt};
use ping_api::crd::PingPipeline;
use ping_operator::{
    run::{Settings, run},
    watches::Scope,
};
use ping_runtime::{env, shutdown, telemetry};

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
    Run(Run),
    /// Print the CRD as YAML.
    Crd,
}

#[derive(Parser)]
struct Run {
    /// Watch this namespace only. Default: all namespaces.
    #[arg(long)]
    namespace: Option<String>,
    /// Image with pingd, for pipelines that do not set one.
    #[arg(long, default_value = concat!("pingpipeline/pingd:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// URL template for requests to servers, with the placeholders {name}, {namespace}, {service} and {port}.
    #[arg(long, default_value = "http://{service}.{namespace}.svc:{port}")]
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
        Command::Crd => {
            print!("{}", yaml_serde::to_string(&PingPipeline::crd())?);
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
        Settings {
            scope: self.namespace.map_or(Scope::Cluster, Scope::Namespace),
            image: self.image,
            server_address: self.server_address,
            stats_interval: Duration::from_secs(self.stats_interval_seconds),
            admin_listen: self.admin_listen,
            lease_namespace: self.lease_namespace,
            identity: self.identity,
        }
    }
}
