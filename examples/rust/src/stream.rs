//! Streams events. After a disconnect it continues: what was not acknowledged is sent again, with the same ids. `ping-stream URL EVENTS`

use std::{collections::VecDeque, error::Error, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

use pb::{
    PingCountRequest, RecordBatchRequest, RecordRequest, event_service_client::EventServiceClient,
    ping_service_client::PingServiceClient,
};

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
mod pb {
    tonic::include_proto!("ping.v1");
}

const BATCH_EVENTS: usize = 100;
/// Batches that may be unacknowledged at a time.
const WINDOW: usize = 10;
/// Sending again does not help.
const FINAL: [Code; 5] = [
    Code::InvalidArgument,
    Code::Unauthenticated,
    Code::PermissionDenied,
    Code::FailedPrecondition,
    Code::Unimplemented,
];

/// What is to be sent, and what was sent without an acknowledgement.
struct Sender {
    unsent: usize,
    unacknowledged: VecDeque<RecordBatchRequest>,
}

impl Sender {
    /// A batch of your events, if there are more. An event keeps its id, however often it is sent.
    fn next(&mut self) -> Option<RecordBatchRequest> {
        let size = self.unsent.min(BATCH_EVENTS);
        self.unsent -= size;
        let event = |_| RecordRequest {
            event_id: Uuid::now_v7().to_string(),
            source: "shop-7".into(),
            kind: "sale".into(),
            ..RecordRequest::default()
        };
        let batch = (size > 0).then(|| RecordBatchRequest { events: (0..size).map(event).collect() })?;
        self.unacknowledged.push_back(batch.clone());
        Some(batch)
    }

    /// Sends and acknowledges until nothing is left, or the connection breaks.
    async fn stream(&mut self, channel: Channel) -> Result<(), Status> {
        let (requests, received) = mpsc::channel(WINDOW);
        for batch in &self.unacknowledged {
            // There is room for a window.
            let _ = requests.try_send(batch.clone());
        }
        let mut answers =
            EventServiceClient::new(channel).record_stream(ReceiverStream::new(received)).await?.into_inner();
        while !self.unacknowledged.is_empty() {
            let answer = answers.message().await?.ok_or_else(|| Status::unavailable("the server stops"))?;
            if let Some(refused) = answer.refused.first() {
                return Err(Status::invalid_argument(&refused.message));
            }
            self.unacknowledged.pop_front();
            if let Some(batch) = self.next() {
                // If the connection is broken, the next message has the reason.
                let _ = requests.send(batch).await;
            }
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("name the server: http://host:port")?;
    let events = arguments.next().ok_or("say how many events to send")?.parse()?;
    let channel = Endpoint::from_shared(url)?.connect_lazy();
    let mut sender = Sender { unsent: events, unacknowledged: VecDeque::new() };
    while sender.unacknowledged.len() < WINDOW && sender.next().is_some() {}
    let mut pause = Duration::from_millis(100);
    while !sender.unacknowledged.is_empty() {
        let before = sender.unsent;
        if let Err(status) = sender.stream(channel.clone()).await {
            if FINAL.contains(&status.code()) {
                return Err(status.into());
            }
            eprintln!("disconnected: {status}; {} batches are sent again", sender.unacknowledged.len());
            tokio::time::sleep(pause).await;
        }
        let progress = sender.unsent < before;
        pause = if progress { Duration::from_millis(100) } else { (2 * pause).min(Duration::from_secs(2)) };
    }
    let strong = PingCountRequest { strong: true, ..PingCountRequest::default() };
    println!("{}", PingServiceClient::new(channel).ping_count(strong).await?.into_inner().ping_count);
    Ok(())
}
