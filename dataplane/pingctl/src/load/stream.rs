//! A stream of batches, several under way at once.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use ping_proto::StreamPingsResponse;
use tokio::{sync::mpsc, time::sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, client::Grpc, transport::Channel};

use super::{
    Run,
    batches::{Batches, Encoded},
};
use crate::{client, exit::Exit, failure};

/// The call, as the generated client has it; it is made by hand to send batches that are encoded already.
const STREAM_PINGS: &str = "/ping.v1.PingService/StreamPings";

/// A batch that is under way.
struct Sent {
    batch: Bytes,
    due: Instant,
    /// For the last time.
    at: Instant,
}

/// One stream; a broken one is opened again.
pub(super) struct StreamSender {
    run: Arc<Run>,
    grpc: Grpc<Channel>,
    batches: Batches,
    /// In the order in which they are acknowledged.
    pending: VecDeque<Sent>,
}

impl StreamSender {
    pub(super) fn new(run: Arc<Run>, channel: Channel) -> anyhow::Result<Self> {
        let batches = Batches::new(&run.plan)?;
        Ok(Self { run, grpc: Grpc::new(channel), batches, pending: VecDeque::new() })
    }

    /// Sends batches until there is nothing more to send and everything is settled, or it makes no sense any more.
    pub(super) async fn send(mut self) {
        let mut tried = 0;
        while let Err(status) = self.serve(&mut tried).await {
            {
                let mut tally = self.run.tally.lock();
                tally.err(1, failure::code(&status));
                if self.run.plan.ids {
                    tally.retries += self.pending.len() as u64;
                }
            }
            if !self.run.plan.ids {
                // Recorded or not, nobody knows: without ids they must not be sent again.
                self.pending.clear();
            }
            if tried >= self.run.plan.retries || failure::exit(&status) == Exit::Refused {
                return;
            }
            tokio::time::sleep(client::pause(tried, &status)).await;
            tried += 1;
        }
    }

    /// Sends over one stream as long as it lasts.
    async fn serve(&mut self, tried: &mut u32) -> Result<(), Status> {
        let (sender, batches) = mpsc::channel(self.run.plan.in_flight);
        self.grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let path = PathAndQuery::from_static(STREAM_PINGS);
        let request = Request::new(ReceiverStream::new(batches));
        let mut answers = self.grpc.streaming(request, path, Encoded).await?.into_inner();
        for sent in &mut self.pending {
            sent.at = Instant::now();
            pass(&sender, sent)?;
        }
        let run = Arc::clone(&self.run);
        let mut sender = Some(sender);
        while sender.is_some() || !self.pending.is_empty() {
            let room = sender.as_ref().filter(|_| self.pending.len() < run.plan.in_flight);
            let overdue = self.pending.front().map(|sent| sent.at + run.plan.timeout);
            tokio::select! {
                biased;
                answer = answers.message() => match answer? {
                    Some(answer) => {
                        self.settle(&answer);
                        *tried = 0;
                    }
                    None => return Err(Status::unavailable("the server ended the stream")),
                },
                due = run.schedule.next(), if room.is_some() => match (due, room) {
                    (Some(due), Some(room)) => {
                        let sent = Sent { batch: self.batches.next(), due, at: Instant::now() };
                        pass(room, &sent)?;
                        run.tally.lock().sent += u64::from(run.plan.batch);
                        self.pending.push_back(sent);
                    }
                    _ => sender = None,
                },
                () = sleep_until(overdue.unwrap_or_else(Instant::now).into()), if overdue.is_some() => {
                    return Err(Status::deadline_exceeded("no acknowledgement in time"));
                }
            }
        }
        Ok(())
    }

    /// The oldest batch is acknowledged.
    fn settle(&mut self, answer: &StreamPingsResponse) {
        let Some(sent) = self.pending.pop_front() else { return };
        let mut tally = self.run.tally.lock();
        for refused in &answer.refused {
            tally.refuse(1, &refused.code);
        }
        tally.acknowledge(u64::from(self.run.plan.batch).saturating_sub(answer.refused.len() as u64), sent.due);
        self.batches.reuse(sent.batch);
    }
}

/// Hands a batch to the stream. There is room: no more are under way than it holds.
fn pass(stream: &mpsc::Sender<Bytes>, sent: &Sent) -> Result<(), Status> {
    stream.try_send(sent.batch.clone()).map_err(|_| Status::unavailable("the stream is closed"))
}
