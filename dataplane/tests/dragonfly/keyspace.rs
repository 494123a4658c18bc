//! Keys, and the commands that the cache uses on them.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// All keys. They expire only if `SET` says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Keyspace {
    keys: BTreeMap<String, Entry>,
    /// When keys expire, in milliseconds of the clock.
    expiries: BTreeMap<String, i64>,
    /// The time in milliseconds, if the clock stands still.
    pub(super) stopped_at: Option<i64>,
    pub(super) full: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Text(String),
    Hash(BTreeMap<String, String>),
    /// Members with their scores.
    SortedSet(BTreeMap<String, i64>),
}

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Status(&'static str),
    Nil,
    Integer(i64),
    Text(String),
    List(Vec<Reply>),
    /// With its code.
    Error(String),
}

/// Commands that a full server refuses. `INCRBY` and all deletions are not among them.
const NEEDS_MEMORY: [&str; 4] = ["HSET", "HINCRBY", "ZADD", "SET"];

impl Reply {
    pub(super) fn error(text: &str) -> Self {
        Self::Error(format!("ERR {text}"))
    }

    pub(super) fn out_of_memory() -> Self {
        Self::error("Out of memory")
    }

    /// Appends it to `bytes` as it is sent.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let line = match self {
            Self::Status(text) => format!("+{text}\r\n"),
            Self::Nil => "$-1\r\n".into(),
            Self::Integer(number) => format!(":{number}\r\n"),
            Self::Text(text) => format!("${}\r\n{text}\r\n", text.len()),
            Self::List(items) => format!("*{}\r\n", items.len()),
            Self::Error(text) => format!("-{text}\r\n"),
        };
        bytes.extend(line.into_bytes());
        if let Self::List(items) = self {
            items.iter().for_each(|item| item.encode(bytes));
        }
    }
}

impl From<Option<String>> for Reply {
    fn from(value: Option<String>) -> Self {
        value.map_or(Self::Nil, Self::Text)
    }
}

impl From<bool> for Reply {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

fn count(number: usize) -> Reply {
    Reply::Integer(i64::try_from(number).unwrap())
}

/// The keys of a command.
pub(super) fn keys(words: &[String]) -> &[String] {
    match words[0].to_uppercase().as_str() {
        "DEL" | "MGET" => &words[1..],
        "TIME" => &[],
        _ => &words[1..2],
    }
}

pub(super) fn needs_memory(command: &str) -> bool {
    NEEDS_MEMORY.contains(&command)
}

impl Keyspace {
    fn hash(&self, key: &str) -> BTreeMap<String, String> {
        match self.keys.get(key) {
            Some(Entry::Hash(fields)) => fields.clone(),
            None => BTreeMap::new(),
            Some(other) => panic!("{key} is {other:?}"),
        }
    }

    fn hash_mut(&mut self, key: &str) -> &mut BTreeMap<String, String> {
        match self.keys.entry(key.into()).or_insert_with(|| Entry::Hash(BTreeMap::new())) {
            Entry::Hash(fields) => fields,
            other => panic!("{key} is {other:?}"),
        }
    }

    fn set_mut(&mut self, key: &str) -> &mut BTreeMap<String, i64> {
        match self.keys.entry(key.into()).or_insert_with(|| Entry::SortedSet(BTreeMap::new())) {
            Entry::SortedSet(members) => members,
            other => panic!("{key} is {other:?}"),
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        match self.keys.get(key)? {
            Entry::Text(text) => Some(text.clone()),
            other => panic!("{key} is {other:?}"),
        }
    }

    fn now(&self) -> i64 {
        let since_epoch = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        self.stopped_at.unwrap_or_else(|| i64::try_from(since_epoch()).unwrap())
    }

    fn expire(&mut self) {
        let now = self.now();
        let Self { keys, expiries, .. } = self;
        expiries.retain(|key, at| {
            if *at <= now {
                keys.remove(key);
            }
            *at > now && keys.contains_key(key)
        });
    }

    /// Runs a command.
    pub(super) fn run(&mut self, words: &[String]) -> Reply {
        let name = words[0].to_uppercase();
        if self.full && needs_memory(&name) {
            return Reply::out_of_memory();
        }
        self.expire();
        let reply = self.run_on_text(&name, words).or_else(|| self.run_on_hash(&name, words));
        let reply = reply.or_else(|| self.run_on_set(&name, words));
        self.keys.retain(|_, entry| match entry {
            Entry::Text(_) => true,
            Entry::Hash(fields) => !fields.is_empty(),
            Entry::SortedSet(members) => !members.is_empty(),
        });
        reply.unwrap_or_else(|| Reply::error(&format!("unknown command `{name}`")))
    }

    fn run_on_text(&mut self, name: &str, words: &[String]) -> Option<Reply> {
        Some(match (name, &words[1..]) {
            ("PING", _) => Reply::Status("PONG"),
            ("GET", [key]) => self.text(key).into(),
            ("MGET", keys) => Reply::List(keys.iter().map(|key| self.text(key).into()).collect()),
            ("TIME", []) => {
                let parts = [self.now() / 1_000, self.now() % 1_000 * 1_000];
                Reply::List(parts.map(Reply::Integer).into())
            }
            ("SET", [key, value, expiry @ ..]) => {
                self.keys.insert(key.clone(), Entry::Text(value.clone()));
                self.expiries.remove(key);
                if let [unit, number] = expiry {
                    let millis = if unit == "PX" { 1 } else { 1_000 };
                    self.expiries.insert(key.clone(), self.now() + number.parse::<i64>().unwrap() * millis);
                }
                Reply::Status("OK")
            }
            ("INCRBY", [key, by]) => {
                let number = self.text(key).map_or(0, |text| text.parse::<i64>().unwrap()) + by.parse::<i64>().unwrap();
                self.keys.insert(key.clone(), Entry::Text(number.to_string()));
                Reply::Integer(number)
            }
            ("DEL", keys) => count(keys.iter().filter(|key| self.keys.remove(*key).is_some()).count()),
            ("EXPIRE", [key, _]) => self.keys.contains_key(key).into(),
            _ => return None,
        })
    }

    fn run_on_hash(&mut self, name: &str, words: &[String]) -> Option<Reply> {
        Some(match (name, &words[1..]) {
            ("HGET", [key, field]) => self.hash(key).remove(field).into(),
            ("HMGET", [key, fields @ ..]) => {
                let hash = self.hash(key);
                Reply::List(fields.iter().map(|field| hash.get(field).cloned().into()).collect())
            }
            ("HGETALL", [key]) => {
                let pairs = self.hash(key).into_iter().flat_map(|(field, value)| [field, value]);
                Reply::List(pairs.map(Reply::Text).collect())
            }
            ("HKEYS", [key]) => Reply::List(self.hash(key).into_keys().map(Reply::Text).collect()),
            ("HEXISTS", [key, field]) => self.hash(key).contains_key(field).into(),
            ("HLEN", [key]) => count(self.hash(key).len()),
            ("HSET", [key, pairs @ ..]) => {
                assert!(!pairs.is_empty() && pairs.len().is_multiple_of(2), "{words:?}");
                let hash = self.hash_mut(key);
                let is_new = |pair: &[String]| hash.insert(pair[0].clone(), pair[1].clone()).is_none();
                count(pairs.chunks(2).map(is_new).filter(|is_new| *is_new).count())
            }
            ("HDEL", [key, fields @ ..]) => {
                let hash = self.hash_mut(key);
                count(fields.iter().filter(|field| hash.remove(*field).is_some()).count())
            }
            ("HINCRBY", [key, field, by]) => {
                let value = self.hash_mut(key).entry(field.clone()).or_insert_with(|| "0".into());
                let number = value.parse::<i64>().unwrap() + by.parse::<i64>().unwrap();
                *value = number.to_string();
                Reply::Integer(number)
            }
            _ => return None,
        })
    }

    fn run_on_set(&mut self, name: &str, words: &[String]) -> Option<Reply> {
        Some(match (name, &words[1..]) {
            ("ZADD", [key, pairs @ ..]) => {
                assert!(!pairs.is_empty() && pairs.len().is_multiple_of(2), "{words:?}");
                let set = self.set_mut(key);
                let is_new = |pair: &[String]| set.insert(pair[1].clone(), pair[0].parse().unwrap()).is_none();
                count(pairs.chunks(2).map(is_new).filter(|is_new| *is_new).count())
            }
            ("ZRANGEBYSCORE", [key, low, high]) if low == "-inf" => {
                let high = high.parse::<i64>().unwrap();
                let members = self.set_mut(key).iter().filter(|(_, score)| **score <= high);
                Reply::List(members.map(|(member, _)| Reply::Text(member.clone())).collect())
            }
            ("ZREMRANGEBYSCORE", [key, low, high]) if low == "-inf" => {
                let (high, set) = (high.parse::<i64>().unwrap(), self.set_mut(key));
                let before = set.len();
                set.retain(|_, score| *score > high);
                count(before - set.len())
            }
            _ => return None,
        })
    }
}
