//! The containers' settings in docker-compose.yml and deploy/.

use yaml_serde::{Mapping, Value};

fn services(file: &str) -> Mapping {
    let mut file: Value = yaml_serde::from_str(file).expect("YAML");
    file.apply_merge().expect("anchors that are there");
    file["services"].as_mapping().expect("services").clone()
}

#[test]
fn every_container_has_a_memory_limit() {
    let base = services(include_str!("../../docker-compose.yml"));
    let overlays = [
        include_str!("../../deploy/isolated.yml"),
        include_str!("../../deploy/redis-acl-tls.yml"),
        include_str!("../../deploy/secure.yml"),
    ];
    let has_limit = |service: &Value| service["mem_limit"].is_string();
    let mut limited: Vec<Value> = Vec::new();
    for file in [base].into_iter().chain(overlays.map(services)) {
        for (name, service) in file {
            if has_limit(&service) {
                limited.push(name);
            } else {
                // It adds to a service of a file before it.
                assert!(limited.contains(&name), "{name:?} has no mem_limit");
            }
        }
    }
    assert!(limited.len() >= 10, "{limited:?}");
}

#[test]
fn the_gateway_waits_for_no_health_check_of_order_service() {
    let services = services(include_str!("../../docker-compose.yml"));
    let gateway = &services["gateway_api"];
    assert_eq!(gateway["depends_on"]["order_service"]["condition"], "service_started");
    // It waits for the secret that order_service makes at the first start.
    let words = gateway["entrypoint"].as_sequence().expect("an entry point");
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    assert_eq!(words, ["sh", "/etc/orders/gateway-secret.sh", "--wait", "gateway_api"]);
}
