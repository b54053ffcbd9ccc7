//! The status of an order.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The status of an order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OrderStatus {
    /// Accepted; nothing was checked yet.
    Pending,
    /// Waits for stock; nothing is reserved.
    OutOfStock,
    /// The whole quantity is reserved; payment is in progress.
    PaymentRequired,
    /// Waits for the customer to top up; nothing is reserved.
    InsufficientFund,
    /// Paid.
    ToBeShipped,
    /// On its way.
    Shipped,
    /// Arrived.
    Completed,
    /// Contains a product or customer that does not exist; see `reason`.
    Rejected,
    /// Cancelled.
    Cancelled,
}

impl OrderStatus {
    /// All statuses.
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

    /// Whether the status can still change.
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Completed | Self::Rejected | Self::Cancelled)
    }

    /// The name in JSON.
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
