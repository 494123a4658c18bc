//! An event, and the rules for accepting one.

use std::hash::Hasher;

use fnv::FnvHasher;
use uuid::Uuid;

use super::{
    positions::{Partition, partition_number},
    revocation::{Revocation, is_reserved_kind},
    time::Millis,
};

/// Longest source, in bytes: long enough for a fully qualified domain name or a client address.
pub const MAX_SOURCE_BYTES: usize = 255;
/// Longest kind, in bytes.
pub const MAX_KIND_BYTES: usize = 64;
/// 2000-01-01T00:00:00Z. An earlier time is most likely in the wrong unit: seconds instead of milliseconds.
const EARLIEST: Millis = 946_684_800_000;
/// How far an event's time may be ahead of the server's clock: one day.
const MAX_AHEAD: Millis = 24 * 60 * 60_000;

/// Something that happened. It is counted exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The idempotency key.
    pub id: Uuid,
    /// When it happened.
    pub timestamp_ms: Millis,
    /// True when the caller sent no time, so the server filled in its own. A retry then gets another time, and is still the
    /// same event.
    pub timestamp_assumed: bool,
    /// Who reported it; empty when the event has no source.
    pub source: Box<str>,
    /// What happened; empty means "ping". At most [`MAX_KIND_BYTES`], or 93 bytes for a [`Revocation`].
    pub kind: Box<str>,
}

/// Why an event is rejected. The message says what to change.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EventError {
    /// Before 1970.
    #[error("timestamp_ms is negative ({0}); send milliseconds since the Unix epoch, or 0 for now")]
    Negative(Millis),
    /// Before 2000: the caller most likely sent seconds.
    #[error("timestamp_ms {0} is before the year 2000; it is in milliseconds since the Unix epoch, not seconds")]
    TooEarly(Millis),
    /// More than a day ahead of the server's clock.
    #[error("timestamp_ms {at} is more than one day ahead of the server's clock ({now}); check the unit and the clock")]
    TooLate {
        /// The time of the event.
        at: Millis,
        /// The server's time.
        now: Millis,
    },
    /// Not a UUID.
    #[error("event_id \"{0}\" is not a UUID; send one like 018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f, or omit it")]
    NotAUuid(String),
    /// The time in the id is before the events that are kept.
    #[error(
        "event_id {id} was created before {kept_from} (milliseconds since the Unix epoch), and events from before that time are no longer \
         kept, so it may have been counted already; send a new id only if you are sure that it was not"
    )]
    IdTooOld {
        /// The id.
        id: Uuid,
        /// Ids from this time on are accepted.
        kept_from: Millis,
    },
    /// The time in the id is more than a day ahead of the server's clock.
    #[error(
        "event_id {0} is of a time more than one day ahead of the server's clock; check the clock that creates ids, or omit it"
    )]
    IdTooNew(Uuid),
    /// The source is too long or has a control character.
    #[error("source must be at most {MAX_SOURCE_BYTES} bytes without control characters; it has {0} bytes")]
    Source(usize),
    /// The kind is too long or has a control character.
    #[error("kind must be at most {MAX_KIND_BYTES} bytes without control characters; it has {0} bytes")]
    Kind(usize),
    /// The kind is that of a revocation.
    #[error(
        "kinds that begin with \"~revoked:\" are reserved; send another kind, or revoke a status with AdminService.RevokeStatus"
    )]
    ReservedKind,
}

impl EventError {
    /// The names of all variants.
    pub const REASONS: [&str; 9] =
        ["Negative", "TooEarly", "TooLate", "NotAUuid", "IdTooOld", "IdTooNew", "Source", "Kind", "ReservedKind"];

    /// The variant's name.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Negative(_) => "Negative",
            Self::TooEarly(_) => "TooEarly",
            Self::TooLate { .. } => "TooLate",
            Self::NotAUuid(_) => "NotAUuid",
            Self::IdTooOld { .. } => "IdTooOld",
            Self::IdTooNew(_) => "IdTooNew",
            Self::Source(_) => "Source",
            Self::Kind(_) => "Kind",
            Self::ReservedKind => "ReservedKind",
        }
    }
}

impl Event {
    /// Validates what a caller sent. `timestamp_ms` 0 means `now`; an empty `id` is replaced by `new_id()`, which should make
    /// ids that ascend: they insert almost three times as fast as random ones (`docs/adr/0010`).
    ///
    /// # Errors
    /// When a field is out of its documented range; the message says how to fix it.
    pub fn accept(
        timestamp_ms: Millis,
        id: &str,
        source: &str,
        kind: &str,
        now: Millis,
        new_id: impl FnOnce() -> Uuid,
    ) -> Result<Self, EventError> {
        let at = match timestamp_ms {
            0 => now,
            at if at < 0 => return Err(EventError::Negative(at)),
            at if at < EARLIEST => return Err(EventError::TooEarly(at)),
            at if at > now.saturating_add(MAX_AHEAD) => return Err(EventError::TooLate { at, now }),
            at => at,
        };
        let id = if id.is_empty() {
            new_id()
        } else {
            Uuid::try_parse(id).map_err(|_| EventError::NotAUuid(id.chars().take(64).collect()))?
        };
        if source.len() > MAX_SOURCE_BYTES || source.chars().any(char::is_control) {
            return Err(EventError::Source(source.len()));
        }
        if kind.len() > MAX_KIND_BYTES || kind.chars().any(char::is_control) {
            return Err(EventError::Kind(kind.len()));
        }
        if is_reserved_kind(kind) {
            return Err(EventError::ReservedKind);
        }
        let kind = if kind == "ping" { "" } else { kind };
        Ok(Self {
            id,
            timestamp_ms: at,
            timestamp_assumed: timestamp_ms == 0,
            source: source.into(),
            kind: kind.into(),
        })
    }

    /// The event that records a revocation of events of `source`.
    #[must_use]
    pub fn revoking(revocation: &Revocation, source: &str, id: Uuid, now: Millis) -> Self {
        Self {
            id,
            timestamp_ms: now,
            timestamp_assumed: true,
            source: source.into(),
            kind: revocation.to_kind().into(),
        }
    }

    /// Whether this event, which has the id of `stored`, also has its content. A caller that sent no time cannot repeat the one
    /// that the server filled in, so only the other fields are compared then.
    #[must_use]
    pub fn repeats(&self, stored: &Event) -> bool {
        (self.timestamp_assumed || self.timestamp_ms == stored.timestamp_ms)
            && self.source == stored.source
            && self.kind == stored.kind
    }
}

/// The partition of a source: the FNV-1a hash of its bytes modulo `partitions`, so that all versions and replicas agree.
#[must_use]
pub fn partition_of(source: &str, partitions: u32) -> Partition {
    let mut hasher = FnvHasher::default();
    hasher.write(source.as_bytes());
    partition_number(hasher.finish() % u64::from(partitions.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_728_926_331_000;

    fn accept(at: Millis) -> Result<Event, EventError> {
        Event::accept(at, "", "", "", NOW, || Uuid::from_u128(7))
    }

    #[test]
    fn zero_means_now() {
        let event = accept(0).unwrap();
        assert_eq!((event.timestamp_ms, event.timestamp_assumed), (NOW, true));
    }

    #[test]
    fn an_event_without_an_id_gets_a_new_one() {
        assert_eq!(accept(NOW).unwrap().id, Uuid::from_u128(7));
    }

    #[test]
    fn absurd_times_are_refused_in_words() {
        assert_eq!(accept(-5), Err(EventError::Negative(-5)));
        assert_eq!(accept(NOW / 1000), Err(EventError::TooEarly(NOW / 1000)));
        assert!(matches!(accept(NOW + MAX_AHEAD + 1), Err(EventError::TooLate { .. })));
        assert!(matches!(accept(i64::MAX), Err(EventError::TooLate { .. })));
        assert!(accept(NOW / 1000).unwrap_err().to_string().contains("not seconds"));
    }

    #[test]
    fn any_uuid_is_an_id_and_nothing_else() {
        let id = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
        assert_eq!(Event::accept(NOW, id, "", "", NOW, Uuid::nil).unwrap().id.to_string(), id);
        assert!(matches!(Event::accept(NOW, "one", "", "", NOW, Uuid::nil), Err(EventError::NotAUuid(_))));
    }

    #[test]
    fn long_or_unprintable_names_are_refused() {
        let long = "x".repeat(256);
        assert_eq!(Event::accept(NOW, "", &long, "", NOW, Uuid::nil), Err(EventError::Source(256)));
        assert_eq!(Event::accept(NOW, "", "", "a\nb", NOW, Uuid::nil), Err(EventError::Kind(3)));
    }

    #[test]
    fn only_the_server_records_revocations() {
        let revocation = Revocation { kind: "failed".into(), events: 3 };
        let event = Event::revoking(&revocation, "a", Uuid::nil(), NOW);
        assert_eq!((&*event.source, &*event.kind, event.timestamp_ms), ("a", "~revoked:failed:3", NOW));
        assert_eq!(Event::accept(NOW, "", "a", &event.kind, NOW, Uuid::nil), Err(EventError::ReservedKind));
    }

    #[test]
    fn a_repetition_is_the_same_content_under_the_same_id() {
        let first = Event::accept(NOW, "", "a", "ping", NOW, Uuid::nil).unwrap();
        let assumed = Event { timestamp_ms: NOW + 7, timestamp_assumed: true, ..first.clone() };
        let other_time = Event { timestamp_ms: NOW + 7, ..first.clone() };
        let other_source = Event { source: "b".into(), ..first.clone() };
        assert!(first.repeats(&first) && assumed.repeats(&first));
        assert!(!other_time.repeats(&first) && !other_source.repeats(&first));
    }

    #[test]
    fn a_source_keeps_its_partition() {
        assert_eq!(partition_of("example.com", 6), partition_of("example.com", 6));
        let spread: std::collections::BTreeSet<_> = (0..100).map(|n| partition_of(&n.to_string(), 6)).collect();
        assert_eq!(spread.len(), 6);
        assert_eq!(partition_of("x", 0), 0);
    }

    #[test]
    fn partitions_follow_from_the_published_hash_values() {
        for (source, hash) in
            [("", 0xcbf2_9ce4_8422_2325_u64), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            for partitions in [1, 6, 1_000] {
                assert_eq!(
                    u64::try_from(partition_of(source, partitions)),
                    Ok(hash % u64::from(partitions)),
                    "{source}"
                );
            }
        }
    }
}
