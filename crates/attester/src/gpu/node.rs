//! The way of a node's GPUs to the ready state.

use confide_evidence::document::{DeviceEvidence, Gpus};
use confide_evidence::event::{DeviceInUse, DevicesInUse};
use confide_evidence::hash::sha256;
use confide_evidence::nvidia::{DeviceChain, Mode, Report};

use super::environment::Environment;
use super::error::{AppraisalError, GpuError};
use super::machine::{Libraries, Machine};
use super::worker::Deadlines;

/// All GPUs and switches of this machine, and how far they are: [`Found`], [`Collected`], [`Appraised`], [`Ready`].
///
/// Only an appraised node becomes ready:
///
/// ```compile_fail,E0599
/// # use confide_attester::gpu::{Collected, GpuError, Node, Ready};
/// # fn forge(node: Node<Collected>) -> Result<Node<Ready<()>>, GpuError> {
/// # let appraise = |node: Node<Collected>| node.appraise(|_, _| Ok::<_, String>(())).map_err(|_| GpuError::Ended);
/// let node = node;
/// node.set_ready()
/// # }
/// ```
///
/// ```
/// # use confide_attester::gpu::{Collected, GpuError, Node, Ready};
/// # fn forge(node: Node<Collected>) -> Result<Node<Ready<()>>, GpuError> {
/// # let appraise = |node: Node<Collected>| node.appraise(|_, _| Ok::<_, String>(())).map_err(|_| GpuError::Ended);
/// let node = appraise(node)?;
/// node.set_ready()
/// # }
/// ```
///
/// The state of being appraised cannot be made:
///
/// ```compile_fail,E0451
/// # use confide_attester::gpu::Appraised;
/// # fn forge(genuine: Appraised<()>) -> Appraised<()> {
/// Appraised { witness: (), ..genuine }
/// # }
/// ```
///
/// ```
/// # use confide_attester::gpu::Appraised;
/// # fn forge(genuine: Appraised<()>) -> Appraised<()> {
/// genuine
/// # }
/// ```
///
/// A node that is dropped when it is ready sets its GPUs back.
#[must_use = "GPUs that are not appraised and set ready take no work"]
pub struct Node<S> {
    machine: Machine,
    state: S,
}

/// The devices are counted, and their mode is a confidential one.
#[derive(Debug)]
pub struct Found(());

/// Every device gave evidence.
#[derive(Debug)]
pub struct Collected {
    evidence: Vec<DeviceEvidence>,
}

/// The appraisal accepted all devices together, and gave `W` for it.
#[derive(Debug)]
pub struct Appraised<W> {
    witness: W,
    in_use: DevicesInUse,
}

/// The GPUs take work.
#[derive(Debug)]
pub struct Ready<W> {
    appraised: Appraised<W>,
}

impl Node<Found> {
    /// Loads NVIDIA's libraries by their names and counts GPUs, and, in the protected-PCIe mode, switches. A ready state
    /// that something else set is taken back. A machine may have NVML and no GPU; its node has no evidence and nothing
    /// to make ready.
    ///
    /// Without NSCQ no switch is found: whether the GPUs' signed reports then ask for some is for the appraisal.
    ///
    /// Blocks until the driver has initialised the GPUs, which may take a minute, and as long as `deadlines` allow at most;
    /// callers keep it off asynchronous threads.
    ///
    /// # Errors
    /// [`GpuError::Library`] without NVML. When the GPUs are in no confidential mode or let tools look into them, or the
    /// driver fails, lies about a number or does not answer.
    pub fn find(deadlines: Deadlines) -> Result<Self, GpuError> {
        Self::found(Libraries::default(), deadlines)
    }

    /// As [`Node::find`], with other libraries: whoever names them decides what the GPUs seem to say.
    ///
    /// # Errors
    /// As [`Node::find`].
    #[cfg(feature = "danger-simulator")]
    pub fn danger_find_with(libraries: Libraries, deadlines: Deadlines) -> Result<Self, GpuError> {
        Self::found(libraries, deadlines)
    }

    fn found(libraries: Libraries, deadlines: Deadlines) -> Result<Self, GpuError> {
        Ok(Self { machine: Machine::find(libraries, deadlines)?, state: Found(()) })
    }

    /// Has every device report, as [`Node::evidence`] does, for an appraisal by this machine itself.
    ///
    /// # Errors
    /// As [`Node::evidence`].
    pub fn collect(self, nonces: impl Fn(u32) -> [u8; 32]) -> Result<Node<Collected>, GpuError> {
        let evidence = self.evidence(nonces)?;
        Ok(Node { machine: self.machine, state: Collected { evidence } })
    }
}

impl<S> Node<S> {
    /// GPUs.
    #[must_use]
    pub fn gpus(&self) -> usize {
        self.machine.gpus()
    }

    /// Switches. None are looked for outside of the protected-PCIe mode.
    #[must_use]
    pub fn switches(&self) -> usize {
        self.machine.switches()
    }

    /// The mode of the GPUs, as the driver gives it.
    #[must_use]
    pub fn environment(&self) -> Environment {
        self.machine.environment()
    }

    /// The GPU facts of the claims, as they are now.
    #[must_use]
    pub fn claims(&self) -> Gpus {
        self.machine.claims()
    }

    /// Evidence of every GPU and then of every switch. Each signs the nonce of its position in this list, from 0, and
    /// nobody has checked that yet.
    ///
    /// Blocks while the devices work, up to a second each; callers keep it off asynchronous threads. One caller at a
    /// time is served.
    ///
    /// # Errors
    /// When a device is gone, their mode changed, or the driver fails, lies about a size or does not answer. The GPUs
    /// are then set back to not ready and the node is of no more use.
    pub fn evidence(&self, nonces: impl Fn(u32) -> [u8; 32]) -> Result<Vec<DeviceEvidence>, GpuError> {
        self.machine.evidence(nonces)
    }
}

impl Node<Collected> {
    /// Has the whole node appraised: its evidence, GPUs first, and what the driver says of their mode. This crate does
    /// not know how; `W` is the appraisal's word for its success.
    ///
    /// # Errors
    /// [`AppraisalError::Refused`] with what the appraisal returned. The GPUs are not ready.
    pub fn appraise<W, E>(
        self,
        appraisal: impl FnOnce(&[DeviceEvidence], Environment) -> Result<W, E>,
    ) -> Result<Node<Appraised<W>>, AppraisalError<E>> {
        let Self { machine, state: Collected { evidence } } = self;
        let witness = match appraisal(&evidence, machine.environment()) {
            Ok(witness) => witness,
            Err(reason) => {
                // Nothing but `set_ready` sets it: it was read as not ready, and stays so where this fails.
                let _ = machine.stop();
                return Err(AppraisalError::Refused(reason));
            }
        };
        let in_use = devices_in_use(&evidence).map_err(|error| machine.fail(error))?;
        Ok(Node { machine, state: Appraised { witness, in_use } })
    }
}

impl<W> Node<Appraised<W>> {
    /// Lets all GPUs take work, if as many are there as were appraised, in the same mode.
    ///
    /// # Errors
    /// When that is not so, or the driver fails, does not answer, or sets another state than it was told. The GPUs are
    /// then set back; [`GpuError::StillReady`] where even that fails.
    pub fn set_ready(self) -> Result<Node<Ready<W>>, GpuError> {
        self.machine.make_ready()?;
        Ok(Node { machine: self.machine, state: Ready { appraised: self.state } })
    }

    /// What the appraisal returned.
    #[must_use]
    pub fn witness(&self) -> &W {
        &self.state.witness
    }
}

impl<W> Node<Ready<W>> {
    /// What the appraisal returned.
    #[must_use]
    pub fn witness(&self) -> &W {
        &self.state.appraised.witness
    }

    /// Payload of the event `devices`: the devices that were appraised, in the order of their evidence.
    #[must_use]
    pub fn devices_in_use(&self) -> &DevicesInUse {
        &self.state.appraised.in_use
    }

    /// Sets the GPUs back: they take no more work.
    ///
    /// # Errors
    /// When the driver fails or does not answer: the GPUs may still take work.
    pub fn stop(self) -> Result<(), GpuError> {
        self.machine.stop()
    }
}

/// What the event `devices` says of evidence that was accepted.
fn devices_in_use(evidence: &[DeviceEvidence]) -> Result<DevicesInUse, GpuError> {
    let devices = evidence.iter().enumerate().map(|(device, evidence)| {
        let chain = DeviceChain::parse(evidence.chain.as_bytes())
            .map_err(|source| GpuError::Chain { device, source })?;
        let report = Report::parse(evidence.report.as_bytes())
            .map_err(|source| GpuError::Report { device, source })?;
        let mode = mode_name(report.mode()).to_owned();
        Ok(DeviceInUse { mode, certificate: sha256(&chain.leaf().der) })
    });
    Ok(DevicesInUse { devices: devices.collect::<Result<_, GpuError>>()? })
}

/// As [`DeviceInUse::mode`] names it.
fn mode_name(mode: Option<Mode>) -> &'static str {
    match mode {
        Some(Mode::SinglePassthrough) => "spt",
        Some(Mode::MultiPassthrough) => "mpt",
        Some(Mode::ProtectedPcie) => "ppcie",
        Some(Mode::Unknown(_)) | None => "unknown",
    }
}
