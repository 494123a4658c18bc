//! `pingctl context`

use std::{fs, io};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    config::{ConfigFile, check_name},
    connection::Connection,
    exit::Exit,
    failure::Failure,
    global::GlobalArgs,
    output::{self, Format},
};

/// Arguments of `pingctl context`.
#[derive(Debug, Args)]
#[command(
    after_help = "A context has the connection options of one server. The file with the contexts has no token: `pingctl login` stores tokens in
files of their own, which only you may read.

Examples:
  pingctl login prod --addr https://ping.example:8080 --ca ca.crt       # asks for the token, checks and stores it
  pingctl context set ci --addr https://ping.example:8080 --token-command 'kubectl create token reader --audience ping'
  pingctl context use prod
  pingctl --context ci count"
)]
pub(crate) struct ContextArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the contexts.
    List,
    /// Show a context.
    Show {
        /// Name of the context. Default: the current one.
        name: Option<String>,
    },
    /// Make a context the current one.
    Use {
        /// Name of the context.
        name: String,
    },
    /// Create or change a context: it gets the connection options of this command line.
    Set {
        /// Name of the context.
        name: String,
    },
    /// Delete a context, and the token that `pingctl login` stored for it.
    Delete {
        /// Name of the context.
        name: String,
    },
}

/// Shows or changes the contexts.
pub(crate) fn run(args: ContextArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let mut file = global.config_file()?;
    match args.action {
        Action::List => list(&file, global.format())?,
        Action::Show { name } => {
            let name = name.map_or_else(|| file.current().map(str::to_owned), Ok)?;
            show(&name, file.context(&name)?, global.format())?;
        }
        Action::Use { name } => {
            file.context(&name)?;
            file.config.current = Some(name);
            file.save()?;
            list(&file, global.format())?;
        }
        Action::Set { name } => {
            set(&mut file, &name, global.connection.clone())?;
            show(&name, file.context(&name)?, global.format())?;
        }
        Action::Delete { name } => {
            delete(&mut file, &name)?;
            list(&file, global.format())?;
        }
    }
    Ok(Exit::Success)
}

fn set(file: &mut ConfigFile, name: &str, options: Connection) -> anyhow::Result<()> {
    check_name(name)?;
    if options == Connection::default() {
        let what = format!("there is nothing to set for the context {name}");
        return Err(
            Failure::usage(what, "add connection options, such as --addr https://HOST:PORT and --ca FILE").into()
        );
    }
    let before = file.config.contexts.get(name).cloned().unwrap_or_default();
    let after = options.with_absolute_paths().context("the current folder is unknown")?.or(&before);
    if after.addr.is_none() {
        let what = format!("the new context {name} has no server");
        return Err(Failure::usage(what, "add its address: --addr https://HOST:PORT").into());
    }
    file.config.contexts.insert(name.to_owned(), after);
    file.config.current.get_or_insert_with(|| name.to_owned());
    file.save()
}

fn delete(file: &mut ConfigFile, name: &str) -> anyhow::Result<()> {
    file.context(name)?;
    delete_token(file, name)?;
    file.config.contexts.remove(name);
    file.config.current = file.config.current.take().filter(|current| current != name);
    file.save()
}

/// Deletes the token that was stored for the context `name`, if there is one.
pub(crate) fn delete_token(file: &ConfigFile, name: &str) -> anyhow::Result<bool> {
    let path = file.token_path(name);
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot delete the token {}", path.display())),
    }
}

fn list(file: &ConfigFile, format: Format) -> anyhow::Result<()> {
    let (contexts, current) = (&file.config.contexts, file.config.current.as_deref());
    if format == Format::Name {
        return Ok(contexts.keys().try_for_each(output::line)?);
    }
    if format != Format::Text {
        let contexts: Vec<_> = contexts
            .iter()
            .map(|(name, connection)| json!({ "name": name, "current": current == Some(name), "connection": connection }))
            .collect();
        return output::object(format, &json!({ "contexts": contexts }));
    }
    if contexts.is_empty() {
        return Ok(output::line("no contexts; create one: pingctl login NAME --addr https://HOST:PORT")?);
    }
    let row = |(name, connection): (&String, &Connection)| {
        let mark = if current == Some(name) { "*" } else { "" };
        vec![mark.to_owned(), name.clone(), address(connection), connection.describe_token()]
    };
    Ok(output::table(&["current", "name", "address", "token"], contexts.iter().map(row), &[])?)
}

fn show(name: &str, connection: &Connection, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Name => output::line(name)?,
        Format::Text => output::line(format!("# context {name}\n{}", yaml_serde::to_string(connection)?.trim_end()))?,
        format => output::object(format, &json!({ "name": name, "connection": connection }))?,
    }
    Ok(())
}

fn address(connection: &Connection) -> String {
    connection.addr.as_ref().map_or_else(String::new, ToString::to_string)
}
