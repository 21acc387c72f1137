//! `cargo xtask demo`: the whole thing at work, attacks included.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::packages::{self, TO_BUILD};
use crate::programs::{Flavour, Programs};
use crate::running::{self, Running};
use crate::{cargo, process, samples};

/// What the client asks.
const PROMPT: &str = "What is an RTMR?";
/// The longest that everything after the build may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What one attacker tries.
struct Attack {
    /// Its name, as the attacker's endpoint takes it.
    name: &'static str,
    /// How a person would say it.
    about: &'static str,
    /// The check that must refuse it, and no other.
    code: &'static str,
}

const ATTACKS: &[Attack] = &[
    Attack {
        name: "relay",
        about: "an attacker ends TLS and passes on the evidence of another, honest instance",
        code: "report_data",
    },
    Attack {
        name: "manifest",
        about: "one byte of the model manifest is changed; everything is signed anew and bound to the connection",
        code: "model_manifest",
    },
    Attack {
        name: "gpu-swap",
        about: "the GPU's evidence is that of a second GPU, fresh for this exchange and validly signed",
        code: "report_data",
    },
];

/// Runs the demo.
///
/// # Errors
/// When a step does not end as it must: also when an attack succeeds or is refused for another reason than its own, when
/// an honest guest is refused, and when all of it takes [`LIMIT`] or longer.
pub(crate) fn run() -> Result<()> {
    packages::require(TO_BUILD)?;
    heading("Building (once; later runs start at once)");
    let demo = Demo::prepare(Programs::build(Flavour::Simulator)?)?;
    let started = Instant::now();
    demo.real_quote()?;
    heading("A guest on the SIMULATED platform: model, engine process, keys, evidence");
    let guest = Running::guest(&demo.programs, &demo.folder)?;
    println!("listens on {}", guest.address());
    demo.chat(guest.address())?;
    for attack in ATTACKS {
        demo.attack(attack, guest.address())?;
    }
    demo.control(guest.address())?;
    demo.replay()?;
    let took = started.elapsed();
    println!("\nDone in {:.1} s. Everything above but the first quote is SIMULATED.", took.as_secs_f64());
    in_time(took)
}

fn in_time(took: Duration) -> Result<()> {
    ensure!(
        took < LIMIT,
        "it took {:.1} s, and must take less than {} s",
        took.as_secs_f64(),
        LIMIT.as_secs()
    );
    Ok(())
}

struct Demo {
    programs: Programs,
    folder: PathBuf,
    /// Accepts the simulator, this model and nothing else.
    policy: PathBuf,
    /// The same, with the model waived.
    waiving: PathBuf,
    record: PathBuf,
}

/// What an attacker's endpoint saw, from its own report.
pub(crate) struct Seen {
    requests: Vec<String>,
    bodies: String,
    pub(crate) beyond_attestation: u64,
}

impl Demo {
    fn prepare(programs: Programs) -> Result<Self> {
        let folder = running::folder("demo")?;
        let policy = cargo::root().join("policies/danger-simulator.toml");
        let waiving = folder.join("danger-any-model.toml");
        fs::write(&waiving, waive_model(&fs::read_to_string(&policy)?)?)?;
        Ok(Self { programs, policy, waiving, record: folder.join("record.cbor"), folder })
    }

    fn real_quote(&self) -> Result<()> {
        heading("A recorded quote of a real TDX machine, verified up to Intel's root");
        let sample = samples::version_4()?;
        println!("{}, from the published crate dcap-qvl", sample.about);
        let (quote, collateral) = (self.folder.join("quote"), self.folder.join("collateral.json"));
        fs::copy(&sample.quote, &quote)?;
        fs::copy(&sample.collateral, &collateral)?;
        let mut command = self.programs.confide();
        command.args(["verify", "quote", "--at", sample.time]);
        command.arg("--quote").arg(quote).arg("--collateral").arg(collateral);
        show(&command);
        process::run(&mut command)
    }

    fn chat(&self, guest: SocketAddr) -> Result<()> {
        heading("The client's verdict, and only then a prompt, answered in a stream");
        let mut command = self.ask(guest, &self.policy);
        command.arg("--record").arg(&self.record).arg(PROMPT);
        show(&command);
        process::run(&mut command)
    }

    fn attack(&self, attack: &Attack, guest: SocketAddr) -> Result<()> {
        heading(&format!("Attack: {}", attack.about));
        let attacker = Running::attacker(&self.programs, attack.name, guest, &self.folder)?;
        let mut command = self.ask(attacker.address(), &self.policy);
        command.args(["--json", PROMPT]);
        show(&command);
        let output = command.output()?;
        let reasons = refusal(&output, attack.code).with_context(|| format!("the attack {}", attack.name))?;
        println!("refused with status 10:");
        reasons.iter().for_each(|reason| println!("  {reason}"));
        let seen = seen(attacker)?;
        println!(
            "the attacker decrypted: {}; {} bytes beyond it",
            seen.requests.join(", "),
            seen.beyond_attestation
        );
        ensure!(
            seen.requests == ["POST /.well-known/confide/attestation"],
            "the attacker saw other requests"
        );
        ensure!(seen.beyond_attestation == 0, "the attacker got bytes of the request");
        Ok(())
    }

    fn control(&self, guest: SocketAddr) -> Result<()> {
        heading(
            "Control: the same endpoint, and a danger policy that waives the model. Now the prompt goes out",
        );
        let attacker = Running::attacker(&self.programs, "manifest", guest, &self.folder)?;
        let mut command = self.ask(attacker.address(), &self.waiving);
        command.args(["--json", PROMPT]);
        show(&command);
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "the control was refused: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        let seen = seen(attacker)?;
        println!(
            "the attacker decrypted: {}; {} bytes beyond attestation",
            seen.requests.join(", "),
            seen.beyond_attestation
        );
        ensure!(
            seen.bodies.contains(PROMPT),
            "the counter did not see the prompt, so it proves nothing above"
        );
        println!("among them the whole prompt: {PROMPT:?}");
        Ok(())
    }

    fn replay(&self) -> Result<()> {
        heading("The recorded appraisal, replayed without network and clock");
        let mut command = self.programs.confide();
        command.arg("replay").arg(&self.record);
        show(&command);
        let replayed = process::output(&mut command)?;
        replayed.lines().take(4).for_each(|line| println!("{line}"));
        println!("… the same verdict, byte for byte: any difference ends with status 10, replay_mismatch");
        Ok(())
    }

    fn ask(&self, address: SocketAddr, policy: &Path) -> Command {
        let mut command = self.programs.confide();
        command.args(["chat", "--temperature", "0", "--url", &format!("https://{address}")]);
        command.arg("--danger-policy").arg(policy);
        command
    }
}

/// The policy with its `model` line replaced by a waiver.
fn waive_model(policy: &str) -> Result<String> {
    const LINE: &str = "model = ";
    ensure!(
        policy.lines().filter(|line| line.starts_with(LINE)).count() == 1,
        "the policy has no one line {LINE}"
    );
    let line = |line: &str| match line.starts_with(LINE) {
        true => "model = { waive = \"the control run of the demo takes any model\" }\n".to_owned(),
        false => format!("{line}\n"),
    };
    Ok(policy.lines().map(line).collect())
}

/// The failed checks of a refusal, which must be one: exit status 10 and a verdict whose only failed check is `expected`.
fn refusal(output: &Output, expected: &str) -> Result<Vec<String>> {
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(10), "ended with {}, not refused\n{text}", output.status);
    let printed: Value = serde_json::from_str(&text)?;
    let checks = printed["verdict"]["checks"].as_array().context("a refusal without checks")?;
    let failed: Vec<&Value> = checks.iter().filter(|check| check["status"] == "fail").collect();
    let codes: Vec<_> = failed.iter().filter_map(|check| check["code"].as_str()).collect();
    ensure!(codes == [expected], "refused for {codes:?}, which must be {expected:?} alone");
    let field = |check: &Value, name: &str| shortened(check[name].as_str().unwrap_or("nothing"));
    let reason = |check: &&Value| {
        let code = check["code"].as_str().unwrap_or_default();
        format!("{code}: expected {}, found {}", field(check, "expected"), field(check, "actual"))
    };
    Ok(failed.iter().map(reason).collect())
}

/// The beginning of a text that may be a long digest.
fn shortened(text: &str) -> String {
    const MOST: usize = 48;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// What an attacker saw, who then ends.
pub(crate) fn seen(attacker: Running) -> Result<Seen> {
    let report: Value = serde_json::from_str(&attacker.finish()?)?;
    let connections = report["connections"].as_array().context("a report without connections")?;
    let requests: Vec<&Value> =
        connections.iter().filter_map(|connection| connection["requests"].as_array()).flatten().collect();
    let text = |request: &&Value, field: &str| request[field].as_str().unwrap_or_default().to_owned();
    Ok(Seen {
        requests: requests.iter().map(|request| text(request, "line")).collect(),
        bodies: requests.iter().map(|request| text(request, "body")).collect(),
        beyond_attestation: connections.iter().filter_map(|one| one["beyond_attestation"].as_u64()).sum(),
    })
}

fn heading(text: &str) {
    println!("\n── {text}");
}

/// Prints the command as a person would type it in the workspace root.
fn show(command: &Command) {
    let root = format!("{}/", cargo::root().display());
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words =
        words.map(|word| word.to_string_lossy().replace(&root, "").replace("target/programs/simulator/", ""));
    let quoted = words.map(|word| if word.contains(' ') { format!("\"{word}\"") } else { word });
    println!("$ {}", quoted.collect::<Vec<_>>().join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    /// What `confide chat --json` leaves behind that ended with `status` after these checks failed.
    fn refused(status: i32, failed: &[&str]) -> Output {
        let failed = failed.iter().map(
            |code| serde_json::json!({ "code": code, "status": "fail", "expected": "aa", "actual": "bb" }),
        );
        let passed = serde_json::json!({ "code": "quote_signature", "status": "pass" });
        let checks: Vec<Value> = failed.chain([passed]).collect();
        let printed = serde_json::json!({ "verdict": { "checks": checks } });
        let status = ExitStatus::from_raw(status << 8);
        Output { status, stdout: printed.to_string().into_bytes(), stderr: Vec::new() }
    }

    #[test]
    fn an_attack_is_refused_for_its_own_reason() {
        let reasons = refusal(&refused(10, &["report_data"]), "report_data").unwrap();
        assert_eq!(reasons, ["report_data: expected aa, found bb"]);
    }

    #[test]
    fn a_refusal_for_another_reason_or_none_fails_the_demo() {
        for (status, failed) in [
            (10, &["tcb_status"][..]),
            (10, &["tcb_status", "report_data"]),
            (10, &[]),
            (0, &["report_data"]),
            (30, &["report_data"]),
        ] {
            assert!(refusal(&refused(status, failed), "report_data").is_err(), "{status} {failed:?}");
        }
    }

    #[test]
    fn a_demo_that_takes_a_minute_fails() {
        assert!(in_time(Duration::from_millis(59_999)).is_ok());
        assert!(in_time(LIMIT).is_err());
    }
}
