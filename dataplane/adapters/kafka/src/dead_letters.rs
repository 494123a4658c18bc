//! Reading the dead-letter topic.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::{
    Message, Offset as KafkaOffset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
};

use super::{KafkaSettings, QUERY_TIMEOUT, blocking, failed, log_consumer::record, logging::Logging, topics};
use ping_core::{Offset, Partition, partition_number};
use ping_ports::{DeadLetterReader, LetterPage, LetterPosition, LetterQuery, LogError, StoredLetter};

/// A page ends after this many bytes of values and texts.
const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// A page ends after this many records, whether they match or not.
const MAX_RECORDS_READ: usize = 20_000;
/// A page ends when reading it has taken this long.
const MAX_TIME: Duration = Duration::from_secs(3);

/// Reads the dead-letter topic. It connects for each page, because people rarely ask for one.
#[derive(Clone, Debug)]
pub struct KafkaDeadLetters(KafkaSettings);

impl KafkaDeadLetters {
    /// Does not connect yet.
    #[must_use]
    pub fn new(settings: KafkaSettings) -> Self {
        Self(settings)
    }
}

#[async_trait]
impl DeadLetterReader for KafkaDeadLetters {
    async fn page(&self, query: LetterQuery) -> Result<LetterPage, LogError> {
        let topic = Topic { settings: self.0.clone(), query };
        blocking(move || topic.read()).await
    }
}

/// The topic, and what to read of it.
struct Topic {
    settings: KafkaSettings,
    query: LetterQuery,
}

impl Topic {
    /// One partition after the other. The topic has one, unless someone else has created it.
    fn read(&self) -> Result<LetterPage, LogError> {
        let client = self.connect()?;
        let topic = &self.settings.dead_letter_topic;
        let metadata = client.fetch_metadata(Some(topic), QUERY_TIMEOUT).map_err(failed)?;
        let partitions = partition_number(topics::partitions_of(&metadata, topic)?.into());
        let mut page = PageBuilder::new(&self.query);
        let first = self.query.from.map_or(0, |from| from.partition);
        for partition in first..partitions {
            let start = match self.query.from.filter(|from| from.partition == partition) {
                Some(from) => KafkaOffset::Offset(from.offset),
                None => self.start_of(&client, partition)?,
            };
            if let Some(offset) = self.read_partition(&client, partition, start, &mut page)? {
                let next = Some(LetterPosition { partition, offset });
                return Ok(LetterPage { letters: page.letters, next });
            }
        }
        Ok(LetterPage { letters: page.letters, next: None })
    }

    fn connect(&self) -> Result<BaseConsumer<Logging>, LogError> {
        let mut config = self.settings.client();
        config
            // Without a group there is no assignment. It neither joins the group nor commits to it.
            .set("group.id", &self.settings.group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            // A page may begin at a record whose retention has ended since.
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "10")
            .set("fetch.message.max.bytes", "262144")
            .set("queued.max.messages.kbytes", "2048");
        BaseConsumer::from_config_and_context(&config, Logging).map_err(failed)
    }

    /// The first record of `partition` that may match.
    fn start_of(&self, client: &BaseConsumer<Logging>, partition: Partition) -> Result<KafkaOffset, LogError> {
        let Some(since) = self.query.since else { return Ok(KafkaOffset::Beginning) };
        let mut request = TopicPartitionList::with_capacity(1);
        let since = KafkaOffset::Offset(since);
        request.add_partition_offset(&self.settings.dead_letter_topic, partition, since).map_err(failed)?;
        let answer = client.offsets_for_times(request, QUERY_TIMEOUT).map_err(failed)?;
        let Some(found) = answer.elements().into_iter().next() else { return Ok(KafkaOffset::Beginning) };
        found.error().map_err(failed)?;
        Ok(found.offset())
    }

    /// Reads until the end of the partition, or until the page is complete: then it returns the next offset.
    fn read_partition(
        &self,
        client: &BaseConsumer<Logging>,
        partition: Partition,
        start: KafkaOffset,
        page: &mut PageBuilder<'_>,
    ) -> Result<Option<Offset>, LogError> {
        let mut partitions = TopicPartitionList::with_capacity(1);
        partitions.add_partition_offset(&self.settings.dead_letter_topic, partition, start).map_err(failed)?;
        client.assign(&partitions).map_err(failed)?;
        loop {
            match client.poll(QUERY_TIMEOUT) {
                None => return Err(failed(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut))),
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                // A server may not know the group, and needs no coordinator.
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {}
                Some(Err(error)) => return Err(failed(error)),
                Some(Ok(message)) => {
                    page.take(letter(&message), message.payload_len());
                    if page.is_complete() {
                        return Ok(Some(message.offset() + 1));
                    }
                }
            }
        }
        client.unassign().map_err(failed)?;
        Ok(None)
    }
}

/// A page that is being read.
struct PageBuilder<'a> {
    query: &'a LetterQuery,
    started: Instant,
    read: usize,
    bytes: usize,
    letters: Vec<StoredLetter>,
}

impl<'a> PageBuilder<'a> {
    fn new(query: &'a LetterQuery) -> Self {
        Self { query, started: Instant::now(), read: 0, bytes: 0, letters: Vec::new() }
    }

    /// Adds `letter`, whose value has this many bytes, if it matches.
    fn take(&mut self, letter: StoredLetter, value_bytes: usize) {
        self.read += 1;
        if self.query.matches(&letter) {
            self.bytes += value_bytes + letter.reason.len() + letter.place.len();
            self.letters.push(letter);
        }
    }

    fn is_complete(&self) -> bool {
        self.letters.len() >= self.query.limit
            || self.bytes >= MAX_PAGE_BYTES
            || self.read >= MAX_RECORDS_READ
            || self.started.elapsed() >= MAX_TIME
    }
}

fn letter(message: &BorrowedMessage<'_>) -> StoredLetter {
    let header = |name| {
        let mut headers = message.headers().into_iter().flat_map(Headers::iter);
        let value = headers.find(|header| header.key == name).and_then(|header| header.value);
        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
    };
    StoredLetter {
        sent: message.timestamp().to_millis(),
        reason: header("reason"),
        place: format!("{}/{}/{}", header("topic"), header("partition"), header("offset")),
        content: record(message).body.map_err(|(_, value)| value),
    }
}
