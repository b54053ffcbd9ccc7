//! The access rule of each route. A route without a rule answers 405 to all callers.

use common::contract::{
    order_routes::{self, OrderAction},
    route::{
        GET, POST, PUT, Route,
        RouteAccess::{self, All, Own, Public},
        Scope::{Admin, CustomersWrite, InventoryWrite, OrdersRead, ReportRead},
    },
};
use http::Method;

/// All routes; GET stands for HEAD as well.
pub const RULES: &[Route] = &[
    order_routes::PLACE,
    order_routes::SHOW,
    OrderAction::Cancel.route(),
    OrderAction::Pay.route(),
    OrderAction::Ship.route(),
    OrderAction::Complete.route(),
    Route::new(GET, "/orders", Own(OrdersRead)),
    Route::new(GET, "/orders/counts", Own(OrdersRead)),
    Route::new(GET, "/customers/{id}/messages", Own(OrdersRead)),
    Route::new(GET, "/report", Own(ReportRead)),
    Route::new(GET, "/inventory", Own(ReportRead)),
    Route::new(GET, "/inventory/{id}", Own(ReportRead)),
    Route::new(GET, "/accounts", Own(ReportRead)),
    Route::new(GET, "/accounts/{id}", Own(ReportRead)),
    Route::new(GET, "/events", Own(ReportRead)),
    Route::new(GET, "/flow", All(ReportRead)),
    Route::new(PUT, "/accounts/{id}", Own(CustomersWrite)),
    Route::new(POST, "/accounts/{id}/top-up", Own(CustomersWrite)),
    Route::new(PUT, "/inventory/{id}", All(InventoryWrite)),
    Route::new(POST, "/inventory/{id}/restock", All(InventoryWrite)),
    Route::new(POST, "/init-data", All(Admin)),
    Route::new(GET, "/", Public),
    Route::new(GET, "/sign-in", Public),
    Route::new(GET, "/sign-in/callback", Public),
    Route::new(POST, "/sign-out", Public),
    Route::new(GET, "/signed-out", Public),
    Route::new(GET, "/assets/{hash}/{name}", Public),
    Route::new(GET, "/openapi.json", Public),
    Route::new(GET, "/asyncapi.json", Public),
    Route::new(GET, "/docs", Public),
    Route::new(GET, "/docs/", Public),
    Route::new(GET, "/docs/swagger.js", Public),
    Route::new(GET, "/docs/swagger.css", Public),
    Route::new(GET, "/docs/swagger-ui.css", Public),
    Route::new(GET, "/docs/swagger-ui-bundle.js", Public),
    Route::new(GET, "/docs/favicon-32x32.png", Public),
    Route::new(GET, "/docs/events", Public),
    Route::new(GET, "/docs/events.css", Public),
];

/// The rule of this route with this method; `None` if the route does not support the method.
pub fn access(method: &Method, path: &str) -> Option<RouteAccess> {
    let method = if *method == Method::HEAD { GET } else { method.as_str() };
    RULES.iter().find(|rule| rule.method == method && rule.path == path).map(|rule| rule.access)
}

/// The methods that a route supports, in the form of the header `Allow`.
pub fn allowed(path: &str) -> String {
    let mut methods = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.path == path) {
        methods.push(rule.method);
        if rule.method == GET {
            methods.push("HEAD");
        }
    }
    methods.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_follows_get_and_unlisted_routes_are_denied() {
        assert_eq!(access(&Method::HEAD, "/report"), Some(Own(ReportRead)));
        assert_eq!(access(&Method::PATCH, "/report"), None);
        assert_eq!(access(&Method::GET, "/forgotten"), None);
        assert_eq!(allowed("/order/{id}"), "GET,HEAD,DELETE");
    }
}
