//! **Test code.** What Strimzi, the Dragonfly operator and a volume provisioner would do in a real cluster, as far as our
//! operator depends on it: they read the objects that our operator wrote, checked by the real CRD schemas, run a real Kafka
//! and a real Redis from them, and write the statuses and Secrets that were recorded from the real operators.
//!
//! Each looks at everything about once a second: there is one pipeline, and nothing is missed.

mod dragonfly;
mod kafka;
mod strimzi;
mod volumes;
mod world;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use self::world::World;

const EVERY: Duration = Duration::from_millis(700);

/// Stands in for them, in the cluster of this kubeconfig, until cancelled. Volumes are folders in `volumes`.
///
/// # Errors
/// When the kubeconfig is of no use. What goes wrong later is printed and tried again.
pub async fn run(kubeconfig: &Path, volumes: PathBuf) -> anyhow::Result<()> {
    let world = World::new(kubeconfig).await?;
    loop {
        let passes = tokio::join!(volumes::pass(&world, &volumes), dragonfly::pass(&world), strimzi::pass(&world));
        for (name, outcome) in [("volumes", passes.0), ("dragonfly", passes.1), ("strimzi", passes.2)] {
            if let Err(error) = outcome {
                eprintln!("stand-in for {name}: {error:#}");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
