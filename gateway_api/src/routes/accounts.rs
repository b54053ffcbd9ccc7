//! Customers' accounts: listed, looked at, defined and topped up.

use axum::{
    Json,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::Response,
};
use common::{
    contract::{
        entities::{Account, Deposit, Refused},
        events::{AccountCreated, TopUp},
        ids::CustomerId,
    },
    http::{
        input::{Amount, DefineAccount},
        problem::Problem,
        request::{json_bytes, parse, path_id},
    },
    schema::entry_id::EntryId,
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    access::{limits::reader::MeteredReader, tokens::caller::Caller},
    docs::{
        examples,
        parameters::RequestHeaders,
        responses::{BadAmount, BadBody, BadDefinition, NoCustomer, NotDone, NotRead},
    },
    state::Gateway,
    upstream::{
        pagination::{self, PageCursor, PageQuery},
        publish::{self, Addition},
        queries::{self, shown_account},
        stores::read,
    },
};

type AccountPath = Result<Path<CustomerId>, PathRejection>;

/// A page of accounts.
#[derive(ToSchema)]
#[schema(as = Accounts)]
#[expect(dead_code, reason = "it describes the answer; the answer is made of raw documents")]
pub(crate) struct AccountsDocument {
    /// In the order of their creation.
    accounts: Vec<Account>,
    /// The cursor of the next page, if there may be one.
    #[schema(example = "e64")]
    next: Option<String>,
}

/// List accounts
///
/// In the order of their creation. A page may have fewer accounts than requested although more follow,
/// because it ends at 1 MiB: continue while there is a `next`.
#[utoipa::path(
    get, path = "/accounts", tag = "customers", operation_id = "list_accounts",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of accounts", body = AccountsDocument,
            headers(("Link" = String,
                description = "The next page, `rel=\"next\"`, if there may be one (RFC 8288)")),
            example = json!(examples::page("accounts", examples::account(), "e64"))),
        NotRead,
    ),
)]
pub(crate) async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let page = pagination::query(page, &["limit", "cursor"])?;
    let (limit, from) = (page.limit()?, page.position(PageCursor::Entities)?.unwrap_or(0));
    let accounts = queries::accounts(&gateway.stores.account, &caller, from, limit);
    let found = read(&reader, "accounts", accounts).await?;
    Ok(pagination::answer("accounts", &found, "/accounts", &[("limit", &limit.to_string())]))
}

/// Get an account
///
/// The account with its balance.
#[utoipa::path(
    get, path = "/accounts/{id}", tag = "customers", operation_id = "get_account",
    params(("id" = CustomerId, Path, description = "The customer's id")),
    responses(
        (status = 200, description = "The account", body = Account, example = json!(examples::account())),
        NoCustomer, NotRead,
    ),
)]
pub(crate) async fn show(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    id: AccountPath,
) -> Result<Json<Account>, Problem> {
    let id = path_id(id)?;
    caller.check(&id)?;
    let stored = gateway.stores.account.get::<Account>(&id);
    let account = read(&reader, "the account", stored).await?;
    account.map(|it| Json(shown_account(it, &caller))).ok_or_else(|| unknown(&id))
}

/// Define an account
///
/// Creates an account, or changes the name and e-mail address of an existing one, whose balance changes only
/// by top-ups and orders. With an `Idempotency-Key` the request can be repeated at any time: it takes effect
/// once, and repetitions get the first answer.
#[utoipa::path(
    put, path = "/accounts/{id}", tag = "customers", operation_id = "define_account",
    params(("id" = CustomerId, Path, description = "The customer's id"), RequestHeaders),
    request_body(content = DefineAccount, example = json!(examples::define_account())),
    responses(
        (status = 200, description = "The account after the definition", body = Account,
            example = json!(examples::account())),
        (status = 201, description = "The account is new", body = Account,
            headers(("Location" = String, description = "The path of the account: /accounts/{id}")),
            example = json!(examples::new_account())),
        NotDone, BadBody, BadDefinition,
    ),
)]
pub(crate) async fn define(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    id: AccountPath,
    request: Request,
) -> Result<Response, Problem> {
    let id = path_id(id)?;
    caller.check(&id)?;
    let (parts, body) = request.into_parts();
    let defined: DefineAccount = parse(&json_bytes(&parts.headers, body).await?)?;
    defined.check()?;
    if caller.limited_to().is_some() && defined.balance > 0 {
        let detail = "a customer may not set the initial balance";
        return Err(Problem::forbidden(detail).at("balance"));
    }
    let location = format!("/accounts/{id}");
    let event = |request| AccountCreated {
        id: id.clone(),
        name: defined.name,
        email: defined.email,
        balance: defined.balance,
        keep: true,
        request: Some(request),
    };
    let shown = |account| shown_account(account, &caller);
    publish::define(
        gateway.publisher(),
        (&location, &id),
        event,
        (&caller, &reader),
        &parts.headers,
        shown,
    )
    .await
}

/// Top up an account
///
/// Unpaid orders are not retried automatically: use `POST /order/{id}/pay`. With an `Idempotency-Key` the
/// request can be repeated at any time: the amount is added once.
#[utoipa::path(
    post, path = "/accounts/{id}/top-up", tag = "customers", operation_id = "top_up",
    params(("id" = CustomerId, Path, description = "The customer's id"), RequestHeaders),
    request_body(content = Amount, example = json!(examples::amount(500))),
    responses(
        (status = 200, description = "The top-up has been applied", body = Deposit,
            example = json!(examples::deposit())),
        NoCustomer, NotDone, BadBody, BadAmount,
    ),
)]
pub(crate) async fn top_up(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    id: AccountPath,
    request: Request,
) -> Result<Response, Problem> {
    let id = path_id(id)?;
    caller.check(&id)?;
    let (parts, body) = request.into_parts();
    let asked: Amount = parse(&json_bytes(&parts.headers, body).await?)?;
    asked.check()?;
    let wanted = Deposit {
        id: Uuid::nil(),
        customer_id: id,
        amount: asked.amount,
        balance: None,
        refused: None,
        entry: EntryId::default(),
    };
    publish::add(gateway.publisher(), &wanted, (&caller, &reader), &parts.headers).await
}

fn unknown(id: &CustomerId) -> Problem {
    Problem::not_found(format!("there is no customer {id}"))
}

impl Addition for Deposit {
    type Event = TopUp;
    type Owner = Account;

    const PURPOSE: &'static str = "top-up";

    fn event(&self, id: Uuid) -> TopUp {
        TopUp { id, customer_id: self.customer_id.clone(), amount: self.amount }
    }

    fn owner(&self) -> &CustomerId {
        &self.customer_id
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.customer_id, self.amount) == (&other.customer_id, other.amount)
    }

    fn entry(&self) -> EntryId {
        self.entry
    }

    fn refused(&self) -> Option<Refused> {
        self.refused
    }

    fn unknown(&self) -> Problem {
        unknown(&self.customer_id)
    }
}
