//! Dead letters as messages.

use connectrpc::ConnectError;
use ping_ports::{LetterPage, LetterPosition, LetterQuery, StoredLetter};
use ping_proto::{DeadLetter, DeadLettersResponse, PingRequest};

use super::errors;

/// Dead letters of a page, unless the caller wants another number.
const DEFAULT_PAGE_SIZE: usize = 100;
/// Most dead letters of a page.
const MAX_PAGE_SIZE: usize = 500;
/// Longest text to look for in reasons, in bytes.
const MAX_REASON_BYTES: usize = 255;
/// A value is cut off here, in bytes.
const MAX_VALUE_BYTES: usize = 65_536;

/// What a request asks for.
///
/// # Errors
/// When a field is out of its documented range.
pub(super) fn query(
    reason: &str,
    since_ms: i64,
    page_size: i32,
    page_token: &str,
) -> Result<LetterQuery, ConnectError> {
    if reason.len() > MAX_REASON_BYTES {
        let message = format!("reason must have at most {MAX_REASON_BYTES} bytes; it has {}", reason.len());
        return Err(errors::invalid_field("reason", message));
    }
    if since_ms < 0 {
        let message =
            format!("since_ms is negative ({since_ms}); send milliseconds since the Unix epoch, or 0 for all");
        return Err(errors::invalid_field("since_ms", message));
    }
    let limit = usize::try_from(page_size).ok().filter(|size| *size <= MAX_PAGE_SIZE).ok_or_else(|| {
        let message =
            format!("page_size must be from 1 to {MAX_PAGE_SIZE}, or 0 for {DEFAULT_PAGE_SIZE}; it is {page_size}");
        errors::invalid_field("page_size", message)
    })?;
    Ok(LetterQuery {
        reason: reason.to_owned(),
        since: Some(since_ms).filter(|since| *since > 0),
        limit: if limit == 0 { DEFAULT_PAGE_SIZE } else { limit },
        from: position(page_token)?,
    })
}

/// The position that a page token stands for; none for the first page.
fn position(token: &str) -> Result<Option<LetterPosition>, ConnectError> {
    if token.is_empty() {
        return Ok(None);
    }
    let parse = || {
        let (partition, offset) = token.split_once('/')?;
        Some(LetterPosition { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
    };
    match parse().filter(|position| position.partition >= 0 && position.offset >= 0) {
        Some(position) => Ok(Some(position)),
        None => {
            let message = "page_token is not valid; send the next_page_token of a response, or none for the first page";
            Err(errors::invalid_field("page_token", message.to_owned()))
        }
    }
}

/// A page as a message.
pub(super) fn response(page: LetterPage) -> DeadLettersResponse {
    let token = |LetterPosition { partition, offset }| format!("{partition}/{offset}");
    DeadLettersResponse {
        letters: page.letters.into_iter().map(letter).collect(),
        next_page_token: page.next.map(token).unwrap_or_default(),
    }
}

fn letter(letter: StoredLetter) -> DeadLetter {
    let StoredLetter { sent, reason, place, content } = letter;
    let (event, value) = match content {
        Ok(event) => {
            let event = PingRequest {
                timestamp_ms: event.timestamp_ms,
                // Without an id, each repetition would be another event.
                event_id: if event.id.is_nil() { String::new() } else { event.id.to_string() },
                source: event.source.into(),
                kind: event.kind.into(),
                receipt: false,
            };
            (Some(event), Vec::new())
        }
        Err(mut value) => {
            value.truncate(MAX_VALUE_BYTES);
            (None, value)
        }
    };
    DeadLetter { place, sent_ms: sent, reason, event: event.into(), value }
}

#[cfg(test)]
mod tests {
    use ping_core::WriterId;
    use ping_ports::LogEvent;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_page_continues_where_the_previous_one_ended() {
        let next = Some(LetterPosition { partition: 2, offset: 41 });
        let token = response(LetterPage { letters: Vec::new(), next }).next_page_token;
        assert_eq!(query("", 0, 0, &token).unwrap().from, next);
        assert_eq!(query("", 0, 0, "").unwrap().from, None);
        assert_eq!(response(LetterPage::default()).next_page_token, "");
    }

    #[test]
    fn a_request_out_of_range_says_what_to_send() {
        let message = |query: Result<LetterQuery, ConnectError>| query.unwrap_err().message.unwrap();
        assert!(message(query(&"x".repeat(256), 0, 0, "")).contains("at most 255 bytes"));
        assert!(message(query("", -1, 0, "")).contains("or 0 for all"));
        for size in [-1, 501] {
            assert!(message(query("", 0, size, "")).contains("from 1 to 500"));
        }
        for token in ["7", "a/b", "-1/0", "0/-1", "0/1/2", "99999999999/1"] {
            assert!(message(query("", 0, 0, token)).contains("next_page_token"), "{token}");
        }
        let found = query("it", 7, 500, "0/9").unwrap();
        assert_eq!((found.limit, found.since, &*found.reason), (500, Some(7), "it"));
    }

    #[test]
    fn an_event_can_be_sent_again_and_a_long_value_is_cut_off() {
        let stored =
            |content| StoredLetter { sent: Some(7), reason: "because".into(), place: "pings/0/9".into(), content };
        let event =
            |id| LogEvent { id, writer: WriterId(1), seq: 2, timestamp_ms: 5, source: "a".into(), kind: "".into() };
        let found = letter(stored(Ok(event(Uuid::from_u128(9)))));
        let ping = PingRequest {
            timestamp_ms: 5,
            event_id: Uuid::from_u128(9).to_string(),
            source: "a".into(),
            ..PingRequest::default()
        };
        assert_eq!((found.event.into_option(), found.value.len(), found.sent_ms), (Some(ping), 0, Some(7)));
        assert_eq!(letter(stored(Ok(event(Uuid::nil())))).event.into_option().unwrap().event_id, "");
        let found = letter(stored(Err(vec![1; 70_000])));
        assert_eq!((found.event.into_option(), found.value.len()), (None, 65_536));
    }
}
