//! What of a Postgres is on a volume of its own.

use std::{os::unix::fs::symlink, path::Path};

use tokio::process::Command;

use super::user;
use crate::{tools, volume::Volume};

/// What is on the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeContent {
    /// Everything.
    All,
    /// Everything but the write-ahead log.
    Data,
    /// The write-ahead log only.
    Wal,
}

impl VolumeContent {
    /// The folder below the folder of the instance.
    fn folder(self) -> &'static str {
        match self {
            Self::All | Self::Data => "data",
            Self::Wal => "data/pg_wal",
        }
    }

    /// Moves what belongs on the volume to a new one of `mebibytes`. `instance` is the folder with the folder `data`.
    pub(super) async fn mount(self, instance: &Path, mebibytes: u32) -> anyhow::Result<Volume> {
        let target = instance.join(self.folder());
        let volume = Volume::mount(&target, &instance.join("aside"), mebibytes, user()).await?;
        if self == Self::Data {
            // Postgres follows a link, as it does if `initdb` is told where the log is.
            let (log, elsewhere) = (target.join("pg_wal"), instance.join("pg_wal"));
            tools::run(Command::new("mv").arg(&log).arg(&elsewhere)).await?;
            symlink(&elsewhere, &log)?;
        }
        Ok(volume)
    }
}
