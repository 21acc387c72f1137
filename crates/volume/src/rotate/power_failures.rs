//! Power failures during a rotation: every prefix of its writes, of which what was not synced yet is lost or torn.

use std::io::{self, Cursor};

use confide_evidence::bytes::Digest;
use confide_release::{Profile, Secret};

use crate::pack::{self, Pack};
use crate::rotate::{self, BlockDevice, Prepared};
use crate::write::{self, beginning};
use crate::{Draw, HEADER_BYTES, HeaderCopy, VolumeError, VolumeKey};

/// How many ways of losing and tearing are tried for each prefix.
const WAYS: u64 = 40;
/// What a disk writes at once or not at all.
const SECTOR: usize = 512;

#[derive(Clone, PartialEq)]
enum Step {
    Write(u64, Vec<u8>),
    Sync,
}

/// A disk in memory that remembers what was done to it.
struct Recorder {
    bytes: Vec<u8>,
    steps: Vec<Step>,
}

impl Recorder {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, steps: Vec::new() }
    }
}

impl BlockDevice for Recorder {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = offset as usize;
        let bytes = self.bytes.get(from..from + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.bytes[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        self.steps.push(Step::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.steps.push(Step::Sync);
        Ok(())
    }
}

/// Numbers that follow from a seed (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What a disk holds after a power failure behind the first `done` steps: all that was synced, and of the rest what the seed says.
fn crashed(before: &[u8], steps: &[Step], done: usize, seed: u64) -> Vec<u8> {
    let mut bytes = before.to_vec();
    let synced = steps[..done].iter().rposition(|step| *step == Step::Sync).unwrap_or(0);
    let mut numbers = Numbers(seed);
    for (at, step) in steps[..done].iter().enumerate() {
        let Step::Write(offset, written) = step else { continue };
        let to = &mut bytes[*offset as usize..][..written.len()];
        // 0: whole, 1: lost, 2: some sectors, 3: a beginning.
        let fate = if at < synced { 0 } else { numbers.next() % 4 };
        let end = numbers.next() as usize % (written.len() / SECTOR + 1);
        for (sector, (to, from)) in to.chunks_mut(SECTOR).zip(written.chunks(SECTOR)).enumerate() {
            let arrives = match fate {
                0 => true,
                1 => false,
                2 => numbers.next().is_multiple_of(2),
                _ => sector < end,
            };
            if arrives {
                to.copy_from_slice(from);
            }
        }
    }
    bytes
}

struct Version {
    header: Digest,
    secret: Secret,
}

/// The volume key, where a guest that is released this version alone opens the image.
fn opened(bytes: &[u8], profile: Profile, version: &Version) -> Result<Vec<u8>, VolumeError> {
    let copy = HeaderCopy::read(&mut Cursor::new(bytes))?;
    let header = copy.check(profile, &[version.header])?;
    header.unlock(&version.secret).map(|key| key.expose().to_vec())
}

fn copied(secret: &Secret) -> Secret {
    Secret::new(zeroize::Zeroizing::new(*secret.expose()))
}

fn version(prepared: &Prepared) -> Version {
    Version { header: prepared.header(), secret: copied(prepared.secret()) }
}

/// The beginning of a `model`, which is all that a rotation touches.
fn model() -> (Vec<u8>, Version) {
    let place = tempfile::tempdir().unwrap();
    let (from, file) = (place.path().join("from"), place.path().join("image"));
    std::fs::create_dir(&from).unwrap();
    let draw = &mut Draw::danger_seeded([1; 32]);
    let made = pack::create(Pack { from: &from, file: &file, hint: None, draw }).unwrap();
    let mut bytes = std::fs::read(file).unwrap();
    bytes.truncate(HEADER_BYTES as usize);
    (bytes, Version { header: made.header, secret: made.secret })
}

/// The beginning of a `state`, as a guest formats it.
fn state() -> (Vec<u8>, Version) {
    let draw = &mut Draw::danger_seeded([1; 32]);
    let key = VolumeKey::draw(Profile::State, draw).unwrap();
    let secret = write::secret(draw).unwrap();
    let made = beginning(&key, &secret, None, draw).unwrap();
    (made.bytes, Version { header: made.digest, secret })
}

/// The beginning of a volume of each profile, and its version.
fn volumes() -> [(Profile, (Vec<u8>, Version)); 2] {
    [(Profile::Model, model()), (Profile::State, state())]
}

/// A rotation of a volume of each profile.
fn rotations() -> [Rotation; 2] {
    volumes().map(|(profile, (before, old))| Rotation::of(profile, before, old))
}

/// What one whole rotation of an image does: its steps, after how many of them the broker commits, and both versions.
struct Rotation {
    profile: Profile,
    before: Vec<u8>,
    steps: Vec<Step>,
    commit: usize,
    old: Version,
    new: Version,
    key: Vec<u8>,
}

impl Rotation {
    fn of(profile: Profile, before: Vec<u8>, old: Version) -> Self {
        let key = opened(&before, profile, &old).unwrap();
        let mut disk = Recorder::new(before.clone());
        let draw = &mut Draw::danger_seeded([2; 32]);
        let prepared = rotate::prepare(&mut disk, profile, &old.header, &old.secret, draw).unwrap();
        assert!(disk.steps.is_empty(), "to prepare writes nothing");
        rotate::write(&mut disk, &prepared).unwrap();
        let commit = disk.steps.len();
        assert!(disk.steps[commit - 1] == Step::Sync, "what is to be committed is synced");
        rotate::settle(&mut disk, profile, &prepared.header()).unwrap();
        assert!(disk.steps.last() == Some(&Step::Sync));
        let new = version(&prepared);
        Self { profile, before, steps: disk.steps, commit, old, new, key }
    }

    /// The version that the broker has committed after so many steps.
    fn committed(&self, done: usize) -> &Version {
        if done < self.commit { &self.old } else { &self.new }
    }

    fn opens(&self, bytes: &[u8], version: &Version) -> bool {
        opened(bytes, self.profile, version).is_ok_and(|key| key == self.key)
    }
}

#[test]
fn after_any_power_failure_the_committed_version_opens() {
    for rotation in rotations() {
        assert!(rotation.steps.len() >= 8);
        let mut torn = 0;
        for done in 0..=rotation.steps.len() {
            for seed in 0..WAYS {
                let bytes = crashed(&rotation.before, &rotation.steps, done, seed);
                torn += usize::from(bytes != crashed(&rotation.before, &rotation.steps, done, seed + WAYS));
                let committed = rotation.committed(done);
                assert!(rotation.opens(&bytes, committed), "after {done} steps, in the way {seed}");
                if done == rotation.commit {
                    assert!(rotation.opens(&bytes, &rotation.old), "both open until what is old is settled");
                }
            }
        }
        assert!(torn > 50, "only {torn} pairs differ: nothing was lost or torn");
    }
}

#[test]
fn after_the_commit_a_guest_does_not_open_what_is_superseded() {
    for rotation in rotations() {
        for done in rotation.commit..=rotation.steps.len() {
            for seed in 0..WAYS {
                let bytes = crashed(&rotation.before, &rotation.steps, done, seed);
                let copy = HeaderCopy::read(&mut Cursor::new(&bytes)).unwrap();
                let header = copy.check(rotation.profile, &[rotation.new.header]).unwrap();
                assert_eq!(header.digest(), rotation.new.header);
                assert!(matches!(header.unlock(&rotation.old.secret), Err(VolumeError::SecretWrong)));
            }
        }
        let whole = crashed(&rotation.before, &rotation.steps, rotation.steps.len(), 0);
        let gone = opened(&whole, rotation.profile, &rotation.old).unwrap_err();
        assert_eq!(gone.code(), "volume_rolled_back");
        // The snapshot that a host kept is of a header that nobody releases any more.
        let copy = HeaderCopy::read(&mut Cursor::new(&rotation.before)).unwrap();
        let kept = copy.check(rotation.profile, &[rotation.new.header]).unwrap_err();
        assert_eq!(kept.code(), "volume_rolled_back");
        // Nothing of the old keyslot is left.
        let keyslot = &rotation.before[32768..32768 + 64];
        assert!(!whole.windows(64).any(|window| window == keyslot));
    }
}

#[test]
fn settling_ends_every_interruption_and_may_be_interrupted_itself() {
    for rotation in rotations() {
        for done in 0..=rotation.steps.len() {
            for seed in 0..WAYS / 4 {
                let bytes = crashed(&rotation.before, &rotation.steps, done, seed);
                let committed = rotation.committed(done);
                let mut disk = Recorder::new(bytes.clone());
                rotate::settle(&mut disk, rotation.profile, &committed.header).unwrap();
                let settled = disk.bytes.clone();
                for step in 0..=disk.steps.len() {
                    let again = crashed(&bytes, &disk.steps, step, seed + 1000);
                    assert!(rotation.opens(&again, committed), "after {done} steps and {step} of settling");
                }
                let other = if done < rotation.commit { &rotation.new } else { &rotation.old };
                assert!(!rotation.opens(&settled, other), "{done}: what was given up does not open");
                disk.steps.clear();
                rotate::settle(&mut disk, rotation.profile, &committed.header).unwrap();
                assert!(disk.steps.is_empty() && disk.bytes == settled, "{done}: settled twice");
            }
        }
    }
}

#[test]
fn a_rotation_goes_on_from_every_interruption() {
    for rotation in rotations() {
        for done in 0..=rotation.steps.len() {
            let bytes = crashed(&rotation.before, &rotation.steps, done, 7);
            let committed = rotation.committed(done);
            let mut disk = Recorder::new(bytes);
            let draw = &mut Draw::danger_seeded([3; 32]);
            let prepared =
                rotate::prepare(&mut disk, rotation.profile, &committed.header, &committed.secret, draw)
                    .unwrap();
            rotate::write(&mut disk, &prepared).unwrap();
            let next = version(&prepared);
            assert!(rotation.opens(&disk.bytes, committed) && rotation.opens(&disk.bytes, &next));
            rotate::settle(&mut disk, rotation.profile, &next.header).unwrap();
            assert!(rotation.opens(&disk.bytes, &next) && !rotation.opens(&disk.bytes, committed));
        }
    }
}

#[test]
fn what_an_ended_process_has_written_lasts_before_it_is_committed() {
    for rotation in rotations() {
        let mut found = Vec::new();
        for done in 0..=rotation.commit {
            let mut disk = Recorder::new(rotation.before.clone());
            for step in &rotation.steps[..done] {
                match step {
                    Step::Write(offset, bytes) => disk.write_at(*offset, bytes).unwrap(),
                    Step::Sync => disk.sync().unwrap(),
                }
            }
            if !rotate::written(&mut disk, rotation.profile, &rotation.new.header).unwrap() {
                assert_eq!(disk.steps.len(), done, "nothing is done to an image without the prepared header");
                continue;
            }
            found.push(done);
            for seed in 0..WAYS {
                let bytes = crashed(&rotation.before, &disk.steps, disk.steps.len(), seed);
                assert!(rotation.opens(&bytes, &rotation.new), "after {done} steps, in the way {seed}");
            }
        }
        assert_eq!(found, [rotation.commit - 1, rotation.commit], "before and after the last sync");
    }
}

#[test]
fn a_hundred_rotations_alternate_between_two_areas_and_count_the_header_up() {
    for (profile, (bytes, mut version)) in volumes() {
        let mut disk = Recorder::new(bytes);
        let draw = &mut Draw::danger_seeded([4; 32]);
        let mut digests = vec![version.header];
        for _ in 0..100 {
            let prepared =
                rotate::prepare(&mut disk, profile, &version.header, &version.secret, draw).unwrap();
            rotate::write(&mut disk, &prepared).unwrap();
            rotate::settle(&mut disk, profile, &prepared.header()).unwrap();
            version = Version { header: prepared.header(), secret: copied(prepared.secret()) };
            digests.push(version.header);
            opened(&disk.bytes, profile, &version).unwrap();
        }
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 101, "every header has a digest of its own");
        assert_eq!(u64::from_be_bytes(disk.bytes[16..24].try_into().unwrap()), 101, "seqid");
    }
}

#[test]
fn of_two_rotations_side_by_side_the_one_that_was_written_over_is_not_committed() {
    for (profile, (bytes, version)) in volumes() {
        let mut disk = Recorder::new(bytes);
        let draw = &mut Draw::danger_seeded([6; 32]);
        let [first, second] = [(); 2]
            .map(|()| rotate::prepare(&mut disk, profile, &version.header, &version.secret, draw).unwrap());
        rotate::write(&mut disk, &first).unwrap();
        rotate::write(&mut disk, &second).unwrap();
        let written =
            |disk: &mut Recorder, of: &Prepared| rotate::written(disk, profile, &of.header()).unwrap();
        assert!(!written(&mut disk, &first), "it would be committed, and open nothing");
        assert!(written(&mut disk, &second));
        // Nor does it write once the other one is committed.
        rotate::settle(&mut disk, profile, &second.header()).unwrap();
        disk.steps.clear();
        assert_eq!(rotate::write(&mut disk, &first).unwrap_err().code(), "volume_rolled_back");
        assert!(disk.steps.is_empty());
        opened(&disk.bytes, profile, &self::version(&second)).unwrap();
    }
}

#[test]
fn an_image_without_the_committed_header_is_not_written_to() {
    for (profile, (bytes, version)) in volumes() {
        let mut disk = Recorder::new(bytes);
        let draw = &mut Draw::danger_seeded([5; 32]);
        let other = Digest::from([7; 32]);
        let refused = rotate::prepare(&mut disk, profile, &other, &version.secret, draw).unwrap_err();
        assert_eq!(refused.code(), "volume_rolled_back");
        let wrong = Secret::new(zeroize::Zeroizing::new([0; 64]));
        let refused = rotate::prepare(&mut disk, profile, &version.header, &wrong, draw).unwrap_err();
        assert_eq!(refused.code(), "volume_secret_wrong");
        assert_eq!(rotate::settle(&mut disk, profile, &other).unwrap_err().code(), "volume_rolled_back");
        let prepared = rotate::prepare(&mut disk, profile, &version.header, &version.secret, draw).unwrap();
        // Somebody rotated in between.
        disk.bytes[32768] ^= 1;
        assert_eq!(rotate::write(&mut disk, &prepared).unwrap_err().code(), "volume_rolled_back");
        assert!(disk.steps.is_empty());
    }
}
