//! The devices behind a node: every call of the driver under a deadline, and the ready state.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use confide_evidence::document::{DeviceEvidence, Gpus, MAX_DEVICES};

use super::environment::{Environment, MultiGpu, ReadyState, Settings};
use super::error::GpuError;
use super::nscq::Nscq;
use super::nvml::Nvml;
use super::worker::{Deadlines, within};

/// The driver's libraries: names for the loader to find, or paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libraries {
    /// NVML.
    pub nvml: PathBuf,
    /// NSCQ, which only machines with switches have.
    pub nscq: PathBuf,
}

impl Default for Libraries {
    /// Names that stay the same as long as the functions do.
    fn default() -> Self {
        Self { nvml: "libnvidia-ml.so.1".into(), nscq: "libnvidia-nscq.so.2".into() }
    }
}

/// GPUs and switches, as they were found.
///
/// The libraries stay loaded as long as the process lives: a thread may hang in them for ever.
pub(super) struct Machine {
    nvml: &'static Nvml,
    gpus: usize,
    environment: Environment,
    switches: Switches,
    deadlines: Deadlines,
    health: Mutex<Health>,
}

/// The switches' names, and the library that asks them.
struct Switches {
    nscq: Option<&'static Mutex<Nscq>>,
    names: Arc<[String]>,
}

/// What this node has done to the GPUs.
struct Health {
    /// What the ready state was set to, or may have been.
    set: ReadyState,
    use_: Use,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Possible,
    Ended,
}

impl Machine {
    /// Loads the driver's libraries and counts the devices. The GPUs are not ready afterwards.
    pub(super) fn find(libraries: Libraries, deadlines: Deadlines) -> Result<Self, GpuError> {
        let (mut machine, nscq) = Self::open(libraries, deadlines)?;
        if machine.gpus > 0 {
            machine.unready_before_use()?;
            let environment = machine.read_environment()?;
            machine.enter(environment, nscq)?;
        }
        Ok(machine)
    }

    /// Loads NVML and counts the GPUs, of which nothing is known then. Gives the other library's name back.
    pub(super) fn open(libraries: Libraries, deadlines: Deadlines) -> Result<(Self, PathBuf), GpuError> {
        let Libraries { nvml, nscq } = libraries;
        let nvml = within(deadlines.start, "nvmlInit_v2", move || Nvml::open(&nvml))?;
        let nvml: &'static Nvml = Box::leak(Box::new(nvml));
        let gpus = within(deadlines.call, "nvmlDeviceGetCount_v2", move || nvml.count())?;
        let machine = Self {
            nvml,
            gpus,
            environment: Environment::NO_GPU,
            switches: Switches { nscq: None, names: Arc::new([]) },
            deadlines,
            health: Mutex::new(Health { set: ReadyState::NotReady, use_: Use::Possible }),
        };
        Ok((machine, nscq))
    }

    /// Takes the mode, and looks for the switches that belong to it.
    fn enter(&mut self, environment: Environment, nscq: PathBuf) -> Result<(), GpuError> {
        self.environment = environment;
        if environment.multi_gpu == MultiGpu::ProtectedPcie {
            self.switches = Switches::find(nscq, self.deadlines)?;
        }
        if self.gpus.saturating_add(self.switches.names.len()) > MAX_DEVICES {
            return Err(GpuError::TooMany);
        }
        Ok(())
    }

    /// Evidence for who only looks: a failure changes nothing.
    pub(super) fn look(
        &mut self,
        environment: Environment,
        nscq: PathBuf,
        nonces: impl Fn(u32) -> [u8; 32],
    ) -> Result<Vec<DeviceEvidence>, GpuError> {
        self.enter(environment, nscq)?;
        self.gather(nonces)
    }

    /// The driver's version, where it says it.
    pub(super) fn driver_version(&self) -> Option<String> {
        let nvml = self.nvml;
        let asked = move || Ok(nvml.driver_version());
        within(self.deadlines.call, "nvmlSystemGetDriverVersion", asked).ok().flatten()
    }

    /// The architecture of a GPU, where the driver says it.
    pub(super) fn architecture(&self, gpu: usize) -> Option<u32> {
        let nvml = self.nvml;
        let asked = move || Ok(nvml.architecture(gpu));
        within(self.deadlines.call, "nvmlDeviceGetArchitecture", asked).ok().flatten()
    }

    pub(super) fn is_ready(&self) -> Result<bool, GpuError> {
        let nvml = self.nvml;
        let asked = move || nvml.ready();
        within(self.deadlines.call, "nvmlSystemGetConfComputeGpusReadyState", asked)
            .map(|ready| ready == ReadyState::Ready)
    }

    /// Takes the ready state back that something else set. GPUs whose mode is off have none: their mode says more.
    fn unready_before_use(&self) -> Result<(), GpuError> {
        let nvml = self.nvml;
        let ready =
            within(self.deadlines.call, "nvmlSystemGetConfComputeGpusReadyState", move || nvml.ready());
        match ready {
            Ok(ReadyState::NotReady) => Ok(()),
            Ok(ReadyState::Ready) => self.set_ready(ReadyState::NotReady),
            Err(error) => Err(self.read_environment().err().unwrap_or(error)),
        }
    }

    fn read_environment(&self) -> Result<Environment, GpuError> {
        self.settings()?.environment()
    }

    pub(super) fn settings(&self) -> Result<Settings, GpuError> {
        let nvml = self.nvml;
        within(self.deadlines.call, "nvmlSystemGetConfComputeSettings", move || nvml.settings())
    }

    fn set_ready(&self, asked: ReadyState) -> Result<(), GpuError> {
        let nvml = self.nvml;
        within(self.deadlines.call, "nvmlSystemSetConfComputeGpusReadyState", move || nvml.set_ready(asked))
    }

    pub(super) fn gpus(&self) -> usize {
        self.gpus
    }

    pub(super) fn switches(&self) -> usize {
        self.switches.names.len()
    }

    pub(super) fn environment(&self) -> Environment {
        self.environment
    }

    pub(super) fn claims(&self) -> Gpus {
        self.environment.claims(self.gpus, self.health().set)
    }

    /// Evidence of every GPU and then of every switch, each under the nonce of its position. A failure ends the node.
    pub(super) fn evidence(&self, nonces: impl Fn(u32) -> [u8; 32]) -> Result<Vec<DeviceEvidence>, GpuError> {
        let mut health = self.usable()?;
        self.gather(nonces).map_err(|error| self.end(&mut health, error))
    }

    fn gather(&self, nonces: impl Fn(u32) -> [u8; 32]) -> Result<Vec<DeviceEvidence>, GpuError> {
        self.check_unchanged()?;
        let (nvml, mut list) = (self.nvml, Vec::new());
        let nonce_of = |position: usize| u32::try_from(position).map(&nonces).map_err(|_| GpuError::TooMany);
        for gpu in 0..self.gpus {
            let nonce = nonce_of(gpu)?;
            list.push(within(self.deadlines.call, "the report of a GPU", move || {
                nvml.evidence(gpu, &nonce)
            })?);
        }
        for switch in 0..self.switches.names.len() {
            let nonce = nonce_of(list.len())?;
            list.extend(self.switches.evidence(switch, nonce, self.deadlines)?);
        }
        self.check_unchanged()?;
        Ok(list)
    }

    /// Whether as many devices are there as were found, in the same mode.
    fn check_unchanged(&self) -> Result<(), GpuError> {
        let nvml = self.nvml;
        let now = within(self.deadlines.call, "nvmlDeviceGetCount_v2", move || nvml.count())?;
        same_count("GPUs", self.gpus, now)?;
        if self.gpus == 0 {
            return Ok(());
        }
        if self.read_environment()? != self.environment {
            return Err(GpuError::EnvironmentChanged);
        }
        self.switches.check_unchanged(self.deadlines)
    }

    /// Lets the GPUs take work. Only [`super::Node`] calls it, after the appraisal.
    pub(super) fn make_ready(&self) -> Result<(), GpuError> {
        let mut health = self.usable()?;
        if self.gpus == 0 {
            return Ok(());
        }
        let done = self.check_unchanged().and_then(|()| {
            // Whatever the call says: it may have been set.
            health.set = ReadyState::Ready;
            self.set_ready(ReadyState::Ready)
        });
        done.map_err(|error| self.end(&mut health, error))
    }

    /// Ends the use of the GPUs after a failure: they take no more work. Gives the failure, or that they still do.
    pub(super) fn fail(&self, error: GpuError) -> GpuError {
        self.end(&mut self.health(), error)
    }

    /// Ends the use of the GPUs.
    pub(super) fn stop(&self) -> Result<(), GpuError> {
        let mut health = self.health();
        self.unset(&mut health)
    }

    fn end(&self, health: &mut Health, error: GpuError) -> GpuError {
        match self.unset(health) {
            // Before it was set, it was read as not ready.
            Err(unset) if health.set == ReadyState::Ready => {
                GpuError::StillReady { reason: Box::new(error), unset: Box::new(unset) }
            }
            _ => error,
        }
    }

    fn unset(&self, health: &mut Health) -> Result<(), GpuError> {
        health.use_ = Use::Ended;
        if self.gpus == 0 {
            return Ok(());
        }
        self.set_ready(ReadyState::NotReady)?;
        health.set = ReadyState::NotReady;
        Ok(())
    }

    fn usable(&self) -> Result<MutexGuard<'_, Health>, GpuError> {
        let health = self.health();
        match health.use_ {
            Use::Possible => Ok(health),
            Use::Ended => Err(GpuError::Ended),
        }
    }

    /// A panic under the lock leaves a state that is at least as ready as the GPUs are.
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Machine {
    /// GPUs that nobody answers for take no work.
    fn drop(&mut self) {
        if self.health().set == ReadyState::Ready {
            // There is nobody left to tell.
            let _ = self.stop();
        }
    }
}

impl Switches {
    fn find(path: PathBuf, deadlines: Deadlines) -> Result<Self, GpuError> {
        let nscq = within(deadlines.start, "nscq_session_create", move || Nscq::open(&path))?;
        let nscq = nscq.map(|nscq| &*Box::leak(Box::new(Mutex::new(nscq))));
        let mut found = Self { nscq, names: Arc::new([]) };
        found.names = found.names_now(deadlines)?.into();
        Ok(found)
    }

    fn names_now(&self, deadlines: Deadlines) -> Result<Vec<String>, GpuError> {
        let Some(nscq) = self.nscq else { return Ok(Vec::new()) };
        within(deadlines.call, "the list of switches", move || lock(nscq).switches())
    }

    fn check_unchanged(&self, deadlines: Deadlines) -> Result<(), GpuError> {
        let now = self.names_now(deadlines)?;
        same_count("switches", self.names.len(), now.len())?;
        if now[..] != self.names[..] {
            return Err(GpuError::EnvironmentChanged);
        }
        Ok(())
    }

    fn evidence(
        &self,
        position: usize,
        nonce: [u8; 32],
        deadlines: Deadlines,
    ) -> Result<Option<DeviceEvidence>, GpuError> {
        let Some(nscq) = self.nscq else { return Ok(None) };
        let names = Arc::clone(&self.names);
        within(deadlines.call, "the report of a switch", move || {
            let Some(name) = names.get(position) else { return Ok(None) };
            lock(nscq).evidence(position, name, &nonce).map(Some)
        })
    }
}

fn lock(nscq: &Mutex<Nscq>) -> MutexGuard<'_, Nscq> {
    nscq.lock().unwrap_or_else(PoisonError::into_inner)
}

fn same_count(kind: &'static str, before: usize, now: usize) -> Result<(), GpuError> {
    if before == now { Ok(()) } else { Err(GpuError::CountChanged { kind, before, now }) }
}
