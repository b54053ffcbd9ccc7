//! docker-compose.yml and the files in deploy/ limit the memory of every container.

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
