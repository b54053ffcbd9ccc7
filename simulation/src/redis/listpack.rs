//! The sizes of elements in a listpack, the block of memory that is a node of a stream.

use super::arguments;

/// The header and the end of a listpack.
pub(super) const OVERHEAD: usize = 7;

/// The size of a number, with the length that follows each element.
pub(super) fn number_size(number: u64) -> usize {
    match i64::try_from(number) {
        Ok(number) => with_length(integer_size(number)),
        // Differences between ids are stored as signed numbers.
        Err(_) => with_length(integer_size(number.cast_signed())),
    }
}

/// The size of a text; one that is a number is stored as such.
pub(super) fn text_size(text: &[u8]) -> usize {
    let integer = if text.len() <= 20 { arguments::parse_integer(text) } else { None };
    with_length(match (integer, text.len()) {
        (Some(number), _) => integer_size(number),
        (None, length @ ..64) => 1 + length,
        (None, length @ ..4096) => 2 + length,
        (None, length) => 5 + length,
    })
}

fn integer_size(number: i64) -> usize {
    match number {
        0..=127 => 1,
        -4096..=4095 => 2,
        -32_768..=32_767 => 3,
        -8_388_608..=8_388_607 => 4,
        -2_147_483_648..=2_147_483_647 => 5,
        _ => 9,
    }
}

fn with_length(size: usize) -> usize {
    size + match size {
        ..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}
