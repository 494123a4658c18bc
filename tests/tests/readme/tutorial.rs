//! `docs/tutorials/embedded.md`, from an empty folder.

use crate::{Shell, commands, page};

const PAGE: &str = "docs/tutorials/embedded.md";
const INSTALL: &str = "make install";
const SERVER: &str = "pingd-dev";

/// How the commands of the page begin, in their order, and what each prints in the end.
const STEPS: [(&str, &str); 13] = [
    (SERVER, ""),
    ("pingctl ping", ""),
    ("pingctl count", "1"),
    ("curl -s localhost:8080/ping.v1.EventService/Record ", "{}"),
    ("curl -s localhost:8080/ping.v1.PingService/PingCount ", r#""pingCount":"2""#),
    ("curl -s localhost:8080/ping.v1.EventService/Record ", "{}"),
    ("curl -s localhost:8080/ping.v1.EventService/Record ", "{}"),
    ("pingctl count", "3"),
    ("pingctl source shop.example", "1"),
    ("pingctl status shop.example", "negative"),
    ("pingctl count", "3"),
    ("pingctl verify", "3"),
    ("sqlite3 ", "2"),
];

pub(super) fn embedded() {
    assert!(page(PAGE).contains(&format!("\n{INSTALL}\n")));
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("prefix");
    Shell::default().output(&format!("{INSTALL} PREFIX={}", prefix.display()));
    let path = format!("{}:{}", prefix.join("bin").display(), std::env::var("PATH").unwrap());
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let variables = vec![("PATH".to_owned(), path), ("HOME".to_owned(), folder.path().display().to_string())];
    let shell = Shell { variables, folder: empty };

    let documented = commands(PAGE);
    assert_eq!(documented.len(), STEPS.len(), "{PAGE} has other commands: {documented:#?}");
    let mut serving = None;
    for (command, (start, expected)) in documented.iter().zip(STEPS) {
        assert!(command.starts_with(start), "{PAGE} has {command} instead of {start}…");
        if command == SERVER {
            let mut server = shell.start(command);
            server.wait_for(8080);
            serving = Some(server);
            continue;
        }
        shell.eventually(command, expected);
        if start.starts_with("pingctl status") {
            // The page says to break it here.
            let mut server = serving.take().unwrap();
            server.kill_9();
            server = shell.start(SERVER);
            server.wait_for(8080);
            serving = Some(server);
        }
    }
}
