//! ECDSA signatures that follow from key and message (RFC 6979), so that fixtures made twice are the same bytes.
//!
//! The arithmetic takes time that depends on its operands. That betrays keys; the simulator's are public anyway.

use aws_lc_rs::agreement;
use aws_lc_rs::hmac;
use sha2::{Digest, Sha256, Sha384};

use crate::SimulatorError;

/// The two curves of the two vendors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    /// Intel: ECDSA P-256 with SHA-256.
    P256,
    /// NVIDIA and AMD: ECDSA P-384 with SHA-384.
    P384,
}

impl Curve {
    /// Length of a private scalar, of a coordinate and of each signature half, in bytes.
    pub(crate) fn scalar_length(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// The order of the base point (SEC 2 sections 2.4.2 and 2.5.1).
    fn order(self) -> Number {
        Number(match self {
            Self::P256 => [
                0xf3b9_cac2_fc63_2551,
                0xbce6_faad_a717_9e84,
                0xffff_ffff_ffff_ffff,
                0xffff_ffff_0000_0000,
                0,
                0,
            ],
            Self::P384 => [
                0xecec_196a_ccc5_2973,
                0x581a_0db2_48b0_a77a,
                0xc763_4d81_f437_2ddf,
                0xffff_ffff_ffff_ffff,
                0xffff_ffff_ffff_ffff,
                0xffff_ffff_ffff_ffff,
            ],
        })
    }

    fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256 => Sha256::digest(message).to_vec(),
            Self::P384 => Sha384::digest(message).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        let algorithm = match self {
            Self::P256 => hmac::HMAC_SHA256,
            Self::P384 => hmac::HMAC_SHA384,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), &parts.concat()).as_ref().to_vec()
    }

    /// The point `scalar * G`, uncompressed: 0x04 and two coordinates.
    pub(crate) fn public_key(self, scalar: &[u8]) -> Result<Vec<u8>, SimulatorError> {
        let algorithm = match self {
            Self::P256 => &agreement::ECDH_P256,
            Self::P384 => &agreement::ECDH_P384,
        };
        let private =
            agreement::PrivateKey::from_private_key(algorithm, scalar).map_err(|_| SimulatorError::Key)?;
        let public = private.compute_public_key().map_err(|_| SimulatorError::Key)?;
        Ok(public.as_ref().to_vec())
    }
}

/// `r ‖ s` over the message, big endian, each as long as the curve's scalar.
pub(crate) fn sign(curve: Curve, private: &[u8], message: &[u8]) -> Vec<u8> {
    sign_digest(curve, private, &curve.digest(message))
}

/// `r ‖ s` over a digest that is no longer than the curve's scalar. Nonces come from the curve's own hash, whatever
/// hash made the digest (RFC 6979 section 3.6).
pub(crate) fn sign_digest(curve: Curve, private: &[u8], digest: &[u8]) -> Vec<u8> {
    let (order, size) = (curve.order(), curve.scalar_length());
    let digest = Number::from_be(digest).reduced(&order);
    let key = Number::from_be(private);
    let mut candidates = Candidates::new(curve, private, &digest.to_be(size));
    loop {
        let candidate = candidates.next(curve);
        let k = Number::from_be(&candidate);
        if k.is_zero() || !k.is_below(&order) {
            continue;
        }
        let point = curve.public_key(&candidate).expect("a scalar between 0 and the order has a point");
        let r = Number::from_be(&point[1..=size]).reduced(&order);
        let s = r.times(&key, &order).plus(&digest, &order).times(&k.inverse(&order), &order);
        if !r.is_zero() && !s.is_zero() {
            return [r.to_be(size), s.to_be(size)].concat();
        }
    }
}

/// The generator of RFC 6979 section 3.2. Both curves' orders are as long as their digests.
struct Candidates {
    key: Vec<u8>,
    value: Vec<u8>,
    used: bool,
}

impl Candidates {
    fn new(curve: Curve, private: &[u8], digest: &[u8]) -> Self {
        let size = curve.scalar_length();
        let (mut key, mut value) = (vec![0; size], vec![1; size]);
        for step in [0, 1] {
            key = curve.hmac(&key, &[&value, &[step], private, digest]);
            value = curve.hmac(&key, &[&value]);
        }
        Self { key, value, used: false }
    }

    fn next(&mut self, curve: Curve) -> Vec<u8> {
        if self.used {
            self.key = curve.hmac(&self.key, &[&self.value, &[0]]);
            self.value = curve.hmac(&self.key, &[&self.value]);
        }
        self.used = true;
        self.value = curve.hmac(&self.key, &[&self.value]);
        self.value.clone()
    }
}

/// 64-bit limbs of a number: six hold those of either curve.
const LIMBS: usize = 6;

/// A number below 2^384, least significant limb first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number([u64; LIMBS]);

impl Number {
    const ZERO: Self = Self([0; LIMBS]);
    const ONE: Self = Self([1, 0, 0, 0, 0, 0]);

    /// A big-endian number of at most 48 bytes.
    fn from_be(bytes: &[u8]) -> Self {
        let mut limbs = [0; LIMBS];
        for (at, byte) in bytes.iter().rev().enumerate() {
            limbs[at / 8] |= u64::from(*byte) << (at % 8 * 8);
        }
        Self(limbs)
    }

    /// The lowest `size` bytes, big endian.
    fn to_be(self, size: usize) -> Vec<u8> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|limb| limb.to_le_bytes()).take(size).collect();
        bytes.into_iter().rev().collect()
    }

    fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    fn is_even(&self) -> bool {
        self.0[0] & 1 == 0
    }

    fn is_below(&self, other: &Self) -> bool {
        self.0.iter().rev().lt(other.0.iter().rev())
    }

    /// The sum and whether it is 2^384 or more.
    fn add(&self, other: &Self) -> (Self, bool) {
        let (mut sum, mut carry) = (Self::ZERO, false);
        for at in 0..LIMBS {
            let (low, first) = self.0[at].overflowing_add(other.0[at]);
            let (low, second) = low.overflowing_add(u64::from(carry));
            (sum.0[at], carry) = (low, first | second);
        }
        (sum, carry)
    }

    /// The difference modulo 2^384.
    fn minus(&self, other: &Self) -> Self {
        let (mut difference, mut borrow) = (Self::ZERO, false);
        for at in 0..LIMBS {
            let (low, first) = self.0[at].overflowing_sub(other.0[at]);
            let (low, second) = low.overflowing_sub(u64::from(borrow));
            (difference.0[at], borrow) = (low, first | second);
        }
        difference
    }

    /// Modulo a number of at least half of it.
    fn reduced(&self, modulus: &Self) -> Self {
        if self.is_below(modulus) { *self } else { self.minus(modulus) }
    }

    /// The sum of two numbers below the modulus, modulo it.
    fn plus(&self, other: &Self, modulus: &Self) -> Self {
        match self.add(other) {
            (sum, false) => sum.reduced(modulus),
            (sum, true) => sum.minus(modulus),
        }
    }

    /// The product of two numbers below the modulus, modulo it: doubling and adding.
    fn times(&self, other: &Self, modulus: &Self) -> Self {
        let mut product = Self::ZERO;
        for bit in (0..LIMBS * 64).rev() {
            product = product.plus(&product, modulus);
            if self.0[bit / 64] >> (bit % 64) & 1 == 1 {
                product = product.plus(other, modulus);
            }
        }
        product
    }

    /// Half of a number below the odd modulus, modulo it.
    fn halved(&self, modulus: &Self) -> Self {
        let (sum, carry) = if self.is_even() { (*self, false) } else { self.add(modulus) };
        let mut half = Self::ZERO;
        for at in 0..LIMBS {
            let above = sum.0.get(at + 1).copied().unwrap_or(u64::from(carry));
            half.0[at] = sum.0[at] >> 1 | above << 63;
        }
        half
    }

    /// The inverse of a number between 0 and the odd prime modulus: the binary extended Euclidean algorithm.
    fn inverse(&self, modulus: &Self) -> Self {
        // Throughout, u = x * self and v = y * self modulo the modulus.
        let (mut u, mut v, mut x, mut y) = (*self, *modulus, Self::ONE, Self::ZERO);
        while u != Self::ONE && v != Self::ONE {
            while u.is_even() {
                (u, x) = (u.halved(modulus), x.halved(modulus));
            }
            while v.is_even() {
                (v, y) = (v.halved(modulus), y.halved(modulus));
            }
            if v.is_below(&u) {
                (u, x) = (u.minus(&v), x.plus(&modulus.minus(&y), modulus));
            } else {
                (v, y) = (v.minus(&u), y.plus(&modulus.minus(&x), modulus));
            }
        }
        if u == Self::ONE { x } else { y }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

    use super::*;
    use crate::text::hex_upper;

    fn bytes(digits: &str) -> Vec<u8> {
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits"))
            .collect()
    }

    #[test]
    fn signatures_are_those_of_rfc_6979_appendix_a() {
        let cases = [
            (
                Curve::P256,
                "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
                "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716\
                 F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
            ),
            (
                Curve::P384,
                "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D8\
                 96D5724E4C70A825F872C9EA60D2EDF5",
                "94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C\
                 81A648152E44ACF96E36DD1E80FABE46\
                 99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94F\
                 A329C145786E679E7B82C71A38628AC8",
            ),
        ];
        for (curve, private, signature) in cases {
            assert_eq!(hex_upper(&sign(curve, &bytes(private), b"sample")), signature, "{curve:?}");
        }
    }

    #[test]
    fn signatures_verify_in_another_library() {
        for curve in [Curve::P256, Curve::P384] {
            let algorithm = match curve {
                Curve::P256 => &ECDSA_P256_SHA256_FIXED,
                Curve::P384 => &ECDSA_P384_SHA384_FIXED,
            };
            for seed in 1..=32_u8 {
                let private = vec![seed; curve.scalar_length()];
                let public = curve.public_key(&private).expect("a scalar below the order");
                let message = vec![seed; usize::from(seed) * 7];
                let signature = sign(curve, &private, &message);
                let verified = UnparsedPublicKey::new(algorithm, public).verify(&message, &signature);
                assert!(verified.is_ok(), "{curve:?} {seed}");
            }
        }
    }

    #[test]
    fn an_inverse_times_its_number_is_one() {
        for curve in [Curve::P256, Curve::P384] {
            let order = curve.order();
            let last = order.minus(&Number::ONE);
            for number in [Number::ONE, Number([2, 0, 0, 0, 0, 0]), Number([7, 9, 11, 0, 0, 0]), last] {
                assert_eq!(
                    number.inverse(&order).times(&number, &order),
                    Number::ONE,
                    "{curve:?} {number:?}"
                );
            }
        }
    }
}
