//! RSASSA-PSS signatures with SHA-384 whose salt follows from the message, so that fixtures made twice are the same bytes.
//!
//! The arithmetic takes time that depends on its operands. That betrays keys; the simulator's are public anyway.

use sha2::{Digest, Sha384};

use crate::SimulatorError;

/// Length of the modulus and of a signature, in bytes.
const MODULUS: usize = 512;
/// Length of SHA-384 and, as AMD's certificates say, of the salt, in bytes.
const HASH: usize = 48;
/// Limbs of each prime: 2048 bits.
const LIMBS: usize = 32;
/// Bits of the exponent that are taken at once.
const WINDOW: usize = 4;

/// Below 2^2048, least significant limb first.
type Number = [u64; LIMBS];

/// A 4096-bit RSA key.
#[derive(Clone, Debug)]
pub(crate) struct RsaKey {
    /// RSAPublicKey (RFC 8017 appendix A.1.1).
    public: Vec<u8>,
    p: Prime,
    q: Prime,
    /// Inverse of q modulo p.
    q_inverse: Number,
}

/// A prime factor with what the exponentiation needs.
#[derive(Clone, Debug)]
struct Prime {
    modulus: Number,
    exponent: Number,
    /// -modulus^-1 modulo 2^64.
    factor: u64,
    /// 2^4096 modulo the prime.
    square: Number,
}

impl RsaKey {
    /// A committed key, PKCS#8 PEM.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, SimulatorError> {
        let pkcs8 = rcgen::KeyPair::from_pem(pem)?;
        Self::from_pkcs8(pkcs8.serialized_der()).ok_or(SimulatorError::Key)
    }

    /// PrivateKeyInfo (RFC 5208) with an RSAPrivateKey (RFC 8017 appendix A.1.2).
    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let (info, _) = element(der)?;
        let (_version, rest) = element(info)?;
        let (_algorithm, rest) = element(rest)?;
        let (octets, _) = element(rest)?;
        let (mut fields, _) = element(octets)?;
        let mut next = || {
            let (content, rest) = element(fields)?;
            fields = rest;
            Some(content)
        };
        let [_version, n, e, _d, p, q, dp, dq, q_inverse] =
            [next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?, next()?];
        let public = crate::der::sequence(&[crate::der::unsigned(n), crate::der::unsigned(e)]);
        Some(Self {
            public,
            p: Prime::new(number(p), number(dp)),
            q: Prime::new(number(q), number(dq)),
            q_inverse: number(q_inverse),
        })
    }

    /// RSAPublicKey, DER.
    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }

    /// RSASSA-PSS (RFC 8017 section 8.1.1) with SHA-384, MGF1 with SHA-384 and 48 bytes of salt.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.private(&encode(message))
    }

    /// RSASP1 (RFC 8017 section 5.2.1), by its second form.
    fn private(&self, message: &[u8; MODULUS]) -> Vec<u8> {
        let (high, low) = message.split_at(MODULUS / 2);
        let (high, low) = (number(high), number(low));
        let (first, second) = (self.p.power(&high, &low), self.q.power(&high, &low));
        let difference = self.p.minus(&first, &self.p.reduced(&second));
        let h = self.p.times(&self.p.times(&self.q_inverse, &self.p.square), &difference);
        let mut sum = [0_u64; 2 * LIMBS];
        sum[..LIMBS].copy_from_slice(&second);
        for (at, factor) in h.iter().enumerate() {
            let mut carry = 0;
            for (offset, limb) in self.q.modulus.iter().enumerate() {
                (sum[at + offset], carry) = multiply_add(*factor, *limb, sum[at + offset], carry);
            }
            let mut above = at + LIMBS;
            while carry != 0 {
                let (value, over) = sum[above].overflowing_add(carry);
                (sum[above], carry) = (value, u64::from(over));
                above += 1;
            }
        }
        sum.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect()
    }
}

impl Prime {
    fn new(modulus: Number, exponent: Number) -> Self {
        // Newton's iteration doubles the correct bits of the inverse: 5, 10, 20, 40, 80.
        let odd = modulus[0];
        let inverse = (0..4)
            .fold(odd.wrapping_mul(3) ^ 2, |x, _| x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x))));
        let mut prime = Self { modulus, exponent, factor: inverse.wrapping_neg(), square: [0; LIMBS] };
        // The prime has 2048 bits, so that 2^2048 modulo it is the difference.
        let mut square = subtract(&[0; LIMBS], &modulus).0;
        for _ in 0..64 * LIMBS {
            square = prime.plus(&square, &square);
        }
        prime.square = square;
        prime
    }

    fn reduced(&self, number: &Number) -> Number {
        match subtract(number, &self.modulus) {
            (difference, false) => difference,
            (_, true) => *number,
        }
    }

    fn plus(&self, a: &Number, b: &Number) -> Number {
        let (mut sum, mut carry) = ([0; LIMBS], 0);
        for at in 0..LIMBS {
            (sum[at], carry) = multiply_add(1, a[at], b[at], carry);
        }
        if carry == 1 { subtract(&sum, &self.modulus).0 } else { self.reduced(&sum) }
    }

    fn minus(&self, a: &Number, b: &Number) -> Number {
        match subtract(a, b) {
            (difference, false) => difference,
            (difference, true) => {
                let (mut sum, mut carry) = ([0; LIMBS], 0);
                for at in 0..LIMBS {
                    (sum[at], carry) = multiply_add(1, difference[at], self.modulus[at], carry);
                }
                sum
            }
        }
    }

    /// Montgomery's product: a * b / 2^2048 modulo the prime.
    fn times(&self, a: &Number, b: &Number) -> Number {
        let mut sum = [0_u64; LIMBS + 2];
        for factor in a {
            let mut carry = 0;
            for (limb, value) in sum.iter_mut().zip(b) {
                (*limb, carry) = multiply_add(*factor, *value, *limb, carry);
            }
            let (top, over) = sum[LIMBS].overflowing_add(carry);
            (sum[LIMBS], sum[LIMBS + 1]) = (top, u64::from(over));
            let factor = sum[0].wrapping_mul(self.factor);
            let mut carry = multiply_add(factor, self.modulus[0], sum[0], 0).1;
            for at in 1..LIMBS {
                (sum[at - 1], carry) = multiply_add(factor, self.modulus[at], sum[at], carry);
            }
            let (top, over) = sum[LIMBS].overflowing_add(carry);
            sum[LIMBS - 1] = top;
            sum[LIMBS] = sum[LIMBS + 1] + u64::from(over);
        }
        let mut product = [0; LIMBS];
        product.copy_from_slice(&sum[..LIMBS]);
        if sum[LIMBS] == 1 { subtract(&product, &self.modulus).0 } else { self.reduced(&product) }
    }

    /// (high * 2^2048 + low) to the prime's exponent, modulo the prime.
    fn power(&self, high: &Number, low: &Number) -> Number {
        let one = self.times(&self.square, &unit());
        // Both in Montgomery's form: times 2^2048.
        let low = self.times(low, &self.square);
        let high = self.times(&self.times(high, &self.square), &self.square);
        let base = self.plus(&high, &low);
        let mut powers = vec![one];
        for at in 1..1 << WINDOW {
            powers.push(self.times(&powers[at - 1], &base));
        }
        let mut result = one;
        for at in (0..64 * LIMBS / WINDOW).rev() {
            for _ in 0..WINDOW {
                result = self.times(&result, &result);
            }
            let bit = at * WINDOW;
            let digit = self.exponent[bit / 64] >> (bit % 64) & ((1 << WINDOW) - 1);
            result = self.times(&result, &powers[digit as usize]);
        }
        self.times(&result, &unit())
    }
}

/// EMSA-PSS-ENCODE (RFC 8017 section 9.1.1) for a modulus of 4096 bits.
fn encode(message: &[u8]) -> [u8; MODULUS] {
    let digest = Sha384::digest(message);
    let salt = Sha384::new().chain_update(b"confide-simulator/v1 PSS salt").chain_update(digest).finalize();
    let hash = Sha384::new().chain_update([0; 8]).chain_update(digest).chain_update(salt).finalize();
    let mut encoded = [0; MODULUS];
    let (block, rest) = encoded.split_at_mut(MODULUS - HASH - 1);
    block[MODULUS - 2 * HASH - 2] = 1;
    block[MODULUS - 2 * HASH - 1..].copy_from_slice(&salt);
    for (counter, chunk) in (0_u32..).zip(block.chunks_mut(HASH)) {
        let mask = Sha384::new().chain_update(hash).chain_update(counter.to_be_bytes()).finalize();
        chunk.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
    // One bit less than the modulus has.
    block[0] &= 0x7f;
    rest[..HASH].copy_from_slice(&hash);
    rest[HASH] = 0xbc;
    encoded
}

fn unit() -> Number {
    let mut one = [0; LIMBS];
    one[0] = 1;
    one
}

/// a * b + c + carry: low and high limb.
fn multiply_add(a: u64, b: u64, c: u64, carry: u64) -> (u64, u64) {
    let value = u128::from(a) * u128::from(b) + u128::from(c) + u128::from(carry);
    (value as u64, (value >> 64) as u64)
}

/// The difference modulo 2^2048, and whether it is negative.
fn subtract(a: &Number, b: &Number) -> (Number, bool) {
    let (mut difference, mut borrow) = ([0; LIMBS], false);
    for at in 0..LIMBS {
        let (low, first) = a[at].overflowing_sub(b[at]);
        let (low, second) = low.overflowing_sub(u64::from(borrow));
        (difference[at], borrow) = (low, first | second);
    }
    (difference, borrow)
}

/// A big-endian number of at most 2048 bits, leading zeros aside.
fn number(bytes: &[u8]) -> Number {
    let mut limbs = [0; LIMBS];
    for (at, byte) in bytes.iter().rev().enumerate().filter(|(_, byte)| **byte != 0) {
        limbs[at / 8] |= u64::from(*byte) << (at % 8 * 8);
    }
    limbs
}

/// Content of the first DER element, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_tag, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (octets, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
        }
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};

    use super::*;

    #[test]
    fn signatures_verify_in_another_library_and_are_always_the_same() {
        let pem = include_str!("../../../fixtures/simulator/snp-ark.key.pem");
        let key = RsaKey::from_pem(pem).expect("the committed file is a key");
        let public = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, key.public());
        for length in 0..4 {
            let message = vec![7; length * 100];
            let signature = key.sign(&message);
            assert!(public.verify(&message, &signature).is_ok(), "{length}");
            assert_eq!(key.sign(&message), signature);
            assert!(public.verify(b"another", &signature).is_err());
        }
    }
}
