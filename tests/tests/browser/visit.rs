//! A visit to the pages: a system and a browser for one test.

use stack::StackOptions;
use system_tests::System;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::tab::Tab;

/// The maximum number of concurrent visits, because browsers are heavy.
static PERMITS: Semaphore = Semaphore::const_new(2);

/// Waits until another visit may begin.
pub(crate) async fn permit() -> SemaphorePermit<'static> {
    PERMITS.acquire().await.expect("never closed")
}

/// A browser at the pages of a running system.
pub(crate) struct Visit {
    /// The browser.
    pub(crate) tab: Tab,
    /// The system, with the demo data.
    pub(crate) system: System,
}

/// A visit to a system with default options. Errors in the browser's console fail the test.
pub(crate) async fn visit(test: impl AsyncFnOnce(&mut Visit)) {
    visit_with(StackOptions::default(), true, test).await;
}

/// A visit to a system with these options, with a browser that runs scripts or does not.
pub(crate) async fn visit_with(
    options: StackOptions,
    runs_scripts: bool,
    test: impl AsyncFnOnce(&mut Visit),
) {
    let _permit = permit().await;
    let system = System::start_with(options).await;
    system.init_data().await;
    let tab = Tab::start(&system.url(), runs_scripts).await;
    let mut visit = Visit { tab, system };
    test(&mut visit).await;
    visit.tab.close().await;
}
