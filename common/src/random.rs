//! Random ids.

use uuid::Uuid;

/// A random id (UUID version 4).
#[expect(clippy::disallowed_methods, reason = "the one place that creates random ids")]
pub fn new_id() -> Uuid {
    #[cfg(feature = "simulation")]
    if let Some(id) = crate::simulation::new_id() {
        return id;
    }
    Uuid::new_v4()
}
