//! Scripts and their arguments. All keys are declared, and nothing is newer than Redis 7.0, so that Dragonfly and Valkey run them as well.

use redis::Cmd;

use super::layout::Fields;
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

/// The arguments of `apply.lua`. Each list is one text, because Dragonfly accepts at most 65,536 words per command.
pub(super) fn apply(command: &mut Cmd, flush: &Flush) {
    let advance = &flush.advance;
    command.arg(&advance.generation).arg(flush.total).arg(flush.now.0).arg(flush.now.back(flush.window).0);
    match advance.as_of {
        Some(as_of) => command.arg(as_of).arg(advance.partitions),
        None => command.arg("").arg(0),
    };
    command.arg(words(advance.from.iter().map(|(partition, offset)| format!("{partition} {offset}"))));
    command.arg(words(advance.to.iter().map(|(partition, offset)| format!("{partition} {offset}"))));
    command.arg(words(advance.marks.iter().map(|((writer, partition), seq)| format!("{writer} {partition} {seq}"))));
    command.arg(words(flush.minutes.iter().map(|(minute, count)| format!("{} {count}", minute.0))));
}

/// The arguments of `install.lua`: the generation to replace, the new one, then the content of every key, each as one text.
pub(super) fn install(command: &mut Cmd, seen: Option<&Generation>, new: &Generation, contents: &[Fields]) {
    command.arg(seen.map_or("", String::as_str)).arg(new);
    for pairs in contents {
        command.arg(words(pairs.iter().map(|(field, value)| format!("{field} {value}"))));
    }
}

/// One text of words. They are numbers and names of fields, so none contains a space.
fn words(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(" ")
}
