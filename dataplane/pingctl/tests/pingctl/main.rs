//! The built `pingctl` against a running `pingd-dev`.
#![cfg(test)]

mod contexts;
mod doctor;
mod formats;
mod load;
mod programs;
mod secure;
mod watch;

use programs::{Server, free_port, pingctl};

#[test]
fn an_event_is_counted_after_its_token() {
    let server = Server::start();
    let ping = server.ctl("ping --receipt -o json").json(0);
    let token = ping["pings"][0]["token"].as_str().unwrap().to_owned();
    let count = server.ctl(&format!("count --after {token} -o json")).json(0);
    let expected = serde_json::json!(["1", true, "STORE_CACHE"]);
    assert_eq!(serde_json::json!([count["pingCount"], count["exact"], count["store"]]), expected);
    let text = server.ctl("count --strong").text(0);
    assert!(text.starts_with("1 event  exact as of 20") && text.trim_end().ends_with("(from the database)"), "{text}");
}

#[test]
fn events_with_the_same_id_are_counted_once() {
    let server = Server::start();
    let ping = "ping --id 018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f --at 2024-10-14T17:18:51Z --source a";
    assert!(server.ctl(&format!("{ping} --receipt")).text(0).contains("token"));
    assert!(server.ctl(&format!("{ping} --receipt")).text(0).contains("already acknowledged"));
    assert_eq!(server.count("--strong"), 1);
    let error = server.ctl(&format!("{ping}2 --json")).error(4);
    assert_eq!(error["error"]["code"], "already_exists");
    assert!(error["error"]["message"].as_str().unwrap().contains("send a new id"));
}

#[test]
fn an_event_whose_answer_is_late_is_sent_again_and_counted_once() {
    let server = Server::start();
    server.signal("STOP");
    let late = server.start_ctl("ping --timeout 200ms --retries 20 --json");
    std::thread::sleep(std::time::Duration::from_millis(1000));
    server.signal("CONT");
    let sent = late.wait().json(0);
    assert!(sent["retries"].as_i64().unwrap() > 0, "{sent}");
    assert_eq!(server.count("--strong"), 1);
}

#[test]
fn many_events_have_ids_of_their_own() {
    let server = Server::start();
    let sent = server.ctl("ping -n 250 --kind sale --json").json(0);
    assert_eq!((&sent["acknowledged"], sent["pings"].as_array().unwrap().len()), (&250.into(), 250));
    assert_eq!(server.count("--strong"), 250);
    assert!(server.ctl("ping -n 50").text(0).starts_with("50 events acknowledged in "));
}

#[test]
fn a_count_honours_its_range() {
    let server = Server::start();
    for at in ["2024-10-14T17:18:51Z", "2024-10-15", "1729036800000"] {
        server.ctl(&format!("ping --at {at}")).text(0);
    }
    server.ctl("ping").text(0);
    assert_eq!(server.count("--strong"), 4);
    assert_eq!(server.count("--since 1h"), 1);
    assert_eq!(server.count("--from 2024-10-14 --to 2024-10-15"), 1);
    assert_eq!(server.count("--from 2024-10-14T00:00:00+02:00 --to 2024-10-16"), 2);
    assert_eq!(server.count("--to 1729036800001"), 3);
    let backwards = server.ctl("count --from 2025-01-02 --to 2025-01-01 --json").error(4);
    assert!(backwards["error"]["message"].as_str().unwrap().contains("swap the bounds"));
    assert!(server.ctl("count --to 1970-01-01").stderr(2).contains("an end of 0 means no end"));
    assert!(server.ctl("ping --at 0").stderr(2).contains("0 means now"));
    assert_eq!(server.count("--strong"), 4);
}

#[test]
fn a_refused_event_says_why_and_exits_with_4() {
    let server = Server::start();
    let error = server.ctl("ping --at 1728926331").stderr(4);
    assert!(error.contains("refused") && error.contains("not seconds"), "{error}");
    assert!(server.ctl("ping --at -5").stderr(4).contains("negative"));
    assert_eq!(server.count("--strong"), 0);
}

#[test]
fn a_token_that_is_not_counted_in_time_exits_with_1() {
    let server = Server::start();
    let sent = server.ctl("ping --receipt --json").json(0);
    let token = sent["pings"][0]["token"].as_str().unwrap();
    let (place, number) = token.rsplit_once(['-', ':', '.', '/']).unwrap();
    let separator = &token[place.len()..=place.len()];
    let later = number.parse::<u64>().unwrap() + 1_000_000;
    let error = server.ctl(&format!("count --after {place}{separator}{later} --timeout 200ms --json")).error(1);
    assert_eq!(error["error"]["code"], "deadline_exceeded");
    server.ctl("count --after nonsense").stderr(4);
}

#[test]
fn verifying_a_correct_count_exits_with_0() {
    let server = Server::start();
    server.ctl("ping -n 1234").text(0);
    let text = server.verify("").text(0);
    assert!(text.contains("1,234") && text.contains("all counts agree"), "{text}");
    let proof = server.verify("-o json").json(0);
    let expected = serde_json::json!([true, "1234", "1234"]);
    assert_eq!(serde_json::json!([proof["exact"], proof["rows"], proof["cacheTotal"]]), expected);
}

#[test]
fn no_server_at_the_address_exits_with_3() {
    let port = free_port();
    for command in ["ping", "count", "verify"] {
        let admin = if command == "verify" { format!("--admin-addr localhost:{port}") } else { String::new() };
        let output = pingctl(&format!("{command} {admin} --addr localhost:{port} --retries 1"));
        let error = output.stderr(3);
        assert!(error.contains("cannot reach") && error.contains("refused") && error.contains("pingd dev"), "{error}");
        let output = pingctl(&format!("{command} {admin} --addr localhost:{port} --retries 0 -o json"));
        assert_eq!(output.error(3)["error"]["code"], "unavailable");
    }
}

#[test]
fn an_invalid_command_line_exits_with_2() {
    let lines = [
        "",
        "pong",
        "ping -n 0",
        "ping --id one",
        "count --since 1h --from 2024-01-01",
        "count --since 5",
        "ping --addr ftp://x",
    ];
    for line in lines {
        pingctl(line).stderr(2);
    }
    let not_a_uuid = pingctl("ping --id abc").stderr(2);
    assert!(not_a_uuid.contains("not a UUID; write one like 018f4e3c-"), "{not_a_uuid}");
    let error = pingctl("count --from yesterday -o json").error(2);
    assert_eq!(error["error"]["code"], "usage");
    assert!(error["error"]["message"].as_str().unwrap().contains("2026-01-31"), "{error}");
}

#[test]
fn help_documents_the_exit_codes() {
    let help = pingctl("--help").text(0);
    for line in
        ["0  success", "1  check failed", "2  invalid command line", "3  the server is un", "4  the server refused"]
    {
        assert!(help.contains(line), "{line} is not in {help}");
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(pingctl(&format!("completions {shell}")).text(0).contains("verify"));
    }
}

#[test]
fn sources_have_stats_a_rank_and_a_series() {
    let server = Server::start();
    server.ctl("ping -n 3 --source example.com --kind succeeded").text(0);
    server.ctl("ping --source other.com").text(0);
    let begun = std::time::Instant::now();
    let known = |source: &str, expected: &str| {
        loop {
            let stats = server.ctl(&format!("source {source} --json")).json(0);
            if stats["count"] == *expected {
                break stats;
            }
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{stats}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    known("other.com", "1");
    let stats = known("example.com", "3");
    assert_eq!((&stats["last24h"], &stats["kinds"][0]["kind"]), (&"3".into(), &"succeeded".into()));
    assert!(server.ctl("source example.com").text(0).contains("3 events"));
    // The first answer is from the store, which has the counts.
    let status = server.ctl("status example.com --json").json(0);
    assert_eq!((&status["positiveEvents"], &status["verdict"]), (&"3".into(), &"VERDICT_UNKNOWN".into()));
    assert_eq!(server.ctl("status example.com").text(0).trim(), "unknown");
    assert!(server.ctl("source nobody.example").text(0).contains("no events from nobody.example"));
    let top = server.ctl("top -n 1 --json").json(0);
    assert_eq!(top["sources"], serde_json::json!([{"source": "example.com", "count": "3"}]));
    assert!(server.ctl("top --since 1h").text(0).contains("other.com"));
    let series = server.ctl("series example.com --since 1h --json").json(0);
    let points = series["points"].as_array().unwrap();
    assert_eq!(points.iter().map(|point| point["count"].as_str().unwrap().parse::<i64>().unwrap()).sum::<i64>(), 3);
    assert!((12..=13).contains(&points.len()), "{series}");
    assert!(server.ctl("series --step hour").text(0).contains("interval"));
}

#[test]
fn a_status_has_three_states_for_pingctl_and_for_curl() {
    let server = Server::start();
    let becomes = |status: &str, last: bool| {
        let started = std::time::Instant::now();
        while server.ctl("status example.com").text(0).trim() != status {
            assert!(started.elapsed().as_secs() < 180, "not {status}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let answer = server.curl("SourceService/GetStatus", r#"{"source": "example.com"}"#);
        assert_eq!((&answer["status"], &answer["final"]), (&status.into(), &last.into()), "{answer}");
        assert_eq!(server.ctl("status example.com --json").json(0)["final"], last);
    };
    becomes("unknown", false);
    server.ctl("ping -n 1000 --source example.com --kind succeeded").text(0);
    becomes("positive", false);
    server.ctl("ping --source example.com --kind failed").text(0);
    becomes("negative", true);
    server.ctl("ping -n 1000 --source example.com --kind succeeded").text(0);
    becomes("negative", true);
}

#[test]
fn a_wrong_event_is_revoked_and_a_status_that_is_not_negative_is_not() {
    let server = Server::start();
    let admin = format!("--admin-addr 127.0.0.1:{}", server.admin_port());
    let becomes = |status: &str| {
        let started = std::time::Instant::now();
        while server.ctl("status example.com").text(0).trim() != status {
            assert!(started.elapsed().as_secs() < 180, "not {status}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let error = server.ctl(&format!("revoke example.com {admin} --json")).error(4);
    assert_eq!(error["error"]["code"], "failed_precondition");
    server.ctl("ping --source example.com --kind failed").text(0);
    becomes("negative");
    let text = server.ctl(&format!("revoke example.com --reason test {admin}")).text(0);
    assert!(
        text.starts_with("revoked: 1 event until 20") && text.contains("no longer count against example.com"),
        "{text}"
    );
    becomes("unknown");
    server.ctl("ping --source example.com --kind failed").text(0);
    becomes("negative");
    let answer = server.ctl(&format!("revoke example.com {admin} --json")).json(0);
    assert_eq!(answer["revokedEvents"], "2");
    becomes("unknown");
}

#[test]
fn dead_letters_are_listed_and_nothing_is_resent_that_is_not_specified() {
    let server = Server::start();
    let letters = |arguments: &str| {
        server.ctl(&format!("dead-letters {arguments} --admin-addr 127.0.0.1:{}", server.admin_port()))
    };
    assert_eq!(
        letters("--since 1h --reason x --json").json(0),
        serde_json::json!({"letters": [], "nextPageToken": ""})
    );
    assert_eq!(letters("").text(0), "sent\treason\tplace\tevent id\tsource\tkind\n");
    assert_eq!(letters(&format!("--reason {} --json", "x".repeat(256))).error(4)["error"]["code"], "invalid_argument");
    assert!(letters("resend --yes").stderr(2).contains("add --place TOPIC/PARTITION/OFFSET"));
    assert!(letters("resend --place pings").stderr(2).contains("write one like pings/0/42"));
    assert!(letters("resend --place pings/0/42").stderr(2).contains("no dead letter with the place pings/0/42"));
    assert_eq!(letters("resend --reason x").text(0), "recorded: 0; recorded before: 0; refused: 0\n");
    assert!(letters("--limit 0").stderr(2).contains("--limit"));
}
