//! Products: listed, looked at, defined and restocked.

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
        entities::{Delivery, Product, Refused},
        events::{ProductCreated, Restock},
        ids::ProductId,
    },
    http::{
        input::{Amount, DefineProduct},
        problem::Problem,
        request::{json_bytes, parse, path_id},
    },
    schema::{entity::Entity, entry_id::EntryId},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    access::{limits::reader::MeteredReader, tokens::caller::Caller},
    docs::{
        examples,
        parameters::RequestHeaders,
        responses::{BadAmount, BadBody, BadDefinition, NoProduct, NotDone, NotRead},
    },
    state::Gateway,
    upstream::{
        pagination::{self, PageCursor, PageQuery},
        publish::{self, Addition},
        queries,
        stores::read,
    },
};

type ProductPath = Result<Path<ProductId>, PathRejection>;

/// A page of products.
#[derive(ToSchema)]
#[schema(as = Products)]
#[expect(dead_code, reason = "it describes the answer; the answer is made of raw documents")]
pub(crate) struct ProductsDocument {
    /// In the order of their creation.
    products: Vec<Product>,
    /// The cursor of the next page, if there may be one.
    #[schema(example = "e64")]
    next: Option<String>,
}

/// List products
///
/// In the order of their creation. A page may have fewer products than requested although more follow,
/// because it ends at 1 MiB: continue while there is a `next`.
#[utoipa::path(
    get, path = "/inventory", tag = "inventory", operation_id = "list_products",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of products", body = ProductsDocument,
            headers(("Link" = String,
                description = "The next page, `rel=\"next\"`, if there may be one (RFC 8288)")),
            example = json!(examples::page("products", examples::product(), "e64"))),
        NotRead,
    ),
)]
pub(crate) async fn list(
    State(gateway): State<Gateway>,
    reader: MeteredReader,
    page: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let page = pagination::query(page, &["limit", "cursor"])?;
    let (limit, from) = (page.limit()?, page.position(PageCursor::Entities)?.unwrap_or(0));
    let list = Product::KIND.index.unwrap_or_default();
    let oldest = queries::oldest::<Product>(&gateway.stores.inventory, list, from, limit);
    let found = read(&reader, "products", oldest).await?;
    Ok(pagination::answer("products", &found, "/inventory", &[("limit", &limit.to_string())]))
}

/// Get a product
///
/// The product with its stock and the number of orders that wait for it.
#[utoipa::path(
    get, path = "/inventory/{id}", tag = "inventory", operation_id = "get_product",
    params(("id" = ProductId, Path, description = "The product's id")),
    responses(
        (status = 200, description = "The product", body = Product, example = json!(examples::product())),
        NoProduct, NotRead,
    ),
)]
pub(crate) async fn show(
    State(gateway): State<Gateway>,
    reader: MeteredReader,
    id: ProductPath,
) -> Result<Json<Product>, Problem> {
    let id = path_id(id)?;
    let stored = gateway.stores.inventory.get::<Product>(&id);
    let product = read(&reader, "the product", stored).await?;
    product.map(Json).ok_or_else(|| unknown(&id))
}

/// Define a product
///
/// Creates a product, or changes the name and price of an existing one, whose amount changes only by restocks
/// and orders. A new price applies to orders that are reserved later. With an `Idempotency-Key` the request
/// can be repeated at any time: it takes effect once, and repetitions get the first answer.
#[utoipa::path(
    put, path = "/inventory/{id}", tag = "inventory", operation_id = "define_product",
    params(("id" = ProductId, Path, description = "The product's id"), RequestHeaders),
    request_body(content = DefineProduct, example = json!(examples::define_product())),
    responses(
        (status = 200, description = "The product after the definition", body = Product,
            example = json!(examples::product())),
        (status = 201, description = "The product is new", body = Product,
            headers(("Location" = String, description = "The path of the product: /inventory/{id}")),
            example = json!(examples::new_product())),
        NotDone, BadBody, BadDefinition,
    ),
)]
pub(crate) async fn define(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    id: ProductPath,
    request: Request,
) -> Result<Response, Problem> {
    let id = path_id(id)?;
    let (parts, body) = request.into_parts();
    let defined: DefineProduct = parse(&json_bytes(&parts.headers, body).await?)?;
    defined.check()?;
    let location = format!("/inventory/{id}");
    let event = |request| ProductCreated {
        id: id.clone(),
        name: defined.name,
        price: defined.price,
        amount: defined.amount,
        keep: true,
        request: Some(request),
    };
    let shown = |product: Product| product;
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

/// Restock a product
///
/// Incoming stock first fills the orders that wait for the product, in the order of their arrival, skipping
/// those that cannot be filled completely. With an `Idempotency-Key` the request can be repeated at any time:
/// the amount is added once.
#[utoipa::path(
    post, path = "/inventory/{id}/restock", tag = "inventory", operation_id = "restock",
    params(("id" = ProductId, Path, description = "The product's id"), RequestHeaders),
    request_body(content = Amount, example = json!(examples::amount(5))),
    responses(
        (status = 200, description = "The restock has been applied", body = Delivery,
            example = json!(examples::delivery())),
        NoProduct, NotDone, BadBody, BadAmount,
    ),
)]
pub(crate) async fn restock(
    State(gateway): State<Gateway>,
    caller: Caller,
    reader: MeteredReader,
    id: ProductPath,
    request: Request,
) -> Result<Response, Problem> {
    let id = path_id(id)?;
    let (parts, body) = request.into_parts();
    let asked: Amount = parse(&json_bytes(&parts.headers, body).await?)?;
    asked.check()?;
    let wanted = Delivery {
        id: Uuid::nil(),
        product_id: id,
        amount: asked.amount,
        on_hand: None,
        refused: None,
        entry: EntryId::default(),
    };
    publish::add(gateway.publisher(), &wanted, (&caller, &reader), &parts.headers).await
}

fn unknown(id: &ProductId) -> Problem {
    Problem::not_found(format!("there is no product {id}"))
}

impl Addition for Delivery {
    type Event = Restock;
    type Owner = Product;

    const PURPOSE: &'static str = "restock";

    fn event(&self, id: Uuid) -> Restock {
        Restock { id, product_id: self.product_id.clone(), amount: self.amount }
    }

    fn owner(&self) -> &ProductId {
        &self.product_id
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.product_id, self.amount) == (&other.product_id, other.amount)
    }

    fn entry(&self) -> EntryId {
        self.entry
    }

    fn refused(&self) -> Option<Refused> {
        self.refused
    }

    fn unknown(&self) -> Problem {
        unknown(&self.product_id)
    }
}
