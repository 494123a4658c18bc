//! `pingctl watch`

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::Args;
use ping_proto::{PingCountRequest, PingCountResponse};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    client::Server,
    count,
    exit::Exit,
    failure::Failure,
    output::{self, Format, grouped},
    settings::Settings,
    time,
};

/// Arguments of `pingctl watch`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingctl watch
  pingctl watch --interval 5s | tee counts.txt
  pingctl watch --times 3 -o json")]
pub(crate) struct WatchArgs {
    /// Time between two queries.
    #[arg(long, default_value = "1s", value_parser = time::parse_duration)]
    interval: Duration,
    /// Exit after this many queries. Default: run until Ctrl-C.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    times: Option<u64>,
}

/// Queries the count repeatedly. Waits for a server that becomes unavailable, but fails if the first query does.
pub(crate) async fn run(args: WatchArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let server = Server::new(settings, settings.timeout())?;
    let screen = Screen::new(settings.format());
    let watched = tokio::select! {
        watched = watch(&args, &server, &screen) => watched,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
    };
    screen.leave()?;
    watched.map(|()| Exit::Success)
}

async fn watch(args: &WatchArgs, server: &Server, screen: &Screen) -> anyhow::Result<()> {
    let mut ticks = interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<PingCountResponse> = None;
    let mut queries = 0;
    loop {
        ticks.tick().await;
        queries += 1;
        let is_last = args.times.is_some_and(|times| queries >= times);
        match server.ping_count(&PingCountRequest::default()).await {
            Ok(answer) => {
                screen.show(&answer, last.as_ref().and_then(|last| rate(last, &answer)))?;
                last = Some(answer);
            }
            Err(failure) if is_last || last.is_none() || failure.exit != Exit::Unavailable => {
                return Err(failure.into());
            }
            Err(failure) => screen.show_failure(&failure)?,
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Events per second between two answers, by the server's clock; `None` if the second answer is no newer.
fn rate(last: &PingCountResponse, answer: &PingCountResponse) -> Option<f64> {
    let millis = answer.as_of_ms - last.as_of_ms;
    #[expect(clippy::cast_precision_loss, reason = "a rate is for display")]
    (millis > 0).then(|| (answer.ping_count - last.ping_count) as f64 * 1000.0 / millis as f64)
}

/// Shows answers: on a terminal in one line that is overwritten, elsewhere in a line each.
struct Screen {
    format: Format,
    in_place: bool,
}

impl Screen {
    fn new(format: Format) -> Self {
        Self { format, in_place: format == Format::Text && io::stdout().is_terminal() }
    }

    fn show(&self, answer: &PingCountResponse, rate: Option<f64>) -> io::Result<()> {
        if self.format == Format::Json {
            let mut line = count::to_json(answer);
            line["rate"] = rate.map_or(Value::Null, |rate| ((rate * 10.0).round() / 10.0).into());
            return output::line(line);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a rate fits into an integer")]
        let rate = rate.map_or_else(|| "-".to_owned(), |rate| grouped(rate.round() as i64));
        let exact = if answer.exact { "" } else { "  approximate" };
        let (events, lag) = (output::events(answer.ping_count), grouped(answer.lag_ms));
        self.line(&format!("{}  {events}  {rate}/s  lag {lag} ms{exact}", output::time(answer.as_of_ms)))
    }

    fn show_failure(&self, failure: &Failure) -> io::Result<()> {
        match self.format {
            Format::Json => output::line(failure.to_json()),
            Format::Text => self.line(&failure.line()),
        }
    }

    fn line(&self, text: &str) -> io::Result<()> {
        if !self.in_place {
            return output::line(text);
        }
        let mut terminal = io::stdout().lock();
        write!(terminal, "\r\x1b[2K{text}")?;
        terminal.flush()
    }

    /// Moves below the line, so that it stays visible.
    fn leave(&self) -> io::Result<()> {
        if self.in_place { output::line("") } else { Ok(()) }
    }
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
