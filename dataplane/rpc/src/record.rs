//! The write path of both event services: validate, submit, acknowledge.
//!
//! `PingService` and `EventService` convert their messages to and from the types here, so an event is treated alike whichever service
//! it arrives by.

use buffa::view::HasMessageView;
use connectrpc::{ConnectError, InboundStream, StreamMessage};
use futures::{Stream, StreamExt, stream};

use super::{Api, access::Session, errors, guard::StreamCharges, limits::MAX_BATCH_EVENTS};
use ping_core::{Event, Token};
use ping_identity::{Extent, Permission};
use ping_ports::TraceContext;

/// Batches of one stream that are submitted at once; the server reads no further until the oldest is acknowledged.
const MAX_BATCHES_IN_FLIGHT: usize = 64;

/// An event as a caller sent it, not validated yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReceivedEvent<'a> {
    /// Idempotency key; empty if the server is to create one.
    pub(super) event_id: &'a str,
    /// Who reports the event; may be empty.
    pub(super) source: &'a str,
    /// What happened; empty means "ping".
    pub(super) kind: &'a str,
    /// Milliseconds since the Unix epoch; 0 means now.
    pub(super) timestamp_ms: i64,
}

/// One event is durable. Both fields are absent unless the caller requested a receipt.
#[derive(Debug, Default)]
pub(super) struct Acknowledgement {
    /// The event's id, as sent or as created by the server.
    pub(super) event_id: Option<String>,
    /// Its token; also absent if the event had been acknowledged before.
    pub(super) token: Option<String>,
}

/// The valid events of a batch, and those refused so far.
pub(super) struct ValidatedBatch {
    pub(super) events: Vec<Event>,
    /// The index in the received batch of each of `events`.
    indices: Vec<i32>,
    refused: Vec<RefusedRecord>,
}

/// The outcome of a batch.
#[derive(Debug)]
pub(super) struct RecordedBatch {
    /// Number of new events; the others had been acknowledged before or are refused.
    pub(super) accepted: i64,
    /// Token of the last new event.
    pub(super) token: Option<String>,
    /// Events that were not recorded.
    pub(super) refused: Vec<RefusedRecord>,
}

/// An event of a batch that was not recorded.
#[derive(Debug)]
pub(super) struct RefusedRecord {
    /// Index in the batch, from 0.
    pub(super) index: i32,
    /// `invalid_argument` or `already_exists`.
    pub(super) code: &'static str,
    /// What is wrong and how to fix it.
    pub(super) message: String,
}

impl Api {
    /// Records one event, or refuses it at once if the queue is full.
    pub(super) async fn record_one(
        &self,
        received: ReceivedEvent<'_>,
        session: &Session,
        wants_receipt: bool,
    ) -> Result<Acknowledgement, ConnectError> {
        let event = self.validate(received)?;
        authorize(session, &event)?;
        self.admit(session, std::slice::from_ref(&event)).await?;
        let event_id = event.id;
        let receipt = self.ingest()?.submit(vec![event], session.trace()).await;
        let receipt = receipt.map_err(|refusal| errors::refused(&refusal))?;
        if !receipt.conflicts.is_empty() {
            self.metrics.conflicts.inc();
            return Err(errors::conflict());
        }
        self.metrics.events.inc();
        if !wants_receipt {
            return Ok(Acknowledgement::default());
        }
        let token = receipt.token.as_ref().map(Token::to_string);
        Ok(Acknowledgement { event_id: Some(event_id.to_string()), token })
    }

    /// Checks each event of a batch. One that the caller may not send makes the whole batch fail.
    pub(super) fn validate_batch<'a>(
        &self,
        received: impl ExactSizeIterator<Item = ReceivedEvent<'a>>,
        session: &Session,
    ) -> Result<ValidatedBatch, ConnectError> {
        let size = received.len();
        if size > MAX_BATCH_EVENTS {
            let message = format!("the batch has {size} events; send at most {MAX_BATCH_EVENTS} at once");
            return Err(errors::invalid_field("events", message));
        }
        let mut batch =
            ValidatedBatch { events: Vec::with_capacity(size), indices: Vec::with_capacity(size), refused: Vec::new() };
        for (index, received) in (0..).zip(received) {
            match self.validate(received) {
                Ok(event) => {
                    authorize(session, &event).map_err(|error| errors::of_event(index, error))?;
                    batch.indices.push(index);
                    batch.events.push(event);
                }
                Err(error) => {
                    let message = error.message.unwrap_or_default();
                    batch.refused.push(RefusedRecord { index, code: "invalid_argument", message });
                }
            }
        }
        Ok(batch)
    }

    /// Records the valid events of a batch, waiting while the queue is full. `trace` is the span of the call.
    pub(super) async fn record_all(
        &self,
        batch: ValidatedBatch,
        trace: Option<TraceContext>,
    ) -> Result<RecordedBatch, ConnectError> {
        let ValidatedBatch { events, indices, mut refused } = batch;
        let valid = indices.len();
        let receipt = self.ingest()?.submit_when_room(events, trace).await;
        let receipt = receipt.map_err(|refusal| errors::refused(&refusal))?;
        let conflicts = receipt.conflicts.iter().filter_map(|place| indices.get(*place));
        refused.extend(conflicts.map(|index| RefusedRecord {
            index: *index,
            code: "already_exists",
            message: errors::CONFLICT.to_owned(),
        }));
        self.metrics.conflicts.inc_by(receipt.conflicts.len() as u64);
        self.metrics.events.inc_by((valid - receipt.conflicts.len()) as u64);
        Ok(RecordedBatch {
            accepted: errors::wire_count(receipt.accepted)?,
            token: receipt.token.as_ref().map(Token::to_string),
            refused,
        })
    }

    /// Records a stream of batches and acknowledges them in order, each with the number of batches that are durable by then. What a
    /// batch holds of the budget is returned once it is durable. The credentials must be valid when a batch arrives. A batch beyond a
    /// quota waits, and the stream is read no further meanwhile.
    pub(super) fn record_batches<M>(
        self,
        batches: InboundStream<M>,
        charges: StreamCharges,
        session: Session,
        validate: impl Fn(&Self, &Session, &StreamMessage<M>) -> Result<ValidatedBatch, ConnectError> + Send + 'static,
    ) -> impl Stream<Item = Result<(i64, RecordedBatch), ConnectError>> + Send + 'static
    where
        M: HasMessageView + 'static,
        StreamMessage<M>: Send,
    {
        let (shutdown, trace) = (self.shutdown.clone(), session.trace());
        let (validating, admitting) = (self.clone(), self.clone());
        batches
            .take_until(shutdown.cancelled_owned())
            // An error has its turn, too: the acknowledgements of the batches before it come first.
            .map(move |message| {
                let charge = message.is_ok().then(|| charges.next()).flatten();
                let batch = message.and_then(|message| {
                    let session = session.renewed()?;
                    let batch = validate(&validating, &session, &message)?;
                    Ok((validating.demand(&session, &batch.events), batch))
                });
                (batch, charge)
            })
            // One at a time: while a batch waits for a quota, no further one is read.
            .then(move |(batch, charge)| {
                let api = admitting.clone();
                async move {
                    let admitted = match batch {
                        Ok((demand, batch)) => api.admit_when_it_fits(demand).await.map(|()| batch),
                        Err(error) => Err(error),
                    };
                    (admitted, charge)
                }
            })
            .map(move |(batch, charge)| {
                let (api, trace) = (self.clone(), trace.clone());
                async move {
                    let recorded = api.record_all(batch?, trace).await;
                    drop(charge);
                    recorded
                }
            })
            .buffered(MAX_BATCHES_IN_FLIGHT)
            .zip(stream::iter(1_i64..))
            .map(|(recorded, durable)| recorded.map(|recorded| (durable, recorded)))
    }

    fn validate(&self, received: ReceivedEvent<'_>) -> Result<Event, ConnectError> {
        let ReceivedEvent { event_id, source, kind, timestamp_ms } = received;
        let now = self.clock.now();
        let accepted = Event::accept(timestamp_ms, event_id, source, kind, now, ping_ingest::new_event_id);
        let accepted = accepted.and_then(|event| match &self.accepted_ids {
            Some(accepted_ids) if !event_id.is_empty() => accepted_ids.check(event.id, now).map(|()| event),
            _ => Ok(event),
        });
        accepted.map_err(|error| {
            self.metrics.invalid.get_or_create(&[("reason", error.reason())]).inc();
            errors::invalid_event(&error)
        })
    }
}

/// Whether the caller may send the event.
fn authorize(session: &Session, event: &Event) -> Result<(), ConnectError> {
    session.authorize(Permission::Ingest, Extent::One(&event.source), Extent::One(kind_name(event)))
}

/// The kind as callers and the access policy name it.
pub(super) fn kind_name(event: &Event) -> &str {
    if event.kind.is_empty() { "ping" } else { &event.kind }
}
