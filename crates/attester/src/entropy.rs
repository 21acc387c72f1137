//! Random numbers of the processor's own, for the kernel that all keys of a guest are drawn from.
//!
//! A host chooses most of what else a kernel gathers: interrupts, disks, virtio-rng. A flag of CPUID does not say that RDSEED gives
//! anything: who draws on a neighbouring processor without pause can leave nothing of it, and the kernel goes on without.
#![expect(
    unsafe_code,
    reason = "no safe call exists for an instruction that some processors lack, nor for the kernel's reseeding; each says why it is sound"
)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};

use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, ioctl, opcode};

/// Words of a seed.
const WORDS: usize = 4;
/// How often a word is asked for. Intel's guide to its generator (5.3.1) has software try again without a bound; an honest machine
/// gives a word within a few tries, and as many as these take some ten milliseconds.
const TRIES: u32 = 100_000;
/// The kernel's pool (random(4)).
const POOL: &str = "/dev/random";
/// `RNDRESEEDCRNG` of `uapi/linux/random.h`.
const RESEED: Opcode = opcode::none(b'R', 7);

/// 256 bits by RDSEED (Intel SDM volume 1, section 7.3.17.2); none where the processor has no such instruction, gives nothing in
/// 100,000 tries, or gives the same 64 bits twice or zero, as broken ones do.
#[must_use]
pub fn rdseed() -> Option<[u8; 32]> {
    drawn(step()?)
}

/// Puts a seed into the kernel's pool, and has the kernel draw from the pool at once what it gives from now on. Without the capability
/// CAP_SYS_ADMIN the kernel does so by itself, within a minute.
///
/// # Errors
/// What the kernel says to a write to `/dev/random`, or to the call.
pub fn mix(seed: &[u8; 32]) -> io::Result<()> {
    let mut pool = OpenOptions::new().write(true).open(POOL)?;
    pool.write_all(seed)?;
    match reseed(&pool) {
        Err(Errno::PERM) => Ok(()),
        outcome => Ok(outcome?),
    }
}

fn reseed(pool: &File) -> Result<(), Errno> {
    // SAFETY: the opcode is that of a call without an argument, which reads and writes no memory of this process.
    let call = unsafe { NoArg::<RESEED>::new() };
    // SAFETY: the descriptor is open for as long as `pool` is borrowed. What is no such device answers ENOTTY.
    unsafe { ioctl(pool, call) }
}

/// A seed of words that a step gives, or does not give yet.
fn drawn(mut step: impl FnMut() -> Option<u64>) -> Option<[u8; 32]> {
    let mut words = [0; WORDS];
    for place in 0..WORDS {
        let word = (0..TRIES).find_map(|_| {
            step().or_else(|| {
                std::hint::spin_loop();
                None
            })
        })?;
        if word == 0 || words.contains(&word) {
            return None;
        }
        *words.get_mut(place)? = word;
    }
    let mut seed = [0; 32];
    for (to, word) in seed.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    Some(seed)
}

/// One try of the instruction, where the processor has it.
#[cfg(target_arch = "x86_64")]
fn step() -> Option<fn() -> Option<u64>> {
    #[target_feature(enable = "rdseed")]
    fn try_once() -> Option<u64> {
        let mut word = 0;
        let has_drawn = core::arch::x86_64::_rdseed64_step(&mut word);
        (has_drawn == 1).then_some(word)
    }
    // SAFETY: this function is given away only where the processor was found to have the instruction.
    let try_once: fn() -> Option<u64> = || unsafe { try_once() };
    std::arch::is_x86_feature_detected!("rdseed").then_some(try_once)
}

#[cfg(not(target_arch = "x86_64"))]
fn step() -> Option<fn() -> Option<u64>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_gives_nothing_is_asked_so_often_and_no_more() {
        let mut asked = 0;
        let nothing = || {
            asked += 1;
            None
        };
        assert_eq!(drawn(nothing), None);
        assert_eq!(asked, TRIES);
        let (mut asked, mut next) = (0, 0);
        let seldom = || {
            asked += 1;
            next += u64::from(asked % 1000 == 0);
            (asked % 1000 == 0).then_some(next)
        };
        let seed = drawn(seldom).unwrap();
        assert_eq!(seed.chunks(8).map(|word| word[0]).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_processor_that_repeats_itself_gives_no_seed() {
        let mut words = [1, 2, 3, 2].into_iter();
        assert_eq!(drawn(|| words.next()), None);
        assert_eq!(drawn(|| Some(u64::MAX)), None);
        let mut words = [1, 0, 3, 4].into_iter();
        assert_eq!(drawn(|| words.next()), None);
    }

    #[test]
    fn the_processor_gives_a_seed_of_its_own_each_time_where_it_has_the_instruction() {
        let Some(_) = step() else {
            assert_eq!(rdseed(), None);
            println!("not run: seeds by RDSEED: this processor has no such instruction");
            return;
        };
        let (one, other) = (rdseed().unwrap(), rdseed().unwrap());
        assert_ne!(one, other);
        mix(&one).unwrap();
    }
}
