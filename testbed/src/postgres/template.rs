//! A data folder created by `initdb`, once per Postgres version, and copied for each start.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::process::Command;

use super::user;
use crate::{folder::Folder, tools};

/// Part of the template's name. Increase it whenever this module changes the template.
const REVISION: u32 = 1;

/// The template's folder. Creates the template if there is none yet.
pub(super) async fn ready() -> anyhow::Result<PathBuf> {
    let programs = programs()?;
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
    let printed = tools::run(Command::new(programs.join("postgres")).arg("--version")).await?;
    let version = printed.split_whitespace().nth(2).context("postgres --version prints no version")?;
    let cache = tools::cache_folder()?;
    let template = cache.join(format!("postgres-{version}-data-{REVISION}"));
    if !template.exists() {
        fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        create(&programs, &cache, &template).await?;
    }
    Ok(template)
}

async fn create(programs: &Path, cache: &Path, template: &Path) -> anyhow::Result<()> {
    // Not in the cache because the user `postgres` has no access to our home.
    let work = Folder::create("initdb")?;
    if let Some(user) = user() {
        tools::run(Command::new("chown").arg(format!("{user}:")).arg(work.path())).await?;
    }
    let data = work.path().join("data");
    let mut initdb = as_user(&programs.join("initdb"), work.path());
    initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]);
    tools::run(initdb.arg(&data)).await?;
    let statements = "CREATE ROLE ping LOGIN;\nCREATE DATABASE ping OWNER ping;\n";
    let script = work.path().join("ping.sql");
    fs::write(&script, statements)?;
    // Single-user mode reads one statement per line from its input and needs no server.
    let mut shell = as_user(Path::new("sh"), work.path());
    shell.args(["-c", "exec \"$0\" --single -D data postgres < ping.sql"]).arg(programs.join("postgres"));
    tools::run(&mut shell).await?;
    // Renamed only when complete. If another process was faster, its template is used.
    let partial = tempfile::Builder::new().prefix("postgres-partial-").tempdir_in(cache)?;
    tools::run(Command::new("cp").arg("-a").arg(&data).arg(partial.path())).await?;
    match fs::rename(partial.path().join("data"), template) {
        Err(_) if template.exists() => Ok(()),
        renamed => renamed.with_context(|| format!("cannot create {}", template.display())),
    }
}

pub(super) fn as_user(program: &Path, folder: &Path) -> Command {
    let mut command = match user() {
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", user, "--init-groups"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.current_dir(folder);
    command
}

/// Names the folder of the programs of another Postgres than the newest that is installed: `make versions`.
const PROGRAMS: &str = "PING_TESTBED_POSTGRES";

/// The folder of the Postgres programs. Debian keeps `initdb` and `postgres` off PATH, in a folder per version.
pub(super) fn programs() -> anyhow::Result<PathBuf> {
    if let Some(programs) = env::var_os(PROGRAMS) {
        return Ok(programs.into());
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs)| tools::is_program(&programs.join("initdb")))
        .max();
    if let Some((_, programs)) = newest {
        return Ok(programs);
    }
    let initdb = tools::on_path("initdb")?;
    // If `initdb` is a link, the other programs are next to its target.
    let initdb = initdb.canonicalize()?;
    Ok(initdb.parent().context("initdb has no parent folder")?.to_owned())
}
