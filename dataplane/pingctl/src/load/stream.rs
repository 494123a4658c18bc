//! A stream of batches, several in flight at once.

use std::{collections::VecDeque, mem, sync::Arc, time::Instant};

use backon::BackoffBuilder;
use bytes::Bytes;
use ping_client::Client;
use ping_proto::StreamPingsResponse;
use tokio::{sync::mpsc, time::sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{batches::Batches, run::Run};
use crate::{client, exit::Exit, failure};

/// A batch in flight.
struct SentBatch {
    encoded: Bytes,
    due: Instant,
    last_sent: Instant,
}

/// Sends batches over a stream, and opens a new one when it breaks.
pub(super) struct StreamSender {
    run: Arc<Run>,
    client: Client,
    batches: Batches,
    /// Oldest first: the server acknowledges in this order.
    in_flight: VecDeque<SentBatch>,
    /// Whether a batch was acknowledged since the last failure.
    progressed: bool,
}

impl StreamSender {
    pub(super) fn new(run: Arc<Run>, client: Client) -> Self {
        let batches = Batches::new(&run.config);
        Self { run, client, batches, in_flight: VecDeque::new(), progressed: false }
    }

    /// Sends batches until the schedule ends and all are settled, or no retries are left.
    pub(super) async fn send(mut self) {
        let mut delays = client::backoff(self.run.config.retries).build();
        while let Err(status) = self.send_over_one_stream().await {
            self.record_failure(&status);
            if mem::take(&mut self.progressed) {
                delays = client::backoff(self.run.config.retries).build();
            }
            let delay = client::honour_retry_after(&status, delays.next());
            let Some(delay) = delay.filter(|_| failure::exit(&status) != Exit::Refused) else { return };
            tokio::time::sleep(delay).await;
        }
    }

    fn record_failure(&mut self, status: &Status) {
        let mut stats = self.run.stats.lock();
        stats.fail(failure::code(status));
        if self.run.config.ids {
            stats.retries += self.in_flight.len() as u64;
        } else {
            // They may or may not have been recorded. Without ids, sending them again could count them twice.
            self.in_flight.clear();
        }
    }

    /// Sends over one stream until it breaks or the schedule ends.
    async fn send_over_one_stream(&mut self) -> Result<(), Status> {
        let (sender, receiver) = mpsc::channel(self.run.config.in_flight);
        let mut answers = self.client.stream_encoded_pings(ReceiverStream::new(receiver)).await?.into_inner();
        for batch in &mut self.in_flight {
            batch.last_sent = Instant::now();
            enqueue(&sender, batch)?;
        }
        let run = Arc::clone(&self.run);
        // Dropped at the end of the schedule, which tells the server that no more batches follow.
        let mut sender = Some(sender);
        while sender.is_some() || !self.in_flight.is_empty() {
            let ready = sender.as_ref().filter(|_| self.in_flight.len() < run.config.in_flight);
            let deadline = self.in_flight.front().map(|batch| batch.last_sent + run.config.timeout);
            tokio::select! {
                biased;
                answer = answers.message() => match answer? {
                    Some(answer) => self.settle_oldest(&answer),
                    None => return Err(Status::unavailable("the server closed the stream")),
                },
                due = run.schedule.next(), if ready.is_some() => match (due, ready) {
                    (Some(due), Some(ready)) => {
                        let batch = SentBatch { encoded: self.batches.next(), due, last_sent: Instant::now() };
                        enqueue(ready, &batch)?;
                        run.stats.lock().sent += u64::from(run.config.batch);
                        self.in_flight.push_back(batch);
                    }
                    _ => sender = None,
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                    return Err(Status::deadline_exceeded("no acknowledgement in time"));
                }
            }
        }
        Ok(())
    }

    /// Records the acknowledgement of the oldest batch.
    fn settle_oldest(&mut self, answer: &StreamPingsResponse) {
        self.progressed = true;
        let Some(batch) = self.in_flight.pop_front() else { return };
        let mut stats = self.run.stats.lock();
        for refused in &answer.refused {
            stats.refuse(&refused.code);
        }
        let acknowledged = u64::from(self.run.config.batch).saturating_sub(answer.refused.len() as u64);
        stats.acknowledge(acknowledged, batch.due);
        self.batches.recycle(batch.encoded);
    }
}

/// Hands a batch to the stream. The channel has room: it holds as many batches as may be in flight.
fn enqueue(stream: &mpsc::Sender<Bytes>, batch: &SentBatch) -> Result<(), Status> {
    stream.try_send(batch.encoded.clone()).map_err(|_| Status::unavailable("the stream is closed"))
}
