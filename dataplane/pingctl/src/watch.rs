//! `pingctl watch`

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::Args;
use ping_proto::{PingCountRequest, PingCountResponse};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::count;
use crate::{
    args::Global,
    client::Server,
    exit::Exit,
    failure::Failure,
    output::{self, Format, grouped},
    when,
};

/// `pingctl watch`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pingctl watch
  pingctl watch --interval 5s | tee counts.txt
  pingctl watch --times 3 -o json")]
pub(crate) struct WatchArgs {
    /// How often to ask.
    #[arg(long, default_value = "1s", value_parser = when::duration)]
    interval: Duration,
    /// End after this many answers. Default: at Ctrl-C.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    times: Option<u64>,
}

/// Asks again and again. A server that goes away is waited for; one that was never there is a failure.
pub(crate) async fn run(args: WatchArgs, global: &Global) -> anyhow::Result<Exit> {
    let server = Server::new(global, global.timeout());
    let screen = Screen::new(global.format());
    let watched = tokio::select! {
        watched = watch(&args, &server, &screen) => watched,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
    };
    screen.leave()?;
    watched.map(|()| Exit::Done)
}

async fn watch(args: &WatchArgs, server: &Server, screen: &Screen) -> anyhow::Result<()> {
    let mut ticks = interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<PingCountResponse> = None;
    let mut asked = 0;
    loop {
        ticks.tick().await;
        asked += 1;
        let ends = args.times.is_some_and(|times| asked >= times);
        match count::ask(server, &PingCountRequest::default()).await {
            Ok(answer) => {
                screen.show(&answer, last.as_ref().and_then(|last| rate(last, &answer)))?;
                last = Some(answer);
            }
            Err(failure) if ends || last.is_none() || failure.exit != Exit::Unavailable => return Err(failure.into()),
            Err(failure) => screen.complain(&failure)?,
        }
        if ends {
            return Ok(());
        }
    }
}

/// Pings per second between two answers; none while nothing new is known.
fn rate(last: &PingCountResponse, answer: &PingCountResponse) -> Option<f64> {
    let millis = answer.as_of_ms - last.as_of_ms;
    #[expect(clippy::cast_precision_loss, reason = "a rate is for looking at")]
    (millis > 0).then(|| (answer.ping_count - last.ping_count) as f64 * 1000.0 / millis as f64)
}

/// Where answers are shown: one line that changes on a terminal, a line for each elsewhere.
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
        #[expect(clippy::cast_possible_truncation, reason = "no rate is beyond the integers")]
        let rate = rate.map_or_else(|| "-".to_owned(), |rate| grouped(rate.round() as i64));
        let exact = if answer.exact { "" } else { "  not exact" };
        let (pings, lag) = (output::pings(answer.ping_count), grouped(answer.lag_ms));
        self.line(&format!("{}  {pings}  {rate}/s  lag {lag} ms{exact}", output::time(answer.as_of_ms)))
    }

    fn complain(&self, failure: &Failure) -> io::Result<()> {
        match self.format {
            Format::Json => output::line(failure.to_json()),
            Format::Text => self.line(&format!("no answer: {}", failure.line())),
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

    /// Leaves the last line standing.
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
