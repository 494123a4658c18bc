//! **Test code.** Stand-ins for Strimzi, the Dragonfly operator and a volume provisioner. They implement what ping-operator
//! depends on: they read the objects that it wrote (validated by the real CRD schemas), run a real Kafka and a real Redis, and
//! write the statuses and Secrets that were recorded from the real operators.
//!
//! Each stand-in polls all objects about once a second, which is enough for a single pipeline.

mod cluster_client;
mod dragonfly;
mod kafka;
mod strimzi;
mod volumes;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use self::cluster_client::ClusterClient;

const INTERVAL: Duration = Duration::from_millis(700);

/// Runs the stand-ins in the cluster of `kubeconfig` until cancelled. Volumes are folders in `volumes`.
///
/// # Errors
/// If the kubeconfig is unusable. Later errors are printed, and the failed operation is retried.
pub async fn run(kubeconfig: &Path, volumes: PathBuf) -> anyhow::Result<()> {
    let client = ClusterClient::new(kubeconfig).await?;
    loop {
        let results = tokio::join!(
            volumes::reconcile_all(&client, &volumes),
            dragonfly::reconcile_all(&client),
            strimzi::reconcile_all(&client)
        );
        for (name, result) in [("volumes", results.0), ("dragonfly", results.1), ("strimzi", results.2)] {
            if let Err(error) = result {
                eprintln!("stand-in for {name}: {error:#}");
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
