//! A Redis behind a proxy that does what Dragonfly may do with the commands of one connection: those on different keys run in another
//! order than they were sent, and only their answers come in order. A transaction stays together.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use ping_testbed::Redis;
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::sleep,
};

use crate::dragonfly::wire;

/// Parts of the keys. Each takes longer than the one before.
const SHARDS: u64 = 3;
const DELAY: Duration = Duration::from_millis(2);

/// A command, or all of a transaction, and where its answers go.
struct Work {
    frames: Vec<Vec<u8>>,
    answers: oneshot::Sender<Vec<u8>>,
}

pub(crate) struct Reordering {
    url: String,
    server: Redis,
}

impl Reordering {
    pub(crate) async fn start() -> Self {
        Self::start_with(DELAY).await
    }

    async fn start_with(delay: Duration) -> Self {
        let server = Redis::start_in_memory().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let port = server.port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(async move { _ = serve(client, port, delay).await });
            }
        });
        Self { url, server }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }
}

async fn serve(client: TcpStream, port: u16, delay: Duration) -> std::io::Result<()> {
    let (reader, mut writer) = client.into_split();
    let mut reader = BufReader::new(reader);
    let mut shards = Vec::new();
    for shard in 0..SHARDS {
        let (sender, work) = mpsc::unbounded_channel();
        let server = TcpStream::connect(("127.0.0.1", port)).await?;
        tokio::spawn(run_shard(server, delay * u32::try_from(shard).unwrap(), work));
        shards.push(sender);
    }
    let (in_order, mut pending) = mpsc::unbounded_channel::<oneshot::Receiver<Vec<u8>>>();
    tokio::spawn(async move {
        while let Some(answers) = pending.recv().await {
            let Ok(answers) = answers.await else { return };
            if writer.write_all(&answers).await.is_err() {
                return;
            }
        }
    });
    let mut frames = Vec::new();
    let mut key = None;
    while let Some(frame) = wire::read_frame(&mut reader).await? {
        let words = wire::words(&frame);
        key = key.or_else(|| key_of(&words).cloned());
        let in_transaction = !frames.is_empty() || words[0] == "MULTI";
        frames.push(frame);
        if in_transaction && words[0] != "EXEC" {
            continue;
        }
        let (answers, receiver) = oneshot::channel();
        let shard = &shards[usize::try_from(shard_of(key.take())).unwrap()];
        _ = shard.send(Work { frames: std::mem::take(&mut frames), answers });
        _ = in_order.send(receiver);
    }
    Ok(())
}

/// Runs the work of one shard, late.
async fn run_shard(server: TcpStream, delay: Duration, mut work: mpsc::UnboundedReceiver<Work>) {
    let (reader, mut writer) = server.into_split();
    let mut reader = BufReader::new(reader);
    while let Some(Work { frames, answers }) = work.recv().await {
        sleep(delay).await;
        let mut bytes = Vec::new();
        for frame in &frames {
            writer.write_all(frame).await.unwrap();
            bytes.extend(wire::read_frame(&mut reader).await.unwrap().unwrap());
        }
        _ = answers.send(bytes);
    }
}

/// The first key of a command.
fn key_of(words: &[String]) -> Option<&String> {
    match words[0].as_str() {
        "EVAL" | "EVALSHA" => words.get(3),
        _ => words.get(1),
    }
}

fn shard_of(key: Option<String>) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() % SHARDS
}

/// Otherwise the contract would say nothing about the order.
#[tokio::test]
async fn the_proxy_reorders_commands() {
    let proxy = Reordering::start_with(Duration::from_millis(200)).await;
    let key_on = |shard| (0..).map(|n| format!("key-{n}")).find(|key| shard_of(Some(key.clone())) == shard).unwrap();
    let (late, early) = (key_on(SHARDS - 1), key_on(0));
    // The default is 500 ms, and the late command takes 400.
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let connect = async |url| {
        let client = redis::Client::open(url).unwrap();
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
    };
    let (mut writer, mut observer) = (connect(proxy.url()).await, connect(proxy.server.url()).await);
    let mut pipeline = redis::pipe();
    pipeline.cmd("SET").arg(&late).arg(1).ignore().cmd("SET").arg(&early).arg(1).ignore();
    let written = tokio::spawn(async move { pipeline.query_async::<()>(&mut writer).await.unwrap() });
    let mut both = redis::cmd("MGET");
    both.arg(&late).arg(&early);
    let mut found = (None, None);
    while found.1.is_none() {
        found = both.query_async::<(Option<i64>, Option<i64>)>(&mut observer).await.unwrap();
    }
    assert_eq!(found, (None, Some(1)), "the first command ran first");
    written.await.unwrap();
    assert_eq!(both.query_async::<(Option<i64>, Option<i64>)>(&mut observer).await.unwrap(), (Some(1), Some(1)));
}
