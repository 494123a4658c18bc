//! `pingctl watch`

mod latest;
mod screen;

use std::time::Duration;

use clap::Args;
use ping_proto::PingCountResponse;
use tokio::time::{Instant, sleep};

use crate::{
    client::{Server, Watch},
    exit::Exit,
    failure::Failure,
    settings::Settings,
    time,
};
use latest::Latest;
use screen::Screen;

/// Shortest pause before the next attempt to reach a server that has become unavailable.
const MIN_PAUSE: Duration = Duration::from_millis(250);

/// Arguments of `pingctl watch`.
#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal, the view also has the last hour and the top sources. In pipes, it is one line at a time.

Examples:
  pingctl watch
  pingctl watch --interval 5s | tee counts.txt
  pingctl watch --times 3 -o json"
)]
pub(crate) struct WatchArgs {
    /// Shortest time between two updates. The server sends at most ten per second, and one per second if nothing changes.
    #[arg(long, default_value = "1s", value_parser = time::parse_duration)]
    interval: Duration,
    /// Exit after this many updates. Default: run until Ctrl-C.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    times: Option<u64>,
}

/// Shows what the server streams. Waits for a server that becomes unavailable, but fails if it is at first.
pub(crate) async fn run(args: WatchArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let server = Server::new(settings, settings.timeout())?;
    let mut screen = Screen::new(settings.format());
    let watched = tokio::select! {
        watched = watch(&args, &server, &mut screen) => watched,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
    };
    watched.map(|()| Exit::Success)
}

async fn watch(args: &WatchArgs, server: &Server, screen: &mut Screen) -> anyhow::Result<()> {
    let mut updates = Updates { args, shown: 0, last: None };
    let mut has_answered = false;
    loop {
        let failure = match server.watch(screen.request()).await {
            Ok(watch) => match follow(watch, &mut updates, screen, &mut has_answered).await? {
                Some(failure) => failure,
                None => return Ok(()),
            },
            Err(failure) => failure,
        };
        updates.shown += 1;
        if updates.are_complete() || !has_answered || failure.exit != Exit::Unavailable {
            return Err(failure.into());
        }
        screen.show_failure(&failure)?;
        sleep(args.interval.max(MIN_PAUSE)).await;
    }
}

/// Shows the messages of one stream. Returns why it ended; none if enough of them were shown.
async fn follow(
    mut watch: Watch<'_>,
    updates: &mut Updates<'_>,
    screen: &mut Screen,
    has_answered: &mut bool,
) -> anyhow::Result<Option<Failure>> {
    let mut latest = Latest::default();
    loop {
        let message = match watch.next().await {
            Ok(message) => message,
            Err(failure) => return Ok(Some(failure)),
        };
        *has_answered = true;
        latest.apply(&message);
        if !updates.is_due() {
            continue;
        }
        let rate = updates.count(latest.count());
        screen.show(&message, &latest, rate)?;
        if updates.are_complete() {
            return Ok(None);
        }
    }
}

/// Which messages are shown.
struct Updates<'a> {
    args: &'a WatchArgs,
    shown: u64,
    last: Option<(Instant, PingCountResponse)>,
}

impl Updates<'_> {
    fn is_due(&self) -> bool {
        self.last.as_ref().is_none_or(|(at, _)| at.elapsed() >= self.args.interval)
    }

    /// Counts an update. Returns the rate since the one before.
    fn count(&mut self, count: &PingCountResponse) -> Option<f64> {
        self.shown += 1;
        let last = self.last.replace((Instant::now(), count.clone()));
        last.and_then(|(_, last)| rate(&last, count))
    }

    fn are_complete(&self) -> bool {
        self.args.times.is_some_and(|times| self.shown >= times)
    }
}

/// Events per second between two answers, by the server's clock; `None` if the second answer is no newer.
fn rate(last: &PingCountResponse, answer: &PingCountResponse) -> Option<f64> {
    let millis = answer.as_of_ms - last.as_of_ms;
    #[expect(clippy::cast_precision_loss, reason = "a rate is for display")]
    (millis > 0).then(|| (answer.ping_count - last.ping_count) as f64 * 1000.0 / millis as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ping_count: i64, as_of_ms: i64) -> PingCountResponse {
        PingCountResponse { ping_count, as_of_ms, ..PingCountResponse::default() }
    }

    #[test]
    fn a_rate_is_by_the_servers_time() {
        assert_eq!(rate(&answer(100, 1000), &answer(150, 1500)), Some(100.0));
        assert_eq!(rate(&answer(100, 1000), &answer(100, 1000)), None);
    }
}
