//! `pingctl verify`

use std::time::Duration;

use comfy_table::{CellAlignment, Table, TableComponent, presets};
use ping_proto::{VerifyRequest, VerifyResponse};
use serde_json::json;

use crate::{
    args::Global,
    client::{Server, away},
    exit::Exit,
    output::{self, Format, grouped},
};

/// Reading every row takes a while.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Asks the server to recount, and prints the proof.
pub(crate) async fn run(global: &Global) -> anyhow::Result<Exit> {
    let server = Server::new(global, global.timeout_or(TIMEOUT));
    let asked = server.ask(&VerifyRequest {}, away, async |mut client, request| client.verify(request).await).await;
    let (proof, _) = asked?;
    match global.format() {
        Format::Text => print(&proof)?,
        Format::Json => output::line(json!({
            "exact": proof.exact,
            "rows": proof.rows,
            "total": proof.total,
            "minutes_total": proof.minutes_total,
            "days_total": proof.days_total,
            "cache_total": proof.cache_total,
            "minutes_compared": proof.minutes_compared,
            "differences": proof.differences,
        }))?,
    }
    Ok(if proof.exact { Exit::Done } else { Exit::No })
}

fn print(proof: &VerifyResponse) -> std::io::Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["", "counted", "difference"]);
    table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
    let against_rows = |count: i64| if count == proof.rows { "none".to_owned() } else { grouped(count - proof.rows) };
    let cache = proof.cache_total.map_or_else(|| "no answer".to_owned(), grouped);
    // The cache is a moment older than the rows: whether that explains the difference is for `exact` to say.
    let of_cache = proof.cache_total.map_or_else(String::new, against_rows);
    for row in [
        ["rows, one by one".to_owned(), grouped(proof.rows), String::new()],
        ["the writers' total".to_owned(), grouped(proof.total), against_rows(proof.total)],
        ["sum of the minutes".to_owned(), grouped(proof.minutes_total), against_rows(proof.minutes_total)],
        ["sum of the days".to_owned(), grouped(proof.days_total), against_rows(proof.days_total)],
        ["the cache's total".to_owned(), cache, of_cache],
        ["minutes compared with the cache".to_owned(), grouped(proof.minutes_compared), String::new()],
    ] {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    output::line(table)?;
    for difference in &proof.differences {
        output::line(format!("  - {difference}"))?;
    }
    let rows = output::pings(proof.rows);
    output::line(if proof.exact {
        format!("exact: {rows}, and everything agrees")
    } else {
        format!(
            "NOT exact: {} found",
            match proof.differences.len() {
                1 => "1 difference".to_owned(),
                many => format!("{many} differences"),
            }
        )
    })
}
