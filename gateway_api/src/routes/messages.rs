//! The messages that were sent to a customer.

use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::Response,
};
use common::{
    contract::{ids::CustomerId, keys, messages::MessageSent},
    http::{problem::Problem, request::path_id},
};
use utoipa::ToSchema;

use crate::{
    access::{limits::reader::MeteredReader, tokens::caller::Caller},
    docs::{examples, responses::NotRead},
    state::Gateway,
    upstream::{
        pagination::{self, PageCursor, PageQuery},
        queries,
        stores::read,
    },
};

/// A page of messages.
#[derive(ToSchema)]
#[schema(as = Messages)]
#[expect(dead_code, reason = "it describes the answer; the answer is made of raw documents")]
pub(crate) struct MessagesDocument {
    /// The newest first.
    messages: Vec<MessageSent>,
    /// The cursor of the next page with older messages, if there is one.
    #[schema(example = "m64")]
    next: Option<String>,
}

/// List the messages to a customer
///
/// The newest message first. Pages are stable while messages arrive. A page may have fewer messages than
/// requested although more follow, because it ends at 1 MiB: continue while there is a `next`.
#[utoipa::path(
    get, path = "/customers/{id}/messages", tag = "customers", operation_id = "list_messages",
    params(("id" = CustomerId, Path, description = "The customer's id"), PageQuery),
    responses(
        (status = 200, description = "A page of messages", body = MessagesDocument,
            headers(("Link" = String,
                description = "The next page, `rel=\"next\"`, if there is one (RFC 8288)")),
            example = json!(examples::page("messages", examples::message_sent(), "m64"))),
        NotRead,
    ),
)]
pub(crate) async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    id: Result<Path<CustomerId>, PathRejection>,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let customer: CustomerId = path_id(id)?;
    caller.check(&customer)?;
    let page = pagination::query(page, &["limit", "cursor"])?;
    let (limit, before) = (page.limit()?, page.position(PageCursor::Messages)?);
    let list = keys::messages_to(&customer);
    let store = &gateway.stores.message;
    let newest = queries::newest::<MessageSent>(store, &list, PageCursor::Messages, before, limit);
    let found = read(&reader, "messages", newest).await?;
    let path = format!("/customers/{customer}/messages");
    Ok(pagination::answer("messages", &found, &path, &[("limit", &limit.to_string())]))
}
