//! Scripts and what they are called with. All keys are declared, no script reads a clock, nothing is newer than Redis 7.0:
//! Dragonfly and Valkey run them, too.

use redis::Cmd;

use super::layout::{self, Fields};
use ping_core::Generation;
use ping_ports::Flush;

/// A script, known to the server by its hash once it has run.
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }

    /// The call by hash.
    pub(super) fn call(&self, keys: &[impl AsRef<str>], arguments: &impl Fn(&mut Cmd)) -> Cmd {
        Self::invoke("EVALSHA", &self.hash, keys, arguments)
    }

    /// The call by text, from which the server learns the hash.
    pub(super) fn introduce(&self, keys: &[impl AsRef<str>], arguments: &impl Fn(&mut Cmd)) -> Cmd {
        Self::invoke("EVAL", self.text, keys, arguments)
    }

    fn invoke(how: &str, what: &str, keys: &[impl AsRef<str>], arguments: &impl Fn(&mut Cmd)) -> Cmd {
        let mut command = Cmd::with_capacity(64, 1_024);
        command.arg(how).arg(what).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        arguments(&mut command);
        command
    }
}

/// All of them.
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

/// What `apply.lua` reads: a head, then lists whose lengths the head gives.
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

/// What `install.lua` reads: the generation to replace, then the content of every key.
pub(super) fn install(command: &mut Cmd, seen: Option<&Generation>, contents: &[Fields]) {
    command.arg(seen.map_or("", String::as_str));
    for pairs in contents {
        command.arg(pairs.len());
        for (field, value) in pairs {
            command.arg(field).arg(value);
        }
    }
}
