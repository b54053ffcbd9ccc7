//! deploy/keycloak/orders-realm.json and deploy/secure.yml say what the gateway expects. Keycloak itself is
//! not run here.

use common::contract::route::Scope;
use serde_json::Value;

fn named<'a>(realm: &'a Value, list: &str, key: &str, name: &str) -> &'a Value {
    let found = realm[list].as_array().expect("a list").iter().find(|it| it[key] == name);
    found.unwrap_or_else(|| panic!("{list} has no {name}"))
}

#[test]
fn the_realm_matches_the_configuration_of_the_gateway() {
    let realm = include_str!("../../deploy/keycloak/orders-realm.json");
    let realm: Value = serde_json::from_str(realm).expect("JSON");
    let compose: Value =
        yaml_serde::from_str(include_str!("../../deploy/secure.yml")).expect("YAML");
    let gateway = &compose["services"]["gateway_api"]["environment"];
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let issuer = text(&gateway["OIDC_ISSUER"]);
    assert!(issuer.ends_with(&format!("/realms/{}", text(&realm["realm"]))), "{issuer}");
    let keycloak = &compose["services"]["keycloak"]["environment"];
    assert!(issuer.starts_with(&text(&keycloak["KC_HOSTNAME"])), "{issuer}");

    let web = named(&realm, "clients", "clientId", &text(&gateway["OIDC_CLIENT_ID"]));
    let public = text(&gateway["PUBLIC_URL"]);
    assert_eq!(web["redirectUris"], serde_json::json!([format!("{public}/sign-in/callback")]));
    assert_eq!(web["attributes"]["post.logout.redirect.uris"], format!("{public}/signed-out"));
    assert_eq!(web["attributes"]["pkce.code.challenge.method"], "S256");
    assert_eq!((&web["standardFlowEnabled"], &web["publicClient"]), (&true.into(), &true.into()));
    for client in ["orders-web", "orders-cli"] {
        let client = named(&realm, "clients", "clientId", client);
        let optional = client["optionalClientScopes"].as_array().expect("a list");
        for scope in Scope::ALL {
            assert!(optional.iter().any(|it| it == scope.name()), "{}", scope.name());
            let defined = named(&realm, "clientScopes", "name", scope.name());
            assert_eq!(defined["attributes"]["include.in.token.scope"], "true");
        }
        for scope in client["defaultClientScopes"].as_array().expect("a list") {
            named(&realm, "clientScopes", "name", scope.as_str().expect("text"));
        }
    }
    // Keycloak grants a scope that is mapped to roles only to users with such a role. A user without a
    // role has no customer_id either, and would otherwise act for all customers.
    for scope in Scope::ALL {
        let mapping = named(&realm, "scopeMappings", "clientScope", scope.name());
        let roles = match scope {
            Scope::Admin | Scope::InventoryWrite => serde_json::json!(["operator"]),
            _ => serde_json::json!(["customer", "operator"]),
        };
        assert_eq!(mapping["roles"], roles, "{}", scope.name());
    }
    // No user has a role by default.
    assert_eq!(realm["defaultRoles"], Value::Null);
    assert_eq!(realm["defaultRole"], Value::Null);

    // A token without `sub` is refused; only the command line may exchange a password for a token.
    let basic = named(&realm, "clientScopes", "name", "basic");
    named(basic, "protocolMappers", "protocolMapper", "oidc-sub-mapper");
    for (client, takes_passwords) in [("orders-web", false), ("orders-cli", true)] {
        let client = named(&realm, "clients", "clientId", client);
        assert_eq!(client["directAccessGrantsEnabled"], takes_passwords);
        assert_eq!(client["implicitFlowEnabled"], false);
        let scopes = client["defaultClientScopes"].as_array().expect("a list");
        assert!(["basic", "orders-api"].iter().all(|name| scopes.iter().any(|it| it == name)));
    }

    let api = named(&realm, "clientScopes", "name", "orders-api");
    let mapper = |name: &str| named(api, "protocolMappers", "name", name)["config"].clone();
    assert_eq!(mapper("audience")["included.custom.audience"], gateway["OIDC_AUDIENCE"]);
    assert_eq!(mapper("customer")["claim.name"], "customer_id");
    for (user, customer, role) in [
        ("anthony", Some("101"), "customer"),
        ("becky", Some("102"), "customer"),
        ("operator", None, "operator"),
    ] {
        let user = named(&realm, "users", "username", user);
        assert_eq!(user["realmRoles"], serde_json::json!([role]));
        assert_eq!(user["attributes"]["customer_id"][0].as_str(), customer);
    }
    // A user who may edit this attribute may become any customer.
    let profile = &realm["components"]["org.keycloak.userprofile.UserProfileProvider"][0];
    let profile = text(&profile["config"]["kc.user.profile.config"][0]);
    let profile: Value = serde_json::from_str(&profile).expect("JSON");
    let customer = named(&profile, "attributes", "name", "customer_id");
    assert_eq!(customer["permissions"]["edit"], serde_json::json!(["admin"]));
}
