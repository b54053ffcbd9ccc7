//! `gateway_api/swagger.yaml` is the document that the gateway serves, with examples for all of it.

use std::path::Path;

use common::{
    contract::order_routes::{OrderAction, PLACE, SHOW},
    http::input::DefineAccount,
    text::is_visible,
};
use serde_json::{Value, json};

#[test]
fn swagger_yaml_is_the_document_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("swagger.yaml");
    let fresh = yaml_serde::to_string(&gateway_api::router::document()).unwrap();
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
fn the_order_routes_are_those_of_the_table() {
    let document = serde_json::to_value(gateway_api::router::document()).unwrap();
    let mut documented = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let operations = operations.as_object().unwrap().iter();
        let orders = operations.filter(|_| path.split('/').nth(1) == Some("order"));
        documented.extend(orders.map(|(method, operation)| {
            let scope = operation["security"][0]["token"][0].as_str();
            (method.to_uppercase(), path.clone(), scope)
        }));
    }
    let routes = [PLACE, SHOW].into_iter().chain(OrderAction::ALL.map(OrderAction::route));
    let mut table: Vec<_> = routes
        .map(|it| {
            (it.method.to_owned(), it.path.to_owned(), it.access.scope().map(|scope| scope.name()))
        })
        .collect();
    table.sort();
    documented.sort();
    assert_eq!(documented, table);
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
                let location = format!("{method} {path}, {what}");
                for (media_type, content) in body["content"].as_object().expect(&location) {
                    let examples = examples(content);
                    assert!(!examples.is_empty(), "{location}: there is no example");
                    for example in examples {
                        assert_fits(&document, &content["schema"], example, &location);
                        if media_type == "application/problem+json" {
                            assert_eq!(example["status"].to_string(), what, "{location}");
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

fn assert_fits(document: &Value, schema: &Value, example: &Value, location: &str) {
    let schema = json!({ "allOf": [schema], "components": document["components"] });
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(example).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{location}: {example}: {errors:#?}");
}

#[test]
fn schemas_of_names_and_addresses_accept_the_same_values_as_the_code() {
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

/// The parts that clients depend on, a line each: the statuses of each call, its parameters, and the
/// members of each schema. Descriptions are not among them.
fn outline(document: &Value) -> Vec<String> {
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let kind = |schema: &Value| {
        let name = |it: &Value| it["$ref"].as_str().map(str::to_owned);
        let plain = || match &schema["type"] {
            Value::Null => None,
            Value::String(name) => Some(name.clone()),
            names => Some(names.to_string()),
        };
        let items = || name(&schema["items"]).map(|it| format!("list of {it}"));
        name(schema).or_else(items).or_else(plain).unwrap_or_else(|| "any".to_owned())
    };
    let mut lines = Vec::new();
    for (path, operations) in object(&document["paths"]) {
        for (method, operation) in object(&operations) {
            let call = format!("{} {path}", method.to_uppercase());
            let statuses: Vec<_> = object(&operation["responses"]).keys().cloned().collect();
            lines.push(format!("{call}: {}", statuses.join(" ")));
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let of = |name: &str| parameter[name].as_str().unwrap_or_default().to_owned();
                let (location, name) = (of("in"), of("name"));
                let kind = kind(&parameter["schema"]);
                lines.push(format!("{call}: {location} {name} {kind}, {}", parameter["required"]));
            }
        }
    }
    for (name, schema) in object(&document["components"]["schemas"]) {
        for value in schema["enum"].as_array().into_iter().flatten() {
            lines.push(format!("{name}: {value}"));
        }
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (member, of_member) in object(&schema["properties"]) {
            let is_required = required.iter().any(|it| *it == member);
            lines.push(format!("{name}.{member}: {}, {is_required}", kind(&of_member)));
        }
    }
    lines
}

#[test]
fn paths_schemas_and_statuses_are_those_that_clients_know() {
    let documents = [
        serde_json::to_value(gateway_api::router::document()).unwrap(),
        serde_json::to_value(gateway_api::docs::asyncapi::document()).unwrap(),
    ];
    let fresh = documents.iter().flat_map(outline).collect::<Vec<_>>().join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract.txt");
    if std::env::var("RENEW").is_ok_and(|it| it == "contract") {
        std::fs::write(&path, &fresh).expect("contract.txt can be written");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let of = |text: &str, other: &str| {
        let lines = text.lines().filter(|line| !other.lines().any(|it| it == *line));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (gone, new) = (of(&known, &fresh), of(&fresh, &known));
    assert!(
        gone.is_empty() && new.is_empty(),
        "the contract has changed: gone {gone:#?}, new {new:#?}; clients may rely on what is gone. If \
         that is meant: RENEW=contract cargo test --locked -p gateway_api --test openapi"
    );
}
