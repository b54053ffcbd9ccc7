//! Formats statuses, numbers, times and quantities for people.

use std::{collections::BTreeMap, fmt};

use common::{
    clock::Millis,
    contract::{ids::ProductId, order::Order, order_status::OrderStatus},
};
use maud::{Markup, html};

/// A status in words.
pub(crate) const fn label(status: OrderStatus) -> &'static str {
    match status {
        OrderStatus::Pending => "Pending",
        OrderStatus::OutOfStock => "Out of stock",
        OrderStatus::PaymentRequired => "Payment required",
        OrderStatus::InsufficientFund => "Insufficient funds",
        OrderStatus::ToBeShipped => "To be shipped",
        OrderStatus::Shipped => "Shipped",
        OrderStatus::Completed => "Completed",
        OrderStatus::Rejected => "Rejected",
        OrderStatus::Cancelled => "Cancelled",
    }
}

/// A number with separated thousands.
pub(crate) struct Grouped(pub(crate) u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let first = digits.len() % 3;
        let (head, tail) = digits.split_at(first);
        f.write_str(head)?;
        for (group, start) in (0..tail.len()).step_by(3).enumerate() {
            if group > 0 || first > 0 {
                f.write_str(",")?;
            }
            f.write_str(&tail[start..start + 3])?;
        }
        Ok(())
    }
}

impl maud::Render for Grouped {
    fn render_to(&self, buffer: &mut String) {
        use fmt::Write as _;
        write!(buffer, "{self}").expect("a String takes everything");
    }
}

/// `2026-01-05T14:03:12.345Z` (RFC 3339).
pub(crate) fn rfc3339(at: Millis) -> String {
    let (year, month, day) = civil(at / 86_400_000);
    let of_day = at % 86_400_000;
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, millis) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// `2026-01-05 14:03:12 UTC`; the script shows it in the reader's zone.
pub(crate) fn utc(at: Millis) -> String {
    let text = rfc3339(at);
    format!("{} {} UTC", &text[..10], &text[11..19])
}

/// Year, month and day of a day since 1970 (days are counted from the first of March, so that the
/// leap day comes last).
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// The age of an event: `12 s`, `3 min`, `2 h`, `4 d`.
pub(crate) fn age(millis: Millis) -> String {
    let seconds = millis / 1_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A duration: `12 ms`, `1.5 s`, `3 min 5 s`, `2 h 4 min`, `3 d 2 h`.
pub(crate) fn took(millis: Millis) -> String {
    let seconds = millis / 1_000;
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{seconds}.{} s", millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600_000..172_800_000 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A text of clients, truncated if it is too long.
pub(crate) fn short(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// `1 order`, `2 orders`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", Grouped(count))
}

/// The ordered quantity of each product.
pub(crate) fn quantities(order: &Order) -> BTreeMap<&ProductId, u64> {
    let mut quantities = BTreeMap::new();
    for product in &order.product_ids {
        *quantities.entry(product).or_insert(0) += 1;
    }
    quantities
}

/// A status as a badge; without one, its frame for the script.
pub(crate) fn badge(status: Option<OrderStatus>) -> Markup {
    let (name, label) = status.map_or(("", ""), |status| (status.name(), label(status)));
    html! { span.badge data-status=(name) { (label) } }
}

/// The `date`, the `time` or `both` of a moment; the script shows it in the reader's zone.
pub(crate) fn clock(at: Millis, part: &str) -> Markup {
    let text = match part {
        "date" => rfc3339(at)[..10].to_owned(),
        "time" => rfc3339(at)[11..23].to_owned() + " UTC",
        _ => utc(at),
    };
    html! { time datetime=(rfc3339(at)) data-clock=(part) { (text) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_the_calendar() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (1_772_323_199_000, "2026-02-28T23:59:59.000Z"),
            (1_772_323_200_000, "2026-03-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(at), text);
        }
        assert_eq!(utc(1_767_225_600_000), "2026-01-01 00:00:00 UTC");
    }

    #[test]
    fn numbers_and_spans_are_easy_to_read() {
        let grouped = |number| Grouped(number).to_string();
        assert_eq!([0, 12, 999].map(grouped), ["0", "12", "999"]);
        assert_eq!([1_000, 65_536, 1_234_567].map(grouped), ["1,000", "65,536", "1,234,567"]);
        assert_eq!([0, 59_999, 60_000].map(age), ["0 s", "59 s", "1 min"]);
        assert_eq!([7_200_000, 400_000_000].map(age), ["2 h", "4 d"]);
        assert_eq!([7, 1_590, 185_000].map(took), ["7 ms", "1.5 s", "3 min 5 s"]);
        assert_eq!(counted(1, "order"), "1 order");
        assert_eq!(counted(2_000, "order"), "2,000 orders");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(short("Lautsprecher", 20), "Lautsprecher");
        assert_eq!(short("ÄÖÜß", 2), "ÄÖ…");
    }
}
