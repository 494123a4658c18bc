//! What load to make.

use std::{str::FromStr, time::Duration};

use clap::{Args, ValueEnum};

use crate::{args::Global, client::Address, failure::Failure, when};

/// `pingctl load`
#[derive(Debug, Args)]
#[command(
    after_help = "Latency of a fixed rate is measured from the moment a ping was due, not from when it could be sent: a server that
stands still for a second has a second of late pings in its percentiles (no coordinated omission). Of streams, it is the
latency of a batch. Above 1,000 sends a second, those of the same millisecond are due together.

Examples:
  pingctl load                                               # 1,000 pings/s for 10 s
  pingctl load --rate 5000/s --duration 30s --check
  pingctl load --rate max --connections 4 --in-flight 16
  pingctl load --mode stream --rate 200k --batch 1000 --json
  pingctl load --mode stream --rate max --ids --check        # can repeat what was not acknowledged"
)]
pub(crate) struct LoadArgs {
    /// Pings per second, e.g. 5000, 5000/s, 200k or 1M, at a fixed schedule; or max: as fast as they are acknowledged.
    #[arg(long, default_value = "1000/s")]
    rate: Rate,
    /// How long to send.
    #[arg(long, default_value = "10s", value_parser = when::duration)]
    duration: Duration,
    /// How pings travel.
    #[arg(long, value_enum, default_value = "unary")]
    mode: Mode,
    /// Connections to the server.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Calls (unary) or batches (stream) under way on each connection. Default: 64 or 16.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    in_flight: Option<u32>,
    /// Pings in a batch of a stream.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Sources that the pings name in turn; 0: none.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    sources: u32,
    /// Choose the ids here, so that what is not acknowledged can be sent again without being counted twice. Default for unary.
    #[arg(long, conflicts_with = "no_ids")]
    ids: bool,
    /// Leave the ids to the server: less work, but what a broken connection did not acknowledge is lost or not, nobody knows.
    /// Default for streams.
    #[arg(long)]
    no_ids: bool,
    /// Afterwards wait until the count has grown by exactly what was acknowledged; exit 1 when it does not. Nobody else may
    /// send meanwhile.
    #[arg(long)]
    check: bool,
    /// Threads that send.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Load a server that is not on this machine.
    #[arg(long)]
    yes_this_is_my_server: bool,
}

/// How pings travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// One call for each ping.
    Unary,
    /// A stream of batches on each connection.
    Stream,
}

/// Pings per second; none: as many as are acknowledged.
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

/// The load to make.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: Address,
    pub(crate) mode: Mode,
    pub(crate) rate: Rate,
    pub(crate) duration: Duration,
    pub(crate) connections: u32,
    pub(crate) in_flight: usize,
    /// Pings per send.
    pub(crate) batch: u32,
    pub(crate) sources: u32,
    pub(crate) ids: bool,
    pub(crate) check: bool,
    pub(crate) retries: u32,
    pub(crate) timeout: Duration,
}

impl LoadArgs {
    /// Threads to start.
    pub(crate) fn threads(&self) -> usize {
        self.threads as usize
    }

    /// The load to make, if it may be made.
    pub(crate) fn plan(&self, global: &Global) -> Result<Plan, Failure> {
        if !global.addr.is_loopback() && !self.yes_this_is_my_server {
            return Err(Failure::usage(
                format!("{} is not on this machine, and load can bring a server down", global.addr),
                "add --yes-this-is-my-server if it is yours to load",
            ));
        }
        let streams = self.mode == Mode::Stream;
        let in_flight = self.in_flight.unwrap_or(if streams { 16 } else { 64 });
        Ok(Plan {
            address: global.addr.clone(),
            mode: self.mode,
            rate: self.rate,
            duration: self.duration,
            connections: self.connections,
            in_flight: in_flight as usize,
            batch: if streams { self.batch } else { 1 },
            sources: self.sources,
            ids: self.ids || !(self.no_ids || streams),
            check: self.check,
            retries: global.retries,
            timeout: global.timeout(),
        })
    }
}

impl Plan {
    /// The name of the `turn`th source.
    pub(crate) fn source(&self, turn: u32) -> String {
        if self.sources == 0 { String::new() } else { format!("load-{}", turn % self.sources) }
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
