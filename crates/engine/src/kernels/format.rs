//! The formats of weights.

/// How the numbers of a matrix lie in a file, little endian, row by row: those of safetensors, and of GGUF as
/// `ggml` defines them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Format {
    /// 4 bytes a number.
    F32,
    /// IEEE 754 binary16, 2 bytes a number.
    F16,
    /// The upper half of an `f32`, 2 bytes a number.
    Bf16,
    /// 34 bytes for 32 numbers: a binary16 scale, then 32 `i8`.
    Q8_0,
    /// 144 bytes for 256 numbers: binary16 scales of the scales and of the minima, 8 of each in 6 bits, then
    /// nibbles.
    Q4K,
    /// 210 bytes for 256 numbers: their lower 4 bits, their upper 2, 16 `i8` scales, and a binary16 scale of these.
    Q6K,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q4K, Self::Q6K];

    /// Bytes of a matrix of that many rows and columns.
    ///
    /// `None` where the columns are no multiple of [`block`](Self::block), or no memory can hold the matrix.
    pub fn bytes(self, rows: usize, columns: usize) -> Option<usize> {
        let (blocks, rest) = (columns.checked_div(self.block())?, columns.checked_rem(self.block())?);
        let bytes = rows.checked_mul(blocks)?.checked_mul(self.block_bytes())?;
        (rest == 0 && isize::try_from(bytes).is_ok()).then_some(bytes)
    }

    /// Numbers that share a scale; 1 where each stands for itself.
    pub fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 => 32,
            Self::Q4K | Self::Q6K => 256,
        }
    }

    /// Bytes of such a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 2 + 2 + 12 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// The name of the format in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q6K => "Q6_K",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_whole_blocks_or_nothing() {
        assert_eq!(Format::Q4K.bytes(3, 512), Some(3 * 2 * 144));
        assert_eq!(Format::Q6K.bytes(1, 256), Some(210));
        assert_eq!(Format::Q8_0.bytes(2, 64), Some(4 * 34));
        assert_eq!(Format::Bf16.bytes(7, 3), Some(42));
        assert_eq!(Format::Q8_0.bytes(2, 33), None);
        assert_eq!(Format::F32.bytes(usize::MAX, 2), None);
        assert_eq!(Format::F32.bytes(usize::MAX / 4, 1), None);
    }
}
