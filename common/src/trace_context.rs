//! The trace that a request or an event belongs to (W3C Trace Context).

/// Validates a `traceparent`: two hexadecimal digits, 32, 16 and 2, separated by dashes (W3C Trace
/// Context), neither id all zeros. Any other value is dropped, as the recommendation requires.
pub fn traceparent(bytes: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let fits = text.len() == 55
        && text.bytes().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => byte == b'-',
            _ => lower_hex(byte),
        });
    let zeros = |id: &str| id.bytes().all(|byte| byte == b'0');
    (fits && !text.starts_with("ff") && !zeros(&text[3..35]) && !zeros(&text[36..52]))
        .then(|| text.into())
}

/// The id of the trace within a `traceparent` (W3C Trace Context: version-trace-parent-flags).
pub fn trace_id(traceparent: Option<&str>) -> Option<&str> {
    traceparent?.split('-').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_traceparent_is_accepted() {
        let is_valid = |text: &str| traceparent(text.as_bytes()).is_some();
        let (id, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert!(is_valid(&format!("00-{id}-{parent}-01")));
        for wrong in [
            String::new(),
            format!("ff-{id}-{parent}-01"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{id}-{}-01", "0".repeat(16)),
            format!("00-{}-{parent}-01", id.to_uppercase()),
            format!("00-{id}-{parent}-01-more"),
            format!("00_{id}-{parent}-01"),
        ] {
            assert!(!is_valid(&wrong), "{wrong}");
        }
    }
}
