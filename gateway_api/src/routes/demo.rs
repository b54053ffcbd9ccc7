//! `POST /init-data`: the demo data, published as `created` events.

use std::time::Instant;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use common::{
    connection::{error::ConnectionError, shared_link::SharedLink},
    contract::{
        definitions::Definition,
        entities::{Account, Product},
        events::{AccountCreated, ProductCreated},
        ids::request_id,
    },
    http::{problem::Problem, request::traceparent},
    process::service::REQUEST_TIMEOUT,
    schema::{entity::Entity, stream::Event},
};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tracing::{error, info};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    access::{limits::reader::MeteredReader, tokens::caller::Caller},
    docs::{examples, parameters::RequestHeaders},
    state::Gateway,
    upstream::{
        demo_data::{customers, products},
        publish::{self, APPLY_TIMEOUT, RequestKey},
    },
};

/// The answer of `POST /init-data`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct InitData {
    /// Always `success`.
    #[schema(example = "success")]
    pub result: String,
}

/// Load the demo data
///
/// Resets the demo customers and products to their initial values. Reserved stock stays reserved. The
/// response is sent when the products can be ordered. With an `Idempotency-Key` the request can be
/// repeated at any time: it takes effect once.
#[utoipa::path(
    post, path = "/init-data", tag = "demo", operation_id = "init_data",
    params(RequestHeaders),
    responses(
        (status = 200, description = "The demo customers and products are loaded", body = InitData,
            example = json!({ "result": "success" })),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The key is invalid",
            example = json!(examples::wrong_key())),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "A newer definition was applied before one of these, which had no effect",
            example = json!(publish::superseded())),
        (status = 500, body = Problem, content_type = "application/problem+json",
            description = "The stored data cannot be read",
            example = json!(Problem::internal("the stored data cannot be read"))),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The events cannot be published at the moment, or a service is too far behind; see \
                Retry-After",
            example = json!(Problem::unavailable("the demo data cannot be published at the moment"))),
        (status = 504, body = Problem, content_type = "application/problem+json",
            description = "The demo data is published, but inventory_service or account_service has not \
                applied it yet",
            example = json!(not_applied())),
    ),
)]
pub(crate) async fn init_data(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = RequestKey::of(&headers)?;
    let traceparent = traceparent(&headers);
    let loaded = load(&gateway, (&caller, &reader), &key, traceparent.as_deref());
    let loaded = tokio::time::timeout(REQUEST_TIMEOUT, loaded).await;
    let answer = match loaded.unwrap_or_else(|_| Err(not_applied())) {
        Ok(replayed) => {
            let answer = Json(InitData { result: "success".to_owned() }).into_response();
            if replayed { publish::mark_replayed(answer) } else { answer }
        }
        Err(problem) => problem.into_response(),
    };
    Ok(key.name_in(answer))
}

/// Publishes the demo data, once for each key, and waits until the services have applied it. Returns
/// whether an earlier request had done so.
async fn load(
    gateway: &Gateway,
    (caller, reader): (&Caller, &MeteredReader),
    key: &RequestKey,
    traceparent: Option<&str>,
) -> Result<bool, Problem> {
    // Each definition has a record of its own, with its owner.
    let request = |id: &str| request_id(&format!("init-data {id}"), caller.key(), &key.text);
    let customers = customers().map(|event| {
        let id = request(event.id.as_str());
        Asked { id, event: AccountCreated { request: Some(id), ..event } }
    });
    let products = products().into_iter().map(|event| {
        let id = request(event.id.as_str());
        Asked { id, event: ProductCreated { request: Some(id), ..event } }
    });
    let products: Vec<_> = products.collect();
    let stores = &gateway.stores;
    let (accounts_known, products_known) = match key.given {
        true => (
            recorded::<_, Account>(reader, &stores.account, &customers).await?,
            recorded::<_, Product>(reader, &stores.inventory, &products).await?,
        ),
        false => (Vec::new(), Vec::new()),
    };
    if accounts_known.len() == customers.len() && products_known.len() == products.len() {
        return Ok(true);
    }
    gateway.backlogs.check::<AccountCreated>(reader, stores).await?;
    gateway.backlogs.check::<ProductCreated>(reader, stores).await?;
    publish_others(&stores.account, &customers, &accounts_known, traceparent).await?;
    publish_others(&stores.inventory, &products, &products_known, traceparent).await?;
    let begun = Instant::now();
    for pause in publish::pauses() {
        if recorded::<_, Account>(reader, &stores.account, &customers).await?.len()
            == customers.len()
            && recorded::<_, Product>(reader, &stores.inventory, &products).await?.len()
                == products.len()
        {
            info!("the demo data is loaded");
            return Ok(false);
        }
        if begun.elapsed() > APPLY_TIMEOUT {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    Err(not_applied())
}

/// A requested definition and the id of its request.
struct Asked<V> {
    id: Uuid,
    event: V,
}

/// The requests among these that have had their effect.
///
/// # Errors
///
/// 409: a newer definition came before one of them.
async fn recorded<V, E>(
    reader: &MeteredReader,
    store: &SharedLink,
    asked: &[Asked<V>],
) -> Result<Vec<Uuid>, Problem>
where
    Definition<V, E>: Entity<Id = Uuid>,
{
    let reading = store.get_all::<Definition<V, E>>(asked.iter().map(|it| it.id));
    let records = published(reader.read("the demo data", reading).await?)?;
    if records.iter().any(|record| record.made.is_none()) {
        return Err(publish::superseded());
    }
    Ok(records.iter().map(|record| record.id).collect())
}

/// Publishes the events of all requests but those.
async fn publish_others<V: Event + Clone>(
    store: &SharedLink,
    asked: &[Asked<V>],
    known: &[Uuid],
    traceparent: Option<&str>,
) -> Result<(), Problem> {
    let others = asked.iter().filter(|it| !known.contains(&it.id)).map(|it| it.event.clone());
    let others: Vec<V> = others.collect();
    published(publish::publish(store, &others, traceparent).await).map(drop)
}

fn published<T>(published: Result<T, ConnectionError>) -> Result<T, Problem> {
    published.map_err(|error| {
        error!("publishing the demo data failed: {error}");
        error.problem(
            "the stored data cannot be read",
            "the demo data cannot be published at the moment",
        )
    })
}

fn not_applied() -> Problem {
    Problem::timeout(
        "the demo data is published but not applied yet; inventory_service and account_service apply \
         it as soon as they run",
    )
}
