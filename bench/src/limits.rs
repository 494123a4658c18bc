//! Measures the limits of Postgres on this machine, for comparison in the same run.

use std::fmt::Write as _;

use anyhow::{Context, ensure};
use ping_testbed::Postgres;
use tokio::process::Command;

use crate::report::Report;

const TABLE: &str =
    "CREATE TABLE limit_rows (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), at timestamptz DEFAULT now())";
const ONE: &str = "INSERT INTO limit_rows DEFAULT VALUES;\n";
const THOUSAND: &str = "INSERT INTO limit_rows SELECT FROM generate_series(1, 1000);\n";

pub(crate) async fn measure(report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let postgres = Postgres::start().await?;
    let created = Command::new("psql").args([&postgres.url(), "-qc", TABLE]).output().await?;
    ensure!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let one = pgbench(&postgres.url(), ONE, 64, seconds).await?;
    report.add("limit: Postgres, one INSERT per commit, 64 clients", one, "commits/s");
    let thousand = pgbench(&postgres.url(), THOUSAND, 2, seconds).await? * 1_000.0;
    report.add("limit: Postgres, 1,000 rows per commit, random ids, 2 clients", thousand, "rows/s");
    Ok(())
}

/// Runs a script with pgbench; its transactions per second.
async fn pgbench(url: &str, script: &str, clients: u32, seconds: u64) -> anyhow::Result<f64> {
    let file = std::env::temp_dir().join(format!("ping-bench-{}.sql", std::process::id()));
    std::fs::write(&file, script)?;
    let mut program = String::from("pgbench");
    if let Ok(entries) = std::fs::read_dir("/usr/lib/postgresql") {
        for entry in entries.flatten() {
            let candidate = entry.path().join("bin/pgbench");
            if candidate.exists() {
                program.clear();
                write!(program, "{}", candidate.display())?;
            }
        }
    }
    let output = Command::new(program)
        .args(["-n", "-M", "prepared", "-j", "1", "-c", &clients.to_string(), "-T", &seconds.to_string(), "-f"])
        .arg(&file)
        .arg(url)
        .output()
        .await?;
    std::fs::remove_file(&file)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    let line =
        text.lines().find_map(|line| line.strip_prefix("tps = ")).context("the output of pgbench contains no tps")?;
    Ok(line.split(' ').next().unwrap_or_default().parse()?)
}
