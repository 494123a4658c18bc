//! Options that every command accepts.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use ping_client::{Client, TlsFiles};
use ping_runtime::env;

use crate::{address::Address, failure::Failure, output::Format, time};

/// Timeout of one call, unless `--timeout` or the command sets another.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Options that every command accepts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Address of the server: http://host:port, https://host:port, or host:port.
    #[arg(short, long, env = env::CTL_ADDR, default_value = "http://localhost:8080", global = true)]
    pub(crate) addr: Address,
    /// Output format: text, or json.
    #[arg(short, long, value_enum, default_value = "text", global = true)]
    output: Format,
    /// Same as --output json.
    #[arg(long, global = true)]
    json: bool,
    /// Timeout of one call, e.g. 500ms or 1m. Default: 10s; 5m for `verify`, which reads every row.
    #[arg(long, value_parser = time::parse_duration, global = true)]
    timeout: Option<Duration>,
    /// How often to retry when the server is unavailable or the outcome is unknown. A retried event keeps its id, so it is
    /// never counted twice.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=100), global = true)]
    pub(crate) retries: u32,
    /// PEM file with the CAs of the server's certificate, for https://. Default: those of the system.
    #[arg(long, value_name = "FILE", env = env::CTL_CA, global = true)]
    ca: Option<PathBuf>,
    /// PEM file with the client's certificate.
    #[arg(long, value_name = "FILE", env = env::CTL_CERT, global = true)]
    cert: Option<PathBuf>,
    /// PEM file with the key of the client's certificate.
    #[arg(long, value_name = "FILE", env = env::CTL_KEY, global = true)]
    key: Option<PathBuf>,
    /// File with the bearer token. It is read again every ten seconds.
    #[arg(long, value_name = "FILE", env = env::CTL_TOKEN_FILE, global = true)]
    token_file: Option<PathBuf>,
}

impl GlobalArgs {
    /// Output format.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }

    /// A client of the server at `address`, which connects on the first call.
    ///
    /// # Errors
    /// When a file cannot be used, or the credentials would travel in plaintext.
    pub(crate) fn client(&self, address: &Address, timeout: Duration) -> Result<Client, Failure> {
        let tls = if address.is_https() {
            let files = TlsFiles { ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone() };
            let fix = "check --ca, --cert and --key (PINGCTL_CA, PINGCTL_CERT, PINGCTL_KEY)";
            Some(files.config().map_err(|error| Failure::usage(error.to_string(), fix))?)
        } else {
            self.check_plaintext(address)?;
            None
        };
        let channel = address.connect(timeout, tls).map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Failure::usage(format!("TLS cannot be used: {cause}"), "check that --ca, --cert and --key are PEM files")
        })?;
        Ok(Client::new(channel).with_token_file(self.token_file.clone()))
    }

    /// A token in plaintext may be read on its way, except on this machine.
    fn check_plaintext(&self, address: &Address) -> Result<(), Failure> {
        if self.token_file.is_none() || address.is_loopback() {
            return Ok(());
        }
        let what = format!("the token would travel to {address} in plaintext");
        Err(Failure::usage(what, "use https:// in --addr, or forward a local port to the server"))
    }

    /// Timeout of one call.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout_or(DEFAULT_TIMEOUT)
    }

    /// Timeout of one call, for a command with a default of its own.
    pub(crate) fn timeout_or(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
    }
}
