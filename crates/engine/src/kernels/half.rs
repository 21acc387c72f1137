//! Numbers of 16 bits, widened.

#![expect(clippy::as_conversions, reason = "a constant of a number of 16 bits")]

/// The value of an IEEE 754 binary16, exactly.
pub(super) fn from_f16(bits: u16) -> f32 {
    let (sign, exponent, fraction) = ((bits >> 15) & 1, (bits >> 10) & 0x1f, bits & 0x3ff);
    let magnitude = match exponent {
        0 => f32::from(fraction) * SMALLEST_F16,
        0x1f => f32::from_bits(0x7f80_0000 | u32::from(fraction) << 13),
        _ => f32::from_bits((u32::from(exponent) + 112) << 23 | u32::from(fraction) << 13),
    };
    f32::from_bits(magnitude.to_bits() | u32::from(sign) << 31)
}

/// The value of a bfloat16, exactly: the upper half of an `f32`.
pub(super) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// 2⁻²⁴, the smallest binary16 above 0.
const SMALLEST_F16: f32 = 1.0 / (1 << 24) as f32;

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn every_number_of_16_bits_is_that_of_candle() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for (kind, own) in [(DType::F16, from_f16 as fn(u16) -> f32), (DType::BF16, from_bf16)] {
            let tensor = Tensor::from_raw_buffer(&bytes, kind, &[65536], &Device::Cpu).unwrap();
            let wide: Vec<f32> = tensor.to_dtype(DType::F32).unwrap().to_vec1().unwrap();
            for (bits, value) in (0..=u16::MAX).zip(wide) {
                let same = own(bits).to_bits() == value.to_bits() || own(bits).is_nan() && value.is_nan();
                assert!(same, "{kind:?} {bits:#06x}: {} instead of {value}", own(bits));
            }
        }
    }
}
