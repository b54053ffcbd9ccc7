//! The pages in a real browser, Chromium, against the whole system: the real binaries, a real Redis.
//!
//! `visit` gives each test a system and a browser of its own and, at its end, looks for errors in
//! the console; a module for each concern. The browser and axe-core are installed where they are
//! missing.

mod axe;
mod driver;
mod empty;
mod flow;
mod forms;
mod keyboard;
mod manners;
mod orders;
mod reconnecting;
mod screenshots;
mod signed_in;
mod tab;
mod tabs;
mod visit;
