//! The vocabulary of pure decisions.
//!
//! A service is two functions and some wiring ([`Decider`]): `reads` names the entities that an
//! input concerns, and `decide` turns the input and those entities into [`Changes`]. Neither
//! performs IO, reads a clock or uses randomness, so both can be repeated as often as necessary;
//! the engine applies the result. A decision that fails or panics has no effect.

mod changes;
mod error;
pub mod in_memory;
mod reads;
mod stored;
mod world;

pub(crate) use changes::SetLimit;
pub use changes::{Append, Changes, Note};
pub use error::DecideError;
pub(crate) use reads::ReadAccess;
pub use reads::Reads;
pub(crate) use world::Standing;
pub use world::World;

use crate::{
    clock::Millis,
    schema::stream::{Stream, Topic},
};

/// The decisions of a service, without the infrastructure.
pub trait Decider: Send + Sync + 'static {
    /// An event from a stream or a command from HTTP, parsed.
    type Input: std::fmt::Debug + Send + Sync + 'static;
    /// The answer to the caller of a command; `()` without commands.
    type Answer: Send + 'static;

    /// The topic that owns the entities.
    const TOPIC: Topic;

    /// All streams of the topic, except the stream of dead letters. The engine trims them, and
    /// checks at the start that it has the permissions for them.
    fn streams() -> Vec<Stream>;

    /// Names the entities that `decide` reads or writes, as far as they follow from the input.
    /// Other entities are loaded when `decide` reads them.
    fn reads(&self, input: &Self::Input, reads: &mut Reads);

    /// Decides. A repeated input finds its idempotency record in `world` and changes nothing.
    ///
    /// # Errors
    ///
    /// [`DecideError::Invalid`]: the input is at fault and would fail at every attempt. An event
    /// becomes a dead letter; the caller of a command gets the reason. [`DecideError::Missing`],
    /// from [`World::get`], is passed on: the decision is repeated with more entities.
    fn decide(
        &self,
        input: &Self::Input,
        world: &World,
        now: Millis,
    ) -> Result<Changes<Self::Answer>, DecideError>;
}
