//! The access rule of each route. A route without a rule answers 405 to all callers.

use http::Method;

use self::RouteAccess::{All, Own, Public};
use super::scope::Scope::{
    self, Admin, CustomersWrite, InventoryWrite, OrdersRead, OrdersWrite, ReportRead,
};

/// The access rule of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteAccess {
    /// All clients may call it, without a token.
    Public,
    /// Callers whose token has the scope may call it; the handler limits customers to their own data.
    Own(Scope),
    /// Callers whose token has the scope may call it, except customers.
    All(Scope),
}

impl RouteAccess {
    /// The required scope.
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Self::Public => None,
            Self::Own(scope) | Self::All(scope) => Some(scope),
        }
    }
}

/// A route and its access rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The method; GET stands for HEAD as well.
    pub method: Method,
    /// The path in the router.
    pub path: &'static str,
    /// The rule.
    pub access: RouteAccess,
}

macro_rules! rules {
    ($($method:ident $path:literal $access:expr;)*) => {
        /// All routes.
        pub const RULES: &[Rule] = &[
            $(Rule { method: Method::$method, path: $path, access: $access },)*
        ];
    };
}

rules! {
    POST "/order" Own(OrdersWrite);
    GET "/order/{id}" Own(OrdersRead);
    DELETE "/order/{id}" Own(OrdersWrite);
    POST "/order/{id}/pay" Own(OrdersWrite);
    POST "/order/{id}/ship" All(OrdersWrite);
    POST "/order/{id}/complete" All(OrdersWrite);
    GET "/orders" Own(OrdersRead);
    GET "/orders/counts" Own(OrdersRead);
    GET "/customers/{id}/messages" Own(OrdersRead);
    GET "/report" Own(ReportRead);
    GET "/inventory" Own(ReportRead);
    GET "/inventory/{id}" Own(ReportRead);
    GET "/accounts" Own(ReportRead);
    GET "/accounts/{id}" Own(ReportRead);
    GET "/events" Own(ReportRead);
    GET "/flow" All(ReportRead);
    PUT "/accounts/{id}" Own(CustomersWrite);
    POST "/accounts/{id}/top-up" Own(CustomersWrite);
    PUT "/inventory/{id}" All(InventoryWrite);
    POST "/inventory/{id}/restock" All(InventoryWrite);
    POST "/init-data" All(Admin);
    GET "/" Public;
    GET "/sign-in" Public;
    GET "/sign-in/callback" Public;
    POST "/sign-out" Public;
    GET "/signed-out" Public;
    GET "/assets/{hash}/{name}" Public;
    GET "/openapi.json" Public;
    GET "/asyncapi.json" Public;
    GET "/docs" Public;
    GET "/docs/" Public;
    GET "/docs/swagger.js" Public;
    GET "/docs/swagger.css" Public;
    GET "/docs/swagger-ui.css" Public;
    GET "/docs/swagger-ui-bundle.js" Public;
    GET "/docs/favicon-32x32.png" Public;
    GET "/docs/events" Public;
    GET "/docs/events.css" Public;
}

/// The rule of this route with this method; `None` if the route does not support the method.
pub fn access(method: &Method, path: &str) -> Option<RouteAccess> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    RULES.iter().find(|rule| rule.method == *method && rule.path == path).map(|rule| rule.access)
}

/// The methods that a route supports, in the form of the header `Allow`.
pub fn allowed(path: &str) -> String {
    let mut methods = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.path == path) {
        methods.push(rule.method.as_str());
        if rule.method == Method::GET {
            methods.push("HEAD");
        }
    }
    methods.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_is_get_and_what_is_not_listed_is_served_to_nobody() {
        assert_eq!(access(&Method::HEAD, "/report"), Some(Own(ReportRead)));
        assert_eq!(access(&Method::PATCH, "/report"), None);
        assert_eq!(access(&Method::GET, "/forgotten"), None);
        assert_eq!(allowed("/order/{id}"), "GET,HEAD,DELETE");
    }
}
