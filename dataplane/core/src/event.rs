//! An event, and what makes one acceptable.

use uuid::Uuid;

use super::{Millis, Partition};

/// Longest source, in bytes: a fully qualified domain name or a client address fits.
pub const MAX_SOURCE_BYTES: usize = 255;
/// Longest kind, in bytes.
pub const MAX_KIND_BYTES: usize = 64;
/// 2000-01-01T00:00:00Z. Anything earlier is a unit mistake (seconds instead of milliseconds), not history.
const EARLIEST: Millis = 946_684_800_000;
/// How far a caller's clock may be ahead of ours: one day.
const MAX_AHEAD: Millis = 24 * 60 * 60_000;

/// Something that happened, and is to be counted once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The idempotency key.
    pub id: Uuid,
    /// When it happened.
    pub timestamp_ms: Millis,
    /// True when the caller left the time to us; a retry then has another `at`, and is the same event all the same.
    pub timestamp_assumed: bool,
    /// Who reported it; empty when unnamed.
    pub source: Box<str>,
    /// What happened; empty means "ping".
    pub kind: Box<str>,
}

/// Why an event is refused. The text says what to change.
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
        /// The time asked for.
        at: Millis,
        /// The server's time.
        now: Millis,
    },
    /// Not a UUID.
    #[error("event_id \"{0}\" is not a UUID; send one like 018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f, or none")]
    NotAUuid(String),
    /// The source is too long or has a control character.
    #[error("source must be at most {MAX_SOURCE_BYTES} bytes without control characters; it has {0} bytes")]
    Source(usize),
    /// The kind is too long or has a control character.
    #[error("kind must be at most {MAX_KIND_BYTES} bytes without control characters; it has {0} bytes")]
    Kind(usize),
}

impl EventError {
    /// Every reason there is.
    pub const REASONS: [&str; 6] = ["Negative", "TooEarly", "TooLate", "NotAUuid", "Source", "Kind"];

    /// The variant's name.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Negative(_) => "Negative",
            Self::TooEarly(_) => "TooEarly",
            Self::TooLate { .. } => "TooLate",
            Self::NotAUuid(_) => "NotAUuid",
            Self::Source(_) => "Source",
            Self::Kind(_) => "Kind",
        }
    }
}

impl Event {
    /// Validates what a caller sent. `timestamp_ms` 0 means `now`; an empty `id` is replaced by a fresh, time-ordered one
    /// (ordered ids insert almost three times as fast as random ones: `bench/README.md`).
    ///
    /// # Errors
    /// When a field is out of its documented range; the text says how to fix it.
    pub fn accept(timestamp_ms: Millis, id: &str, source: &str, kind: &str, now: Millis) -> Result<Self, EventError> {
        let at = match timestamp_ms {
            0 => now,
            at if at < 0 => return Err(EventError::Negative(at)),
            at if at < EARLIEST => return Err(EventError::TooEarly(at)),
            at if at > now.saturating_add(MAX_AHEAD) => return Err(EventError::TooLate { at, now }),
            at => at,
        };
        let id = if id.is_empty() {
            Uuid::now_v7()
        } else {
            Uuid::try_parse(id).map_err(|_| EventError::NotAUuid(id.chars().take(64).collect()))?
        };
        if source.len() > MAX_SOURCE_BYTES || source.chars().any(char::is_control) {
            return Err(EventError::Source(source.len()));
        }
        if kind.len() > MAX_KIND_BYTES || kind.chars().any(char::is_control) {
            return Err(EventError::Kind(kind.len()));
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

    /// Whether a second delivery under the same id says the same thing as `stored`. A caller who left the time to us
    /// cannot repeat it, so only the rest is compared then.
    #[must_use]
    pub fn repeats(&self, stored: &Event) -> bool {
        (self.timestamp_assumed || self.timestamp_ms == stored.timestamp_ms)
            && self.source == stored.source
            && self.kind == stored.kind
    }
}

/// The partition of a source: FNV-1a over its bytes, so that every version and every replica agrees.
#[must_use]
pub fn partition_of(source: &str, partitions: u32) -> Partition {
    let hash = source
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let partition = hash % u64::from(partitions.max(1));
    i32::try_from(partition).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_728_926_331_000;

    fn accept(at: Millis) -> Result<Event, EventError> {
        Event::accept(at, "", "", "", NOW)
    }

    #[test]
    fn zero_means_now() {
        let event = accept(0).unwrap();
        assert_eq!((event.timestamp_ms, event.timestamp_assumed), (NOW, true));
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
        assert_eq!(Event::accept(NOW, id, "", "", NOW).unwrap().id.to_string(), id);
        assert!(matches!(Event::accept(NOW, "one", "", "", NOW), Err(EventError::NotAUuid(_))));
    }

    #[test]
    fn long_or_unprintable_names_are_refused() {
        let long = "x".repeat(256);
        assert_eq!(Event::accept(NOW, "", &long, "", NOW), Err(EventError::Source(256)));
        assert_eq!(Event::accept(NOW, "", "", "a\nb", NOW), Err(EventError::Kind(3)));
    }

    #[test]
    fn a_repetition_is_the_same_content_under_the_same_id() {
        let first = Event::accept(NOW, "", "a", "ping", NOW).unwrap();
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
}
