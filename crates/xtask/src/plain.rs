//! The programs as they ship, without the feature `danger-simulator`, against a simulated guest: each must refuse.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::programs::{Flavour, Programs};
use crate::running::{self, Running};
use crate::test::Tally;
use crate::{cargo, dist, process};

/// Builds both flavours, and tries to get the plain programs to take what the others make.
///
/// # Errors
/// When something cannot be built or started, or is not refused as it must be.
pub(crate) fn run() -> Result<Tally> {
    let simulator = Programs::build(Flavour::Simulator)?;
    let plain = Programs::build(Flavour::Plain)?;
    // Not `plain`: that is where Cargo keeps the build of that profile.
    let folder = running::folder("plain-programs")?;
    let guest = Running::guest(&simulator, &folder)?;
    let url = format!("https://{}", guest.address());
    let danger = cargo::root().join("policies/danger-simulator.toml");
    let record = folder.join("record.cbor");
    process::run(chat(&simulator, &url, &danger).arg("--record").arg(&record).arg(PROMPT))?;

    let inspect = cargo::root().join("policies/inspect.toml");
    let client = cargo::root().join("policies/client.toml");
    let guest_toml = folder.join("guest.toml");
    let configured = |command: &str| {
        let mut guest = plain.guest();
        guest.args([command, "--config"]).arg(&guest_toml);
        guest
    };
    let suite = cargo::root().join("fixtures/tdx");
    let mut conformance = plain.confide();
    conformance.args(["conformance", "--danger", "--base"]).arg(&suite);
    conformance.stdin(std::fs::File::open(suite.join("accept-v4/case.json"))?);
    // Simulated GPUs, whose root no ordinary policy names.
    let devices = cargo::root().join("fixtures/nvidia");
    let gpu = |policy: &[&str]| {
        let mut command = plain.confide();
        command
            .args(["verify", "gpu", "--at", "2026-10-01T00:00:00Z", "--nonce", &"40".repeat(32)])
            .args(policy);
        command.arg("--report").arg(devices.join(REPORT)).arg("--chain").arg(devices.join(CHAIN));
        command
    };
    let dangerous = danger.to_string_lossy();
    let refusals = [
        Refusal::new(&mut gpu(&["--danger-policy", &dangerous]), 20, "danger-simulator feature"),
        Refusal::new(&mut gpu(&[]), 10, "device_root_anchor"),
        Refusal::new(plain.confide().args(["policy", "check"]).arg(&danger), 20, "danger-simulator feature"),
        Refusal::new(chat(&plain, &url, &danger).arg(PROMPT), 20, "danger-simulator feature"),
        Refusal::new(plain.confide().arg("replay").arg(&record), 20, "danger-simulator feature"),
        Refusal::new(&mut conformance, 20, "danger-simulator feature"),
        Refusal::new(ordinary(&plain, &url, &client).arg(PROMPT), 10, "root"),
        Refusal::new(ordinary(&plain, &url, &inspect).arg(PROMPT), 10, "root"),
        Refusal::new(plain.confide().args(["doctor", "--danger-root", "/"]), 2, "unexpected argument"),
        Refusal::new(plain.confide().args(["doctor", "--danger-nvml", "a.so"]), 2, "unexpected argument"),
        Refusal::new(&mut configured("check"), 2, "[simulator_not_built]"),
        Refusal::new(&mut configured("serve"), 2, "[simulator_not_built]"),
        Refusal::new(plain.broker().args(["policy", "check"]).arg(&danger), 20, "danger-simulator feature"),
        Refusal::new(
            plain.broker().args(["serve", "--danger-simulator", "--config", "deploy/broker.toml"]),
            20,
            "danger-simulator feature",
        ),
    ];
    refusals.iter().try_for_each(Refusal::check)?;
    dist::lay_out(plain.folder(), &folder.join("dist"))?;
    Ok(Tally { passed: refusals.len() as u64, ..Tally::default() })
}

/// A simulated Hopper of the suite of devices.
const REPORT: &str = "common/hopper-report-0.bin";
const CHAIN: &str = "common/hopper-chain-0.pem";

const PROMPT: &str = "What is an RTMR?";

fn chat(programs: &Programs, url: &str, policy: &PathBuf) -> Command {
    let mut command = programs.confide();
    command.args(["chat", "--temperature", "0", "--url", url, "--danger-policy"]).arg(policy);
    command
}

fn ordinary(programs: &Programs, url: &str, policy: &PathBuf) -> Command {
    let mut command = programs.confide();
    command.args(["chat", "--url", url, "--policy"]).arg(policy);
    command
}

/// A command that must end with this status, and say this.
struct Refusal {
    shown: String,
    status: Option<i32>,
    said: String,
    expected_status: i32,
    expected_words: &'static str,
}

impl Refusal {
    fn new(command: &mut Command, expected_status: i32, expected_words: &'static str) -> Self {
        let output = command.output();
        let said = output.as_ref().map_or_else(ToString::to_string, |output| {
            String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
        });
        let status = output.ok().and_then(|output| output.status.code());
        Self { shown: process::shown(command), status, said, expected_status, expected_words }
    }

    fn check(&self) -> Result<()> {
        let Self { shown, status, said, expected_status, expected_words } = self;
        ensure!(
            *status == Some(*expected_status) && said.contains(expected_words),
            "{shown}\nended with {status:?}, expected {expected_status} and the words {expected_words:?}:\n{said}"
        );
        println!("refused with status {expected_status}: {shown}");
        Ok(())
    }
}
