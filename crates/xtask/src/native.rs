//! Boots of `confide-guest` on this machine itself, in a network of their own: what our own steps take without an emulator, a broker and
//! volumes.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::bench::Row;
use crate::programs::{Flavour, Programs};
use crate::{cargo, process, running};

/// Boots that are measured, after one that does not count.
const BOOTS: usize = 20;
/// An egress policy that lets something through in both phases: rules of both are loaded, read back and compared, and the egress broker
/// is started.
const EGRESS: &str = "[egress]\ninline = '''\nformat = \"confide-egress-policy/1\"\nname = \"bench\"\nlog = \"drops\"\n\
    [[bootstrap]]\ncidr = \"198.51.100.0/24\"\nports = [443]\nprotocol = \"tcp\"\n\
    [[serving]]\ncidr = \"198.51.100.0/24\"\nports = [443]\nprotocol = \"tcp\"\n'''\n";
/// The name of the row of a whole boot.
pub(crate) const WHOLE: &str = "process to ready";

/// Each step of a boot, and the whole of it, in microseconds. Nothing where this machine lets nobody boot.
///
/// # Errors
/// When a guest does not serve.
pub(crate) fn boots() -> Result<Option<Vec<Row>>> {
    let probe = "nft list ruleset && test \"$(id -u)\" = 0";
    let probe = Command::new("unshare").args(["-n", "sh", "-c", probe]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return Ok(None);
    }
    let programs = Programs::build(Flavour::Optimised)?;
    let folder = running::folder("bench-boot")?;
    // The guest serves as a user of its own, and its engine is another one.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
    let configuration = folder.join("guest.toml");
    let model = cargo::root().join("fixtures/models/tiny");
    let text = format!(
        "listen = \"127.0.0.1:0\"\nplatform = \"simulated\"\n[model]\nname = \"tiny\"\ndirectory = \"{}\"\n{EGRESS}",
        model.display()
    );
    std::fs::write(&configuration, text)?;
    let mut order = Vec::new();
    let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for boot in 0..=BOOTS {
        let steps = steps(&programs, &configuration)?;
        if boot == 0 {
            order = steps.into_iter().map(|(name, _)| name).collect();
            continue;
        }
        for (name, microseconds) in steps {
            times.entry(name).or_default().push(microseconds);
        }
    }
    let row = |name: String| {
        let found = times.get_mut(&name).with_context(|| format!("no later boot has the step {name}"))?;
        ensure!(found.len() == BOOTS, "not every boot has the step {name}");
        found.sort_by(f64::total_cmp);
        Ok(Row { name, median: found[BOOTS / 2], p10: found[BOOTS / 10], p90: found[BOOTS * 9 / 10] })
    };
    order.into_iter().map(row).collect::<Result<_>>().map(Some)
}

/// A guest that ends when its value is dropped.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // Whoever has ended already needs no signal.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The steps of one boot in their order, in microseconds, and the whole of it.
fn steps(programs: &Programs, configuration: &Path) -> Result<Vec<(String, f64)>> {
    let mut command = Command::new("unshare");
    command.arg("-n").arg(programs.guest().get_program()).arg("boot").arg("--config").arg(configuration);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let started = Instant::now();
    let mut guest = Guest(command.spawn().with_context(|| format!("starting {}", process::shown(&command)))?);
    let stdout = guest.0.stdout.take().expect("standard output was piped");
    let mut steps = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line: Value = serde_json::from_str(&line?).context("a line of the console")?;
        match line["event"].as_str() {
            Some("boot") => {
                let step = line["step"].as_str().context("a step has a name")?.to_owned();
                steps.push((step, line["milliseconds"].as_f64().context("a step has a time")? * 1000.0));
            }
            Some("ready") => {
                steps.push((WHOLE.to_owned(), started.elapsed().as_secs_f64() * 1e6));
                return Ok(steps);
            }
            _ => bail!("the guest stopped: {line}"),
        }
    }
    bail!("the guest ended before it served")
}
