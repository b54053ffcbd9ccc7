//! All functions work with the keyboard alone, and the focus is always visible.

use thirtyfour::Key;

use crate::{orders::statuses, tab::Tab, visit::visit};

/// Presses Tab until the wanted element has the focus. Each element on the way shows its focus.
async fn tab_to(tab: &Tab, css: &str) {
    let mut passed = Vec::new();
    while passed.len() < 150 {
        tab.press(Key::Tab).await;
        let focus = tab.focus().await;
        assert!(focus.is_visible, "one does not see that {} is focused", focus.what);
        if tab.has_focus(css).await {
            return;
        }
        passed.push(focus.what);
    }
    panic!("{css} is not reached: {passed:#?}");
}

#[tokio::test]
async fn every_action_works_with_the_keyboard_alone() {
    visit(async |visit| {
        let tab = &visit.tab;
        tab.open_live("/report").await;
        // The first link skips the navigation.
        tab_to(tab, "a.skip").await;
        tab.press(Key::Enter).await;
        tab.sees("the orders", "return document.activeElement.id === 'orders-heading'").await;
        tab_to(tab, "#counts [data-filter='pending']").await;

        // An order, from the products to the button.
        tab.open_live("/report").await;
        tab_to(tab, "[data-product='201'] .more").await;
        tab.press(Key::Space).await;
        tab_to(tab, "[data-product='204'] .quantity").await;
        tab.press(Key::Up).await;
        tab.sees_text("#order-total", "900").await;
        tab_to(tab, "#order-customer").await;
        tab.press('C').await;
        tab.sees_text("#order-cover", "Carol has 1,000").await;
        tab_to(tab, "#place-order").await;
        tab.press(Key::Enter).await;
        tab.sees("it is paid", &statuses(&["to-be-shipped"])).await;
        assert!(tab.has_focus("#place-order").await, "{:?}", tab.focus().await);

        // A dialog takes the focus and returns it, both when cancelled and when completed.
        tab_to(tab, "[data-account='102'] .top-up").await;
        tab.press(Key::Enter).await;
        tab.sees("a dialog", "return document.activeElement.id === 'amount'").await;
        tab.press(Key::Escape).await;
        tab.sees("it is left", "return !document.querySelector('dialog').open").await;
        assert!(tab.has_focus("[data-account='102'] .top-up").await, "{:?}", tab.focus().await);
        tab.press(Key::Enter).await;
        tab.sees("a dialog", "return document.activeElement.id === 'amount'").await;
        tab.press('7').await;
        tab.press(Key::Enter).await;
        tab.sees_text("[data-account='102'] .a-balance", "107").await;
        tab.sees("it is closed", "return !document.querySelector('dialog').open").await;
        assert!(tab.has_focus("[data-account='102'] .top-up").await, "{:?}", tab.focus().await);

        // The guide's orders, then the page of the one above, and its next steps.
        tab_to(tab, "[data-guide='201 204']").await;
        tab.press(Key::Space).await;
        tab.sees("both", &statuses(&["to-be-shipped", "to-be-shipped"])).await;
        tab_to(tab, "#orders tr:last-child .o-id a").await;
        tab.press(Key::Enter).await;
        tab.sees("its page", "return location.pathname.startsWith('/order/')").await;
        tab.is_live().await;
        tab_to(tab, "#next [data-action='ship']").await;
        tab.press(Key::Space).await;
        tab.sees_text("#order-status", "Shipped").await;
        // The pressed button has disappeared: the focus is on the button in its place.
        tab.sees(
            "the next button",
            "return document.activeElement.matches('[data-action=complete]')",
        )
        .await;
        tab.press(Key::Enter).await;
        tab.sees_text("#order-status", "Completed").await;
        tab.sees("the page itself", "return document.activeElement.id === 'main'").await;
    })
    .await;
}
