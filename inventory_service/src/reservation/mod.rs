//! Reservations: the stock that an order holds or waits for. `entity` is the stored form;
//! `reserve`, `release` and `ship` change it.

pub(crate) mod entity;
mod release;
mod reserve;
mod ship;

pub use self::entity::{QueuePosition, Reservation, ReservationState, quantities};
pub(crate) use self::{
    release::{FailedPayment, cancel, release},
    reserve::reserve,
    ship::ship,
};
