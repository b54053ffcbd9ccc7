//! The form of problems.

use system_tests::Answer;

/// Asserts that the answer is a problem of this type, at this field, without internal details.
pub(super) fn assert_problem(
    name: &str,
    answer: &Answer,
    status: u16,
    slug: &str,
    field: Option<&str>,
) {
    let text = answer.text();
    assert_eq!(answer.status.as_u16(), status, "{name}: {text}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{name}: {text}");
    let problem = answer.json();
    assert_eq!(problem["type"], format!("urn:problem-type:orders:{slug}"), "{name}: {text}");
    assert_eq!(problem["status"], status, "{name}: {text}");
    assert_eq!(problem["field"].as_str(), field, "{name}: {text}");
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{name}: {text}");
    for inside in ["redis", "sock", "serde", "src/", ".rs", "hyper", "127.0.0.1", "panicked"] {
        assert!(!text.to_lowercase().contains(inside), "{name} reveals {inside}: {text}");
    }
    let retry = answer.header("retry-after");
    assert_eq!(status == 503, retry.parse::<u32>().is_ok(), "{name}: Retry-After: {retry:?}");
}

pub(super) const JSON: (&str, &str) = ("content-type", "application/json");
