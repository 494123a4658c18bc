//! Options that every command accepts.

use std::path::PathBuf;

use clap::Args;
use ping_runtime::env;

use crate::{config::ConfigFile, connection::Connection, failure::Failure, output::Format};

/// Options that every command accepts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Context to use: see `pingctl context`. Default: the current one, unless --addr or --admin-addr names a server.
    #[arg(long, value_name = "NAME", env = env::CTL_CONTEXT, global = true)]
    pub(crate) context: Option<String>,
    /// File with the contexts. Default: pingctl/config.yaml in $XDG_CONFIG_HOME or ~/.config.
    #[arg(long, value_name = "FILE", env = env::CTL_CONFIG, global = true, hide_short_help = true)]
    config: Option<PathBuf>,
    /// Output format.
    #[arg(short, long, value_enum, default_value = "text", global = true)]
    output: Format,
    /// Same as --output json.
    #[arg(long, global = true)]
    json: bool,
    /// How to reach the server.
    #[command(flatten)]
    pub(crate) connection: Connection,
}

impl GlobalArgs {
    /// Output format.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }

    /// The user's configuration.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub(crate) fn config_file(&self) -> Result<ConfigFile, Failure> {
        ConfigFile::open(self.config.as_deref())
    }

    /// The name and the connection of the context to use; `None` if there is none. A server that the command line names is not that of the
    /// current context, so nothing of it, and no token in particular, is used there.
    ///
    /// # Errors
    /// When the context does not exist, or the configuration cannot be used.
    pub(crate) fn context_to_use(&self) -> Result<Option<(String, Connection)>, Failure> {
        let names_a_server = self.connection.addr.is_some() || self.connection.admin_addr.is_some();
        let has_no_config = ConfigFile::locate(self.config.as_deref()).is_none();
        if self.context.is_none() && (names_a_server || has_no_config) {
            return Ok(None);
        }
        let file = self.config_file()?;
        let Some(name) = self.context.as_ref().or(file.config.current.as_ref()) else { return Ok(None) };
        Ok(Some((name.clone(), file.context(name)?.clone())))
    }
}
