//! Pagination of lists: queries, cursors and answers. A page ends at a number of entities or at a number of
//! bytes, whichever comes first.

use axum::{
    extract::{Query, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{contract::ids::OrderId, http::problem::Problem};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use utoipa::IntoParams;

/// The maximum number of entities on a page.
pub(crate) const PAGE_LIMIT: u64 = 1_000;
/// The default number of entities on a page.
const DEFAULT_PAGE_LIMIT: u64 = 100;
/// The maximum number of bytes of entities on a page, unless a single entity is larger.
pub(crate) const PAGE_BYTES: usize = 1024 * 1024;
/// The query of a page.
#[derive(Deserialize, IntoParams, Debug, Default)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// The maximum number of entries on the page, 1 to 1,000.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    pub(crate) limit: Option<u64>,
    /// The value of `next` of the previous page.
    #[param(max_length = 64)]
    pub(crate) cursor: Option<String>,
}

impl PageQuery {
    /// The limit, or `usual`.
    ///
    /// # Errors
    ///
    /// 400: the limit is not 1 to 1,000.
    pub(crate) fn limit_or(&self, usual: u64) -> Result<u64, Problem> {
        let limit = self.limit.unwrap_or(usual);
        if (1..=PAGE_LIMIT).contains(&limit) {
            return Ok(limit);
        }
        let detail = format!("limit must be 1 to {PAGE_LIMIT}, not {limit}");
        Err(Problem::bad_request(detail).at("limit"))
    }

    pub(crate) fn limit(&self) -> Result<u64, Problem> {
        self.limit_or(DEFAULT_PAGE_LIMIT)
    }

    /// The position of the cursor, if there is one.
    ///
    /// # Errors
    ///
    /// 400: the cursor is not one of this list.
    pub(crate) fn position(&self, kind: PageCursor) -> Result<Option<u64>, Problem> {
        self.cursor.as_deref().map(|cursor| kind.parse(cursor)).transpose()
    }
}

/// Parses the parameters of a query.
///
/// # Errors
///
/// 400, with the name of the invalid parameter.
pub(crate) fn query<Q: DeserializeOwned>(
    query: Result<Query<Q>, QueryRejection>,
    names: &[&str],
) -> Result<Q, Problem> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(error) => {
            let text = error.body_text();
            let field = names.iter().find(|name| text.contains(**name));
            let problem = Problem::bad_request(text.clone());
            Err(field.map_or(problem.clone(), |field| problem.at(*field)))
        }
    }
}

/// A cursor is a position in a list that only grows, so entities before it never move. Its first letter
/// identifies the list, so that cursors of other lists are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageCursor {
    AllOrders,
    OrdersOfCustomer,
    Messages,
    Entities,
}

impl PageCursor {
    const fn letter(self) -> char {
        match self {
            Self::AllOrders => 'o',
            Self::OrdersOfCustomer => 'c',
            Self::Messages => 'm',
            Self::Entities => 'e',
        }
    }

    pub(crate) fn text(self, position: u64) -> String {
        format!("{}{position:x}", self.letter())
    }

    fn parse(self, text: &str) -> Result<u64, Problem> {
        let digits = text.strip_prefix(self.letter()).filter(|digits| digits.len() <= 15);
        let digits = digits.filter(|digits| digits.bytes().all(|it| it.is_ascii_hexdigit()));
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(not_a_cursor)
    }
}

fn not_a_cursor() -> Problem {
    Problem::bad_request("the cursor is not the `next` of a page of this list").at("cursor")
}

/// A page: stored documents of entities, and the cursor of the next page, if there is one.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) entities: Vec<Box<RawValue>>,
    pub(crate) next: Option<String>,
}

impl Found {
    /// The number of bytes of the page.
    pub(crate) fn bytes(&self) -> usize {
        self.entities.iter().map(|it| it.get().len()).sum()
    }
}

/// The limits of a page.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub(crate) entities: u64,
    pub(crate) bytes: usize,
}

impl From<u64> for Room {
    fn from(entities: u64) -> Self {
        Self { entities, bytes: PAGE_BYTES }
    }
}

/// A JSON answer without spare capacity.
pub(crate) fn json(body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("it has string keys only").into_boxed_slice();
    ([(header::CONTENT_TYPE, "application/json")], Bytes::from(body)).into_response()
}

/// The page as an answer: `{"<name>": […], "next": "…"}`, and a `Link` to the next page.
pub(crate) fn answer(
    name: &'static str,
    found: &Found,
    path: &str,
    query: &[(&str, &str)],
) -> Response {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(flatten)]
        entities: std::collections::BTreeMap<&'a str, &'a [Box<RawValue>]>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<&'a str>,
    }
    let body =
        Body { entities: [(name, found.entities.as_slice())].into(), next: found.next.as_deref() };
    linked(json(&body), found.next.as_deref(), path, query)
}

/// The answer with a `Link` to the next page, if there may be one (RFC 8288).
pub(crate) fn linked(
    mut response: Response,
    next: Option<&str>,
    path: &str,
    query: &[(&str, &str)],
) -> Response {
    if let Some(next) = next {
        let query: String = query.iter().map(|(name, value)| format!("{name}={value}&")).collect();
        // Names, numbers and ids of the system need no escaping.
        let link = format!("<{path}?{query}cursor={next}>; rel=\"next\"");
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}

/// The order at which a page of [`super::queries::with_status`] ended.
///
/// # Errors
///
/// 400: the text is not such a cursor.
pub(crate) fn member(cursor: &str) -> Result<&str, Problem> {
    let member = cursor.strip_prefix('s').ok_or_else(not_a_cursor)?;
    let (time, id) = member.split_once('-').ok_or_else(not_a_cursor)?;
    let fits = time.len() == 12 && time.bytes().all(|it| it.is_ascii_hexdigit());
    if fits && id.len() == 36 && id.parse::<OrderId>().is_ok() {
        return Ok(member);
    }
    Err(not_a_cursor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_taken_only_where_it_was_given() {
        assert_eq!(PageCursor::AllOrders.parse("o1f").unwrap(), 31);
        for wrong in ["", "o", "c1f", "o-1", "o+1", "1f", "oxyz", "o1234567890abcdef"] {
            let problem = PageCursor::AllOrders.parse(wrong).unwrap_err();
            assert_eq!((problem.status, problem.field.as_deref()), (400, Some("cursor")));
        }
        let cursor = "s0123456789ab-9b9a2bd4-6d3f-4b0e-9d2c-5a6c8a3f6a11";
        assert_eq!(member(cursor).unwrap(), &cursor[1..]);
        for wrong in ["s", "s0123456789ab", "o1f", "s0123456789ab-x", &cursor[1..]] {
            assert_eq!(member(wrong).unwrap_err().status, 400, "{wrong}");
        }
    }
}
