//! A browser's tab: actions in it and checks of its contents.

use std::path::Path;

use serde_json::Value;
use system_tests::eventually;
use thirtyfour::{
    By, WebDriver, WebElement, WindowHandle,
    cdp::domains::emulation::{MediaFeature, SetEmulatedMedia},
};

use crate::driver::{Driver, TIMEOUT};

/// A tab in its own browser.
pub(crate) struct Tab {
    web: WebDriver,
    base: String,
    forgiven: Vec<&'static str>,
    /// The processes, which end with the tab.
    _driver: Driver,
}

/// The focused element.
#[derive(Debug)]
pub(crate) struct Focus {
    /// Its id, label or text.
    pub(crate) what: String,
    /// Whether the focus is visible: the element is on the screen and has an outline.
    pub(crate) is_visible: bool,
}

impl Tab {
    /// A tab for the pages of this server.
    pub(crate) async fn start(base: &str, runs_scripts: bool) -> Self {
        let driver = Driver::start(runs_scripts).await;
        let (web, base) = (driver.web.clone(), base.to_owned());
        let tab = Self { web, base, forgiven: Vec::new(), _driver: driver };
        tab.look(1280, 900, false).await;
        tab
    }

    /// Sets the size of the window's contents and the colour scheme. Animations are off.
    pub(crate) async fn look(&self, width: u32, height: u32, dark: bool) {
        let devtools = self.web.cdp();
        let emulation = devtools.emulation();
        emulation.set_device_metrics_override(width, height, 1.0, false).await.expect("a size");
        let scheme = if dark { "dark" } else { "light" };
        let features = [("prefers-color-scheme", scheme), ("prefers-reduced-motion", "reduce")]
            .map(|(name, value)| MediaFeature { name: name.to_owned(), value: value.to_owned() });
        let media = SetEmulatedMedia { media: None, features: Some(features.into()) };
        devtools.send(media).await.expect("a colour scheme");
    }

    /// Loads a page and marks it, see [`Tab::is_same_page`].
    pub(crate) async fn open(&self, path: &str) {
        self.go(&format!("{}{path}", self.base)).await;
    }

    /// Loads any address.
    pub(crate) async fn go(&self, url: &str) {
        self.web.goto(url).await.expect("a page");
        let _ = self.web.execute("window.sameAsEver = true", []).await;
    }

    /// Loads a page, and waits until it follows changes.
    pub(crate) async fn open_live(&self, path: &str) {
        self.open(path).await;
        self.is_live().await;
    }

    /// Waits until the page shows that it follows changes.
    pub(crate) async fn is_live(&self) {
        self.sees(
            "the page is live",
            "return document.querySelector('#live').dataset.state === 'live'",
        )
        .await;
    }

    /// Whether the page was not reloaded since it was opened.
    pub(crate) async fn is_same_page(&self) {
        assert_eq!(
            self.run("return window.sameAsEver === true").await,
            true,
            "it was loaded again"
        );
    }

    /// The path of the page.
    pub(crate) async fn path(&self) -> String {
        self.web.current_url().await.expect("an address").path().to_owned()
    }

    /// Opens another window, or a tab in front of this one, and switches to it.
    pub(crate) async fn open_another(&self, as_tab: bool) -> WindowHandle {
        let opened = if as_tab { self.web.new_tab().await } else { self.web.new_window().await };
        let opened = opened.expect("a window");
        self.switch_to(&opened).await;
        opened
    }

    /// The handle of the current window.
    pub(crate) async fn window(&self) -> WindowHandle {
        self.web.window().await.expect("a window")
    }

    /// Switches to another window, which may be in the background.
    pub(crate) async fn switch_to(&self, window: &WindowHandle) {
        self.web.switch_to_window(window.clone()).await.expect("it is there");
    }

    /// Runs a script and returns its result.
    pub(crate) async fn run(&self, script: &str) -> Value {
        let answer = self.web.execute(script, []).await;
        answer.unwrap_or_else(|error| panic!("{script}: {error}")).json().clone()
    }

    /// Runs a script and returns the value that it passes to its callback, its last argument.
    pub(crate) async fn run_async(&self, script: &str) -> Value {
        let answer = self.web.execute_async(script, []).await;
        answer.unwrap_or_else(|error| panic!("{error}")).json().clone()
    }

    /// Waits until the script returns true; other results are shown if the wait fails.
    pub(crate) async fn sees(&self, what: &str, script: &str) {
        eventually(what, TIMEOUT, async || {
            // An error may occur during a navigation.
            let answer = self.web.execute(script, []).await.map_err(|error| error.to_string())?;
            match answer.json() {
                Value::Bool(true) => Ok(()),
                Value::Bool(false) => Err(self.text("main").await),
                other => Err(other.to_string()),
            }
        })
        .await;
    }

    /// Waits until the text of an element contains this.
    pub(crate) async fn sees_text(&self, css: &str, text: &str) {
        eventually(&format!("{css} says {text:?}"), TIMEOUT, async || {
            let found = self.text(css).await;
            if found.contains(text) { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// An element's visible text on one line, or the reason of its absence.
    pub(crate) async fn text(&self, css: &str) -> String {
        let text = async { self.web.find(By::Css(css)).await?.text().await };
        text.await.map_or_else(|error| format!("({error})"), |text| on_one_line(&text))
    }

    /// The visible texts of all matching elements.
    pub(crate) async fn texts(&self, css: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for element in self.web.find_all(By::Css(css)).await.expect("elements") {
            let text = element.text().await.unwrap_or_else(|error| error.to_string());
            texts.push(on_one_line(&text));
        }
        texts
    }

    /// Clicks an element as soon as it is clickable.
    pub(crate) async fn click(&self, css: &str) {
        eventually(&format!("{css} can be clicked"), TIMEOUT, async || {
            let click = async { self.web.find(By::Css(css)).await?.click().await };
            click.await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// An existing element.
    pub(crate) async fn element(&self, css: &str) -> WebElement {
        let found = self.web.find(By::Css(css)).await;
        found.unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    /// Presses a key.
    pub(crate) async fn press(&self, key: impl Into<char>) {
        let key = key.into();
        let keys = self.web.action_chain().key_down(key).key_up(key);
        keys.perform().await.expect("keys are pressed");
    }

    /// The element with the focus.
    pub(crate) async fn focus(&self) -> Focus {
        const LOOK: &str = "const it = document.activeElement; \
            const style = getComputedStyle(it); const place = it.getBoundingClientRect(); \
            const text = it.getAttribute('aria-label') || it.textContent.trim().slice(0, 40); \
            const drawn = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1; \
            const here = place.width > 0 && place.bottom > 0 && place.top < innerHeight \
                && place.right > 0 && place.left < innerWidth; \
            return { what: `${it.localName}#${it.id} ${text}`, seen: drawn && here };";
        let focus = self.run(LOOK).await;
        let what = focus["what"].as_str().unwrap_or_default().to_owned();
        Focus { what, is_visible: focus["seen"] == true }
    }

    /// Whether this element has the focus.
    pub(crate) async fn has_focus(&self, css: &str) -> bool {
        let css = Value::from(css);
        self.run(&format!("return document.activeElement.matches({css})")).await == true
    }

    /// Writes a screenshot into a PNG file.
    pub(crate) async fn picture(&self, path: &Path) {
        self.web.screenshot(path).await.expect("a picture");
    }

    /// Expects messages in the console that contain this text.
    pub(crate) fn forgive(&mut self, part: &'static str) {
        self.forgiven.push(part);
    }

    /// The new messages in the console, without irrelevant ones.
    pub(crate) async fn console(&self) -> Vec<String> {
        let mut entries = self.web.browser_log().await.expect("messages");
        entries.retain(|entry| ["SEVERE", "WARNING"].contains(&entry.level.as_str()));
        entries.into_iter().map(|entry| entry.message).collect()
    }

    /// Closes the browser, after a last check of the console.
    pub(crate) async fn close(self) {
        let mut errors = self.console().await;
        errors.retain(|error| !self.forgiven.iter().any(|part| error.contains(part)));
        assert!(errors.is_empty(), "the console has errors: {errors:#?}");
        self.web.quit().await.expect("it closes");
    }
}

/// Normalizes white space, because the browser chooses the line breaks.
fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
