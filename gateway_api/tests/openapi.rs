//! `gateway_api/swagger.yaml` is the document that the gateway serves.

use std::path::Path;

#[test]
fn swagger_yaml_is_the_document_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("swagger.yaml");
    let fresh = gateway_api::openapi::document().to_yaml().expect("it has string keys only");
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(&path, &fresh).expect("swagger.yaml can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == fresh,
        "gateway_api/swagger.yaml is stale; renew it with: \
         RENEW=1 cargo test -p gateway_api --test openapi"
    );
}
