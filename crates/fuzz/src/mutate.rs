//! Random changes of inputs, for the stable toolchain: no coverage steers them.

/// A generator whose numbers follow from its seed: Vigna's SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

/// Numbers at which lengths and counters turn over.
const EDGES: [u64; 14] =
    [0, 1, 0x17, 0x18, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// A changed copy of one input, with pieces of another.
pub(crate) fn mutated(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        mutate(&mut bytes, other, random);
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(10) {
        0 => flip(bytes, at, random),
        1 => overwrite(bytes, at, &[random.byte()]),
        2 => {
            let number = EDGES[random.below(EDGES.len())];
            let size = [1, 2, 4, 8][random.below(4)];
            let digits = if random.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
            let digits = if digits[0] == 0 { &digits[8 - size..] } else { &digits[..size] };
            overwrite(bytes, at, digits);
        }
        3 => bytes.truncate(at),
        4 => {
            let size = random.below(32);
            let new: Vec<u8> = (0..size).map(|_| random.byte()).collect();
            bytes.splice(at..at, new);
        }
        5 => {
            let end = (at + random.below(64)).min(bytes.len());
            bytes.drain(at..end);
        }
        6 => {
            let end = (at + random.below(256)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        7 if !other.is_empty() => {
            let from = random.below(other.len());
            let end = (from + random.below(256)).min(other.len());
            overwrite(bytes, at, &other[from..end]);
        }
        8 if !other.is_empty() => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.below(other.len())..]);
        }
        _ => {
            let printable = b' ' + random.byte() % 95;
            overwrite(bytes, at, &[printable]);
        }
    }
}

fn flip(bytes: &mut [u8], at: usize, random: &mut Random) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn overwrite(bytes: &mut [u8], at: usize, new: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(new) {
        *byte = *new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_changes_and_others_give_others() {
        let made = |seed| {
            let mut random = Random::of(seed);
            (0..100).map(|_| mutated(b"some input", b"another", &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        assert!(made(1).iter().filter(|changed| changed.as_slice() != b"some input").count() > 80);
        assert_eq!(
            mutated(b"", b"", &mut Random::of(7)).len() % 64,
            mutated(b"", b"", &mut Random::of(7)).len() % 64
        );
    }
}
