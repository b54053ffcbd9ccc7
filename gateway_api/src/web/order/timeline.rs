//! The steps of an order as a timeline, with a lane for each participating service.

use common::{
    contract::{
        order::{Order, Step},
        order_status::OrderStatus,
        streams::topics,
    },
    schema::stream::Topic,
};
use maud::{Markup, html};

use crate::web::format::{self, badge, clock};

/// The services that decide about orders, from left to right.
const LANES: [Topic; 3] = [topics::ORDER, topics::INVENTORY, topics::ACCOUNT];

/// In milliseconds.
const DAY_MILLIS: u64 = 86_400_000;

/// The steps, oldest first.
pub(super) fn timeline(order: &Order) -> Markup {
    html! {
        div.lanes aria-hidden="true" {
            span {}
            @for lane in LANES { span { (lane.service()) } }
        }
        ol.timeline {
            @for (index, step) in order.history.iter().enumerate() {
                @let before = index.checked_sub(1).and_then(|before| order.history.get(before));
                @let decider = decider(step, &order.history[..index]);
                li data-step=(step.status.name()) {
                    div.when {
                        @if let Some(after) = after(step, &order.history[..index]) {
                            span.took { (after) }
                        }
                        @if before.is_none_or(|before| before.at / DAY_MILLIS != step.at / DAY_MILLIS) {
                            (clock(step.at, "date"))
                        }
                        (clock(step.at, "time"))
                    }
                    div class={ "step lane-" (decider.name()) } {
                        p {
                            (badge(Some(step.status)))
                            @if order.attempt > 1 { " " span.sub.attempt { "attempt " (step.attempt) } }
                        }
                        p.description { (description(step)) }
                        p.sub.by { "by " span.mono { (decider.service()) } }
                    }
                }
            }
        }
        @if let Some(omitted) = order.omitted {
            p.hint #omitted {
                "After the first step, " (format::counted(u64::from(omitted), "step"))
                " of earlier attempts are omitted."
            }
        }
        @if let Some(resent) = order.resent {
            p.hint {
                "An answer is overdue: the order was resent "
                (format::counted(u64::from(resent.times), "time"))
                ", last at " (clock(resent.at, "both")) "."
            }
        }
    }
}

/// The time between a step and the previous one, in words; `None` for the first.
fn after(step: &Step, before: &[Step]) -> Option<String> {
    // The time of a step is the time of its arrival at order_service. If a step arrived late, neither its
    // duration nor that of the next one is known.
    if step.late.is_some() {
        return Some("known late".to_owned());
    }
    let last = before.iter().filter(|step| step.late.is_none()).map(|step| step.at).max()?;
    Some(format!("+ {}", format::took(step.at.saturating_sub(last))))
}

/// The service that decided a step.
fn decider(step: &Step, before: &[Step]) -> Topic {
    match step.status {
        OrderStatus::Pending
        | OrderStatus::Shipped
        | OrderStatus::Completed
        | OrderStatus::Cancelled => topics::ORDER,
        OrderStatus::OutOfStock | OrderStatus::PaymentRequired => topics::INVENTORY,
        OrderStatus::InsufficientFund | OrderStatus::ToBeShipped => topics::ACCOUNT,
        // Stock is checked first: after a reservation, the account refused.
        OrderStatus::Rejected => {
            let reserved =
                |it: &Step| (it.attempt, it.status) == (step.attempt, OrderStatus::PaymentRequired);
            if before.iter().any(reserved) { topics::ACCOUNT } else { topics::INVENTORY }
        }
    }
}

/// The description of a step.
fn description(step: &Step) -> &'static str {
    match step.status {
        OrderStatus::Pending if step.attempt > 1 => {
            "The customer pays again: a new attempt begins."
        }
        OrderStatus::Pending => "The order is accepted and stored.",
        OrderStatus::OutOfStock => "Stock is short. The order is a backorder now.",
        OrderStatus::PaymentRequired => "The stock is reserved.",
        OrderStatus::InsufficientFund => "The balance is too low. The stock is released.",
        OrderStatus::ToBeShipped => "The payment is accepted.",
        OrderStatus::Shipped => "The order is shipped.",
        OrderStatus::Completed => "The order is delivered.",
        OrderStatus::Rejected => "The order cannot be filled. No payment is taken.",
        OrderStatus::Cancelled => {
            "The order is cancelled. Its stock is released and its payment refunded."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_known_late_does_not_distort_the_durations_of_others() {
        let step = |status, at| Step::new(status, at, 1);
        let late = Step { late: Some(2), ..step(OrderStatus::PaymentRequired, 1_050) };
        let history = [
            step(OrderStatus::Pending, 1_000),
            late,
            step(OrderStatus::ToBeShipped, 1_012),
            step(OrderStatus::Shipped, 3_512),
        ];
        let spans: Vec<_> =
            (0..history.len()).map(|index| after(&history[index], &history[..index])).collect();
        let texts: Vec<_> = spans.iter().map(|text| text.as_deref().unwrap_or("")).collect();
        assert_eq!(texts, ["", "known late", "+ 12 ms", "+ 2.5 s"]);
    }

    #[test]
    fn a_rejection_is_attributed_to_the_service_that_decided_it() {
        let step = |status, attempt| Step::new(status, 0, attempt);
        let rejected = step(OrderStatus::Rejected, 1);
        let reserved = [step(OrderStatus::Pending, 1), step(OrderStatus::PaymentRequired, 1)];
        assert_eq!(decider(&rejected, &reserved[..1]), topics::INVENTORY);
        assert_eq!(decider(&rejected, &reserved), topics::ACCOUNT);
        // The second attempt begins with another check of the stock.
        assert_eq!(decider(&step(OrderStatus::Rejected, 2), &reserved), topics::INVENTORY);
    }
}
