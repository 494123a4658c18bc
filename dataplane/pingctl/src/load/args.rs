//! Arguments of `pingctl load`.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, ValueEnum};

use crate::{address::Address, failure::Failure, settings::Settings, time};

/// Arguments of `pingctl load`.
#[derive(Debug, Args)]
#[command(
    after_help = "At a fixed rate, latency is measured from when an event was due, not from when it was sent: if the server stalls for a
second, the percentiles include every event that was due meanwhile (no coordinated omission). With streams, latency is
that of a batch. Above 1,000 calls or batches per second, those of the same millisecond are due together.

Examples:
  pingctl load                                               # 1,000 events/s for 10 s
  pingctl load --rate 5000/s --duration 30s --check
  pingctl load --rate max --connections 4 --in-flight 16
  pingctl load --mode stream --rate 200k --batch 1000 --json
  pingctl load --mode stream --rate max --ids --check        # retries unacknowledged events safely"
)]
pub(crate) struct LoadArgs {
    /// Events per second on a fixed schedule, e.g. 5000, 5000/s, 200k or 1M; or max: as fast as they are acknowledged.
    #[arg(long, default_value = "1000/s")]
    rate: Rate,
    /// How long to send events.
    #[arg(long, default_value = "10s", value_parser = time::parse_duration)]
    duration: Duration,
    /// How to send events.
    #[arg(long, value_enum, default_value = "unary")]
    mode: Mode,
    /// Number of connections to the server.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Calls (unary) or batches (stream) in flight per connection. Default: 64 calls or 16 batches.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    in_flight: Option<u32>,
    /// Events per batch of a stream.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Number of sources that the events name in turn; 0 for no source.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    sources: u32,
    /// Generate the ids here, so that unacknowledged events can be retried without being counted twice. Default for unary.
    #[arg(long, conflicts_with = "no_ids")]
    ids: bool,
    /// Let the server generate the ids: less work, but events that are unacknowledged when a connection breaks may or may not
    /// have been counted. Default for streams.
    #[arg(long)]
    no_ids: bool,
    /// Afterwards, wait until the count has grown by exactly the number of acknowledged events, for two minutes at most; exit 1 if
    /// it does not. The report says whether events are lost or only late. Requires that no other client is sending.
    #[arg(long)]
    check: bool,
    /// Write each call to this file, as a line of JSON: event id, begin and end in microseconds since the Unix epoch, and
    /// whether the event is acknowledged, rejected or of unknown outcome. For unary calls with ids.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Number of threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Allow a server that is not on this machine.
    #[arg(long)]
    yes_this_is_my_server: bool,
}

/// How to send events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// One call per event.
    Unary,
    /// A stream of batches per connection.
    Stream,
}

/// Events per second; `None`: as fast as possible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate(pub(crate) Option<f64>);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "max" {
            return Ok(Self(None));
        }
        let number = text.strip_suffix("/s").unwrap_or(text);
        let (digits, unit) = match number.strip_suffix(['k', 'K', 'M']) {
            Some(digits) => (digits, if number.ends_with('M') { 1e6 } else { 1e3 }),
            None => (number, 1.0),
        };
        let plain = digits.chars().all(|digit| digit.is_ascii_digit() || digit == '.');
        let rate = digits.parse::<f64>().ok().filter(|_| plain).map(|rate| rate * unit);
        let rate = rate.filter(|rate| (0.01..=1e8).contains(rate));
        rate.map(|rate| Self(Some(rate))).ok_or("write 5000, 5000/s, 200k, 1M or max; at least 0.01, at most 100M")
    }
}

/// A load to send.
#[derive(Clone, Debug)]
pub(crate) struct LoadConfig {
    pub(crate) address: Address,
    pub(crate) mode: Mode,
    pub(crate) rate: Rate,
    pub(crate) duration: Duration,
    pub(crate) connections: u32,
    /// Calls or batches per connection.
    pub(crate) in_flight: usize,
    /// Events per call or batch.
    pub(crate) batch: u32,
    pub(crate) sources: u32,
    /// Whether to generate the ids here.
    pub(crate) ids: bool,
    pub(crate) check: bool,
    /// Where to write each call.
    pub(crate) history: Option<PathBuf>,
    pub(crate) retries: u32,
    pub(crate) timeout: Duration,
}

impl LoadArgs {
    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.threads as usize
    }

    /// The load to send, if it is allowed.
    pub(crate) fn config(&self, settings: &Settings) -> Result<LoadConfig, Failure> {
        if !settings.addr.is_loopback() && !self.yes_this_is_my_server {
            return Err(Failure::usage(
                format!("{} is not on this machine, and a load can overwhelm a server", settings.addr),
                "add --yes-this-is-my-server if you may load it",
            ));
        }
        let streams = self.mode == Mode::Stream;
        let ids = self.ids || !(self.no_ids || streams);
        if self.history.is_some() && (streams || !ids) {
            let fix = "remove --mode stream and --no-ids, or --history";
            return Err(Failure::usage("--history needs unary calls with ids", fix));
        }
        let in_flight = self.in_flight.unwrap_or(if streams { 16 } else { 64 });
        Ok(LoadConfig {
            address: settings.addr.clone(),
            mode: self.mode,
            rate: self.rate,
            duration: self.duration,
            connections: self.connections,
            in_flight: in_flight as usize,
            batch: if streams { self.batch } else { 1 },
            sources: self.sources,
            ids,
            check: self.check,
            history: self.history.clone(),
            retries: settings.retries,
            timeout: settings.timeout(),
        })
    }
}

impl LoadConfig {
    /// Name of the source of event number `index`.
    pub(crate) fn source(&self, index: u32) -> String {
        if self.sources == 0 { String::new() } else { format!("load-{}", index % self.sources) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_max() {
        let rate = |text: &str| text.parse::<Rate>().map(|rate| rate.0);
        assert_eq!(rate("max"), Ok(None));
        assert_eq!(["5000", "5000/s", "5k", "0.005M/s"].map(rate), [Ok(Some(5000.0)); 4]);
        assert!(["0", "-1", "fast", "5/m", "1e99", "inf", ""].iter().all(|text| rate(text).is_err()));
    }
}
