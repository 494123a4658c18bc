//! An emulation of Dragonfly 1.40 in memory, for tests: Dragonfly cannot be installed here. It does what Redis does not:
//!
//! - memory is checked at every call of a script, and earlier writes stay;
//! - scripts run on Lua 5.4, and may use the keys that they declare only;
//! - a command has at most 65,536 words;
//! - errors have the code `ERR`.
//!
//! A test can make any call of a script fail, and change the text of a script to plant a bug.

mod keyspace;
mod script;
pub(crate) mod wire;

use std::{mem, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

pub(crate) use self::{keyspace::Keyspace, script::Fault};
use self::{keyspace::Reply, script::Scripts};

/// Words that a command may have (`--max_multi_bulk_len`).
const MAX_WORDS: usize = 65_536;

/// The emulated server. It stops with the runtime of its test.
pub(crate) struct Dragonfly {
    url: String,
    state: Arc<Mutex<State>>,
}

/// What all connections share.
#[derive(Default)]
struct State {
    keyspace: Keyspace,
    scripts: Scripts,
}

impl Dragonfly {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move { _ = serve(connection, &state).await });
            }
        });
        Self { url, state }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// A copy of all keys.
    pub(crate) fn keyspace(&self) -> Keyspace {
        self.state.lock().keyspace.clone()
    }

    /// Replaces all keys.
    pub(crate) fn restore(&self, keyspace: &Keyspace) {
        self.state.lock().keyspace = keyspace.clone();
    }

    /// Stops the clock, or moves one that stands still on.
    #[allow(dead_code, reason = "of the tests that share this server, only those of statuses depend on time")]
    pub(crate) fn advance_clock(&self, millis: i64) {
        let keyspace = &mut self.state.lock().keyspace;
        keyspace.stopped_at = Some(keyspace.stopped_at.unwrap_or(1_000_000) + millis);
    }

    /// While the server is full, it refuses every command that could need memory.
    pub(crate) fn set_full(&self, full: bool) {
        self.state.lock().keyspace.full = full;
    }

    /// Makes calls of the next script fail.
    pub(crate) fn fail(&self, fault: Fault) {
        self.state.lock().scripts.fault = Some(fault);
    }

    /// Ends the fault. True if it made a call fail.
    pub(crate) fn stop_failing(&self) -> bool {
        let scripts = &mut self.state.lock().scripts;
        scripts.fault = None;
        mem::take(&mut scripts.failed)
    }

    /// From now on, replaces `from` with `to` in the text of every script that contains it.
    pub(crate) fn plant(&self, from: &'static str, to: &'static str) {
        self.state.lock().scripts.planted = Some((from, to));
    }

    /// Whether a script contained the text that [`Self::plant`] replaces.
    pub(crate) fn is_planted(&self) -> bool {
        self.state.lock().scripts.is_planted
    }
}

async fn serve(mut connection: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let (reader, mut writer) = connection.split();
    let mut reader = BufReader::new(reader);
    let mut queue: Option<Vec<Vec<String>>> = None;
    let mut replies = Vec::new();
    while let Some(frame) = wire::read_frame(&mut reader).await? {
        let words = wire::words(&frame);
        if words.len() > MAX_WORDS {
            Reply::error("Protocol error: invalid multibulk length").encode(&mut replies);
            return writer.write_all(&replies).await;
        }
        let reply = match (words[0].to_uppercase().as_str(), queue.as_mut()) {
            ("MULTI", _) => {
                queue = Some(Vec::new());
                Reply::Status("OK")
            }
            ("EXEC", Some(_)) => {
                let mut state = state.lock();
                Reply::List(queue.take().into_iter().flatten().map(|words| state.run(&words)).collect())
            }
            (_, Some(queue)) => {
                queue.push(words);
                Reply::Status("QUEUED")
            }
            (_, None) => state.lock().run(&words),
        };
        reply.encode(&mut replies);
        if reader.buffer().is_empty() {
            writer.write_all(&replies).await?;
            replies.clear();
        }
    }
    Ok(())
}

impl State {
    fn run(&mut self, words: &[String]) -> Reply {
        match words[0].to_uppercase().as_str() {
            "EVAL" => {
                self.scripts.learn(&words[1]);
                self.scripts.run(&mut self.keyspace, &words[1], &words[2..])
            }
            "EVALSHA" => match self.scripts.text_of(&words[1]) {
                Some(text) => self.scripts.run(&mut self.keyspace, &text, &words[2..]),
                None => Reply::Error("NOSCRIPT No matching script. Please use EVAL.".into()),
            },
            _ => self.keyspace.run(words),
        }
    }
}
