//! `gateway_api/asyncapi.yaml` is the AsyncAPI document that the gateway serves, and it is whole. That
//! it is valid AsyncAPI is checked by `.ci/asyncapi`; that what is on the streams fits it, on the
//! running system (`tests/`).

use std::{collections::BTreeSet, path::Path};

use common::contract::streams;
use serde_json::{Value, json};

fn document() -> Value {
    serde_json::to_value(gateway_api::docs::asyncapi::document()).unwrap()
}

#[test]
fn asyncapi_yaml_is_the_document_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("asyncapi.yaml");
    let fresh = yaml_serde::to_string(&gateway_api::docs::asyncapi::document()).unwrap();
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(&path, &fresh).expect("asyncapi.yaml can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == fresh,
        "gateway_api/asyncapi.yaml is stale; renew it with: \
         RENEW=1 cargo test --locked -p gateway_api --test asyncapi"
    );
}

fn describe(error: jsonschema::ValidationError<'_>) -> String {
    format!("{}: {error}", error.instance_path())
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let references = found(&document, "$ref");
    for reference in &references {
        let target = reference.as_str().and_then(|it| it.strip_prefix('#')).expect("a local one");
        assert!(document.pointer(target).is_some(), "{target}");
    }
    assert!(references.len() > 100, "{}", references.len());
}

/// The values of all members of this name.
fn found<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(members) => {
            let here = members.get(name).filter(|value| !value.is_object()).into_iter();
            here.chain(members.values().flat_map(|value| found(value, name))).collect()
        }
        Value::Array(items) => items.iter().flat_map(|value| found(value, name)).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_stream_is_a_channel_with_one_sender_and_all_its_readers() {
    let document = document();
    let channels = document["channels"].as_object().unwrap();
    assert_eq!(channels.len(), streams::ALL.len());
    for stream in streams::ALL {
        let (id, _) = channels
            .iter()
            .find(|(_, channel)| channel["address"] == stream.key())
            .unwrap_or_else(|| panic!("{stream} is no channel"));
        let to = json!({ "$ref": format!("#/channels/{id}") });
        let operations = document["operations"].as_object().unwrap().values();
        let here: Vec<&Value> = operations.filter(|operation| operation["channel"] == to).collect();
        let of = |action| here.iter().filter(move |operation| operation["action"] == action);
        assert_eq!(of("send").count(), 1, "{stream}");
        let groups = of("receive").map(|operation| operation["x-redis"]["group"].as_str().unwrap());
        let readers = stream.readers().iter().map(|topic| topic.service());
        let (groups, readers): (BTreeSet<&str>, BTreeSet<&str>) =
            (groups.collect(), readers.collect());
        assert_eq!(groups, readers, "{stream}");
    }
}

#[test]
fn every_example_fits_its_schema_and_has_no_member_beyond_it() {
    let document = document();
    let mut components = document["components"].clone();
    close(&mut components["schemas"]);
    for (name, message) in document["components"]["messages"].as_object().unwrap() {
        for part in ["headers", "payload"] {
            let schema = json!({ "allOf": [message[part]], "components": components });
            let validator = jsonschema::draft202012::options()
                .should_validate_formats(true)
                .build(&schema)
                .unwrap();
            let example = &message["examples"][0][part];
            let errors: Vec<String> = validator.iter_errors(example).map(describe).collect();
            assert!(errors.is_empty(), "{name}, {part}: {errors:#?}");
        }
    }
}

/// Lets no object have members that its schema does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(close);
            if members.get("properties").is_some_and(Value::is_object) {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[test]
fn every_type_and_every_member_is_described_for_people() {
    let document = document();
    let mut silent = BTreeSet::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        // One that is optional and of a type of its own is described beside its `null`.
        let is_described = |schema: &Value| {
            [&schema["description"], &schema["oneOf"][0]["description"]]
                .iter()
                .any(|text| text.is_string())
        };
        if !is_described(schema) && name != "EntryFields" {
            silent.insert(name.clone());
        }
        for (member, schema) in schema["properties"].as_object().into_iter().flatten() {
            if !is_described(schema) {
                silent.insert(format!("{name}.{member}"));
            }
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
    let descriptions = found(&document, "description");
    let rustdoc: Vec<_> = descriptions.iter().filter(|it| it.to_string().contains("[`")).collect();
    assert!(rustdoc.is_empty(), "links that only rustdoc understands: {rustdoc:#?}");
}
