//! What an answer, or its absence, says about HTTP, the caller, and the counts.

use ping_proto::{ComponentState, PingCountResponse, WatchResponse};

use crate::{
    exit::Exit,
    failure::Failure,
    output::{self, grouped},
    settings::Settings,
    time::Millis,
};

use super::report::{Finding, Report, Step};

/// A count older than this is not fresh: it is usually some tens of milliseconds old.
const MAX_LAG_MS: Millis = 10_000;
/// Servers refuse times a day ahead, and counts of the last minutes are wrong long before that.
const MAX_CLOCK_DIFFERENCE_MS: Millis = 5_000;

/// Adds what the first message of a stream says. None: a step failed.
pub(super) fn add_steps(
    answer: &Result<WatchResponse, Failure>,
    settings: &Settings,
    now: Millis,
    report: &mut Report,
) -> Option<()> {
    let code = answer.as_ref().err().map(|failure| failure.code);
    let failure = || answer.as_ref().err().cloned();
    report.add(
        Step::Http,
        match failure().filter(|_| !has_answered(code)) {
            Some(failure) => Err(failure),
            None => Ok(Finding::ok("the API answers", ())),
        },
    )?;
    report.add(
        Step::Authentication,
        match failure().filter(|_| code == Some("unauthenticated")) {
            Some(failure) => Err(failure),
            None => Ok(Finding::ok(caller(settings), ())),
        },
    )?;
    let ask = "ask for the permission `read` in the server's access policy";
    report.add(
        Step::Permission,
        match failure().filter(|_| code == Some("permission_denied")) {
            Some(failure) => Err(failure.with_fix(ask)),
            None => Ok(Finding::ok("may read counts", ())),
        },
    )?;
    report.add(
        Step::Freshness,
        match answer {
            Ok(message) => freshness(message, now),
            Err(failure) => Err(failure.clone()),
        },
    )
}

/// Whether the code is one that the API itself gives, to a caller whose request it understood.
fn has_answered(code: Option<&str>) -> bool {
    let of_api =
        ["unauthenticated", "permission_denied", "failed_precondition", "resource_exhausted", "invalid_argument"];
    code.is_none_or(|code| of_api.contains(&code))
}

fn caller(settings: &Settings) -> String {
    let connection = settings.connection();
    if connection.token_file.is_some() || connection.token_command.is_some() || connection.cert.is_some() {
        return "the credentials are accepted".to_owned();
    }
    "no credentials, and none are needed to read".to_owned()
}

/// Whether the count is current, and the clocks agree.
fn freshness(message: &WatchResponse, now: Millis) -> Result<Finding<()>, Failure> {
    let nothing = PingCountResponse::default();
    let count = message.count.as_option().unwrap_or(&nothing);
    let (database, cache) = (message.database.as_known(), message.cache.as_known());
    let detail = format!(
        "{}, lag {} ms, {}, database {}, cache {}",
        output::events(count.ping_count),
        grouped(count.lag_ms),
        if count.exact { "exact" } else { "approximate" },
        output::component(database),
        output::component(cache)
    );
    if database == Some(ComponentState::Unavailable) {
        let fix =
            "events are refused until the database responds: look at its condition in the PingPipeline, or at its log";
        return Err(stale(detail, fix));
    }
    if !count.exact || count.lag_ms > MAX_LAG_MS {
        return Err(stale(detail, "check that a processor runs, and look at the logs of processor and server"));
    }
    let ahead = now - (count.as_of_ms + count.lag_ms);
    let warning = if cache == Some(ComponentState::Unavailable) {
        Some("counts come from the database, which is slower, until the cache responds".to_owned())
    } else if ahead.abs() > MAX_CLOCK_DIFFERENCE_MS {
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        let seconds = ahead.abs() / 1000;
        Some(format!("correct the clocks: that of this machine is {seconds} s {side} the server's"))
    } else {
        None
    };
    Ok(Finding::ok(detail, ()).with_warning(warning))
}

fn stale(what: String, fix: &str) -> Failure {
    Failure { exit: Exit::CheckFailed, code: "stale", what, cause: None, fix: Some(fix.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(exact: bool, lag_ms: Millis, database: ComponentState, cache: ComponentState) -> WatchResponse {
        let count = PingCountResponse { exact, lag_ms, as_of_ms: 100_000 - lag_ms, ..PingCountResponse::default() };
        WatchResponse {
            count: count.into(),
            database: database.into(),
            cache: cache.into(),
            ..WatchResponse::default()
        }
    }

    #[test]
    fn stale_counts_are_a_failure_and_smaller_problems_a_warning() {
        let (available, unavailable) = (ComponentState::Available, ComponentState::Unavailable);
        let judge = |message: &WatchResponse, now| {
            let mut report = Report::default();
            report.add(Step::Freshness, freshness(message, now));
            serde_json::to_value(&report).unwrap()["steps"][0].clone()
        };
        for (message, now, outcome, words) in [
            (message(true, 27, available, available), 100_001, "ok", ""),
            (message(true, 27, available, unavailable), 100_000, "warning", "slower"),
            (message(true, 27, available, available), 160_000, "warning", "60 s ahead of the server's"),
            (message(true, 27, available, available), 40_000, "warning", "60 s behind the server's"),
            (message(true, 10_001, available, available), 100_000, "failed", "processor"),
            (message(false, 27, available, available), 100_000, "failed", "processor"),
            (message(true, 27, unavailable, available), 100_000, "failed", "database"),
        ] {
            let judged = judge(&message, now);
            let fix = judged["fix"].as_str().unwrap_or_default();
            assert!(judged["outcome"] == outcome && fix.contains(words), "{judged}");
        }
    }
}
