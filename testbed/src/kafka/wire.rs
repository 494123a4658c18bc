//! The two requests of Kafka's protocol that the testbed needs, in the oldest versions that Kafka 4 supports.
//!
//! A client library would not be shorter: `rdkafka` adds a C build to this crate, and Kafka's own tools take more than a
//! second per call.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const METADATA: (i16, i16) = (3, 1);
const CREATE_TOPICS: (i16, i16) = (19, 2);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Far above any real response; a larger one does not come from Kafka.
const MAX_RESPONSE_BYTES: u32 = 16 << 20;

/// A broker's view of its cluster.
pub(super) struct Metadata {
    /// Number of brokers that are registered and active.
    pub(super) brokers: i32,
    pub(super) topics: Vec<Topic>,
}

pub(super) struct Topic {
    pub(super) name: String,
    /// The node id of each partition's leader; negative while there is none.
    pub(super) leaders: Vec<i32>,
}

pub(super) async fn metadata(port: u16) -> anyhow::Result<Metadata> {
    let mut all_topics = Vec::new();
    all_topics.put_i32(-1);
    let response = send(port, METADATA, &all_topics).await?;
    read_metadata(&mut Reader(&response)).context("malformed metadata response")
}

fn read_metadata(response: &mut Reader<'_>) -> Option<Metadata> {
    let brokers = response.i32()?;
    for _ in 0..brokers {
        response.i32()?; // node
        response.string()?; // host
        response.i32()?; // port
        response.string()?; // rack
    }
    response.i32()?; // controller
    let mut topics = Vec::new();
    for _ in 0..response.i32()? {
        response.i16()?; // error
        let name = response.string()?;
        response.take::<1>()?; // internal
        let mut leaders = Vec::new();
        for _ in 0..response.i32()? {
            response.i16()?; // error
            response.i32()?; // partition
            leaders.push(response.i32()?);
            for _ in 0..2 {
                // replicas, then in-sync replicas
                for _ in 0..response.i32()? {
                    response.i32()?;
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
    body.put_i32(0); // no manual assignment
    body.put_i32(i32::try_from(settings.len())?);
    for (name, value) in settings {
        body.put_string(name)?;
        body.put_string(value)?;
    }
    body.put_i32(i32::try_from(TIMEOUT.as_millis())?);
    body.push(0); // not a dry run
    let response = send(port, CREATE_TOPICS, &body).await?;
    let (code, message) = read_result(&mut Reader(&response)).context("malformed response")?;
    if code != 0 {
        bail!("Kafka rejected topic {name}: error {code}: {message}");
    }
    Ok(())
}

fn read_result(response: &mut Reader<'_>) -> Option<(i16, String)> {
    response.i32()?; // throttle time
    response.i32()?; // one topic
    response.string()?; // its name
    Some((response.i16()?, response.string()?))
}

async fn send(port: u16, (request, version): (i16, i16), body: &[u8]) -> anyhow::Result<Vec<u8>> {
    tokio::time::timeout(TIMEOUT, async {
        let mut message = Vec::new();
        message.put_i16(request);
        message.put_i16(version);
        message.put_i32(0); // correlation id
        message.put_string("testbed")?;
        message.extend_from_slice(body);
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        connection.write_u32(u32::try_from(message.len())?).await?;
        connection.write_all(&message).await?;
        let length = connection.read_u32().await?;
        if !(4..MAX_RESPONSE_BYTES).contains(&length) {
            bail!("unexpected response length: {length} bytes");
        }
        connection.read_u32().await?; // correlation id
        let mut response = vec![0; length as usize - 4];
        connection.read_exact(&mut response).await?;
        Ok(response)
    })
    .await
    .with_context(|| format!("Kafka did not respond within {TIMEOUT:?}"))?
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

    /// An absent string, encoded as length -1, is read as an empty one.
    fn string(&mut self) -> Option<String> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}
