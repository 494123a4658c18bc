//! `pingctl verify`

use std::{io, time::Duration};

use clap::Args;
use ping_client::Client;
use ping_proto::{VerifyRequest, VerifyResponse};

use crate::{
    client::{Server, is_retryable_query},
    exit::Exit,
    output::{self, Format, events, number},
    settings::Settings,
};

/// Timeout unless `--timeout` sets another: the server reads every row.
const DEFAULT_VERIFY_TIMEOUT: Duration = Duration::from_secs(300);

/// Arguments of `pingctl verify`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pingctl verify --admin-addr http://localhost:8081")]
pub(crate) struct VerifyArgs {}

/// Asks the server to recount, and prints the comparison.
pub(crate) async fn run(_: VerifyArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let server = Server::at(&settings.admin_addr(), settings, settings.timeout_or(DEFAULT_VERIFY_TIMEOUT))?;
    let (answer, _) = server.call(&VerifyRequest {}, is_retryable_query, Client::verify).await?;
    match settings.format() {
        Format::Text => print(&answer)?,
        format => output::object(format, &answer)?,
    }
    Ok(if answer.exact { Exit::Success } else { Exit::CheckFailed })
}

fn print(answer: &VerifyResponse) -> io::Result<()> {
    let all = answer.rows + answer.dropped;
    let difference = |count: i64| if count == all { "none".to_owned() } else { number(count - all) };
    let row = |name: &str, count: i64| vec![name.to_owned(), number(count), difference(count)];
    // The cache is read slightly earlier than the rows. Whether that explains a difference, the server says in `exact`.
    let cache = answer.cache_total.map_or_else(
        || vec!["total of the cache".to_owned(), "unavailable".to_owned(), String::new()],
        |total| row("total of the cache", total),
    );
    let mut rows = vec![vec!["rows, recounted".to_owned(), number(answer.rows), String::new()]];
    if answer.dropped > 0 {
        rows.push(vec!["rows dropped by retention".to_owned(), number(answer.dropped), String::new()]);
    }
    rows.extend([
        row("total of the writers", answer.total),
        row("sum of the minutes", answer.minutes_total),
        row("sum of the days", answer.days_total),
        cache,
        vec!["minutes compared with the cache".to_owned(), number(answer.minutes_compared), String::new()],
    ]);
    output::table(&["what", "count", "difference"], rows, &[1, 2])?;
    if answer.dropped > 0 {
        let from = output::time(answer.recountable_from_ms);
        output::line(format!("events since {from} are recounted from their rows alone"))?;
    }
    for difference in &answer.differences {
        output::line(format!("  - {difference}"))?;
    }
    output::line(match answer.differences.len() {
        _ if answer.exact => format!("exact: {}; all counts agree", events(all)),
        1 => "NOT exact: found 1 difference".to_owned(),
        many => format!("NOT exact: found {many} differences"),
    })
}
