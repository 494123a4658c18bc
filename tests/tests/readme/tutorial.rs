//! The tutorials without containers, each from an empty folder.

use std::{collections::BTreeMap, fs, path::Path};

use Step::{Kills, Prints, Restarts, Serves};

use crate::{Running, Shell, commands, page, root};

const INSTALL: &str = "make install";
const SERVER: &str = "pingd-dev";

/// A step of a page. Commands are named by how they begin.
enum Step {
    /// A command, and a part of what it prints in the end.
    Prints(&'static str, &'static str),
    /// A command that runs until it is stopped, and its port.
    Serves(&'static str, u16),
    /// The page says in words to stop it, or to kill it.
    Kills(&'static str),
    /// The page says in words to start it again.
    Restarts(&'static str, u16),
}

const EMBEDDED: &str = "docs/tutorials/embedded.md";
const EMBEDDED_STEPS: [Step; 15] = [
    Serves(SERVER, 8080),
    Prints("pingctl ping", ""),
    Prints("pingctl count", "1"),
    Prints("curl -s localhost:8080/ping.v1.EventService/Record ", "{}"),
    Prints("curl -s localhost:8080/ping.v1.PingService/PingCount ", r#""pingCount":"2""#),
    Prints("curl -s localhost:8080/ping.v1.EventService/Record ", "{}"),
    Prints("curl -s localhost:8080/ping.v1.EventService/Record ", "{}"),
    Prints("pingctl count", "3"),
    Prints("pingctl source shop.example", "1"),
    Prints("pingctl status shop.example", "negative"),
    Kills(SERVER),
    Restarts(SERVER, 8080),
    Prints("pingctl count", "3"),
    Prints("pingctl verify", "3"),
    Prints("sqlite3 ", "2"),
];

const DASHBOARD: &str = "docs/tutorials/dashboard.md";
const DASHBOARD_STEPS: [Step; 11] = [
    Serves(SERVER, 8080),
    Prints("cp ", ""),
    Prints("promtool check config ", "SUCCESS"),
    Serves("prometheus ", 9090),
    Prints("pingctl load ", "latency"),
    Prints("promtool query instant http://localhost:9090 'sum by (job) (rate(", r#"{job="demo"} => "#),
    Prints("promtool query instant http://localhost:9090 'time() - ", r#"{job="demo"} => "#),
    Kills(SERVER),
    Prints("promtool query instant http://localhost:9090 'ALERTS{", r#"alertstate="pending""#),
    Serves(SERVER, 8080),
    Prints("promtool query instant http://localhost:9090 'up{", "=> 1 @"),
];

pub(super) fn all() {
    assert!(page(EMBEDDED).contains(&format!("\n{INSTALL}\n")));
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("prefix");
    Shell::default().output(&format!("{INSTALL} PREFIX={}", prefix.display()));

    let shell = in_empty_folder(folder.path(), "embedded");
    follow(EMBEDDED, &shell, &EMBEDDED_STEPS);

    let shell = in_empty_folder(folder.path(), "dashboard");
    let text = page(DASHBOARD);
    let (_, configuration) = text.split_once("```yaml\n").unwrap();
    fs::write(shell.folder.join("prometheus.yaml"), configuration.split_once("```").unwrap().0).unwrap();
    follow(DASHBOARD, &shell, &DASHBOARD_STEPS);
}

/// A shell in the new folder `name` of `home`, which also has the installed programs.
fn in_empty_folder(home: &Path, name: &str) -> Shell {
    let folder = home.join(name);
    fs::create_dir(&folder).unwrap();
    let path = format!("{}:{}", home.join("prefix/bin").display(), std::env::var("PATH").unwrap());
    let variables =
        [("PATH", path), ("HOME", home.display().to_string()), ("CLONE", root().display().to_string())].into_iter();
    Shell { variables: variables.map(|(name, value)| (name.to_owned(), value)).collect(), folder }
}

/// Runs every command of the page, and nothing else.
fn follow(path: &str, shell: &Shell, steps: &[Step]) {
    let documented = commands(path);
    let mut documented = documented.iter();
    let mut next = |start: &str| {
        let command = documented.next().unwrap_or_else(|| panic!("{path} lacks {start}…"));
        assert!(command.starts_with(start), "{path} has {command} instead of {start}…");
        command
    };
    let mut serving = BTreeMap::new();
    for step in steps {
        match *step {
            Prints(start, expected) => shell.eventually(next(start), expected),
            Serves(start, port) => {
                serving.insert(start, listening(shell, next(start), port));
            }
            Kills(start) => serving.get_mut(start).unwrap().kill_9(),
            Restarts(start, port) => {
                serving.insert(start, listening(shell, start, port));
            }
        }
    }
    assert_eq!(documented.next(), None, "{path} has more commands");
}

fn listening(shell: &Shell, command: &str, port: u16) -> Running {
    let mut running = shell.start(command);
    running.wait_for(port);
    running
}
