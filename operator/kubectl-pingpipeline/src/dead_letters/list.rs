//! `kubectl pingpipeline dead-letters` without a subcommand.

use jiff::Timestamp;
use ping_proto::{DeadLetter, DeadLettersResponse};

use super::find::{FilterArguments, find, find_pipeline};
use crate::{
    cluster::ConnectionArgs,
    output::{Format, printable, table},
};

/// Prints the first `limit` dead letters of the pipeline `name` that match `filter`.
pub(super) async fn run(
    name: &str,
    filter: &FilterArguments,
    limit: u32,
    connection: &ConnectionArgs,
    format: Format,
) -> anyhow::Result<bool> {
    let cluster = connection.connect().await?;
    let pipeline = find_pipeline(&cluster, name).await?;
    let found = find(&cluster, &pipeline, filter, limit as usize, |_| true).await?;
    match format {
        Format::Json => println!("{}", serde_json::to_string(&found)?),
        Format::Text => println!("{}", text(&found)),
    }
    Ok(true)
}

fn text(found: &DeadLettersResponse) -> String {
    if found.letters.is_empty() {
        return "no dead letters match".to_owned();
    }
    let rows = found.letters.iter().map(row);
    let mut text = table(["SENT", "REASON", "PLACE", "EVENT ID", "SOURCE", "KIND"], rows);
    if !found.next_page_token.is_empty() {
        text += "\nThere may be more: raise --limit, or use --since.";
    }
    text
}

fn row(letter: &DeadLetter) -> [String; 6] {
    let time =
        |at: i64| Timestamp::from_millisecond(at).map_or_else(|_| format!("{at} ms"), |time| format!("{time:.0}"));
    let sent = letter.sent_ms.map_or_else(|| "-".to_owned(), time);
    let [id, source, kind] = match letter.event.as_option() {
        None => [format!("none: {} bytes", letter.value.len()), String::new(), String::new()],
        Some(event) => {
            let kind = if event.kind.is_empty() { "ping" } else { &event.kind };
            [event.event_id.clone(), printable(&event.source), printable(kind)]
        }
    };
    [sent, printable(&letter.reason), printable(&letter.place), id, source, kind]
}

#[cfg(test)]
mod tests {
    use ping_proto::PingRequest;

    use super::*;
    use crate::output::WIDTH;

    #[test]
    fn the_list_fits_into_a_hundred_columns_and_says_when_there_may_be_more() {
        let event = PingRequest {
            event_id: "018f4e3c-7b1a-7cc0-8000-3a5b1c2d4e5f".into(),
            source: "shop-7.a-department-with-a-long-name.example.com".into(),
            ..PingRequest::default()
        };
        let letter = DeadLetter {
            place: "pings/0/42".into(),
            sent_ms: Some(1_728_926_331_000),
            reason: "the store does not have this event: it was restored to an earlier time".into(),
            event: event.into(),
            ..DeadLetter::default()
        };
        let malformed = DeadLetter { event: None.into(), value: vec![1, 2], ..letter.clone() };
        let found = DeadLettersResponse { letters: vec![letter, malformed], next_page_token: "0/2".into() };
        let text = text(&found);
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
        assert!(text.contains("none: 2") && text.ends_with("use --since."), "{text}");
    }
}
