//! Planted bugs: mistakes that the simulation must find.

/// Whether the bug with this name is planted. Always `false` without the feature `simulation`, so that
/// nothing of it is left in a program. `simulation/src/gallery.rs` lists the names.
#[cfg(not(feature = "simulation"))]
#[macro_export]
macro_rules! planted {
    ($bug:literal) => {
        false
    };
}

/// Whether the bug with this name is planted, in the simulation that runs on this thread.
/// `simulation/src/gallery.rs` lists the names.
#[cfg(feature = "simulation")]
#[macro_export]
macro_rules! planted {
    ($bug:literal) => {
        $crate::simulation::is_planted($bug)
    };
}
