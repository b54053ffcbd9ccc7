//! The idempotency records of requests to define a product or an account: they identify a repeated
//! request, which gets the first answer again. The owner writes a record together with the defined
//! entity.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    contract::{
        entities::{Account, Product},
        events::{AccountCreated, ProductCreated},
        keys,
    },
    schema::{
        entity::{Entity, Kind},
        entry_id::EntryId,
    },
};

/// The record of one request: its event and its result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Definition<V, E> {
    /// The id of the request, from its event.
    pub id: Uuid,
    /// The event.
    pub asked: V,
    /// The stream entry with the event.
    pub entry: EntryId,
    /// Whether the id was new.
    pub is_new: bool,
    /// The resulting product or account; `None` if a newer definition was applied before, so that
    /// this one changed nothing.
    pub made: Option<E>,
}

/// The record of a product definition, by inventory_service. The gateway reads it to answer.
pub type ProductDefinition = Definition<ProductCreated, Product>;
/// The record of an account definition, by account_service. The gateway reads it to answer.
pub type AccountDefinition = Definition<AccountCreated, Account>;

impl Entity for ProductDefinition {
    type Id = Uuid;
    const KIND: &'static Kind = &keys::PRODUCT_DEFINITION;
    fn id(&self) -> &Uuid {
        &self.id
    }
}

impl Entity for AccountDefinition {
    type Id = Uuid;
    const KIND: &'static Kind = &keys::ACCOUNT_DEFINITION;
    fn id(&self) -> &Uuid {
        &self.id
    }
}
