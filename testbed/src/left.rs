//! Parts that outlive the program that started them: `testbed up` and `testbed down`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::{kafka::Compiler, parts::Parts, pid::Pid, process::FAREWELL, tools};

/// What is noted about parts that were left running.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    env: Vec<(String, String)>,
    parts: Vec<Left>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Left {
    name: String,
    pid: Pid,
    folder: PathBuf,
}

/// The folder that holds the note unless another is asked for.
pub fn default_folder() -> anyhow::Result<PathBuf> {
    Ok(tools::state_folder()?.join("parts"))
}

/// Starts the parts, leaves them running and returns their environment. Parts that run already stay as they are.
pub async fn up(folder: &Path, compiler: Compiler) -> anyhow::Result<Vec<(String, String)>> {
    if let Some(note) = read(folder)? {
        if let Some(part) = note.parts.iter().find(|part| !part.pid.is_running()) {
            bail!("{} does not run any more: `testbed down` clears the rest away", part.name);
        }
        return Ok(note.env);
    }
    // Checked before anything starts: parts without a note would run for ever.
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let parts = Parts::start_to_leave(compiler).await?;
    let env = parts.env().map(|(name, value)| (name.to_owned(), value)).to_vec();
    let Parts { postgres, kafka, redis } = parts;
    let left = [("Postgres", postgres.leave()), ("Kafka", kafka.leave()), ("Redis", redis.leave())];
    let mut note = Note { env, parts: Vec::new() };
    for (name, (pid, folder)) in left {
        let pid = pid.with_context(|| format!("{name} ended"))?;
        note.parts.push(Left { name: name.to_owned(), pid, folder });
    }
    fs::write(file(folder), serde_json::to_vec_pretty(&note)?)?;
    Ok(note.env)
}

/// Ends the parts that were left running and removes their data; says whether there were any.
pub fn down(folder: &Path) -> anyhow::Result<bool> {
    let Some(note) = read(folder)? else { return Ok(false) };
    for part in &note.parts {
        if part.name == "Postgres" {
            // "Immediate shutdown" gives its shared memory back.
            part.pid.signal(Signal::QUIT);
            part.pid.ends_within(FAREWELL);
        }
        part.pid.kill_tree()?;
        remove(&part.folder)?;
    }
    fs::remove_file(file(folder))?;
    // Only if nothing else lies in it: with `--dir` it may be anybody's folder.
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

fn read(folder: &Path) -> anyhow::Result<Option<Note>> {
    let file = file(folder);
    match fs::read(&file) {
        Ok(bytes) => {
            Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("unreadable: {}", file.display()))?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("parts.json")
}
