//! The operator's command line against a running system.

use orderctl::load::{Plan, load};
use stack::StackOptions;
use system_tests::{SOON, System};

#[tokio::test]
async fn load_places_every_order_and_measures_every_process() {
    // Isolated, to check that all servers are found.
    let options = StackOptions { isolated: true, ..StackOptions::default() };
    let system = System::start_alone(options).await;
    system.stack.write_run_file().expect("run.json is written");
    let plan = Plan { orders: 300, clients: 8, products: 5, customers: 20 };
    let measured = load(system.stack.dir(), plan).await.expect("it is measured").to_string();
    assert!(measured.starts_with("300 orders by 8 clients: "), "{measured}");
    let services = ["gateway_api", "order_service", "inventory_service", "account_service"];
    for shown in services.into_iter().chain([
        "msg_service",
        "redis-order",
        "redis-message",
        "redis-order, children",
        "orderctl load",
        "evalsha",
        "p99",
    ]) {
        assert!(measured.contains(shown), "{shown} is missing in {measured}");
    }
    let report = system.assert_balanced(SOON).await;
    assert_eq!((report.orders, report.unfinished), (300, 0), "{report}");
}
