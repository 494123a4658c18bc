//! The server that a command calls, and how: from the command line, else from the context.

use std::time::Duration;

use ping_client::{Client, SharedToken, TlsFiles};

use crate::{
    address::Address, connection::Connection, failure::Failure, global::GlobalArgs, output::Format, private,
    token_command,
};

/// The server if neither the command line nor a context names one.
const DEFAULT_ADDRESS: &str = "http://localhost:8080";
/// Port of the admin interface.
const ADMIN_PORT: u16 = 8081;
/// Timeout of one call, unless `--timeout` or the command sets another.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of retries.
const DEFAULT_RETRIES: u32 = 4;

/// The server that a command calls, and how.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Address of the API.
    pub(crate) addr: Address,
    pub(crate) retries: u32,
    /// The context that they come from.
    pub(crate) context: Option<String>,
    format: Format,
    connection: Connection,
    /// The token that a command printed.
    token: Option<SharedToken>,
}

impl Settings {
    /// The settings of the command line and of the context to use.
    ///
    /// # Errors
    /// When the context cannot be used, or its token command fails.
    pub(crate) async fn new(global: &GlobalArgs) -> anyhow::Result<Self> {
        let context = global.context_to_use()?;
        let connection = match &context {
            Some((_, context)) => global.connection.clone().or(context),
            None => global.connection.clone(),
        };
        let name = context.map(|(name, _)| name);
        if let (Some(name), Some(path)) = (&name, &connection.token_file) {
            // Only for the token that `pingctl login` stored: Kubernetes mounts tokens for everyone in the container.
            if *path == global.config_file()?.token_path(name) && private::others_may(path, 0o4).unwrap_or(false) {
                let shown = path.display();
                let what = format!("others may read the token of context {name} in {shown}");
                return Err(Failure::usage(
                    what,
                    format!("have the token replaced, then log in again: pingctl login {name}"),
                )
                .into());
            }
        }
        Self::of(connection, name, global.format()).await
    }

    /// The settings of `connection`, which `context` names.
    ///
    /// # Errors
    /// When the address is invalid, or the token command fails.
    pub(crate) async fn of(connection: Connection, context: Option<String>, format: Format) -> anyhow::Result<Self> {
        let default = || DEFAULT_ADDRESS.parse().map_err(anyhow::Error::msg);
        let addr = connection.addr.clone().map_or_else(default, Ok)?;
        let token = match &connection.token_command {
            Some(command) => Some(token_command::start(command).await?),
            None => None,
        };
        let retries = connection.retries.unwrap_or(DEFAULT_RETRIES);
        Ok(Self { addr, retries, context, format, connection, token })
    }

    /// Output format.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// How the server is reached.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Address of the admin port.
    pub(crate) fn admin_addr(&self) -> Address {
        self.connection.admin_addr.clone().unwrap_or_else(|| self.addr.with_port(ADMIN_PORT))
    }

    /// A client of the server at `address`, which connects on the first call.
    ///
    /// # Errors
    /// When a file cannot be used, or the credentials would travel in plaintext.
    pub(crate) fn client(&self, address: &Address, timeout: Duration) -> Result<Client, Failure> {
        let Connection { ca, cert, key, tls_server_name, token_file, .. } = &self.connection;
        let tls = if address.is_https() {
            let files = TlsFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() };
            let fix = "check --ca, --cert and --key (PINGCTL_CA, PINGCTL_CERT, PINGCTL_KEY), or those of the context";
            let config = files.config().map_err(|error| Failure::usage(error.to_string(), fix))?;
            Some(tls_server_name.iter().fold(config, |config, name| config.domain_name(name.clone())))
        } else {
            self.check_plaintext(address)?;
            None
        };
        let channel = address.connect(timeout, tls).map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Failure::usage(format!("TLS cannot be used: {cause}"), "check that --ca, --cert and --key are PEM files")
        })?;
        let client = Client::new(channel);
        Ok(match &self.token {
            Some(token) => client.with_shared_token(token.clone()),
            None => client.with_token_file(token_file.clone()),
        })
    }

    /// A token in plaintext may be read on its way, except on this machine.
    fn check_plaintext(&self, address: &Address) -> Result<(), Failure> {
        let has_token = self.token.is_some() || self.connection.token_file.is_some();
        if !has_token || address.is_loopback() {
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
        self.connection.timeout.as_ref().map_or(default, |timeout| timeout.length)
    }

    /// What to do if the server does not accept the credentials.
    pub(crate) fn credentials_hint(&self) -> String {
        match &self.context {
            Some(name) => format!("log in again: pingctl login {name}; or name a file with a valid token: --token-file or PINGCTL_TOKEN_FILE"),
            None => "log in: pingctl login --addr URL; or name a file with a valid token: --token-file or PINGCTL_TOKEN_FILE. With --addr, the \
                     current context is not used: add --context NAME"
                .to_owned(),
        }
    }
}
