//! The vocabulary of pure decisions.
//!
//! A service is two functions and some wiring ([`Decider`]): `reads` names the entities that an
//! input concerns, `decide` turns the input and those entities into [`Changes`]. Neither does IO,
//! looks at a clock or rolls dice, so both can be run as often as it takes; the engine applies what
//! was decided. A decision that fails or panics leaves nothing behind.

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
pub use world::World;

use crate::{
    clock::Millis,
    schema::stream::{Stream, Topic},
};

/// What a service does, without how.
pub trait Decider: Send + Sync + 'static {
    /// An event from a stream or a command from HTTP, parsed.
    type Input: Send + Sync + 'static;
    /// What a command's caller is told; `()` where there are no commands.
    type Answer: Send + 'static;

    /// The topic whose entities this decides about.
    const TOPIC: Topic;

    /// All streams of the topic, except the stream of dead letters. The engine trims them, and asks at the start
    /// for the permissions that they take.
    fn streams() -> Vec<Stream>;

    /// Names the entities that `decide` will look at or write, as far as the input tells. Whatever
    /// else `decide` turns out to need is loaded when it looks at it.
    fn reads(&self, input: &Self::Input, reads: &mut Reads);

    /// Decides. A repeated input finds its own trace in `world` and changes nothing.
    ///
    /// # Errors
    ///
    /// [`DecideError::Invalid`]: the input itself is at fault and would be however often it was tried: it
    /// becomes a dead letter, or its caller is told. [`DecideError::Missing`], from [`World::get`], is
    /// passed on: the decision is made again with more in sight.
    fn decide(
        &self,
        input: &Self::Input,
        world: &World,
        now: Millis,
    ) -> Result<Changes<Self::Answer>, DecideError>;
}
