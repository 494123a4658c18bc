//! What the page shows while everything works.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{page::Page, processes::Pingd};

/// Sends events one by one until one is on the page within a second of its acknowledgement. Other tests share the two cores, so not
/// every event is that fast.
async fn shown_within_a_second(pingd: &Pingd, page: &Page, mut count: i64) -> i64 {
    let mut waited = Vec::new();
    while waited.len() < 20 {
        pingd.ping(json!({})).await;
        count += 1;
        let acknowledged = Instant::now();
        page.wait_for_text("total", &count.to_string()).await;
        waited.push(acknowledged.elapsed());
        if acknowledged.elapsed() < Duration::from_secs(1) {
            return count;
        }
    }
    panic!("no event was shown within a second: {waited:?}");
}

#[tokio::test]
async fn pings_from_another_client_change_the_number_within_a_second_and_charts_grow() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let page = Page::open(&pingd).await;
    page.wait_for_state("live").await;
    assert_eq!((page.text("total").await, page.text("status").await), ("0".into(), "Live · exact".into()));
    let empty = [page.picture("hour-chart").await, page.picture("day-chart").await];
    let count = shown_within_a_second(&pingd, &page, 0).await;
    for (chart, before) in ["hour", "day"].into_iter().zip(empty) {
        page.wait_for_text(&format!("{chart}-sum"), &count.to_string()).await;
        page.browser
            .wait_for(&format!("document.querySelector('#{chart}-chart-plot canvas').toDataURL() !== '{before}'"))
            .await;
        page.wait_for_text(&format!("{chart}-chart-note"), &format!("{count} event")).await;
        page.click(&format!("#{chart}-chart-table").replace("-table", "-plot ~ details summary")).await;
        // Not only the first row: the next minute may have begun.
        let cells = format!("[...document.querySelectorAll('#{chart}-chart-table td')]");
        page.browser.wait_for(&format!("{cells}.some(cell => cell.textContent === '{count}')")).await;
    }
    shown_within_a_second(&pingd, &page, count).await;
    page.wait_for_component("Audit", "Cache equals database").await;
    for component in ["Server", "Database", "Cache"] {
        page.wait_for_component(component, "Available").await;
    }
    assert!(page.title().await.ends_with(" events"), "{}", page.title().await);
    assert!(page.icon().await.contains("16a34a"), "{}", page.icon().await);
    assert!(page.is_first_load().await, "without reloading");
}

#[tokio::test]
async fn a_test_ping_is_counted_and_its_source_can_be_looked_up() {
    let pingd = Pingd::dev(&["--memory", "--status-positive-when", "ping=2"]).await;
    let page = Page::open(&pingd).await;
    page.wait_for_state("live").await;
    for total in ["1", "2"] {
        page.click("#test-ping").await;
        page.wait_for_text("test-note", "counted after").await;
        page.wait_for_text("total", total).await;
        page.browser.run("document.getElementById('test-note').textContent = ''").await;
    }
    // The views follow within a second.
    pingd_knows(&pingd, "test", "2").await;
    page.browser.run("document.getElementById('source-name').value = 'test'").await;
    page.click("#source-search button").await;
    page.wait_for_text("source-title", "test").await;
    assert_eq!((page.text("source-status").await, page.text("source-count").await), ("positive".into(), "2".into()));
    page.wait_for_text("source-kinds", "ping").await;
    page.wait_for_text("source-chart-note", "2 events").await;
    for window in ["hour", "week"] {
        let select = "const select = document.getElementById('source-window'); select.value = '";
        page.browser.run(&format!("{select}{window}'; select.dispatchEvent(new Event('change'))")).await;
        page.wait_for_text("source-chart-note", "2 events").await;
    }
    page.browser.run("document.getElementById('source-name').value = 'nowhere'").await;
    page.click("#source-search button").await;
    page.wait_for_text("source-note", "No events from nowhere").await;
    let command = page.text("command").await;
    let output = tokio::process::Command::new("bash").args(["-c", &command]).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{}", "{command}");
    page.wait_for_text("total", "3").await;
    // The ranking is read every half minute; a page that is opened now sees the same one.
    page.wait_for_text("top-rows", "test").await;
}

/// Waits until the views have counted.
pub async fn pingd_knows(pingd: &Pingd, source: &str, count: &str) {
    let started = Instant::now();
    loop {
        let (_, answer) = pingd.ask("SourceService/SourceStats", &json!({"source": source})).await.unwrap();
        if answer["count"] == count {
            return;
        }
        assert!(started.elapsed() < crate::processes::TIMEOUT, "{answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The content security policy is in force, and blocks nothing that the page needs.
#[tokio::test]
async fn the_page_requests_nothing_from_elsewhere_and_breaks_no_rule_of_its_policy() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let page = Page::open(&pingd).await;
    page.wait_for_state("live").await;
    page.click("#test-ping").await;
    page.wait_for_text("test-note", "counted after").await;
    let requests = page.browser.log("performance").await;
    let requests =
        requests.iter().map(|entry| serde_json::from_str::<Value>(entry["message"].as_str().unwrap()).unwrap());
    // The browser's own start page makes requests, too.
    let is_of_the_page = |entry: &Value| {
        let document = entry["message"]["params"]["documentURL"].as_str().unwrap_or_default();
        entry["message"]["method"] == "Network.requestWillBeSent" && document.starts_with(&pingd.api)
    };
    let urls: Vec<_> = requests
        .filter(is_of_the_page)
        .map(|entry| entry["message"]["params"]["request"]["url"].as_str().unwrap().to_owned())
        .collect();
    assert!(urls.iter().any(|url| url.ends_with("/ping.v1.LiveService/Watch")), "{urls:?}");
    let elsewhere = |url: &&String| !url.starts_with(&pingd.api) && !url.starts_with("data:");
    assert_eq!(urls.iter().filter(elsewhere).collect::<Vec<_>>(), [""; 0]);
    let logged = page.browser.log("browser").await;
    assert!(logged.is_empty(), "{logged:?}");
    page.browser.run("const script = document.createElement('script'); script.textContent = 'window.injected = true'; document.body.append(script)").await;
    assert_eq!(page.browser.run("return window.injected === true").await, false);
    let refused = page.browser.log("browser").await;
    assert!(
        refused.iter().any(|entry| entry["message"].as_str().unwrap().contains("Content Security Policy")),
        "{refused:?}"
    );
}
