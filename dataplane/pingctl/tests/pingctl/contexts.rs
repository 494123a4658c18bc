//! Contexts and login: where credentials come from, and what others on the machine can see of them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    programs::{Finished, Server, pingctl_with},
    secure::{Secured, TOKEN},
};

/// A user with a configuration of their own.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("pingctl/config.yaml")
    }

    fn token(&self, context: &str) -> PathBuf {
        self.home.path().join("pingctl/tokens").join(context)
    }

    fn ctl(&self, arguments: &[&str]) -> Finished {
        self.ctl_with_input(arguments, "")
    }

    fn ctl_with_input(&self, arguments: &[&str], input: &str) -> Finished {
        pingctl_with(arguments, &self.config(), input)
    }

    /// Logs in as the context `prod`, with the token on standard input.
    fn log_in(&self, secured: &Secured) -> Finished {
        let (address, ca) = (secured.address(), secured.path("tls.crt"));
        self.ctl_with_input(&["login", "prod", "--addr", &address, "--ca", &ca], &format!("{TOKEN}\n"))
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn message(finished: &Finished, code: i32) -> String {
    finished.error(code)["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn after_a_login_commands_need_no_options() {
    let (secured, user) = (Secured::start(), User::new());
    let text = user.log_in(&secured).text(0);
    assert!(text.contains("logged in to https://127.0.0.1:") && text.contains("prod is the current context"), "{text}");
    user.ctl(&["ping", "--source", "a"]).text(0);
    assert_eq!(user.ctl(&["count", "--strong", "--json"]).json(0)["pingCount"], "1");
    let admin = format!("https://127.0.0.1:{}", secured.server.admin_port());
    user.ctl(&["context", "set", "prod", "--admin-addr", &admin]).text(0);
    assert_eq!(user.ctl(&["verify", "--json"]).json(0)["exact"], true);
}

#[test]
fn a_token_is_stored_for_its_owner_only_and_shown_nowhere() {
    let (secured, user) = (Secured::start(), User::new());
    let login = user.log_in(&secured).text(0);
    assert_eq!((mode(&user.token("prod")), mode(&user.config())), (0o600, 0o600));
    assert_eq!(mode(user.token("prod").parent().unwrap()), 0o700);
    assert_eq!(fs::read_to_string(user.token("prod")).unwrap().trim(), TOKEN);
    let config = fs::read_to_string(user.config()).unwrap();
    let shown =
        [user.ctl(&["context", "list"]), user.ctl(&["context", "show"]), user.ctl(&["context", "list", "--json"])];
    for text in shown.iter().map(|finished| finished.text(0)).chain([login, config]) {
        assert!(!text.contains(TOKEN), "{text}");
    }
    // There is no option that would take it, and so would show it to other users of the machine.
    let error = user.ctl(&["count", "--token", TOKEN]).stderr(2);
    assert!(error.contains("unexpected argument '--token'"), "{error}");
    fs::set_permissions(user.token("prod"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = message(&user.ctl(&["count", "--json"]), 2);
    assert!(
        error.contains("others may read the token of context prod") && error.contains("pingctl login prod"),
        "{error}"
    );
}

#[test]
fn a_login_that_the_server_refuses_changes_nothing() {
    let (secured, user) = (Secured::start(), User::new());
    user.log_in(&secured).text(0);
    let before = fs::read_to_string(user.config()).unwrap();
    let (address, ca) = (secured.address(), secured.path("tls.crt"));
    let login = ["login", "prod", "--json", "--retries", "0", "--addr", &address, "--ca", &ca];
    let error = user.ctl_with_input(&login, "another-token").error(4);
    assert_eq!(error["error"]["code"], "unauthenticated");
    for input in ["", " \n", "two tokens"] {
        let error = message(&user.ctl_with_input(&login, input), 2);
        assert!(error.contains("standard input has no token"), "{error}");
    }
    let unreachable = ["login", "prod", "--json", "--retries", "0", "--addr", "https://127.0.0.1:1", "--ca", &ca];
    assert!(message(&user.ctl_with_input(&unreachable, TOKEN), 3).contains("cannot reach"));
    let plaintext = ["login", "prod", "--json", "--addr", "http://192.0.2.1:1"];
    assert!(message(&user.ctl_with_input(&plaintext, TOKEN), 2).contains("in plaintext"));
    assert_eq!(fs::read_to_string(user.config()).unwrap(), before);
    assert_eq!(fs::read_dir(user.token("prod").parent().unwrap()).unwrap().count(), 1);
    user.ctl(&["count"]).text(0);
}

#[test]
fn a_token_of_a_context_is_not_sent_to_a_server_that_the_command_line_names() {
    let (secured, user) = (Secured::start(), User::new());
    user.log_in(&secured).text(0);
    let (address, ca) = (secured.address(), secured.path("tls.crt"));
    let error = message(&user.ctl(&["count", "--json", "--addr", &address, "--ca", &ca]), 4);
    assert!(error.contains("the current context is not used: add --context NAME"), "{error}");
    user.ctl(&["count", "--addr", &address, "--context", "prod"]).text(0);
    let open = Server::start();
    user.ctl(&["count", "--addr", &format!("http://127.0.0.1:{}", open.port())]).text(0);
}

#[test]
fn a_command_or_a_file_of_the_users_own_gives_the_token() {
    let (secured, user) = (Secured::start(), User::new());
    let (address, ca, token) = (secured.address(), secured.path("tls.crt"), secured.path("token"));
    let common = ["--addr", &address, "--ca", &ca];
    let command = format!("cat {token}");
    user.ctl(&[&["login", "by-command", "--token-command", &command], &common[..]].concat()).text(0);
    user.ctl(&["count"]).text(0);
    user.ctl(&[&["login", "by-file", "--token-file", &token], &common[..]].concat()).text(0);
    user.ctl(&["count"]).text(0);
    assert!(!user.token("by-command").exists() && !user.token("by-file").exists());
    for (command, cause) in [
        ("echo no >&2; exit 3", "exit status: 3: no"),
        ("true", "empty"),
        ("echo two tokens", "other characters than a token"),
        ("printf '\\377'", "other characters than a token"),
    ] {
        user.ctl(&["context", "set", "broken", "--addr", &address, "--token-command", command]).text(0);
        let error = message(&user.ctl(&["count", "--json", "--context", "broken"]), 4);
        assert!(error.contains("there is no token to send") && error.contains(cause), "{command}: {error}");
    }
    let error = message(&user.ctl(&["logout", "by-file", "--json"]), 2);
    assert!(error.contains("was not stored by `pingctl login`") && error.contains(&token), "{error}");
}

#[test]
fn contexts_are_listed_chosen_changed_and_deleted() {
    let (secured, user) = (Secured::start(), User::new());
    assert!(user.ctl(&["context", "list"]).text(0).contains("pingctl login"));
    user.log_in(&secured).text(0);
    let set = [
        "context",
        "set",
        "other",
        "--addr",
        "http://localhost:7",
        "--ca",
        "ca.crt",
        "--timeout",
        "2s",
        "--retries",
        "0",
    ];
    let shown = user.ctl(&set).text(0);
    let absolute = std::env::current_dir().unwrap().join("ca.crt");
    assert!(shown.contains(&format!("ca: {}", absolute.display())) && shown.contains("timeout: 2s"), "{shown}");
    let current = || {
        let list = user.ctl(&["config", "list", "--json"]).json(0);
        let contexts = list["contexts"].as_array().unwrap().clone();
        contexts.into_iter().find(|context| context["current"] == true).map(|context| context["name"].clone())
    };
    assert_eq!(current().unwrap(), "prod");
    user.ctl(&["context", "use", "other"]).text(0);
    assert_eq!(current().unwrap(), "other");
    let error = message(&user.ctl(&["count", "--json"]), 3);
    assert!(error.contains("cannot reach http://localhost:7 (context other)"), "{error}");
    user.ctl(&["logout", "prod"]).text(0);
    assert!(!user.token("prod").exists());
    assert_eq!(user.ctl(&["count", "--json", "--context", "prod"]).error(4)["error"]["code"], "unauthenticated");
    user.log_in(&secured).text(0);
    user.ctl(&["context", "delete", "prod"]).text(0);
    assert!(!user.token("prod").exists() && current().is_none());
}

#[test]
fn mistakes_are_refused_with_a_fix() {
    let (secured, user) = (Secured::start(), User::new());
    user.log_in(&secured).text(0);
    for (arguments, words) in [
        (&["count", "--context", "prd"][..], "there is no context \"prd\""),
        (&["context", "use", "prd"], "there are prod"),
        (&["context", "set", "a/b", "--addr", "http://x"], "cannot be the name of a context"),
        (&["context", "set", "new"], "nothing to set"),
        (&["context", "set", "new", "--ca", "x"], "--addr https://HOST:PORT"),
        (&["login", "new"], "has no server yet"),
    ] {
        let error = message(&user.ctl(&[arguments, &["--json"]].concat()), 2);
        assert!(error.contains(words), "{arguments:?}: {error}");
    }
    let set = |text: &str, mode: u32| {
        fs::write(user.config(), text).unwrap();
        fs::set_permissions(user.config(), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("contexts: {a: {addr: 'ftp://x'}}", 0o600);
    assert!(message(&user.ctl(&["count", "--json"]), 2).contains("\"ftp\" is not a scheme"));
    set("contexts: {a: {address: 'http://x'}}", 0o600);
    assert!(message(&user.ctl(&["count", "--json"]), 2).contains("unknown field `address`"));
    set("current: gone", 0o600);
    assert!(message(&user.ctl(&["count", "--json"]), 2).contains("there is no context \"gone\""));
    set("contexts: {}", 0o666);
    let error = message(&user.ctl(&["count", "--json"]), 2);
    assert!(error.contains("others may change the configuration") && error.contains("chmod go-w"), "{error}");
    // A server on the command line needs no configuration.
    let open = Server::start();
    user.ctl(&["count", "--addr", &format!("http://127.0.0.1:{}", open.port())]).text(0);
}
