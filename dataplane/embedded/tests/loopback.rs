//! The embedded mode has no credentials, so by default it listens on loopback only.
#![cfg(test)]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

/// All listening sockets of process `id` in the format of `/proc/net/tcp`: address and port in hexadecimal.
fn listening(id: u32) -> Vec<String> {
    let sockets: Vec<_> = std::fs::read_dir(format!("/proc/{id}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned()))
        .collect();
    let table =
        ["tcp", "tcp6"].map(|file| std::fs::read_to_string(format!("/proc/{id}/net/{file}")).unwrap_or_default());
    let rows =
        table.iter().flat_map(|table| table.lines().skip(1)).map(|row| row.split_whitespace().collect::<Vec<_>>());
    // Column 3 is the state, 0A for listening; column 9 the inode.
    rows.filter(|row| row[3] == "0A" && sockets.iter().any(|inode| *inode == row[9]))
        .map(|row| row[1].to_owned())
        .collect()
}

#[test]
fn by_default_both_ports_are_on_loopback_only() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_pingd-dev"))
        .arg("--memory")
        .args(["--log", "off"])
        .env_clear()
        // Any free port, because a developer's own server may use 8080; only the address is tested.
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut greeting = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
    let addresses = listening(process.id());
    process.kill().unwrap();
    let output = process.wait_with_output().unwrap();
    if greeting.is_empty() {
        // Port 8081 is taken. The error must still name the loopback address.
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains("127.0.0.1:8081"), "{message}");
        return;
    }
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    assert!(addresses.iter().all(|address| address.starts_with("0100007F:")), "{addresses:?}");
}
