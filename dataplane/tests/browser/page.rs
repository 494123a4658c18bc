//! The page as a reader sees it.

use serde_json::{Value, json};

use crate::{browser::Browser, processes::Pingd};

/// The page of a server.
pub struct Page {
    pub browser: Browser,
}

impl Page {
    /// Opens the page of `pingd`.
    pub async fn open(pingd: &Pingd) -> Self {
        let browser = Browser::start().await;
        browser.open(&format!("{}/", pingd.api)).await;
        // A reload would lose it.
        browser.run("window.isFirstLoad = true").await;
        Self { browser }
    }

    pub async fn text(&self, id: &str) -> String {
        let text = self.browser.run(&format!("return document.getElementById('{id}').textContent")).await;
        text.as_str().unwrap().to_owned()
    }

    /// Waits until the element with this id has this text.
    pub async fn wait_for_text(&self, id: &str, text: &str) {
        let text = json!(text);
        self.browser.wait_for(&format!("document.getElementById('{id}').textContent.includes({text})")).await;
    }

    /// Waits until the state is `state`: `live`, `degraded`, `stale`, or `unreachable`.
    pub async fn wait_for_state(&self, state: &str) {
        self.browser.wait_for(&format!("document.body.dataset.state === '{state}'")).await;
    }

    /// Waits until the list of components shows `component` as `text`.
    pub async fn wait_for_component(&self, component: &str, text: &str) {
        let expression = format!(
            "[...document.querySelectorAll('#components li')].some(item => \
             item.querySelector('.name').textContent === '{component}' && \
             item.querySelector('.text').textContent.startsWith('{text}'))"
        );
        self.browser.wait_for(&expression).await;
    }

    pub async fn click(&self, selector: &str) {
        self.browser.run(&format!("document.querySelector('{selector}').click()")).await;
    }

    pub async fn title(&self) -> String {
        self.browser.run("return document.title").await.as_str().unwrap().to_owned()
    }

    /// The icon of the tab.
    pub async fn icon(&self) -> String {
        self.browser.run("return document.querySelector('link[rel=icon]').href").await.as_str().unwrap().to_owned()
    }

    /// What a canvas shows.
    pub async fn picture(&self, chart: &str) -> String {
        let script = format!("return document.querySelector('#{chart}-plot canvas').toDataURL()");
        self.browser.run(&script).await.as_str().unwrap().to_owned()
    }

    pub async fn is_first_load(&self) -> bool {
        self.browser.run("return window.isFirstLoad === true").await == true
    }

    /// A style of the element with this id.
    pub async fn style(&self, id: &str, property: &str) -> Value {
        self.browser.run(&format!("return getComputedStyle(document.getElementById('{id}')).{property}")).await
    }
}
