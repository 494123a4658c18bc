//! `pingctl doctor`

mod answer;
mod certificate;
mod handshake;
mod network;
mod report;

use std::time::Duration;

use clap::Args;
use ping_client::SharedToken;
use ping_proto::WatchRequest;

use crate::{
    client::Server, exit::Exit, failure::Failure, global::GlobalArgs, output::Format, settings::Settings, time,
};
use report::{Finding, Report, Step};

/// Timeout of each step, unless `--timeout` sets another.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Arguments of `pingctl doctor`.
#[derive(Debug, Args)]
#[command(after_help = "It sends no event: whether the credentials may send events, `pingctl ping` tells.

Examples:
  pingctl doctor
  pingctl doctor --addr https://ping.example:8080 --ca ca.crt --token-file token
  pingctl doctor -o json")]
pub(crate) struct DoctorArgs {}

/// Tries what every call needs, in its order, and stops at the first problem.
pub(crate) async fn run(_: &DoctorArgs, global: &GlobalArgs) -> anyhow::Result<Exit> {
    let mut report = Report::default();
    diagnose(global, &mut report).await;
    match global.format() {
        Format::Text | Format::Name => report.print()?,
        format => crate::output::object(format, &report)?,
    }
    Ok(if report.is_healthy() { Exit::Success } else { Exit::CheckFailed })
}

/// Adds what it finds to the report. None: a step failed.
async fn diagnose(global: &GlobalArgs, report: &mut Report) -> Option<()> {
    let settings = report.add(Step::Configuration, configuration(global).await)?;
    let timeout = settings.timeout_or(DEFAULT_TIMEOUT);
    let addresses = report.add(Step::NameResolution, network::resolve(&settings.addr, timeout).await)?;
    let socket = report.add(Step::Tcp, network::connect(&addresses, timeout).await)?;
    if settings.addr.is_https() {
        report.add(Step::Tls, handshake::run(&settings, socket, timeout).await)?;
    } else {
        report.add(Step::Tls, Ok(Finding::ok("not used: the address begins with http://", ())));
    }
    let answer = watch_once(&settings, timeout).await;
    answer::add_steps(&answer, &settings, time::now(), report)
}

/// The settings, and the credentials they name.
async fn configuration(global: &GlobalArgs) -> Result<Finding<Settings>, Failure> {
    let settings = Settings::new(global).await.map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) => Failure::usage(format!("{error:#}"), "correct the options or the context"),
    })?;
    if let Some(path) = &settings.connection().token_file {
        let shown = path.display();
        let token = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read the token file {shown}: {error}"), settings.credentials_hint())
        })?;
        SharedToken::new(&token).map_err(|error| {
            Failure::usage(format!("the token file {shown} has no token: {error}"), settings.credentials_hint())
        })?;
    }
    let context = settings.context.as_ref().map_or_else(|| "none".to_owned(), Clone::clone);
    let detail = format!("{}, context {context}, token: {}", settings.addr, settings.connection().describe_token());
    Ok(Finding::ok(detail, settings))
}

/// The first message of a stream.
async fn watch_once(settings: &Settings, timeout: Duration) -> Result<ping_proto::WatchResponse, Failure> {
    let server = Server::new(settings, timeout)?;
    server.watch(WatchRequest::default()).await?.next().await
}
