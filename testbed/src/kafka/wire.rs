//! The two requests of Kafka's protocol that the testbed needs, in their oldest versions that Kafka 4 takes.
//!
//! Starting Kafka's own tools takes more than a second each time.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const METADATA: (i16, i16) = (3, 1);
const CREATE_TOPICS: (i16, i16) = (19, 2);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Far above any answer here; a larger one is no Kafka.
const LARGEST_ANSWER: u32 = 16 << 20;

/// What a broker says about its cluster.
pub(super) struct Metadata {
    /// Brokers that are registered and in service.
    pub(super) brokers: i32,
    pub(super) topics: Vec<Topic>,
}

pub(super) struct Topic {
    pub(super) name: String,
    /// The leader's node for each partition; negative while there is none.
    pub(super) leaders: Vec<i32>,
}

pub(super) async fn metadata(port: u16) -> anyhow::Result<Metadata> {
    let mut all_topics = Vec::new();
    all_topics.put_i32(-1);
    let answer = ask(port, METADATA, &all_topics).await?;
    read_metadata(&mut Reader(&answer)).context("unreadable metadata")
}

fn read_metadata(answer: &mut Reader<'_>) -> Option<Metadata> {
    let brokers = answer.i32()?;
    for _ in 0..brokers {
        answer.i32()?; // node
        answer.string()?; // host
        answer.i32()?; // port
        answer.string()?; // rack
    }
    answer.i32()?; // controller
    let mut topics = Vec::new();
    for _ in 0..answer.i32()? {
        answer.i16()?; // error
        let name = answer.string()?;
        answer.take::<1>()?; // internal
        let mut leaders = Vec::new();
        for _ in 0..answer.i32()? {
            answer.i16()?; // error
            answer.i32()?; // partition
            leaders.push(answer.i32()?);
            for _ in 0..2 {
                // replicas, then those in sync
                for _ in 0..answer.i32()? {
                    answer.i32()?;
                }
            }
        }
        topics.push(Topic { name, leaders });
    }
    Some(Metadata { brokers, topics })
}

pub(super) async fn create_topic(
    port: u16,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> anyhow::Result<()> {
    let mut body = Vec::new();
    body.put_i32(1); // one topic
    body.put_string(name)?;
    body.put_i32(partitions);
    body.put_i16(1); // replicas
    body.put_i32(0); // no assignment by hand
    body.put_i32(i32::try_from(settings.len())?);
    for (name, value) in settings {
        body.put_string(name)?;
        body.put_string(value)?;
    }
    body.put_i32(i32::try_from(TIMEOUT.as_millis())?);
    body.push(0); // not only a check
    let answer = ask(port, CREATE_TOPICS, &body).await?;
    let (code, message) = read_creation(&mut Reader(&answer)).context("unreadable answer")?;
    if code != 0 {
        bail!("Kafka refuses topic {name}: error {code}: {message}");
    }
    Ok(())
}

fn read_creation(answer: &mut Reader<'_>) -> Option<(i16, String)> {
    answer.i32()?; // throttled for
    answer.i32()?; // one topic
    answer.string()?; // its name
    Some((answer.i16()?, answer.string()?))
}

async fn ask(port: u16, (request, version): (i16, i16), body: &[u8]) -> anyhow::Result<Vec<u8>> {
    tokio::time::timeout(TIMEOUT, async {
        let mut message = Vec::new();
        message.put_i16(request);
        message.put_i16(version);
        message.put_i32(0); // number of this request
        message.put_string("testbed")?;
        message.extend_from_slice(body);
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        connection.write_u32(u32::try_from(message.len())?).await?;
        connection.write_all(&message).await?;
        let length = connection.read_u32().await?;
        if !(4..LARGEST_ANSWER).contains(&length) {
            bail!("an answer of {length} bytes");
        }
        connection.read_u32().await?; // number of the request
        let mut answer = vec![0; length as usize - 4];
        connection.read_exact(&mut answer).await?;
        Ok(answer)
    })
    .await
    .context("Kafka did not answer in time")?
}

trait Put {
    fn put_i16(&mut self, value: i16);
    fn put_i32(&mut self, value: i32);
    fn put_string(&mut self, value: &str) -> anyhow::Result<()>;
}

impl Put for Vec<u8> {
    fn put_i16(&mut self, value: i16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_i32(&mut self, value: i32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_string(&mut self, value: &str) -> anyhow::Result<()> {
        self.put_i16(i16::try_from(value.len())?);
        self.extend_from_slice(value.as_bytes());
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    /// Empty when there is none, which is a length of -1.
    fn string(&mut self) -> Option<String> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}
