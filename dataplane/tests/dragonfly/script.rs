//! Scripts, on Lua 5.4.

use std::{cell::RefCell, collections::BTreeMap, mem};

use mlua::{Lua, Table, Value, Variadic};

use super::keyspace::{self, Keyspace, Reply};

/// Which calls of a script fail, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This one.
    Refused(usize),
    /// From this one on, every one that could need memory.
    OutOfMemory(usize),
    /// From this one on, every one.
    Stopped(usize),
}

impl Fault {
    fn hits(self, call: usize, command: &str) -> bool {
        match self {
            Self::Refused(failing) => call == failing,
            Self::OutOfMemory(first) => call >= first && keyspace::needs_memory(command),
            Self::Stopped(first) => call >= first,
        }
    }
}

/// The scripts that the server knows, and what is done to them.
#[derive(Default)]
pub(super) struct Scripts {
    /// Texts by their hash.
    known: BTreeMap<String, String>,
    pub(super) fault: Option<Fault>,
    /// The fault made a call fail.
    pub(super) failed: bool,
    pub(super) planted: Option<(&'static str, &'static str)>,
    pub(super) is_planted: bool,
}

/// A running script.
struct Running<'a> {
    keyspace: &'a mut Keyspace,
    keys: &'a [String],
    fault: Option<Fault>,
    calls: usize,
    failed: bool,
}

impl Running<'_> {
    fn call(&mut self, words: &[String]) -> Reply {
        self.calls += 1;
        if self.fault.is_some_and(|fault| fault.hits(self.calls, &words[0].to_uppercase())) {
            self.failed = true;
            return Reply::out_of_memory();
        }
        if keyspace::keys(words).iter().any(|key| !self.keys.contains(key)) {
            return Reply::error("script tried accessing undeclared key");
        }
        self.keyspace.run(words)
    }
}

impl Scripts {
    pub(super) fn learn(&mut self, text: &str) {
        self.known.insert(redis::Script::new(text).get_hash().to_owned(), text.to_owned());
    }

    pub(super) fn text_of(&self, hash: &str) -> Option<String> {
        self.known.get(hash).cloned()
    }

    /// Runs a script. `rest`: the number of keys, the keys, the arguments.
    pub(super) fn run(&mut self, keyspace: &mut Keyspace, text: &str, rest: &[String]) -> Reply {
        let mut text = text.to_owned();
        if let Some((from, to)) = self.planted {
            self.is_planted |= text.contains(from);
            text = text.replace(from, to);
        }
        let (keys, arguments) = rest[1..].split_at(rest[0].parse().unwrap());
        let running = RefCell::new(Running { keyspace, keys, fault: self.fault, calls: 0, failed: false });
        let result = evaluate(&text, arguments, &running);
        self.failed |= mem::take(&mut running.borrow_mut().failed);
        result.unwrap_or_else(|error| Reply::error(&format!("Error running script: {error}").replace('\n', " ")))
    }
}

fn evaluate(text: &str, arguments: &[String], running: &RefCell<Running<'_>>) -> mlua::Result<Reply> {
    let lua = Lua::new();
    lua.scope(|scope| {
        let redis = lua.create_table()?;
        let call =
            scope.create_function(|lua, words: Variadic<Value>| match running.borrow_mut().call(&texts(&words)) {
                Reply::Error(text) => Err(mlua::Error::runtime(format!("-{text}"))),
                reply => to_lua(lua, &reply),
            })?;
        let protected = scope
            .create_function(|lua, words: Variadic<Value>| to_lua(lua, &running.borrow_mut().call(&texts(&words))))?;
        redis.set("call", call)?;
        redis.set("pcall", protected)?;
        lua.globals().set("redis", redis)?;
        lua.globals().set("KEYS", running.borrow().keys)?;
        lua.globals().set("ARGV", arguments)?;
        from_lua(&lua.load(text).eval::<Value>()?)
    })
}

/// Arguments of a call. A script must not depend on how a server writes a float.
fn texts(words: &[Value]) -> Vec<String> {
    let text = |word: &Value| match word {
        Value::String(text) => text.to_str().unwrap().to_owned(),
        Value::Integer(number) => number.to_string(),
        other => panic!("{other:?} is neither a text nor an integer"),
    };
    words.iter().map(text).collect()
}

fn to_lua(lua: &Lua, reply: &Reply) -> mlua::Result<Value> {
    let table = |field: &str, text: &str| -> mlua::Result<Value> {
        let table = lua.create_table()?;
        table.set(field, text)?;
        Ok(Value::Table(table))
    };
    match reply {
        Reply::Status(text) => table("ok", text),
        Reply::Error(text) => table("err", &format!("-{text}")),
        Reply::Nil => Ok(Value::Boolean(false)),
        Reply::Integer(number) => Ok(Value::Integer(*number)),
        Reply::Text(text) => Ok(Value::String(lua.create_string(text)?)),
        Reply::List(items) => {
            let items = items.iter().map(|item| to_lua(lua, item)).collect::<mlua::Result<Vec<_>>>()?;
            Ok(Value::Table(lua.create_sequence_from(items)?))
        }
    }
}

/// What a script returns.
fn from_lua(value: &Value) -> mlua::Result<Reply> {
    Ok(match value {
        Value::Nil | Value::Boolean(false) => Reply::Nil,
        Value::Boolean(true) => Reply::Integer(1),
        Value::Integer(number) => Reply::Integer(*number),
        Value::String(text) => Reply::Text(text.to_str()?.to_owned()),
        Value::Table(table) => list(table)?,
        other => panic!("a script returned {other:?}"),
    })
}

fn list(table: &Table) -> mlua::Result<Reply> {
    if let Some(text) = table.get::<Option<String>>("err")? {
        return Ok(Reply::error(text.trim_start_matches("-ERR ")));
    }
    let items = table.sequence_values::<Value>().map(|item| from_lua(&item?));
    Ok(Reply::List(items.collect::<mlua::Result<_>>()?))
}
