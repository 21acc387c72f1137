//! Kills, at moments that follow from a seed: of guests while they format, open and mount a volume, and of rotations while they
//! write to an image. Whatever a kill leaves, the next guest opens it, or formats what no broker holds a header of.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::cases::{PATIENCE, Stage, ready, writable};
use super::machine::Machine;
use super::owner::{Kind, Owner};
use super::workbench::Workbench;

/// How a line begins that says what was found.
pub(super) const FOUND: &str = "found: ";
/// What all moments follow from.
const SEED: u64 = 6;
/// Disks whose guest is killed at its first boot, and at the next one.
const DISKS: usize = 5;
/// Rotations that are killed.
const ROTATIONS: usize = 10;

/// Runs the kills.
///
/// # Errors
/// When a guest does not open what a kill left.
pub(super) fn run(bench: &Workbench) -> Result<()> {
    let mut moments = Moments(SEED);
    guests(bench, &mut moments)?;
    rotations(bench, &mut moments)
}

/// Random parts of a duration.
struct Moments(u64);

impl Moments {
    /// A moment within this time. The generator is SplitMix64.
    fn within(&mut self, time: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let thousandths = u32::try_from((mixed ^ (mixed >> 31)) % 1000).expect("below 1000");
        time * thousandths / 1000
    }
}

/// Kills guests after their egress is locked: from then on they work on their volumes.
fn guests(bench: &Workbench, moments: &mut Moments) -> Result<()> {
    let owner = Owner::new(bench, Kind::Writable)?;
    let times = {
        let stage = Stage::new(bench, &owner, "undisturbed")?;
        let _broker = stage.copy.serve(bench)?;
        [on_volumes(&stage)?, on_volumes(&stage)?]
    };
    let mut unknown = 0;
    for disk in 0..DISKS {
        let stage = Stage::new(bench, &owner, &format!("killed-{disk}"))?;
        let _broker = stage.copy.serve(bench)?;
        for time in times {
            let (_quoting, mut machine) = stage.boot(&writable(&stage, &owner, &stage.copy, "state")?)?;
            egress_locked(&mut machine)?;
            sleep(moments.within(time));
            drop(machine);
            let told = stage.copy.audit(bench)?.iter().any(|entry| entry["what"] == "formatted");
            unknown += usize::from(!told);
        }
        on_volumes(&stage).with_context(|| format!("after the kills of disk {disk}"))?;
    }
    let kills = DISKS * times.len();
    println!(
        "{FOUND}{kills} guests killed while they worked on a new volume, {unknown} of them before the broker had its header: each disk opened, or was formatted, at the next boot"
    );
    Ok(())
}

/// Boots a guest, and says how long it takes from the lock of its egress until it serves.
fn on_volumes(stage: &Stage<'_>) -> Result<Duration> {
    let (_quoting, mut machine) = stage.boot(&writable(stage, stage.owner, &stage.copy, "state")?)?;
    egress_locked(&mut machine)?;
    let begun = Instant::now();
    ready(&mut machine)?;
    Ok(begun.elapsed())
}

fn egress_locked(machine: &mut Machine) -> Result<()> {
    machine.wait(PATIENCE, |event| match (event["event"].as_str(), event["step"].as_str()) {
        (_, Some("egress-locked")) => Some(Ok(())),
        (Some("failed"), _) => Some(Err(anyhow::anyhow!("the guest stopped: {event}"))),
        _ => None,
    })?
}

/// Kills rotations. The broker serves meanwhile, and each is followed by a guest that opens the image as it is.
fn rotations(bench: &Workbench, moments: &mut Moments) -> Result<()> {
    let owner = Owner::new(bench, Kind::Model)?;
    let stage = Stage::new(bench, &owner, "rotations")?;
    let _broker = stage.copy.serve(bench)?;
    let begun = Instant::now();
    ensure!(stage.copy.rotation(bench).status()?.success(), "an undisturbed rotation failed");
    let time = begun.elapsed();
    let boots = |when: &str| {
        let (_quoting, mut machine) = stage.boot(&stage.honest())?;
        ready(&mut machine).with_context(|| when.to_owned())
    };
    let mut whole = 0;
    for number in 0..ROTATIONS {
        let mut rotation = stage.copy.rotation(bench).stdout(Stdio::null()).spawn()?;
        sleep(moments.within(time));
        rotation.kill()?;
        whole += usize::from(rotation.wait()?.success());
        boots(&format!("after the kill of rotation {number}"))?;
    }
    ensure!(stage.copy.rotation(bench).status()?.success(), "a rotation after those that were killed failed");
    boots("after the last rotation")?;
    println!(
        "{FOUND}{ROTATIONS} rotations killed, {whole} of them after their end: the image opened after each, and the next rotation went on"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_follow_from_the_seed_and_lie_within_the_time() {
        let moments = |seed| {
            let mut moments = Moments(seed);
            [(); 20].map(|()| moments.within(Duration::from_secs(1)))
        };
        assert_eq!(moments(1), moments(1));
        assert_ne!(moments(1), moments(2));
        assert!(moments(1).iter().all(|moment| *moment < Duration::from_secs(1)));
    }
}
