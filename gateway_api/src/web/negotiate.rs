//! Negotiates between HTML and JSON (RFC 9110, section 12.5.1).

use http::{HeaderMap, header};

/// Whether the client prefers HTML over JSON, as browsers do. Clients that accept any type or send no
/// `Accept` get JSON.
pub(crate) fn wants_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let ranges: Vec<Range> = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .collect();
    quality(&ranges, "text", "html") > quality(&ranges, "application", "json")
}

/// A media range with its weight in thousandths.
struct Range {
    kind: String,
    subkind: String,
    weight: u32,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subkind) = parts.next()?.split_once('/')?;
        let weight = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| weight(value.trim()))
        });
        Some(Self {
            kind: kind.trim().to_ascii_lowercase(),
            subkind: subkind.trim().to_ascii_lowercase(),
            weight: weight.unwrap_or(1_000),
        })
    }

    /// How specifically the range matches the media type, if it matches.
    fn closeness(&self, kind: &str, subkind: &str) -> Option<u8> {
        match (self.kind.as_str(), self.subkind.as_str()) {
            ("*", "*") => Some(0),
            (a, "*") if a == kind => Some(1),
            (a, b) if a == kind && b == subkind => Some(2),
            _ => None,
        }
    }
}

/// `0` to `1` with up to three decimals; other weights are ignored.
fn weight(text: &str) -> u32 {
    let weight: f32 = text.parse().unwrap_or(0.0);
    if !(0.0..=1.0).contains(&weight) {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and 1,000"
    )]
    let thousandths = (weight * 1_000.0).round() as u32;
    thousandths
}

/// The weight of the most specific range counts.
fn quality(ranges: &[Range], kind: &str, subkind: &str) -> u32 {
    let fitting = ranges.iter().filter_map(|range| {
        range.closeness(kind, subkind).map(|closeness| (closeness, range.weight))
    });
    fitting.max().map_or(0, |(_, weight)| weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_html_and_programs_get_json() {
        let chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,\
                        image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7";
        for (accept, html) in [
            (chromium, true),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("text/html", true),
            ("TEXT/HTML", true),
            ("text/*", true),
            ("text/html;charset=utf-8", true),
            ("text/html;q=0.9, application/json;q=0.8", true),
            ("application/json;q=0.1, text/html ; q=0.2", true),
            ("text/html, application/json;q=0", true),
            ("*/*, application/json;q=0.5", true),
            ("application/json, text/html;q=0.001", false),
            ("text/html;q=0.8, application/json;q=0.8", false),
            ("text/html;q=0.5, */*", false),
            ("text/html, */*", false),
            ("text/html;q=0, text/*", false),
            ("text/html;q=abc", false),
            ("text/html;q=7", false),
            ("application/json", false),
            ("application/problem+json", false),
            ("*/*", false),
            ("image/png", false),
            ("html", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(wants_html(&headers), html, "{accept}");
        }
        assert!(!wants_html(&HeaderMap::new()));
    }

    #[test]
    fn several_accept_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append(header::ACCEPT, "application/json;q=0.5".parse().unwrap());
        headers.append(header::ACCEPT, "text/html".parse().unwrap());
        assert!(wants_html(&headers));
    }
}
