//! The images of the README: `make screenshots`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;

use crate::{page::Page, processes::Pingd};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/images");
const SOURCES: [&str; 10] = [
    "orders-eu",
    "orders-us",
    "checkout",
    "mobile-android",
    "mobile-ios",
    "billing",
    "warehouse",
    "partner-api",
    "backup",
    "newsletter",
];
const MINUTES: i64 = 1_440;

/// A day of events: two waves, of which the first sources have most.
fn day(now: i64) -> Vec<serde_json::Value> {
    let mut events = Vec::new();
    for minute in 0..MINUTES {
        #[expect(clippy::cast_precision_loss, reason = "a curve for the eye")]
        let wave = (minute as f64 / 229.0).sin() * 16.0 + (minute as f64 / 7.0).sin() * 4.0;
        #[expect(clippy::cast_possible_truncation, reason = "small")]
        let count = 34 + wave as i64 + minute * 7 % 11;
        for event in 0..count {
            let spread = usize::try_from((event * 7 + minute * 3) % 55).unwrap();
            let source =
                SOURCES[(0..SOURCES.len()).find(|rank| spread < 10 * (rank + 1) - rank * (rank + 1) / 2).unwrap_or(0)];
            let kind = if event % 9 == 0 { "returned" } else { "succeeded" };
            events.push(json!({"source": source, "kind": kind, "timestampMs": now - minute * 60_000 - event}));
        }
    }
    events
}

#[tokio::test]
#[ignore = "writes files: make screenshots"]
async fn screenshots() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    for events in day(now).chunks(5_000) {
        let (status, answer) = pingd.ask("EventService/RecordBatch", &json!({"events": events})).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    // The page is opened when the views have counted all of it, because the ranking is read every half minute.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let page = Page::open(&pingd).await;
    std::fs::create_dir_all(FOLDER).unwrap();
    for (name, width, height, theme) in
        [("page-light", 1280, 800, "light"), ("page-dark", 1280, 800, "dark"), ("page-phone", 390, 844, "dark")]
    {
        page.browser.look(width, height, theme).await;
        for _ in 0..60 {
            let (status, _) = pingd.call("Ping", &json!({"source": SOURCES[0], "kind": "succeeded"})).await.unwrap();
            assert_eq!(status, 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        page.wait_for_state("live").await;
        let picture = page.browser.devtools("Page.captureScreenshot", json!({"format": "png"})).await;
        let png = BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(format!("{FOLDER}/{name}.png"), png).unwrap();
    }
}
