//! Checks public keys of Ed25519 (RFC 8032, section 5.1.3). aws-lc-rs checks only the length of a key before
//! it verifies a signature, and then does not distinguish a bad key from a bad signature.

use curve25519_dalek::edwards::CompressedEdwardsY;

/// Whether the bytes are a point of the curve, with y reduced modulo p, whose order does not divide 8:
/// signatures under a key of small order can be forged.
pub(super) fn is_key(bytes: &[u8]) -> bool {
    let Ok(key) = CompressedEdwardsY::from_slice(bytes) else { return false };
    key.decompress().is_some_and(|point| point.compress() == key && !point.is_small_order())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    #[test]
    fn public_keys_of_both_signs_are_accepted() {
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
        // From integers in Python: of the y from 2 to 10, those of points.
        let points = [3, 4, 5, 6, 9, 10];
        for y in 2..=10 {
            let mut bytes = [0; 32];
            bytes[0] = y;
            assert_eq!(is_key(&bytes), points.contains(&y), "{y}");
        }
    }

    #[test]
    fn points_of_small_order_and_numbers_that_are_not_reduced_are_no_keys() {
        let small = curve25519_dalek::constants::EIGHT_TORSION.map(|point| point.compress().0);
        // p, which is 0 again, to the largest number that 255 bits hold.
        let not_reduced = (0xed..=0xff).map(|low| {
            let mut y = [0xff; 32];
            (y[0], y[31]) = (low, 0x7f);
            y
        });
        for mut y in small.into_iter().chain(not_reduced) {
            assert!(!is_key(&y), "{y:x?}");
            y[31] |= 0x80;
            assert!(!is_key(&y), "{y:x?}");
        }
    }
}
