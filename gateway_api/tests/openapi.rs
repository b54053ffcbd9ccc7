//! `gateway_api/swagger.yaml` is the document that the gateway serves, with examples for all of it.

use std::path::Path;

use common::{http::input::DefineAccount, text::is_visible};
use serde_json::{Value, json};

#[test]
fn swagger_yaml_is_the_document_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("swagger.yaml");
    let fresh = gateway_api::router::document().to_yaml().expect("it has string keys only");
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(&path, &fresh).expect("swagger.yaml can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == fresh,
        "gateway_api/swagger.yaml is stale; renew it with: \
         RENEW=1 cargo test --locked -p gateway_api --test openapi"
    );
}

#[test]
fn examples_of_bodies_match_their_schema_and_problems_their_status() {
    let document = serde_json::to_value(gateway_api::router::document()).unwrap();
    let mut looked_at = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            // Optional ones may have none: trying a call out would send it.
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let schema = &parameter["schema"];
                let named = schema["$ref"].as_str().and_then(|it| document.pointer(&it[1..]));
                let example =
                    parameter.get("example").or_else(|| named.unwrap_or(schema).get("example"));
                assert!(
                    example.is_some() || parameter["required"] != true,
                    "{method} {path}: {parameter} has no example"
                );
            }
            let body = operation.get("requestBody").map(|body| ("request", body));
            let answers = operation["responses"].as_object().unwrap();
            let answers = answers.iter().map(|(status, answer)| (status.as_str(), answer));
            for (what, body) in body.into_iter().chain(answers) {
                let place = format!("{method} {path}, {what}");
                for (media_type, content) in body["content"].as_object().expect(&place) {
                    let examples = examples(content);
                    assert!(!examples.is_empty(), "{place}: there is no example");
                    for example in examples {
                        assert_fits(&document, &content["schema"], example, &place);
                        if media_type == "application/problem+json" {
                            assert_eq!(example["status"].to_string(), what, "{place}");
                        }
                        looked_at += 1;
                    }
                }
            }
        }
    }
    assert!(looked_at > 100, "{looked_at} were found");
}

fn examples(content: &Value) -> Vec<&Value> {
    let named = content["examples"].as_object().into_iter().flatten();
    content.get("example").into_iter().chain(named.map(|(_, example)| &example["value"])).collect()
}

fn assert_fits(document: &Value, schema: &Value, example: &Value, place: &str) {
    let schema = json!({ "allOf": [schema], "components": document["components"] });
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(example).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{place}: {example}: {errors:#?}");
}

#[test]
fn the_schemas_of_names_and_addresses_take_what_is_taken_and_nothing_else() {
    let document = serde_json::to_value(gateway_api::router::document()).unwrap();
    let schema = json!({
        "$ref": "#/components/schemas/DefineAccount", "components": document["components"]
    });
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    // Special characters, and their neighbours.
    let is_special = |code: u32| char::from_u32(code).is_some_and(|it| !is_visible(it));
    let codes = (1..0x11_0000).filter(|code| (code - 1..=code + 1).any(is_special));
    let (mut taken, mut refused) = (0, 0);
    for character in codes.filter_map(char::from_u32) {
        for (name, email) in [
            (format!("a{character}b"), "a@b".to_owned()),
            (character.to_string(), "a@b".to_owned()),
            ("a".to_owned(), format!("a{character}@b")),
            ("a".to_owned(), format!("a@{character}b")),
        ] {
            let body = DefineAccount { name, email, balance: 0 };
            let is_taken = body.check().is_ok();
            let fits = validator.is_valid(&serde_json::to_value(&body).unwrap());
            assert_eq!(is_taken, fits, "{:04x}: {body:?}", u32::from(character));
            *(if is_taken { &mut taken } else { &mut refused }) += 1;
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} {refused}");
}
