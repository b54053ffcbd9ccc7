//! Which 32 bytes are a public key of Ed25519 (RFC 8032, section 5.1.3). ring decodes a key only to verify a
//! signature, and does not say then which of the two is wrong. Nothing here is secret, so the time that it
//! takes may depend on the numbers.

/// A number below 2^256, the lowest digits first; what it stands for is its rest modulo [`P`].
type Number = [u64; 4];

/// 2^255 - 19.
const P: Number = [u64::MAX - 18, u64::MAX, u64::MAX, u64::MAX >> 1];
/// (P - 1) / 2.
const HALF: Number = [u64::MAX - 9, u64::MAX, u64::MAX, u64::MAX >> 2];
/// The `d` of the curve -x² + y² = 1 + d x² y².
const D: Number =
    [0x75eb_4dca_1359_78a3, 0x0070_0a4d_4141_d8ab, 0x8cc7_4079_7779_e898, 0x5203_6cee_2b6f_fe73];
const ZERO: Number = [0; 4];
const ONE: Number = [1, 0, 0, 0];

/// The points whose order divides 8, without the sign of x: under such a key anybody can make a signature
/// that fits. They have these y, little-endian: 0, 1, -1 and those of order 8.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

/// Whether it is a point of the curve, with its y reduced modulo p, and not one of small order.
pub(super) fn is_key(bytes: &[u8]) -> bool {
    let Ok(mut bytes) = <[u8; 32]>::try_from(bytes) else { return false };
    bytes[31] &= 0x7f;
    let mut y = ZERO;
    for (digit, bytes) in y.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *digit = u64::from_le_bytes(*bytes);
    }
    y == reduced(y) && is_on_curve(y) && !SMALL_ORDER.contains(&bytes)
}

/// Whether there is an x for this y: x² = (y² - 1) / (d y² + 1), so the product of the two has a root. The
/// sign of x matters only where x is 0, which is of small order.
fn is_on_curve(y: Number) -> bool {
    let square = product(y, y);
    let [numerator, denominator] = [sum(square, difference(P, ONE)), sum(product(D, square), ONE)];
    // Euler's criterion.
    let symbol = power(product(numerator, denominator), HALF);
    symbol == ONE || symbol == ZERO
}

fn power(base: Number, exponent: Number) -> Number {
    let bits = exponent.iter().rev().flat_map(|digit| (0..64).rev().map(move |at| digit >> at & 1));
    bits.fold(ONE, |power, bit| {
        let square = product(power, power);
        if bit == 1 { product(square, base) } else { square }
    })
}

fn product(a: Number, b: Number) -> Number {
    let mut wide = [0; 8];
    for (at, a) in a.into_iter().enumerate() {
        let mut carry = 0;
        for (digit, b) in wide[at..].iter_mut().zip(b) {
            (*digit, carry) = step(*digit, a, b, carry);
        }
        wide[at + 4] = carry;
    }
    // 2^256 is 38 more than twice P.
    let (mut low, mut high) =
        ([wide[0], wide[1], wide[2], wide[3]], [wide[4], wide[5], wide[6], wide[7]]);
    while high != ZERO {
        let mut carry = 0;
        for (digit, high) in low.iter_mut().zip(high) {
            (*digit, carry) = step(*digit, 38, high, carry);
        }
        high = [carry, 0, 0, 0];
    }
    reduced(low)
}

/// `digit` + `a` `b` + `carry`: its low and its high part.
fn step(digit: u64, a: u64, b: u64, carry: u64) -> (u64, u64) {
    let sum = u128::from(digit) + u128::from(a) * u128::from(b) + u128::from(carry);
    #[expect(clippy::cast_possible_truncation, reason = "it is the low part")]
    (sum as u64, (sum >> 64) as u64)
}

/// The sum of two numbers below [`P`].
fn sum(a: Number, b: Number) -> Number {
    let mut carry = 0;
    let mut sum = ZERO;
    for (at, digit) in sum.iter_mut().enumerate() {
        (*digit, carry) = step(a[at], b[at], 1, carry);
    }
    reduced(sum)
}

/// `a` - `b`, which is not larger.
fn difference(a: Number, b: Number) -> Number {
    let mut borrow = false;
    let mut difference = ZERO;
    for (at, digit) in difference.iter_mut().enumerate() {
        let (less, first) = a[at].overflowing_sub(b[at]);
        let (less, second) = less.overflowing_sub(u64::from(borrow));
        (*digit, borrow) = (less, first || second);
    }
    difference
}

fn reduced(mut number: Number) -> Number {
    while number.iter().rev().ge(P.iter().rev()) {
        number = difference(number, P);
    }
    number
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    #[test]
    fn the_keys_of_pairs_are_keys_whatever_their_sign() {
        for seed in 0..100 {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            let mut key: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
            assert!(is_key(&key), "{seed}");
            key[31] ^= 0x80;
            assert!(is_key(&key), "{seed}: minus x is another point");
            assert!(!is_key(&key[1..]));
        }
    }

    #[test]
    fn a_y_without_a_point_is_no_key() {
        // From an implementation of its own (Python's integers): of the y from 2 to 40, those of points.
        let points = [3, 4, 5, 6, 9, 10];
        for y in 2..=10 {
            let mut bytes = [0; 32];
            bytes[0] = y;
            assert_eq!(is_key(&bytes), points.contains(&y), "{y}");
        }
    }

    #[test]
    fn points_of_small_order_and_numbers_that_are_not_reduced_are_no_keys() {
        let mut refused = SMALL_ORDER.to_vec();
        // p, which is 0 again, to the largest number that 255 bits hold.
        for low in 0xed..=0xff {
            let mut y = [0xff; 32];
            (y[0], y[31]) = (low, 0x7f);
            refused.push(y);
        }
        for mut y in refused {
            assert!(!is_key(&y), "{y:x?}");
            y[31] |= 0x80;
            assert!(!is_key(&y), "{y:x?}");
        }
        // They are points all the same, so that the list is what refuses them.
        for bytes in SMALL_ORDER {
            let mut y = ZERO;
            for (digit, bytes) in y.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *digit = u64::from_le_bytes(*bytes);
            }
            assert!(is_on_curve(y), "{bytes:x?}");
        }
    }
}
