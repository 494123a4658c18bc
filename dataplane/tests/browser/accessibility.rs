//! WCAG AA by axe, at three widths and in two themes, and the keyboard.

use serde_json::{Value, json};

use crate::{page::Page, policy::PolicyFile, processes::Pingd, tools::axe};

const WIDTHS: [u32; 3] = [360, 768, 1280];
const THEMES: [&str; 2] = ["light", "dark"];

/// What axe finds in every look of the page.
async fn check(page: &Page, axe: &str, state: &str) {
    for width in WIDTHS {
        for theme in THEMES {
            page.browser.look(width, 900, theme).await;
            page.browser.run(axe).await;
            let levels = json!(["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]);
            let run = format!("axe.run({{runOnly: {levels}}}).then(done, error => done({{error: String(error)}}))");
            let found = page.browser.run_async(&run).await;
            let passed = found.pointer("/passes").and_then(Value::as_array).map_or(0, Vec::len);
            assert!(passed > 10, "axe checked nothing: {found}");
            let violations: Vec<String> = found["violations"].as_array().unwrap().iter().map(describe).collect();
            assert!(violations.is_empty(), "{state}, {width} px, {theme}:\n{}", violations.join("\n"));
            let overflow = page.browser.run("return document.documentElement.scrollWidth - innerWidth").await;
            assert_eq!(overflow, 0, "{state}: {width} px wide, the page scrolls sideways");
        }
    }
}

fn describe(violation: &Value) -> String {
    let places = violation["nodes"].as_array().into_iter().flatten();
    let places: Vec<_> = places.map(|node| format!("  {} {}", node["html"], node["failureSummary"])).collect();
    format!("{}: {}\n{}", violation["id"], violation["help"], places.join("\n"))
}

#[tokio::test]
async fn axe_finds_no_violation_of_wcag_aa_in_any_width_theme_or_state() {
    let axe = axe().await;
    let mut pingd = Pingd::dev(&["--memory"]).await;
    for kind in ["ping", "failed"] {
        let event = json!({"source": "a-source-with-a-long-name.example.com", "kind": kind});
        let (status, answer) = pingd.ask("EventService/Record", &event).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    let page = Page::open(&pingd).await;
    page.wait_for_state("live").await;
    page.wait_for_text("top-rows", "example.com").await;
    page.click("#top-rows button").await;
    page.wait_for_text("source-status", "negative").await;
    page.browser.run("for (const details of document.querySelectorAll('details')) details.open = true").await;
    page.click("#test-ping").await;
    page.wait_for_text("test-note", "counted after").await;
    check(&page, &axe, "live").await;
    pingd.kill_9().await;
    page.wait_for_state("unreachable").await;
    check(&page, &axe, "unreachable").await;
}

#[tokio::test]
async fn axe_finds_no_violation_in_the_page_that_asks_for_a_token() {
    let policy = PolicyFile::new("rules: []\n");
    let pingd = Pingd::dev(&["--memory", "--access-policy", policy.path().to_str().unwrap()]).await;
    let page = Page::open(&pingd).await;
    page.wait_for_text("credentials-note", "This server answers callers with a token.").await;
    check(&page, &axe().await, "locked").await;
}

#[tokio::test]
async fn everything_can_be_reached_and_used_with_the_keyboard() {
    let pingd = Pingd::dev(&["--memory"]).await;
    let page = Page::open(&pingd).await;
    page.wait_for_state("live").await;
    let mut reached = Vec::new();
    loop {
        page.browser.press("Tab", 9, "").await;
        let script = "const at = document.activeElement; const outline = getComputedStyle(at).outlineStyle; \
                      return [at.id || at.className || at.localName, outline !== 'none']";
        let at = page.browser.run(script).await;
        let name = at[0].as_str().unwrap().to_owned();
        if name == "body" || reached.len() > 40 {
            break;
        }
        assert_eq!(at[1], true, "{name} does not show that it has the focus");
        reached.push(name.clone());
        if name == "test-ping" {
            page.browser.press("Enter", 13, "\r").await;
            page.wait_for_text("test-note", "counted after").await;
            page.browser.run("document.getElementById('test-ping').focus()").await;
        }
    }
    for name in ["skip", "summary", "source-name", "source-window", "test-ping", "copy"] {
        assert!(reached.iter().any(|reached| reached == name), "{name} is not among {reached:?}");
    }
    page.wait_for_text("total", "1").await;
}
