//! The instruction sets that the kernels are written for.

use std::sync::OnceLock;

/// A set of vector instructions that this processor has.
///
/// A value exists only for instructions that were found: it is what makes a call of a kernel for them sound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InstructionSet(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Plain Rust, for any processor.
    Portable,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL and VNNI, and what [`Kind::Avx2`] has.
    Avx512,
}

impl InstructionSet {
    /// The fastest one of this processor, found once a process.
    pub fn best() -> Self {
        static BEST: OnceLock<InstructionSet> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self(Kind::Portable)))
    }

    /// Those that this processor has, the fastest last. The portable one is always there.
    pub fn available() -> Vec<Self> {
        [Kind::Portable, Kind::Avx2, Kind::Avx512].into_iter().filter(|kind| kind.found()).map(Self).collect()
    }

    /// A name for people.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            Kind::Avx2 => "AVX2",
            Kind::Avx512 => "AVX-512 VNNI",
        }
    }

    pub(super) fn kind(self) -> Kind {
        self.0
    }
}

impl Kind {
    #[cfg(target_arch = "x86_64")]
    fn found(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            Self::Avx512 => {
                Self::Avx2.found()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn found(self) -> bool {
        self == Self::Portable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_portable_set_is_always_there_and_the_best_is_the_last() {
        let available = InstructionSet::available();
        assert_eq!(available.first().map(|set| set.name()), Some("portable"));
        assert_eq!(available.last(), Some(&InstructionSet::best()));
    }
}
