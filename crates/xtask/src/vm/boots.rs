//! How long a guest takes from its launch until it serves, and with what.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::cases::{PATIENCE, Stage};
use super::machine::Machine;
use super::owner::{Kind, Owner};
use super::workbench::Workbench;

/// Boots that are measured, after one that does not count.
const BOOTS: usize = 5;

/// Boots guests, and prints lines `STEP ⇥ MEDIAN ⇥ LEAST ⇥ MOST`, in microseconds.
///
/// # Errors
/// When a guest does not serve.
pub(super) fn run(bench: &Workbench) -> Result<()> {
    let owner = Owner::new(bench, Kind::Model)?;
    let mut order = Vec::new();
    let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for boot in 0..=BOOTS {
        let stage = Stage::new(bench, &owner, &format!("boot-{boot}"))?;
        let _broker = stage.copy.serve(bench)?;
        let (_quoting, mut machine) = stage.boot(&stage.honest())?;
        let steps = steps(&mut machine)?;
        if boot == 0 {
            order = steps.into_iter().map(|(name, _)| name).collect();
            continue;
        }
        for (name, microseconds) in steps {
            times.entry(name).or_default().push(microseconds);
        }
    }
    for name in order {
        let found = times.get_mut(&name).with_context(|| format!("no later boot has the step {name}"))?;
        ensure!(found.len() == BOOTS, "not every boot has the step {name}");
        found.sort_by(f64::total_cmp);
        println!("{name}\t{}\t{}\t{}", found[BOOTS / 2], found[0], found[BOOTS - 1]);
    }
    Ok(())
}

/// The steps of one boot in their order: what our program says of its own, before them what came before it, and at the end
/// the whole, as seen from outside.
fn steps(machine: &mut Machine) -> Result<Vec<(String, f64)>> {
    let mut steps = Vec::new();
    let mut first = None;
    machine.wait(PATIENCE, |event| match event["event"].as_str() {
        Some("boot") => {
            first.get_or_insert_with(std::time::Instant::now);
            let step = event["step"].as_str().unwrap_or("a step without a name").to_owned();
            steps.push((step, event["milliseconds"].as_f64().unwrap_or_default() * 1000.0));
            None
        }
        Some("ready") => Some(Ok(())),
        Some("failed") => Some(Err(anyhow::anyhow!("the guest stopped: {event}"))),
        _ => None,
    })??;
    let whole = machine.elapsed();
    let first = first.context("a guest that names no step")?.elapsed();
    steps.insert(0, ("launch to our first step".to_owned(), (whole - first).as_secs_f64() * 1e6));
    steps.push(("launch to ready".to_owned(), whole.as_secs_f64() * 1e6));
    Ok(steps)
}
