//! `GET /order/{id}` as a page: what an order waits for, its story, what its customer was told.

use axum::response::Response;
use common::{
    clock::{Millis, now_millis},
    connection::link::SharedLink,
    contract::{
        entities::{Account, Order, Product},
        events::MessageSent,
        ids::{OrderId, ProductId},
    },
    http::problem::Problem,
};
use maud::{Markup, html};

use super::{
    timeline,
    waiting::{self, Ahead},
};
use crate::{
    Gateway,
    access::{
        limits::Reader,
        tokens::{Caller, caller::Scope},
    },
    routes::{accounts, orders},
    upstream::pagination,
    web::{
        format::{self, Grouped},
        layout::{self, Frame},
        report::order_rows::{badge, pieces},
    },
};

/// How many characters of a name the page shows.
const NAME_LIMIT: usize = 100;

/// All that the page shows. What is not the order's own may be in a Redis that cannot be read: the page
/// is shown without it.
pub(super) struct Facts {
    pub(super) order: Order,
    /// The ordered products that exist, by their ids.
    products: Option<Vec<Product>>,
    pub(super) account: Payer,
    /// Orders that stand before this one in lines.
    pub(super) ahead: Vec<(ProductId, Ahead)>,
    /// The messages about it, and whether these are all of them.
    messages: Option<(Vec<MessageSent>, bool)>,
    now: Millis,
}

/// The account of the customer who ordered.
pub(super) enum Payer {
    Known(Account),
    Unknown,
    /// The visitor may not look at accounts.
    Hidden,
    Unread,
}

impl Payer {
    pub(super) fn account(&self) -> Option<&Account> {
        match self {
            Self::Known(account) => Some(account),
            Self::Unknown | Self::Hidden | Self::Unread => None,
        }
    }

    /// Whether there is no such customer.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

impl Facts {
    pub(super) fn product(&self, id: &ProductId) -> Option<&Product> {
        self.products.iter().flatten().find(|product| product.id == *id)
    }

    /// How many of the ordered products do not exist, as far as that is known.
    pub(super) fn missing_products(&self) -> usize {
        let ordered = pieces(&self.order).into_keys();
        ordered.filter(|id| self.products.is_some() && self.product(id).is_none()).count()
    }

    /// What a product is called; its id where it has no name.
    pub(super) fn name_of(&self, id: &ProductId) -> String {
        let name = self.product(id).map_or(id.as_str(), |product| &product.name);
        format::short(name, NAME_LIMIT)
    }
}

/// The page.
pub(crate) async fn show(
    gateway: &Gateway,
    caller: &Caller,
    reader: &Reader,
    id: Result<OrderId, Problem>,
) -> Result<Response, Problem> {
    let id = id?;
    // Before anything is read: what changes after that is told from there on.
    let position = gateway.live.position().await;
    let facts = read(gateway, caller, reader, id).await?;
    let title = format!("Order {}", short(id));
    let frame = Frame { title: &title, kind: "order", place: "", skip_to: "main", position };
    Ok(layout::page(&frame, &content(&facts)))
}

async fn read(
    gateway: &Gateway,
    caller: &Caller,
    reader: &Reader,
    id: OrderId,
) -> Result<Facts, Problem> {
    let stores = &gateway.stores;
    let facts = pagination::read(reader, "the order", async {
        let order = stores.order.get::<Order>(&id).await?;
        // Another customer's is not told from one that does not exist.
        let order = order.filter(|order| caller.reaches(&order.customer_id));
        let Some(order) = order else { return Ok(None) };
        let stock = async {
            let ids = pieces(&order).into_keys().cloned();
            let products = stores.inventory.get_all::<Product>(ids);
            let products = pagination::part("its products", products).await?;
            let ahead = waiting::ahead(&stores.inventory, &order, &products);
            let ahead = pagination::part("its place in the queue", ahead).await.unwrap_or_default();
            Some((products, ahead))
        };
        let messages = pagination::messages_about(&stores.message, &order);
        let (stock, account, messages) = tokio::join!(
            stock,
            payer(&stores.account, caller, &order),
            pagination::part("its messages", messages)
        );
        let (products, ahead) = stock.unzip();
        let (ahead, now) = (ahead.unwrap_or_default(), now_millis());
        Ok(Some(Facts { order, products, account, ahead, messages, now }))
    });
    facts.await?.ok_or_else(|| orders::unknown(id))
}

/// As at `/accounts/{id}`.
async fn payer(store: &SharedLink, caller: &Caller, order: &Order) -> Payer {
    if !caller.may(Scope::ReportRead) {
        return Payer::Hidden;
    }
    let accounts = store.get_all::<Account>([order.customer_id.clone()]);
    match pagination::part("its customer's account", accounts).await.map(|it| it.into_iter().next())
    {
        Some(Some(account)) => Payer::Known(accounts::shown(account, caller)),
        Some(None) => Payer::Unknown,
        None => Payer::Unread,
    }
}

fn short(id: OrderId) -> String {
    id.to_string()[..8].to_owned()
}

fn content(facts: &Facts) -> Markup {
    let Facts { order, .. } = facts;
    html! {
        div.page-head {
            div {
                h1 #order-heading data-order=(order.id) {
                    span { "Order " span.mono { (short(order.id)) } } " "
                    span #order-status data-swap { (badge(Some(order.status))) }
                }
                p.sub.mono { (order.id) }
            }
            (layout::live_line(&format::utc(facts.now)))
        }
        div.columns.story-columns {
            div.wide {
                section.card.next aria-labelledby="next-heading" {
                    h2 #next-heading { "What happens next" }
                    div #next data-swap { (waiting::next(facts)) }
                    p.error #next-error role="alert" hidden {}
                }
                section.card aria-labelledby="story-heading" {
                    h2 #story-heading { "Its story" }
                    div #story data-swap { (timeline::timeline(order)) }
                }
            }
            div.side {
                section.card aria-labelledby="facts-heading" {
                    h2 #facts-heading { "What was ordered" }
                    div #facts data-swap { (ordered(facts)) }
                }
                section.card aria-labelledby="messages-heading" {
                    h2 #messages-heading { "What the customer was told" }
                    div #messages data-swap { (told(facts)) }
                }
            }
        }
    }
}

fn ordered(facts: &Facts) -> Markup {
    let Facts { order, account, products, .. } = facts;
    let name = account.account().map_or(order.customer_id.as_str(), |account| &account.name);
    html! {
        dl.facts {
            dt { "Customer" }
            dd {
                a href={ "/report?customer_id=" (order.customer_id) } { (format::short(name, NAME_LIMIT)) }
                span.sub {
                    @match account {
                        Payer::Known(account) => {
                            (order.customer_id) " · " (format::short(&account.email, NAME_LIMIT))
                            " · balance " b { (Grouped(account.balance)) }
                        }
                        Payer::Unknown => "There is no such customer.",
                        Payer::Hidden => (order.customer_id),
                        Payer::Unread => { (order.customer_id) " · the account cannot be read at the moment" }
                    }
                }
            }
            dt { "Placed" }
            dd { (clock(order.created(), "both")) }
            dt { "Attempt" }
            dd { (order.attempt) }
        }
        table.list {
            caption.visually-hidden { "Products of this order" }
            thead {
                tr {
                    th scope="col" { "Product" }
                    th.num scope="col" { "Pieces" }
                    th.num scope="col" { "Price now" }
                }
            }
            tbody {
                @for (id, count) in pieces(order) {
                    tr {
                        th scope="row" {
                            span.name { (facts.name_of(id)) }
                            span.sub {
                                (id)
                                @match facts.product(id) {
                                    Some(product) => { " · " (Grouped(product.amount)) " on hand" }
                                    None if products.is_some() => " · does not exist",
                                    None => " · cannot be read at the moment",
                                }
                            }
                        }
                        td.num { (Grouped(count)) }
                        td.num {
                            @match facts.product(id) {
                                Some(product) => (Grouped(product.price)),
                                None => "–",
                            }
                        }
                    }
                }
            }
            @if let Some(total) = order.order_total {
                tfoot {
                    tr {
                        th scope="row" { "Total" }
                        td {}
                        td.num { b { (Grouped(total)) } }
                    }
                }
            }
        }
    }
}

fn told(facts: &Facts) -> Markup {
    html! {
        @match &facts.messages {
            None => p.empty { "The messages cannot be read at the moment." },
            Some((messages, complete)) => {
                @if messages.is_empty() {
                    p.empty { "Nothing yet." }
                }
                @if !complete {
                    p.hint { "Messages about earlier attempts are not shown." }
                }
                ol.messages {
                    @for message in messages {
                        li data-message=(message.kind.name()) {
                            h3 { (message.subject) }
                            p { (message.body) }
                        }
                    }
                }
            }
        }
    }
}

/// The `date`, the `time` or `both` of a moment; the script shows it in the reader's zone.
pub(super) fn clock(at: Millis, part: &str) -> Markup {
    let text = match part {
        "date" => format::rfc3339(at)[..10].to_owned(),
        "time" => format::rfc3339(at)[11..23].to_owned() + " UTC",
        _ => format::utc(at),
    };
    html! { time datetime=(format::rfc3339(at)) data-clock=(part) { (text) } }
}
