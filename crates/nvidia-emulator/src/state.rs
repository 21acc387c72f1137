//! The scenario in play, which all calls of a process share.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use confide_simulator::{GpuOptions, NodeOptions, SimulatedNode};

use crate::scenario::{Effect, Machine, Scenario, Source};
use crate::{VARIABLE, journal};

/// One process's machine.
pub(crate) struct State {
    pub(crate) scenario: Scenario,
    pub(crate) ready: u32,
    /// What `nscq_session_set_input` got.
    pub(crate) input: Vec<u8>,
    /// The simulated devices, once one is asked.
    simulated: OnceLock<Option<SimulatedNode>>,
    calls: BTreeMap<String, u32>,
    journal: File,
}

/// The machine; none where the scenario cannot be read.
fn state() -> Option<&'static Mutex<State>> {
    static STATE: OnceLock<Option<Mutex<State>>> = OnceLock::new();
    STATE.get_or_init(|| State::read().map(Mutex::new)).as_ref()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn read() -> Option<Self> {
        let path = std::path::PathBuf::from(std::env::var_os(VARIABLE)?);
        let scenario: Scenario = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        let journal = OpenOptions::new().create(true).append(true).open(journal(&path)).ok()?;
        Some(Self {
            ready: scenario.ready,
            scenario,
            input: Vec::new(),
            simulated: OnceLock::new(),
            calls: BTreeMap::new(),
            journal,
        })
    }

    /// Writes the call down and gives the effect of the fault that holds for it.
    fn enter(&mut self, call: &str, number: Option<u32>) -> Option<Effect> {
        let line = number.map_or_else(|| format!("{call}\n"), |number| format!("{call} {number}\n"));
        // A test that reads the journal sees what is missing.
        let _ = self.journal.write_all(line.as_bytes());
        let count = self.calls.entry(call.to_owned()).or_default();
        *count += 1;
        let holds = |fault: &&crate::Fault| fault.call == call && fault.from <= *count;
        self.scenario.faults.iter().find(holds).map(|fault| fault.effect)
    }

    fn simulated(&self) -> Option<&SimulatedNode> {
        let (gpus, switches) = (self.scenario.gpus.len(), self.scenario.switches.len());
        let options = || match self.scenario.machine {
            Machine::Hopper(seed) => {
                let gpus = (seed..).take(gpus).map(GpuOptions::hopper).collect();
                NodeOptions { gpus, switches: Vec::new() }
            }
            Machine::ProtectedPcie(seed) => NodeOptions::ppcie(seed, gpus, switches),
            Machine::MultiPassthrough(seed) => NodeOptions::mpt(seed, gpus),
        };
        self.simulated.get_or_init(|| SimulatedNode::with_options(options()).ok()).as_ref()
    }

    /// The report of a GPU for a nonce; none where there is no such GPU.
    pub(crate) fn gpu_report(&self, index: usize, nonce: [u8; 32]) -> Option<Vec<u8>> {
        match self.scenario.gpus.get(index)? {
            Source::Simulated => Some(self.simulated()?.gpus.get(index)?.report(nonce)),
            Source::Recorded { report, .. } => std::fs::read(report).ok(),
        }
    }

    /// The certificate chain of a GPU, PEM.
    pub(crate) fn gpu_chain(&self, index: usize) -> Option<Vec<u8>> {
        match self.scenario.gpus.get(index)? {
            Source::Simulated => Some(self.simulated()?.gpus.get(index)?.chain_pem().into_bytes()),
            Source::Recorded { chain, .. } => std::fs::read(chain).ok(),
        }
    }

    /// The report of a switch for the nonce that was put in; none where there is no such switch.
    pub(crate) fn switch_report(&self, index: usize) -> Option<Vec<u8>> {
        match &self.scenario.switches.get(index)?.source {
            Source::Simulated => {
                let nonce = self.input.as_slice().try_into().ok()?;
                Some(self.simulated()?.switches.get(index)?.report(nonce))
            }
            Source::Recorded { report, .. } => std::fs::read(report).ok(),
        }
    }

    /// The certificate chain of a switch, PEM.
    pub(crate) fn switch_chain(&self, index: usize) -> Option<Vec<u8>> {
        match &self.scenario.switches.get(index)?.source {
            Source::Simulated => Some(self.simulated()?.switches.get(index)?.chain_pem().into_bytes()),
            Source::Recorded { chain, .. } => std::fs::read(chain).ok(),
        }
    }
}

/// Begins a call. A fault that ends it gives its code; one that hangs does not return.
///
/// # Errors
/// The code to return: of the fault, or `without` where there is no scenario.
pub(crate) fn call(
    name: &str,
    number: Option<u32>,
    without: i32,
) -> Result<(MutexGuard<'static, State>, Option<Effect>), i32> {
    let state = state().ok_or(without)?;
    let effect = lock(state).enter(name, number);
    match effect {
        Some(Effect::Return(code)) => Err(code),
        // Without the lock: other calls go on.
        Some(Effect::Hang) => loop {
            std::thread::park();
        },
        other => Ok((lock(state), other)),
    }
}

/// Copies to the beginning of a buffer as much as it holds; gives the length, or the number of the fault.
pub(crate) fn fill(buffer: &mut [u8], bytes: &[u8], effect: Option<Effect>) -> u32 {
    let length = bytes.len().min(buffer.len());
    buffer[..length].copy_from_slice(&bytes[..length]);
    number(effect, length as u32)
}

/// The number of the fault, or the true one.
pub(crate) fn number(effect: Option<Effect>, own: u32) -> u32 {
    if let Some(Effect::Number(number)) = effect { number } else { own }
}
