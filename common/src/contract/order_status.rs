//! Where an order stands.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where an order stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OrderStatus {
    /// Accepted; nothing was looked at yet.
    Pending,
    /// Waits for stock; nothing is reserved.
    OutOfStock,
    /// All pieces are reserved; payment is under way.
    PaymentRequired,
    /// Waits for the customer to top up; nothing is reserved.
    InsufficientFund,
    /// Paid.
    ToBeShipped,
    /// On its way.
    Shipped,
    /// Arrived.
    Completed,
    /// It names a product or customer that does not exist; see `reason`.
    Rejected,
    /// Called off.
    Cancelled,
}

impl OrderStatus {
    /// All of them.
    pub const ALL: [OrderStatus; 9] = [
        Self::Pending,
        Self::OutOfStock,
        Self::PaymentRequired,
        Self::InsufficientFund,
        Self::ToBeShipped,
        Self::Shipped,
        Self::Completed,
        Self::Rejected,
        Self::Cancelled,
    ];

    /// Whether the next step is a service's, and not the customer's or the warehouse's.
    pub const fn is_underway(self) -> bool {
        matches!(self, Self::Pending | Self::PaymentRequired)
    }

    /// Whether something can still become of the order.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Completed | Self::Rejected | Self::Cancelled)
    }

    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::OutOfStock => "out-of-stock",
            Self::PaymentRequired => "payment-required",
            Self::InsufficientFund => "insufficient-fund",
            Self::ToBeShipped => "to-be-shipped",
            Self::Shipped => "shipped",
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }
}
