//! The diagram of the flow shows the service that is behind.

use stack::Service;

use crate::visit::visit;

/// A script that is true when the arrow from order_service to msg_service has this level.
fn arrow(wanted: &str) -> String {
    format!(
        "const arrow = document.querySelector('[data-arrow=\"order_service>msg_service\"].arrow'); \
         const waiting = Number(arrow.querySelector('.waiting').textContent); \
         const level = arrow.dataset.level; \
         return ({wanted}) || `${{level}}: ${{waiting}}`"
    )
}

#[tokio::test]
async fn the_backlog_of_a_killed_service_grows_and_drains_when_it_is_back() {
    visit(async |visit| {
        let (tab, system) = (&visit.tab, &mut visit.system);
        tab.open_live("/flow").await;
        tab.sees("nothing waits", &arrow("waiting === 0")).await;
        system.first(Service::Message).process.kill().expect("it runs");
        for number in 1..=3 {
            system.order(&["205"], "103").await;
            tab.sees("it grows", &arrow(&format!("waiting >= {number}"))).await;
        }
        tab.sees("it is stuck", &arrow("level === 'stuck'")).await;
        let service = "const it = document.querySelector('.service[data-service=msg_service]'); \
            return it.dataset.level === 'stuck' || it.dataset.level";
        tab.sees("so is the service", service).await;
        tab.sees_text("#live-news", "msg_service is stuck.").await;
        tab.sees_text(
            "[data-stream='events:{order}_created'][data-group='msg_service'] .f-lag",
            "3",
        )
        .await;

        system.restart(Service::Message, 1).await;
        tab.sees("it drains", &arrow("waiting === 0 && level !== 'stuck'")).await;
        tab.sees_text(
            "[data-stream='events:{order}_created'][data-group='msg_service'] .f-lag",
            "0",
        )
        .await;
        tab.is_same_page().await;
    })
    .await;
}
