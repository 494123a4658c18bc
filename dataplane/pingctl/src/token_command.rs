//! Commands that print a token.

use std::{process::Stdio, time::Duration};

use ping_client::SharedToken;
use tokio::{
    process::Command,
    time::{sleep, timeout},
};

use crate::{exit::Exit, failure::Failure};

/// Longest time that a command may take: it may ask its user.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a token is used. Issuers make tokens that are valid for several minutes at least.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// Longest part of the command's error output in a message, in characters.
const MAX_QUOTED: usize = 200;

/// Runs `command` for a token, and again every minute as long as the program runs.
///
/// # Errors
/// When the command fails, takes too long or prints no token. No message has what it printed to standard output.
pub(crate) async fn start(command: &str) -> Result<SharedToken, Failure> {
    let token = SharedToken::new(&run(command).await?).map_err(|error| failure(command, &error.to_string()))?;
    let (shared, command) = (token.clone(), command.to_owned());
    tokio::spawn(async move {
        loop {
            sleep(REFRESH_INTERVAL).await;
            // A failure shows as soon as the server refuses the old token.
            if let Ok(token) = run(&command).await {
                let _ = shared.replace(&token);
            }
        }
    });
    Ok(token)
}

async fn run(command: &str) -> Result<String, Failure> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match timeout(TIMEOUT, shell.output()).await {
        Ok(output) => output.map_err(|error| failure(command, &format!("sh cannot be started: {error}")))?,
        Err(_) => return Err(failure(command, &format!("it took more than {} s", TIMEOUT.as_secs()))),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String =
            said.trim().chars().map(|char| if char.is_control() { ' ' } else { char }).take(MAX_QUOTED).collect();
        return Err(failure(command, &format!("{}: {said}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| failure(command, "it printed other characters than a token"))
}

fn failure(command: &str, cause: &str) -> Failure {
    Failure {
        exit: Exit::Refused,
        code: "unauthenticated",
        what: "there is no token to send".to_owned(),
        cause: Some(format!("the command \"{command}\" gave none: {cause}")),
        fix: Some("run it in a shell until it prints the token and nothing else".to_owned()),
    }
}
