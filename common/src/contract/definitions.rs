//! The records of requests to define a product or an account: by them a repeated request is recognised
//! and answered as it was at first. The owner writes a record together with what was defined.

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
    /// The request, as its event names it.
    pub id: Uuid,
    /// The event.
    pub asked: V,
    /// The entry that brought it.
    pub entry: EntryId,
    /// Whether there was nothing of that id before.
    pub is_new: bool,
    /// What it made of the product or account; `None` if a newer definition had been applied before, so
    /// that this one changed nothing.
    pub made: Option<E>,
}

/// Of a product, by inventory_service. The gateway reads it to answer.
pub type ProductDefinition = Definition<ProductCreated, Product>;
/// Of an account, by account_service. The gateway reads it to answer.
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
