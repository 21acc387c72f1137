//! The cases: a guest that gets its key and serves, and guests that must not.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::attacks;
use super::host::{self, Helper, Service};
use super::machine::{self, Disk, Launch, Machine};
use super::owner::{BROKER_PORT, Copy, Kind, Owner, STATE, STATE_DISK, VOLUME};
use super::workbench::{Driver, Workbench, flip};
use crate::{cargo, process};

/// Where the guest is reached from outside.
const GUEST_PORT: u16 = 18_443;
/// The longest that a guest may take from its launch to its ready state or its refusal. The host may be busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);
/// What a client asks.
const QUESTION: &str = "What is an RTMR?";

/// Bytes at the beginning of a volume that hold its headers and keyslots.
const HEADER: u64 = 1 << 20;
/// Bytes of a block of writable volumes.
const BLOCK: usize = 4096;
/// Where the data of a writable volume begin on its disk of [`STATE_DISK`] bytes: behind header, superblock, 33 blocks of journal
/// and 32 of tags.
const STATE_DATA: u64 = HEADER + (1 + 33 + 32) * 4096;

/// One case: its name, and what must hold.
struct Case {
    name: &'static str,
    run: fn(&Stage<'_>) -> Result<()>,
}

/// The cases of these functions, with their names.
macro_rules! cases {
    ($($case:ident),+ $(,)?) => { &[$(Case { name: stringify!($case), run: $case }),+] };
}

/// Those first that take longest, so that lanes end together.
const CASES: &[Case] = cases![
    no_attack_gets_out_on_the_guests_kernel,
    a_writable_volume_is_formatted_once_and_opened_again,
    a_replayed_release_is_refused,
    a_quoting_service_that_fails_stops_the_guest,
    a_guest_boots_attests_unlocks_and_serves,
    a_guest_with_an_egress_broker_boots_and_serves,
    an_altered_configuration_disk_is_refused,
    a_serving_guest_ignores_keys_and_ends_when_a_device_comes,
    one_bit_of_the_command_line_is_refused,
    a_revoked_volume_is_refused,
    a_guest_without_a_quoting_provider_stops,
    a_processor_without_rdseed_stops_the_guest,
    a_busy_quoting_service_is_asked_again,
    a_replayed_quote_is_refused,
    a_broker_that_is_down_stops_the_guest,
    an_impersonated_broker_is_refused,
    a_rolled_back_disk_is_refused,
    a_null_cipher_header_is_refused,
    a_header_swapped_after_its_first_read_changes_nothing,
    a_changed_ciphertext_block_is_found_before_serving,
    another_model_is_refused,
];

/// What a case plays on.
pub(super) struct Stage<'a> {
    bench: &'a Workbench,
    pub(super) owner: &'a Owner,
    folder: PathBuf,
    pub(super) copy: Copy,
}

/// How a guest is booted: as the policies name it, but for what a case changes.
pub(super) struct Boot {
    image: PathBuf,
    command_line: String,
    behaviour: &'static str,
    lacks: &'static str,
    disks: Vec<Disk>,
}

/// Who hears why a guest stopped, beside the console.
#[derive(Clone, Copy)]
enum Told<'a> {
    /// The broker of this copy, from the guest: it has refused nothing itself.
    Broker(&'a Copy),
    /// The same, after a refusal of its own.
    Refusing(&'a Copy),
    /// Nobody: the guest knows no broker, or what it reaches is none.
    Nobody,
}

/// What `CONFIDE_VM_CASE` asks for: the cases whose name contains it.
pub(super) fn chosen() -> Option<String> {
    std::env::var("CONFIDE_VM_CASE").ok()
}

/// The cases to run.
fn wanted() -> Vec<&'static Case> {
    let wanted = chosen().unwrap_or_default();
    CASES.iter().filter(|case| case.name.contains(&wanted)).collect()
}

/// How many cases there are to run.
pub(super) fn count() -> usize {
    wanted().len()
}

/// Whether one of them runs the tests of [`attacks`].
pub(super) fn need_attacks() -> bool {
    wanted().iter().any(|case| case.name == "no_attack_gets_out_on_the_guests_kernel")
}

/// Runs the cases of one lane, one virtual machine at a time, and reports as a Rust test program does. Each lane has one case
/// that is its own; of the others it takes what no other lane has.
pub(super) fn run(bench: &Workbench, lane: usize, lanes: usize) -> Result<()> {
    let owner = Owner::new(bench, Kind::Model)?;
    let (mut passed, mut failures) = (0, Vec::new());
    for (place, case) in wanted().into_iter().enumerate() {
        let ours = if place < lanes { place == lane } else { bench.take(case.name)? };
        if !ours {
            continue;
        }
        let begun = Instant::now();
        let outcome = play(bench, &owner, case);
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {} ... {word} ({:.1} s)", case.name, begun.elapsed().as_secs_f64());
        match outcome {
            Ok(()) => passed += 1,
            Err(error) => failures.push(format!("---- {} ----\n{error:#}", case.name)),
        }
    }
    if !failures.is_empty() {
        println!("failures:\n{}", failures.join("\n"));
    }
    let word = if failures.is_empty() { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {} failed; 0 ignored", failures.len());
    ensure!(
        failures.is_empty(),
        "{} cases failed; their files are below {}",
        failures.len(),
        bench.folder.display()
    );
    Ok(())
}

fn play(bench: &Workbench, owner: &Owner, case: &Case) -> Result<()> {
    let stage = Stage::new(bench, owner, case.name)?;
    (case.run)(&stage)?;
    // What failed stays to be looked at.
    Ok(std::fs::remove_dir_all(&stage.folder)?)
}

impl<'a> Stage<'a> {
    /// A folder of this name, with copies of the owner's files.
    ///
    /// # Errors
    /// When they cannot be made.
    pub(super) fn new(bench: &'a Workbench, owner: &'a Owner, name: &str) -> Result<Self> {
        let folder = bench.case(name)?;
        let copy = owner.copy(bench, &folder)?;
        Ok(Self { bench, owner, folder, copy })
    }

    /// A copy of another owner's files, in a folder of its own.
    fn copy_of(&self, owner: &Owner) -> Result<Copy> {
        let folder = self.folder.join("copy");
        std::fs::create_dir(&folder)?;
        owner.copy(self.bench, &folder)
    }

    /// The guest as the policies name it, with the case's volume.
    pub(super) fn honest(&self) -> Boot {
        Boot {
            image: self.owner.image.clone(),
            command_line: machine::command_line(),
            behaviour: "honest",
            lacks: "",
            disks: vec![Disk::file(&self.copy.volume, VOLUME)],
        }
    }

    /// Starts a guest with a quoting service of its own.
    ///
    /// # Errors
    /// When one does not start.
    pub(super) fn boot(&self, boot: &Boot) -> Result<(Service, Machine)> {
        let Boot { image, command_line, behaviour, .. } = boot;
        let programs = &self.bench.programs;
        let kernel = self.bench.kernel.image();
        host::measure(programs, &kernel, image, command_line, &self.folder)?;
        let quoting = Service::quoting(programs, behaviour, self.bench.time, &self.bench.folder)?;
        let machine = self.start(&quoting, boot)?;
        Ok((quoting, machine))
    }

    /// The socket of QEMU's commands: paths of sockets are short.
    fn control(&self) -> PathBuf {
        self.bench.folder.join("control.sock")
    }

    fn start(&self, quoting: &Service, boot: &Boot) -> Result<Machine> {
        self.bench.emulator.start(&Launch {
            kernel: &self.bench.kernel.image(),
            image: &boot.image,
            command_line: &boot.command_line,
            lacks: boot.lacks,
            disks: &boot.disks,
            quoting: quoting.socket(),
            control: &self.control(),
            folder: &self.folder,
            port: GUEST_PORT,
        })
    }

    /// Boots a guest that must stop with this code, and a message that contains `about`.
    fn refused(&self, boot: &Boot, told: Told<'_>, code: &str, about: &str) -> Result<()> {
        let (_quoting, mut machine) = self.boot(boot)?;
        self.stops_unready(&mut machine, told, code, about)
    }

    /// As [`Self::stops`], for a guest that has not served.
    fn stops_unready(&self, machine: &mut Machine, told: Told<'_>, code: &str, about: &str) -> Result<()> {
        self.stops(machine, told, code, about)?;
        ensure!(!machine.console().contains("\"event\":\"ready\""), "it served in spite of {code}");
        Ok(())
    }

    /// Waits until a guest stops with this code, and a message that contains `about`, and has powered itself off. What it has told
    /// the broker stands in that one's log.
    fn stops(&self, machine: &mut Machine, told: Told<'_>, code: &str, about: &str) -> Result<()> {
        let failure = machine.wait(PATIENCE, |event| match event["event"].as_str() {
            Some("failed" | "ready" | "power-off") => Some(event.clone()),
            _ => None,
        })?;
        let found = failure["code"].as_str().unwrap_or_default();
        let message = failure["message"].as_str().unwrap_or_default();
        ensure!(found == code && message.contains(about), "expected {code} with {about:?}, found {failure}");
        machine.wait_for_end(PATIENCE)?;
        // A process 1 that ends is a panic, which QEMU ends with, too.
        let console = machine.console();
        ensure!(
            console.contains("{\"event\":\"power-off\"}") && !console.contains("Kernel panic"),
            "the machine ended, but not by its guest's switching it off:\n{console}"
        );
        let (copy, expected): (_, &[_]) = match told {
            Told::Broker(copy) => (copy, &["failure-reported"]),
            Told::Refusing(copy) => (copy, &["refused", "failure-reported"]),
            Told::Nobody => return Ok(()),
        };
        let entries = copy.audit(self.bench)?;
        let last = entries.get(entries.len().saturating_sub(expected.len())..).unwrap_or_default();
        let are_these = last.iter().map(|entry| (entry["what"].as_str(), entry["code"].as_str()));
        ensure!(
            are_these.eq(expected.iter().map(|what| (Some(*what), Some(code)))),
            "expected {expected:?} of {code} at the end of the broker's log, found {last:?}"
        );
        Ok(())
    }
}

/// Waits until a guest serves.
///
/// # Errors
/// When it stops instead.
pub(super) fn ready(machine: &mut Machine) -> Result<()> {
    machine.wait(PATIENCE, |event| match event["event"].as_str() {
        Some("ready") => Some(Ok(())),
        Some("failed") => Some(Err(anyhow::anyhow!("the guest stopped: {event}"))),
        _ => None,
    })?
}

/// Runs a command of `confide`, with a policy that names this owner's guest, and returns what it prints.
fn client(stage: &Stage<'_>, owner: &Owner, arguments: &[&str]) -> Result<String> {
    let mut client: Command = stage.bench.programs.confide();
    client.args(arguments).arg("--danger-policy").arg(&owner.client_policy);
    process::output(&mut client)
}

fn a_guest_boots_attests_unlocks_and_serves(stage: &Stage<'_>) -> Result<()> {
    let _broker = stage.copy.serve(stage.bench)?;
    let (_quoting, mut machine) = stage.boot(&stage.honest())?;
    ready(&mut machine)?;
    println!("ready {:.1} s after the launch", machine.elapsed().as_secs_f64());
    let address = format!("https://127.0.0.1:{GUEST_PORT}");
    let verdict = client(stage, stage.owner, &["verify", &address])?;
    ensure!(verdict.contains("SIMULATED"), "a verdict that does not say SIMULATED: {verdict}");
    let answer = client(stage, stage.owner, &["chat", "--url", &address, QUESTION])?;
    ensure!(!answer.trim().is_empty(), "no answer");
    // Every setting that closes the kernel is one of Debian's kernel; the guest has read each back.
    let console = machine.console();
    ensure!(console.contains("\"step\":\"hardened\""), "the kernel was not closed:\n{console}");
    ensure!(!console.contains("\"event\":\"lacks\""), "a setting is not there:\n{console}");
    Ok(())
}

/// What lets a name through is in force before the lock and after it: the kernel of the image has all that the rules need.
fn a_guest_with_an_egress_broker_boots_and_serves(stage: &Stage<'_>) -> Result<()> {
    let owner = Owner::new(stage.bench, Kind::Reaching)?;
    let copy = stage.copy_of(&owner)?;
    let _broker = copy.serve(stage.bench)?;
    let disks = vec![Disk::file(&copy.volume, VOLUME)];
    let (_quoting, mut machine) =
        stage.boot(&Boot { image: owner.image.clone(), disks, ..stage.honest() })?;
    ready(&mut machine)?;
    for step in ["egress-bootstrap", "egress-broker", "egress-locked"] {
        ensure!(machine.console().contains(&format!("\"step\":\"{step}\"")), "no step {step}");
    }
    let address = format!("https://127.0.0.1:{GUEST_PORT}");
    client(stage, &owner, &["verify", &address])?;
    let answer = client(stage, &owner, &["chat", "--url", &address, QUESTION])?;
    ensure!(!answer.trim().is_empty(), "no answer");
    Ok(())
}

/// What is tried in namespaces of the machine that tests run on is tried on the guest's kernel, too. Nobody quotes here.
fn no_attack_gets_out_on_the_guests_kernel(stage: &Stage<'_>) -> Result<()> {
    attack(stage, attacks::Choice::OfAKernel)
}

/// Boots an image that runs tests of egress.
pub(super) fn attack(stage: &Stage<'_>, choice: attacks::Choice) -> Result<()> {
    let image = stage.folder.join("attacks.img");
    attacks::build(&stage.bench.attacks, &stage.bench.kernel, &image, choice)?;
    let (kernel, command_line) = (stage.bench.kernel.image(), attacks::command_line());
    let control = stage.control();
    let mut machine =
        stage.bench.emulator.start_bare((&kernel, &image, &command_line), &stage.folder, &control)?;
    attacks::judge(&mut machine, choice)
}

/// A boot with a model, a disk of this name for state, and one for scratch.
pub(super) fn writable(stage: &Stage<'_>, owner: &Owner, copy: &Copy, state: &str) -> Result<Boot> {
    let disks = [state, "scratch"].map(|name| stage.folder.join(format!("{name}.img")));
    for file in &disks {
        // A disk that is there keeps its contents.
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(file)?
            .set_len(STATE_DISK)?;
    }
    let [state, scratch] = disks;
    let disks = vec![
        Disk::file(&copy.volume, VOLUME),
        Disk::writable(&state, STATE),
        Disk::writable(&scratch, "scratch"),
    ];
    Ok(Boot { image: owner.image.clone(), disks, ..stage.honest() })
}

/// The guest formats a volume at its first boot and opens it at the next one; another disk in its place is no reason to format
/// again. A third volume is new in each boot, under another key. What the host has changed of either is found when it is read.
fn a_writable_volume_is_formatted_once_and_opened_again(stage: &Stage<'_>) -> Result<()> {
    let owner = Owner::new(stage.bench, Kind::Writable)?;
    let copy = stage.copy_of(&owner)?;
    let _broker = copy.serve(stage.bench)?;
    let boot = |state: &str| writable(stage, &owner, &copy, state);
    let image = |name: &str| stage.folder.join(format!("{name}.img"));
    let mut scratch = Vec::new();
    for _ in ["formatted", "opened"] {
        let (_quoting, mut machine) = stage.boot(&boot("state")?)?;
        ready(&mut machine)?;
        scratch.push(std::fs::read(image("scratch"))?);
    }
    // Both boots have written zeros to all of it, and made a file system.
    let [first, second] = &scratch[..] else { unreachable!("two boots") };
    let second: HashSet<&[u8]> = second.chunks(BLOCK).collect();
    let (mut written, mut same) = (0, 0);
    for block in first.chunks(BLOCK).filter(|block| block.iter().any(|byte| *byte != 0)) {
        written += 1;
        same += usize::from(second.contains(block));
    }
    // The superblock of dm-integrity is, and its empty journal.
    let other_key = written > second.len() / 2 && same < written / 32;
    ensure!(other_key, "of {written} blocks of scratch {same} are as in the boot before");
    stage.refused(&boot("other")?, Told::Broker(&copy), "volume_not_luks2", "state")?;
    for block in (STATE_DATA..STATE_DISK).step_by(BLOCK) {
        flip(&image("state"), block)?;
    }
    let (_quoting, mut machine) = stage.boot(&boot("state")?)?;
    stage.stops_unready(&mut machine, Told::Broker(&copy), "volume_not_mounted", "state")?;
    ensure!(machine.console().contains("INTEGRITY AEAD ERROR"), "the kernel has found no changed block");
    Ok(())
}

fn one_bit_of_the_command_line_is_refused(stage: &Stage<'_>) -> Result<()> {
    let _broker = stage.copy.serve(stage.bench)?;
    let honest = stage.honest();
    // The kernel takes either; 't' and 'u' differ in one bit.
    let command_line = honest.command_line.replace(" quiet ", " quieu ");
    ensure!(command_line != honest.command_line, "nothing was changed");
    stage.refused(&Boot { command_line, ..honest }, Told::Refusing(&stage.copy), "rtmr2", "")
}

fn a_revoked_volume_is_refused(stage: &Stage<'_>) -> Result<()> {
    stage.copy.volume(stage.bench, &["revoke", VOLUME])?;
    let _broker = stage.copy.serve(stage.bench)?;
    stage.refused(&stage.honest(), Told::Refusing(&stage.copy), "volume_revoked", "")
}

fn a_guest_without_a_quoting_provider_stops(stage: &Stage<'_>) -> Result<()> {
    let _broker = stage.copy.serve(stage.bench)?;
    let image = stage.bench.image("no-provider", Driver::Missing, Some(&stage.owner.configuration))?;
    stage.refused(&Boot { image, ..stage.honest() }, Told::Broker(&stage.copy), "platform_missing", "")
}

fn a_processor_without_rdseed_stops_the_guest(stage: &Stage<'_>) -> Result<()> {
    let _broker = stage.copy.serve(stage.bench)?;
    let boot = Boot { lacks: ",-rdseed", ..stage.honest() };
    stage.refused(&boot, Told::Broker(&stage.copy), "rdseed_missing", "")
}

/// What the host can do to a guest that serves, beside ending it: press keys, and attach a device.
fn a_serving_guest_ignores_keys_and_ends_when_a_device_comes(stage: &Stage<'_>) -> Result<()> {
    let _broker = stage.copy.serve(stage.bench)?;
    let (_quoting, mut machine) = stage.boot(&stage.honest())?;
    ready(&mut machine)?;
    // A kernel that obeys would reboot at once, and QEMU end: see [`attacks::judge`].
    machine.request_of_system('b')?;
    machine.press(&["ctrl", "alt", "delete"])?;
    let address = format!("https://127.0.0.1:{GUEST_PORT}");
    client(stage, stage.owner, &["verify", &address])?;
    machine.attach_disk()?;
    stage.stops(&mut machine, Told::Broker(&stage.copy), "device_attached", "/devices/")
}

fn a_quoting_service_that_fails_stops_the_guest(stage: &Stage<'_>) -> Result<()> {
    let _broker = stage.copy.serve(stage.bench)?;
    for behaviour in ["fault", "silent"] {
        let boot = Boot { behaviour, ..stage.honest() };
        stage.refused(&boot, Told::Broker(&stage.copy), "device_failed", "outblob")?;
    }
    Ok(())
}

fn a_busy_quoting_service_is_asked_again(stage: &Stage<'_>) -> Result<()> {
    let _broker = stage.copy.serve(stage.bench)?;
    let (_quoting, mut machine) = stage.boot(&Boot { behaviour: "busy", ..stage.honest() })?;
    ready(&mut machine)
}

fn a_replayed_quote_is_refused(stage: &Stage<'_>) -> Result<()> {
    let _broker = stage.copy.serve(stage.bench)?;
    let boot = Boot { behaviour: "repeat", ..stage.honest() };
    let (quoting, mut first) = stage.boot(&boot)?;
    ready(&mut first)?;
    drop(first);
    let mut second = stage.start(&quoting, &boot)?;
    // The quote is of a boot before: its register has that boot's events.
    stage.stops_unready(&mut second, Told::Refusing(&stage.copy), "rtmr3", "")
}

/// What a broker gave an earlier boot is of no use to a later one, also for who holds the broker's key and so passes for it; nor
/// is what the earlier boot sent, to the broker.
fn a_replayed_release_is_refused(stage: &Stage<'_>) -> Result<()> {
    stage.copy.hide()?;
    let broker = stage.copy.serve(stage.bench)?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, BROKER_PORT));
    let programs = &stage.bench.programs;
    let _standin = Helper::replaying(programs, broker.address(), &stage.copy.identity, listen)?;
    {
        let (_quoting, mut machine) = stage.boot(&stage.honest())?;
        ready(&mut machine)?;
    }
    let copy = &stage.copy;
    for (what, told, code) in [
        ("the first boot's request, to the broker", Told::Refusing(copy), "challenge_unknown"),
        ("the first boot's answer, to another challenge", Told::Broker(copy), "release_unverified"),
        // From here on whoever connects gets the bytes of the first boot's connection.
        ("the first boot's answer, to the first boot's challenge", Told::Nobody, "release_unverified"),
        ("the bytes of the first boot's connection", Told::Nobody, "broker_unreachable"),
    ] {
        stage.refused(&stage.honest(), told, code, "").context(what)?;
    }
    let entries = stage.copy.audit(stage.bench)?;
    let codes = |what: &str| -> Vec<&str> {
        let found = entries.iter().filter(|entry| entry["what"] == what);
        found.map(|entry| entry["code"].as_str().unwrap_or("none")).collect()
    };
    ensure!(codes("released") == ["none"], "the keys were released again: {entries:?}");
    ensure!(codes("refused") == ["challenge_unknown"], "the replayed request is not in the log: {entries:?}");
    Ok(())
}

fn a_broker_that_is_down_stops_the_guest(stage: &Stage<'_>) -> Result<()> {
    stage.refused(&stage.honest(), Told::Nobody, "broker_unreachable", "")
}

fn an_impersonated_broker_is_refused(stage: &Stage<'_>) -> Result<()> {
    stage.copy.impersonate(stage.bench)?;
    let _broker = stage.copy.serve(stage.bench)?;
    stage.refused(&stage.honest(), Told::Nobody, "broker_identity_wrong", "")
}

fn a_rolled_back_disk_is_refused(stage: &Stage<'_>) -> Result<()> {
    let old = stage.folder.join("old.img");
    std::fs::copy(&stage.copy.volume, &old)?;
    process::run(&mut stage.copy.rotation(stage.bench))?;
    let _broker = stage.copy.serve(stage.bench)?;
    let disks = vec![Disk::file(&old, VOLUME)];
    stage.refused(&Boot { disks, ..stage.honest() }, Told::Broker(&stage.copy), "volume_rolled_back", "")?;
    let (_quoting, mut machine) = stage.boot(&stage.honest())?;
    ready(&mut machine)
}

fn a_null_cipher_header_is_refused(stage: &Stage<'_>) -> Result<()> {
    let _broker = stage.copy.serve(stage.bench)?;
    host::null_cipher(&stage.bench.programs, &stage.copy.volume)?;
    stage.refused(&stage.honest(), Told::Broker(&stage.copy), "volume_null_cipher", "")
}

/// The header that was checked is used, also where the disk has another one by then.
/// What is read once, checked and used is one copy: another header behind it changes nothing, whichever of the two is the owner's.
fn a_header_swapped_after_its_first_read_changes_nothing(stage: &Stage<'_>) -> Result<()> {
    let _broker = stage.copy.serve(stage.bench)?;
    let (programs, honest) = (&stage.bench.programs, &stage.copy.volume);
    let null = stage.folder.join("null.img");
    std::fs::copy(honest, &null)?;
    host::null_cipher(programs, &null)?;
    let swapped = |first: &Path, later: &Path, told: &Path| -> Result<(Service, Boot)> {
        let disk = Service::swapped(programs, first, later, HEADER, (&stage.bench.folder, told))?;
        let disks = vec![Disk::nbd(disk.socket(), VOLUME)];
        Ok((disk, Boot { disks, ..stage.honest() }))
    };
    {
        let told = stage.folder.join("null-later");
        let (_disk, boot) = swapped(honest, &null, &told)?;
        let (_quoting, mut machine) = stage.boot(&boot)?;
        ready(&mut machine)?;
        ensure!(told.exists(), "the header was never another one");
    }
    let told = stage.folder.join("honest-later");
    let (_disk, boot) = swapped(&null, honest, &told)?;
    stage.refused(&boot, Told::Broker(&stage.copy), "volume_null_cipher", "")?;
    ensure!(told.exists(), "the header was never another one");
    Ok(())
}

fn a_changed_ciphertext_block_is_found_before_serving(stage: &Stage<'_>) -> Result<()> {
    let _broker = stage.copy.serve(stage.bench)?;
    let size = std::fs::metadata(&stage.copy.volume)?.len();
    flip(&stage.copy.volume, size / 2)?;
    stage.refused(&stage.honest(), Told::Broker(&stage.copy), "volume_corrupted", "")
}

/// The volume is whole, and its owner's; the model on it is not the one that the configuration names.
fn another_model_is_refused(stage: &Stage<'_>) -> Result<()> {
    let model = stage.folder.join("model");
    process::run(Command::new("cp").arg("-r").arg(cargo::root().join("fixtures/models/tiny")).arg(&model))?;
    let weights = model.join("model.safetensors");
    flip(&weights, std::fs::metadata(&weights)?.len() - 1)?;
    let other = stage.folder.join("other");
    std::fs::create_dir(&other)?;
    let copy = stage.owner.packed(stage.bench, &model, &other)?;
    let _broker = copy.serve(stage.bench)?;
    let disks = vec![Disk::file(&copy.volume, VOLUME)];
    stage.refused(&Boot { disks, ..stage.honest() }, Told::Broker(&copy), "model_manifest_wrong", "")
}

/// An image that takes its configuration from a disk of the host's, which says something else than the policy names.
fn an_altered_configuration_disk_is_refused(stage: &Stage<'_>) -> Result<()> {
    let owner = Owner::new(stage.bench, Kind::ModelByDisk)?;
    let copy = stage.copy_of(&owner)?;
    let _broker = copy.serve(stage.bench)?;
    let disk = stage.folder.join("configuration.img");
    let boot = || Boot {
        image: owner.image.clone(),
        disks: vec![Disk::file(&copy.volume, VOLUME), Disk::file(&disk, "config")],
        ..stage.honest()
    };
    Owner::write_disk(&owner.configuration, &disk)?;
    {
        let (_quoting, mut machine) = stage.boot(&boot())?;
        ready(&mut machine).context("the configuration that the policy names")?;
    }
    for (from, to, told, code, about) in [
        ("name = \"tiny\"", "name = \"another\"", Told::Refusing(&copy), "configuration", ""),
        // Whoever the broker is, such a configuration does not say.
        ("[model]\n", "[model]\nunknown = 1\n", Told::Nobody, "config_unknown_field", "unknown"),
    ] {
        let altered = owner.configuration.replacen(from, to, 1);
        ensure!(altered != owner.configuration, "nothing was changed");
        Owner::write_disk(&altered, &disk)?;
        stage.refused(&boot(), told, code, about)?;
    }
    Ok(())
}
