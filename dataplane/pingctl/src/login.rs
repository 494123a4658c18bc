//! `pingctl login` and `pingctl logout`

use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::Path,
};

use anyhow::Context;
use clap::Args;
use console::Term;
use ping_client::SharedToken;
use ping_proto::PingCountRequest;
use serde_json::json;

use crate::{
    client::Server,
    config::{ConfigFile, check_name},
    connection::Connection,
    context::delete_token,
    exit::Exit,
    failure::Failure,
    global::GlobalArgs,
    output::{self, Format},
    private,
    settings::Settings,
};

/// Longest token, in bytes: servers accept up to 8 KiB.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// Arguments of `pingctl login`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --token-file and --token-command, the token is read from standard input: you are asked for it, and it is not shown.
It is stored in a file of its own, which only you may read. There is no option for the token itself: other users of this
machine see the arguments of your commands.

Examples:
  pingctl login prod --addr https://ping.example:8080 --ca ca.crt
  kubectl get secret demo-token -o jsonpath={.data.token} | base64 -d | pingctl login demo --addr https://localhost:8080
  pingctl login ci --addr https://ping.example:8080 --token-command 'kubectl create token reader --audience ping'"
)]
pub(crate) struct LoginArgs {
    /// Name of the context. Default: that of --context, else the host of the address.
    name: Option<String>,
}

/// Arguments of `pingctl logout`.
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// Name of the context. Default: that of --context, else the current one.
    name: Option<String>,
}

/// Checks the credentials, stores them in a context and makes it the current one. If the server refuses them, nothing changes.
pub(crate) async fn login(args: LoginArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let mut file = global.config_file()?;
    let (name, connection) = context(args.name, global, &file)?;
    let connection = connection.with_absolute_paths().context("the current folder is unknown")?;
    let has_token = global.connection.token_file.is_some() || global.connection.token_command.is_some();
    let (connection, may_read) = if has_token {
        let may_read = check(connection.clone(), global.format()).await?;
        (connection, may_read)
    } else {
        let token = read_token(&connection)?;
        store_token(&file.token_path(&name), &token, connection, global.format()).await?
    };
    let address = connection.addr.as_ref().map(ToString::to_string).unwrap_or_default();
    file.config.contexts.insert(name.clone(), connection);
    file.config.current = Some(name.clone());
    file.save()?;
    match global.format() {
        Format::Json | Format::Yaml => {
            let stored = json!({ "context": name, "addr": address, "mayReadCounts": may_read });
            output::object(global.format(), &stored)?;
        }
        Format::Text | Format::Name => {
            output::line(format!("logged in to {address}; {name} is the current context"))?;
            if !may_read {
                output::line("these credentials are valid, but may not read the total count")?;
            }
        }
    }
    Ok(Exit::Success)
}

/// The name of the context to log in to, and its connection without a token: from the command line, else as it was.
fn context(name: Option<String>, global: &GlobalArgs, file: &ConfigFile) -> Result<(String, Connection), Failure> {
    let host = || global.connection.addr.as_ref().map(|address| address.host().to_owned());
    let current = || file.config.current.clone();
    let Some(name) = name.or_else(|| global.context.clone()).or_else(host).or_else(current) else {
        return Err(no_server("there is no server to log in to"));
    };
    check_name(&name)?;
    let before = file.config.contexts.get(&name).cloned().unwrap_or_default();
    let before = Connection { token_file: None, token_command: None, ..before };
    let connection = global.connection.clone().or(&before);
    if connection.addr.is_none() {
        return Err(no_server(&format!("the context {name} has no server yet")));
    }
    Ok((name, connection))
}

fn no_server(what: &str) -> Failure {
    Failure::usage(what, "name it: pingctl login NAME --addr https://HOST:PORT")
}

/// Asks for the token, or reads it from a pipe.
fn read_token(connection: &Connection) -> anyhow::Result<String> {
    let mut text = String::new();
    if io::stdin().is_terminal() {
        let terminal = Term::stderr();
        let address = connection.addr.as_ref().map(ToString::to_string).unwrap_or_default();
        terminal.write_str(&format!("Token for {address} (it is not shown): "))?;
        text = terminal.read_secure_line().context("cannot read the token")?;
    } else {
        let read = io::stdin().lock().take(MAX_TOKEN_BYTES).read_to_string(&mut text);
        read.context("cannot read the token from standard input")?;
    }
    if let Err(error) = SharedToken::new(&text) {
        let fix = "type or pipe the token, and nothing else; or use --token-file or --token-command";
        return Err(Failure::usage(format!("standard input has no token: {error}"), fix).into());
    }
    Ok(text)
}

/// Stores the token at `path`, if the server accepts it. Returns the connection with the token, and whether it may read counts.
async fn store_token(
    path: &Path,
    token: &str,
    connection: Connection,
    format: Format,
) -> anyhow::Result<(Connection, bool)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // No context has a name that begins with a dot.
    let unchecked = path.with_file_name(format!(".{name}.unchecked"));
    private::write(&unchecked, &format!("{}\n", token.trim()))
        .with_context(|| format!("cannot write {}", unchecked.display()))?;
    let with_token = |path: &Path| Connection { token_file: Some(path.to_owned()), ..connection.clone() };
    match check(with_token(&unchecked), format).await {
        Ok(may_read) => {
            fs::rename(&unchecked, path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok((with_token(path), may_read))
        }
        Err(error) => {
            fs::remove_file(&unchecked).with_context(|| format!("cannot delete {}", unchecked.display()))?;
            Err(error)
        }
    }
}

/// Whether the caller may read the total count. Any answer but a refusal of the credentials proves that they are valid.
async fn check(connection: Connection, format: Format) -> anyhow::Result<bool> {
    let settings = Settings::of(connection, None, format).await?;
    let server = Server::new(&settings, settings.timeout())?;
    match server.ping_count(&PingCountRequest::default()).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.code == "permission_denied" => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

/// Deletes the token that was stored for a context. The context stays.
pub(crate) fn logout(args: LogoutArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let mut file = global.config_file()?;
    let name = match args.name.or_else(|| global.context.clone()) {
        Some(name) => name,
        None => file.current()?.to_owned(),
    };
    let path = file.token_path(&name);
    let connection = file.context(&name)?.clone();
    if connection.token_file.as_ref() != Some(&path) {
        let token = connection.describe_token();
        let what = format!("the token of context {name} was not stored by `pingctl login`; its token: {token}");
        return Err(Failure::usage(
            what,
            format!("delete the token there, or the context: pingctl context delete {name}"),
        )
        .into());
    }
    delete_token(&file, &name)?;
    file.config.contexts.insert(name.clone(), Connection { token_file: None, ..connection });
    file.save()?;
    match global.format() {
        Format::Json | Format::Yaml => {
            output::object(global.format(), &json!({ "context": name, "token": null }))?;
        }
        Format::Text | Format::Name => output::line(format!(
            "the token of context {name} is deleted here; ask to have it revoked if others may have it"
        ))?,
    }
    Ok(Exit::Success)
}
