//! AES-XTS over sectors (IEEE 1619; dm-crypt's `aes-xts-plain64`).

use aes::Aes256;
use aes::cipher::KeyInit as _;
use xts_mode::{Xts128, get_tweak_default};

use crate::json::CIPHER_KEY;

/// Units of `plain64`: the tweak of a sector counts 512 bytes, however large the sectors are.
const UNIT: usize = 512;

/// AES-256 in XTS mode under one key. Its round keys are overwritten with zeros when dropped.
pub(crate) struct Sectors(Xts128<Aes256>);

impl Sectors {
    pub(crate) fn new(key: &[u8; CIPHER_KEY]) -> Self {
        let (data, tweak) = key.split_at(32);
        let cipher = |half: &[u8]| Aes256::new_from_slice(half).expect("each half has 32 bytes");
        Self(Xts128::new(cipher(data), cipher(tweak)))
    }

    /// Encrypts whole sectors of `size` bytes, of which the first is the `first` one of its volume.
    pub(crate) fn encrypt(&self, first: u64, size: usize, sectors: &mut [u8]) {
        self.0.encrypt_area(sectors, size, u128::from(first), |sector| tweak(sector, size));
    }

    /// Decrypts whole sectors, as [`Sectors::encrypt`].
    pub(crate) fn decrypt(&self, first: u64, size: usize, sectors: &mut [u8]) {
        self.0.decrypt_area(sectors, size, u128::from(first), |sector| tweak(sector, size));
    }
}

fn tweak(sector: u128, size: usize) -> [u8; 16] {
    let units = u128::try_from(size.div_euclid(UNIT)).unwrap_or(1);
    get_tweak_default(sector.saturating_mul(units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tweak_counts_units_of_512_bytes() {
        let sectors = Sectors::new(&std::array::from_fn(|at| at as u8));
        let mut large = vec![7; 8192];
        sectors.encrypt(3, 4096, &mut large);
        let mut again = large.clone();
        sectors.decrypt(3, 4096, &mut again);
        assert_eq!(again, [7; 8192]);
        // The first 512 bytes of sector 3 of 4096 bytes are those of sector 24 of 512 bytes.
        let mut small = vec![7; 512];
        sectors.encrypt(24, 512, &mut small);
        assert_eq!(small, large[..512]);
        // Sector 4 begins with another tweak.
        sectors.decrypt(32, 512, &mut large[4096..4608]);
        assert_eq!(large[4096..4608], [7; 512]);
    }

    #[test]
    fn vector_of_ieee_1619() {
        // XTS-AES-256, vector 10: data unit 0xff, plaintext 00..ff twice.
        let hex = |text| confide_evidence::hex::decode(text).unwrap();
        let key = hex(concat!(
            "2718281828459045235360287471352662497757247093699959574966967627",
            "3141592653589793238462643383279502884197169399375105820974944592"
        ));
        let mut data: Vec<u8> = (0..512).map(|at: u16| at.to_le_bytes()[0]).collect();
        Sectors::new(key.as_slice().try_into().unwrap()).encrypt(0xff, 512, &mut data);
        assert_eq!(data[..16], hex("1c3b3a102f770386e4836c99e370cf9b"));
        assert_eq!(data[496..], hex("c4f36ffda9fcea70b9c6e693e148c151"));
    }
}
