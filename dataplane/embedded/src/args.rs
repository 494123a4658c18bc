//! The command line of the embedded mode.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use ping_runtime::env;
use ping_services::{
    SecurityArgs, TraceArgs,
    args::{CountArgs, NameLimitArgs, RetentionArgs, StatusArgs, TransportArgs},
};

/// Settings of the embedded mode.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Address of the API
    #[arg(long, env = env::LISTEN, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Limits of connections and requests.
    #[command(flatten)]
    pub transport: TransportArgs,
    /// Limits of names.
    #[command(flatten)]
    pub names: NameLimitArgs,
    /// TLS and access.
    #[command(flatten)]
    pub security: SecurityArgs,
    /// Keep all data in memory; nothing is persisted
    #[arg(long, env = env::IN_MEMORY, num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    pub memory: bool,
    /// Folder for the database file; acknowledged events survive a crash
    #[arg(long, default_value = ".pingpipeline", conflicts_with = "memory")]
    pub data: PathBuf,
    /// Settings of the projections.
    #[command(flatten)]
    pub count: CountArgs,
    /// Retention of the views.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// The status rule.
    #[command(flatten)]
    pub status: StatusArgs,
    /// Traces.
    #[command(flatten)]
    pub traces: TraceArgs,
}
