//! `/docs/events`: the AsyncAPI document as a page without scripts, made from the same descriptions.

use std::collections::BTreeMap;

use axum::Router;
use common::{
    contract::streams::{self, topics},
    schema::stream::{ENTITY, EVENT_ID, TRACEPARENT, Topic, Writer},
};
use maud::{DOCTYPE, Markup, html};
use utoipa::openapi::{
    RefOr,
    schema::{ArrayItems, KnownFormat, Object, Schema, SchemaFormat, SchemaType, Type},
};

use super::{
    channels::{self, Description},
    fixed::{CSS, Fixed, HTML},
};

/// The content security policy of a page without scripts.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// Serves the page and its stylesheet.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let page = Fixed::new(HTML, page(&channels::all()).into_string()).with_policy(POLICY);
    Router::new()
        .route("/docs/events", page.route())
        .route("/docs/events.css", Fixed::new(CSS, include_str!("events.css")).route())
}

fn page(streams: &[Description]) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Orders: the events" }
                link rel="stylesheet" href="/docs/events.css";
            }
            body {
                header {
                    nav aria-label="Documentation" {
                        a href="/docs" { "HTTP interface" }
                        a href="/docs/events" aria-current="page" { "Events" }
                        a href="/asyncapi.json" { "AsyncAPI document" }
                    }
                    h1 { "Events" }
                    p { "The events between the services, on Redis Streams." }
                }
                main {
                    (introduction())
                    (contents(streams))
                    @for topic in topics::ALL {
                        (of_topic(topic, streams))
                    }
                    (types(streams))
                }
            }
        }
    }
}

fn introduction() -> Markup {
    html! {
        section aria-labelledby="entries" {
            h2 id="entries" { "Entries" }
            p {
                "An entry has the field " code { (ENTITY) } ", a JSON object as text; "
                code { (EVENT_ID) } ", the UUID of the event; and " code { (TRACEPARENT) }
                ", the trace context of the request that caused it, if any. "
                "To see the newest entry of a stream:"
            }
            pre { code { "redis-cli XREVRANGE '" (streams::ORDER_CREATED.key()) "' + - COUNT 1" } }
            p {
                "Readers ignore unknown members and have defaults for optional members. Each service "
                "reads through the consumer group of its name. An entry is acknowledged when its "
                "effect is stored. It may be delivered several times before that, but has its effect "
                "once. Entries that all groups have acknowledged are trimmed, except the last "
                code { "STREAM_KEEP" } ", or fewer if those take more than "
                code { "STREAM_KEEP_BYTES" } " of memory."
            }
        }
    }
}

fn contents(streams: &[Description]) -> Markup {
    html! {
        nav aria-labelledby="contents" {
            h2 id="contents" { "Streams" }
            ul .contents {
                @for stream in streams {
                    li {
                        a href={ "#" (stream.id()) } { (stream.stream.key()) }
                        small {
                            (stream.sender())
                            @if let Some(readers) = readers(stream) { " → " (readers) }
                        }
                    }
                }
            }
        }
    }
}

fn of_topic(topic: Topic, streams: &[Description]) -> Markup {
    html! {
        section aria-labelledby={ "topic-" (topic.name()) } {
            h2 id={ "topic-" (topic.name()) } { (topic.name()) " " small { "of " (topic.service()) } }
            @for stream in streams.iter().filter(|stream| stream.stream.topic() == topic) {
                (of_stream(stream))
            }
        }
    }
}

fn of_stream(description: &Description) -> Markup {
    let id = description.id();
    html! {
        article aria-labelledby=(id) {
            h3 id=(id) { a href={ "#" (id) } { (description.stream.key()) } }
            p { (prose(description.meaning)) }
            dl {
                dt { "Written by" }
                dd {
                    (description.sender())
                    @if description.stream.writer() == Writer::Clients { ", for clients" }
                }
                dt { "Read by" }
                dd { (readers(description).as_deref().unwrap_or("any client, without a group")) }
                dt { "Holds" }
                dd { (description.payload.0) }
            }
            @if let RefOr::T(Schema::Object(object)) = &description.payload.1 {
                (members(&description.payload.0, object))
            }
            figure {
                figcaption { "Example" }
                pre { code { (description.example) } }
            }
        }
    }
}

/// The services that read a stream, if there are any.
fn readers(description: &Description) -> Option<String> {
    let readers = description.stream.readers().iter().map(|reader| reader.service());
    let readers = readers.collect::<Vec<_>>().join(", ");
    (!readers.is_empty()).then_some(readers)
}

/// The members of an object.
fn members(name: &str, object: &Object) -> Markup {
    html! {
        table {
            caption { "Members of " (name) }
            thead { tr { th scope="col" { "Member" } th scope="col" { "Meaning" } } }
            tbody {
                @for (member, schema) in &object.properties {
                    tr {
                        th scope="row" {
                            code { (member) } " "
                            small {
                                (type_of(schema))
                                @if !object.required.contains(member) { ", optional" }
                            }
                        }
                        td { (prose(said_of(schema))) }
                    }
                }
            }
        }
    }
}

/// The types to which the payloads refer.
fn types(streams: &[Description]) -> Markup {
    let parts = streams.iter().flat_map(|stream| &stream.parts);
    let parts: BTreeMap<&str, &RefOr<Schema>> = parts.map(|(name, part)| (&**name, part)).collect();
    html! {
        section aria-labelledby="types" {
            h2 id="types" { "Types" }
            @for (name, schema) in parts {
                article aria-labelledby={ "type-" (name) } {
                    h3 id={ "type-" (name) } { (name) }
                    p { (prose(said_of(schema))) }
                    @if let RefOr::T(Schema::Object(object)) = schema {
                        @if object.properties.is_empty() {
                            (value(object))
                        } @else {
                            (members(name, object))
                        }
                    }
                }
            }
        }
    }
}

/// The possible values of a type that is not an object.
fn value(object: &Object) -> Markup {
    html! {
        p {
            @match &object.enum_values {
                Some(values) => {
                    "One of "
                    @for (at, value) in values.iter().enumerate() {
                        @if at > 0 { ", " }
                        code { (value.as_str().unwrap_or_default()) }
                    }
                }
                None => { "A " (type_of_object(object)) }
            }
            @if let (Some(least), Some(most)) = (object.min_length, object.max_length) {
                ", " (least) " to " (most) " characters"
            }
            @if let Some(pattern) = &object.pattern {
                " that fit " code { (pattern) }
            }
            "."
        }
    }
}

/// The type of a member, with a link to its description.
fn type_of(schema: &RefOr<Schema>) -> Markup {
    match schema {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
            html! { a href={ "#type-" (name) } { (name) } }
        }
        RefOr::T(Schema::Array(array)) => match &array.items {
            ArrayItems::RefOrSchema(items) => html! { "list of " (type_of(items)) },
            ArrayItems::False => html! { "list" },
        },
        RefOr::T(Schema::Object(object)) => type_of_object(object),
        // An optional member is omitted rather than null.
        RefOr::T(Schema::OneOf(any)) => {
            html! { @for one in any.items.iter().filter(|one| !is_null(one)) { (type_of(one)) } }
        }
        RefOr::T(_) => html! { "any" },
    }
}

fn type_of_object(object: &Object) -> Markup {
    let types = match &object.schema_type {
        SchemaType::Type(one) => std::slice::from_ref(one),
        SchemaType::Array(several) => several.as_slice(),
        SchemaType::AnyValue => &[],
    };
    let uuid = matches!(object.format, Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
    html! {
        @match types.iter().find(|one| **one != Type::Null) {
            Some(Type::String) if uuid => "UUID",
            Some(Type::String) => "string",
            Some(Type::Integer) => "integer",
            Some(Type::Number) => "number",
            Some(Type::Boolean) => "true or false",
            Some(Type::Array) => "list",
            Some(Type::Object) => "object",
            Some(Type::Null) | None => "any",
        }
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    let RefOr::T(Schema::Object(object)) = schema else { return false };
    object.schema_type == SchemaType::Type(Type::Null)
}

fn said_of(schema: &RefOr<Schema>) -> &str {
    let said = match schema {
        RefOr::Ref(reference) => return &reference.description,
        RefOr::T(Schema::Array(array)) => &array.description,
        RefOr::T(Schema::Object(object)) => &object.description,
        RefOr::T(Schema::OneOf(any)) => {
            return any.items.iter().map(said_of).find(|said| !said.is_empty()).unwrap_or_default();
        }
        RefOr::T(_) => &None,
    };
    said.as_deref().unwrap_or_default()
}

/// Text with `code` in it.
fn prose(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
