//! `confide-guest boot`.

use std::path::Path;

use confide_egress::needs_broker;
use confide_engine::process::close_to_debuggers;
use confide_evidence::bytes::Bytes;
use confide_policy::egress::Phase;
use confide_release::Failure;

use super::broker::Broker;
use super::console::Console;
use super::machine::{Machine, VirtualMachine};
use super::sequence::Begun;
use super::watch::Watch;
use super::{Facts, Prepared, Way, attester, source};
use crate::config::Config;
use crate::egress;
use crate::error::GuestError;
use crate::gpus::Gpus;
use crate::serve::{self, Attended};
use crate::{confinement, endorsements, marking};

/// Boots and serves. Why it ends is told on the console, and to the broker where there is one.
pub(crate) fn run(named: Option<&Path>) -> Result<(), GuestError> {
    let mut console = Console::new();
    let outcome = boot(named, &mut console);
    if let Err(error) = &outcome {
        console.failed(error);
    }
    outcome
}

fn boot(named: Option<&Path>, console: &mut Console) -> Result<(), GuestError> {
    // The engine is kept out of this process's memory twice: it runs as another user, too.
    close_to_debuggers().map_err(GuestError::Closing)?;
    let config = source::read(named)?;
    config.check_boot()?;
    console.step("configuration-read");
    let facts = Facts::draw(&config, Way::Boot)?;
    let boot_id = facts.boot_id;
    let broker = config.broker.as_ref().map(Broker::new);
    let outcome = up_to_serving(&config, facts, broker.as_ref(), console);
    if let (Err(error), Some(broker)) = (&outcome, &broker) {
        tell(broker, boot_id, error);
    }
    outcome
}

fn up_to_serving(
    config: &Config,
    facts: Facts,
    broker: Option<&Broker>,
    console: &mut Console,
) -> Result<(), GuestError> {
    // No secret is there yet, and the capabilities that this takes still are.
    confinement::lock_memory().map_err(|source| GuestError::NotConfined { what: "memory", source })?;
    let bootstrap = egress::rules(config, Phase::Bootstrap)?;
    let mut machine = VirtualMachine::kept_to(config.egress_policy(), &bootstrap)?;
    console.step("egress-bootstrap");
    machine.set_up_network(config.network.as_ref())?;
    console.step("network");
    let attester = attester(config)?;
    let (format, filter) = config.log.parse()?;
    marking::install(format, filter, attester.nature())?;
    if needs_broker(config.egress_policy()) {
        machine.start_broker(config, attester.nature())?;
        console.step("egress-broker");
    }
    let collateral = config.endorsements.as_ref().map(endorsements::Prepared::of).transpose()?;
    let gpus = Gpus::of(config)?.map(Gpus::found).transpose()?;
    // Root's, whoever serves.
    let status = serve::status_socket(config)?;
    // One thread alone: capabilities belong to threads, and those that serve begin after they were given up.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let prepared = runtime.map_err(GuestError::Runtime)?.block_on(prepare(
        Begun { config, attester, facts, gpus },
        broker,
        &mut machine,
        console,
    ))?;
    confinement::enter(config, Way::Boot)?;
    // The engine ends with the thread that starts it, which was there before.
    let workload = machine.workload();
    if let Some(workload) = &workload {
        let config = config.clone();
        workload.run(move || confinement::enter(&config, Way::Boot)).map_err(GuestError::Runtime)??;
    }
    let watch = Watch::begin(machine.guards())?;
    serve::start(config, prepared, collateral, status, Some(Attended { console, watch }))
}

/// All steps before the model.
pub(crate) async fn prepare(
    begun: Begun<'_>,
    broker: Option<&Broker>,
    machine: &mut impl Machine,
    console: &mut Console,
) -> Result<Prepared, GuestError> {
    let measured = begun.measure()?;
    console.step("measured");
    let released = measured.release(broker, machine, console).await?;
    let locked = released.lock(machine, console)?;
    let opened = locked.open(broker, machine, console).await?;
    Ok(opened.prepared(machine))
}

/// Tells the broker why this boot ends. What it is told is nobody's proof.
fn tell(broker: &Broker, boot_id: Bytes<16>, error: &GuestError) {
    let failure = Failure::new(error.code(), boot_id, &error.sentence());
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(broker.tell(&failure)),
        Err(error) => tracing::warn!(%error, "the broker was not told"),
    }
}
