//! Scripts and their arguments. All keys are declared, no script reads a clock, and nothing is newer than Redis 7.0, so that
//! Dragonfly and Valkey run them as well.

use redis::Cmd;

use super::layout::{self, Fields};
use ping_core::Generation;
use ping_ports::Flush;

/// A script. Once it has run, the server knows it by its hash.
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }

    /// Calls the script by its hash.
    pub(super) fn call(&self, keys: &[impl AsRef<str>], arguments: &impl Fn(&mut Cmd)) -> Cmd {
        Self::invoke("EVALSHA", &self.hash, keys, arguments)
    }

    /// Calls the script by its text, which also teaches the server the hash.
    pub(super) fn call_with_text(&self, keys: &[impl AsRef<str>], arguments: &impl Fn(&mut Cmd)) -> Cmd {
        Self::invoke("EVAL", self.text, keys, arguments)
    }

    fn invoke(name: &str, script: &str, keys: &[impl AsRef<str>], arguments: &impl Fn(&mut Cmd)) -> Cmd {
        let mut command = Cmd::with_capacity(64, 1_024);
        command.arg(name).arg(script).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        arguments(&mut command);
        command
    }
}

/// The scripts of the counters.
pub(super) struct Scripts {
    pub(super) apply: Script,
    pub(super) install: Script,
    pub(super) mark_suspect: Script,
    pub(super) audited: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            apply: Script::new(include_str!("apply.lua")),
            install: Script::new(include_str!("install.lua")),
            mark_suspect: Script::new(include_str!("mark_suspect.lua")),
            audited: Script::new(include_str!("audited.lua")),
        }
    }
}

/// The arguments of `apply.lua`: a header, then lists whose lengths are in the header.
pub(super) fn apply(command: &mut Cmd, flush: &Flush) {
    let advance = &flush.advance;
    command.arg(&advance.generation).arg(flush.total).arg(flush.now.0).arg(flush.now.back(flush.window).0);
    match advance.as_of {
        Some(as_of) => command.arg(as_of).arg(advance.partitions),
        None => command.arg("").arg(0),
    };
    command.arg(advance.from.len()).arg(advance.to.len()).arg(advance.marks.len()).arg(flush.minutes.len());
    for partition in advance.from.keys() {
        command.arg(layout::offset(*partition));
    }
    for offset in advance.from.values() {
        command.arg(offset);
    }
    for (partition, offset) in &advance.to {
        command.arg(layout::offset(*partition)).arg(offset);
    }
    for (writer, partition) in advance.marks.keys() {
        command.arg(layout::base(*writer)).arg(layout::mark(*writer, *partition));
    }
    for seq in advance.marks.values() {
        command.arg(seq);
    }
    for (minute, count) in &flush.minutes {
        command.arg(minute.0).arg(count);
    }
}

/// The arguments of `install.lua`: the generation to replace, then the content of every key.
pub(super) fn install(command: &mut Cmd, seen: Option<&Generation>, contents: &[Fields]) {
    command.arg(seen.map_or("", String::as_str));
    for pairs in contents {
        command.arg(pairs.len());
        for (field, value) in pairs {
            command.arg(field).arg(value);
        }
    }
}
