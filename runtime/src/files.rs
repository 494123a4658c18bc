//! Files that are replaced while a program runs, such as the contents of a Kubernetes Secret.

use std::{path::PathBuf, time::Duration};

use tokio::time::sleep;

/// Pause between two looks at the files. Kubelet replaces a folder behind a symbolic link, which file system events miss.
const INTERVAL: Duration = Duration::from_secs(5);
/// Files that change together are read again after this pause, so that old and new ones are not mixed.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// Files that belong together, and what was last read.
pub struct Watch {
    paths: Vec<PathBuf>,
    last: Result<Vec<Vec<u8>>, String>,
}

impl Watch {
    /// Reads the files, in the order of `paths`.
    ///
    /// # Errors
    /// When one cannot be read. The message names it.
    pub async fn open(paths: Vec<PathBuf>) -> Result<(Self, Vec<Vec<u8>>), String> {
        let contents = read(&paths).await?;
        Ok((Self { paths, last: Ok(contents.clone()) }, contents))
    }

    /// The files.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Waits until a file has another content than before, and returns that of all.
    ///
    /// # Errors
    /// When a file can no longer be read; once for each cause.
    pub async fn changed(&mut self) -> Result<Vec<Vec<u8>>, String> {
        loop {
            sleep(INTERVAL).await;
            let mut now = read(&self.paths).await;
            if now == self.last {
                continue;
            }
            loop {
                sleep(SETTLE_TIME).await;
                let again = read(&self.paths).await;
                if again == now {
                    break;
                }
                now = again;
            }
            // It may have changed back.
            if now != self.last {
                self.last.clone_from(&now);
                return now;
            }
        }
    }
}

async fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let mut contents = Vec::with_capacity(paths.len());
    for path in paths {
        let content = tokio::fs::read(path).await;
        contents.push(content.map_err(|error| format!("cannot read {}: {error}", path.display()))?);
    }
    Ok(contents)
}
