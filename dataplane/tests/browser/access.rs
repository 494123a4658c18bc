//! The page of a server that needs a token.

use serde_json::json;

use crate::{
    page::Page,
    policy::{PolicyFile, token},
    processes::Pingd,
};

const TOKEN: &str = "page-test-token";

#[tokio::test]
async fn the_page_asks_for_a_token_and_keeps_it_in_the_tab_only() {
    let rules = "rules:\n- {callers: ['token:reader'], permissions: [read]}\n";
    let policy = PolicyFile::new(&format!("tokens:\n- {}\n{rules}", token("reader", TOKEN)));
    let pingd = Pingd::dev(&["--memory", "--access-policy", policy.path().to_str().unwrap()]).await;
    let page = Page::open(&pingd).await;
    let give = async |token: &str| {
        page.browser.run(&format!("document.getElementById('token').value = {}", json!(token))).await;
        page.click("#credentials button").await;
    };
    page.wait_for_text("credentials-note", "This server answers callers with a token.").await;
    assert_eq!(page.browser.run("return document.activeElement.id").await, "token");
    page.wait_for_text("status", "Token needed").await;
    give("wrong").await;
    page.wait_for_text("credentials-note", "Refused: ").await;
    give(TOKEN).await;
    page.wait_for_state("live").await;
    assert_eq!(page.browser.run("return document.getElementById('credentials').checkVisibility()").await, false);
    assert!(page.text("command").await.contains("Authorization: Bearer $TOKEN"), "{}", page.text("command").await);
    page.click("#test-ping").await;
    page.wait_for_text("test-note", "Failed: ").await;
    let kept = page.browser.run("return [localStorage.length, document.cookie, location.href]").await;
    assert_eq!(kept, json!([0, "", format!("{}/", pingd.api)]));
    page.browser.open(&format!("{}/", pingd.api)).await;
    page.wait_for_state("live").await;
    page.browser.open_window().await;
    page.browser.open(&format!("{}/", pingd.api)).await;
    page.wait_for_text("credentials-note", "This server answers callers with a token.").await;
}
