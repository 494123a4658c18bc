//! Parts that keep running after the program that started them has ended: `testbed up` and `testbed down`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::{kafka::Compiler, parts::Parts, pid::Pid, process::SHUTDOWN_TIMEOUT, tools};

/// What `up` records for `down`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    env: Vec<(String, String)>,
    parts: Vec<DetachedPart>,
}

#[derive(Debug, Serialize, Deserialize)]
struct DetachedPart {
    name: String,
    pid: Pid,
    folder: PathBuf,
}

/// The default folder of the record.
pub fn default_folder() -> anyhow::Result<PathBuf> {
    Ok(tools::state_folder()?.join("parts"))
}

/// Starts the parts in the background and returns their environment. Parts that already run are left alone.
pub async fn up(folder: &Path, compiler: Compiler) -> anyhow::Result<Vec<(String, String)>> {
    if let Some(record) = read(folder)? {
        if let Some(part) = record.parts.iter().find(|part| !part.pid.is_running()) {
            bail!("{} has stopped; remove the other parts with `testbed down`", part.name);
        }
        return Ok(record.env);
    }
    // Created before anything starts, because nothing would stop parts that are not recorded.
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let parts = Parts::start_detached(compiler).await?;
    let env = parts.env().map(|(name, value)| (name.to_owned(), value)).to_vec();
    let Parts { postgres, kafka, redis } = parts;
    let detached = [("Postgres", postgres.detach()), ("Kafka", kafka.detach()), ("Redis", redis.detach())];
    let mut record = Record { env, parts: Vec::new() };
    for (name, (pid, folder)) in detached {
        let pid = pid.with_context(|| format!("{name} ended"))?;
        record.parts.push(DetachedPart { name: name.to_owned(), pid, folder });
    }
    fs::write(file(folder), serde_json::to_vec_pretty(&record)?)?;
    Ok(record.env)
}

/// Stops the parts that `up` started and deletes their data; false if there are none.
pub fn down(folder: &Path) -> anyhow::Result<bool> {
    let Some(record) = read(folder)? else { return Ok(false) };
    for part in &record.parts {
        if part.name == "Postgres" {
            // Postgres releases its shared memory on an "immediate shutdown", but not when it is killed.
            part.pid.signal(Signal::QUIT);
            part.pid.wait_for_exit(SHUTDOWN_TIMEOUT);
        }
        part.pid.kill_tree()?;
        remove(&part.folder)?;
    }
    fs::remove_file(file(folder))?;
    // Succeeds only if the folder is empty; with `--dir` it may contain other files.
    let _ = fs::remove_dir(folder);
    Ok(true)
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn read(folder: &Path) -> anyhow::Result<Option<Record>> {
    let file = file(folder);
    match fs::read(&file) {
        Ok(bytes) => {
            Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("cannot parse {}", file.display()))?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("parts.json")
}
