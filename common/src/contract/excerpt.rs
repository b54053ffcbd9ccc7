//! Excerpts of client input. A stored or published reason or message names the first few offending
//! values and has a limited length, regardless of their number and length.

use std::fmt;

/// The number of items that are named.
const MAX_NAMED: usize = 6;
/// The number of characters of an id that are shown: enough for a whole UUID.
const ID_SHOWN: usize = 36;

/// An id, or its beginning if it is long.
#[derive(Clone, Copy, Debug)]
pub struct ShortId<'a>(pub &'a str);

impl fmt::Display for ShortId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(ID_SHOWN) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}

/// The first few items, and the number of the others, as a list in a sentence: `a, b and c`.
pub fn listed<T: fmt::Display>(things: impl ExactSizeIterator<Item = T>) -> String {
    let more = things.len().saturating_sub(MAX_NAMED);
    let mut named: Vec<String> = things.take(MAX_NAMED).map(|it| it.to_string()).collect();
    if more > 0 {
        named.push(format!("{more} more"));
    }
    let last = named.pop().unwrap_or_default();
    if named.is_empty() { last } else { format!("{} and {last}", named.join(", ")) }
}

/// The same for clauses, which may contain commas: `a; b; c`.
pub fn clauses<T: fmt::Display>(things: impl ExactSizeIterator<Item = T>) -> String {
    let more = things.len().saturating_sub(MAX_NAMED);
    let named: Vec<String> = things.take(MAX_NAMED).map(|it| it.to_string()).collect();
    let named = named.join("; ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_are_cut_and_the_first_few_items_are_named() {
        let uuid = "5d1cc3bd-6a0e-4f0b-9c5e-0b7b8f1d2a64";
        assert_eq!(ShortId(uuid).to_string(), uuid);
        assert_eq!(ShortId(&"x".repeat(64)).to_string(), format!("{}…", "x".repeat(36)));
        assert_eq!(ShortId(&"é".repeat(37)).to_string(), format!("{}…", "é".repeat(36)));
        assert_eq!(listed(["a"].iter()), "a");
        assert_eq!(listed(["a", "b"].iter()), "a and b");
        assert_eq!(listed(["a", "b", "c"].iter()), "a, b and c");
        assert_eq!(listed(1..101), "1, 2, 3, 4, 5, 6 and 94 more");
        assert_eq!(clauses(1..6), "1; 2; 3; 4; 5");
        assert_eq!(clauses(1..101), "1; 2; 3; 4; 5; 6 and 94 more");
    }
}
