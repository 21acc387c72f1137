//! What the driver says of the GPUs, without changing anything.

use confide_evidence::document::DeviceEvidence;

use super::environment::{Environment, Settings};
use super::error::GpuError;
use super::machine::{Libraries, Machine};
use super::worker::Deadlines;

/// What the driver says of the GPUs. Unlike [`Node::find`](super::Node::find), taking it leaves the ready state as it is, and
/// GPUs in no confidential mode have one, too: it is for who wants to know what is wrong, also while a guest serves.
#[derive(Debug)]
pub struct Survey {
    /// Version of the driver (`nvmlSystemGetDriverVersion`); `None` where it does not say.
    pub driver: Option<String>,
    /// GPUs.
    pub gpus: usize,
    /// The architecture of each GPU (`NVML_DEVICE_ARCH_…`: 9 Hopper, 10 Blackwell); `None` where it does not say.
    pub architectures: Vec<Option<u32>>,
    /// The settings of all GPUs. Without GPUs there are none.
    pub settings: Option<Result<Settings, GpuError>>,
    /// Whether the GPUs take work. Asked only in a confidential mode: others have no such state.
    pub ready: Option<Result<bool, GpuError>>,
    /// Evidence of every GPU and then, in the protected-PCIe mode, of every switch, each under the nonce of its position.
    /// Asked only in a confidential mode. Nothing of it is verified.
    pub evidence: Option<Result<Vec<DeviceEvidence>, GpuError>>,
}

impl Survey {
    /// Asks the driver. Blocks as [`Node::find`](super::Node::find) does.
    ///
    /// # Errors
    /// [`GpuError::Library`] without NVML. When the driver cannot count its GPUs.
    pub fn take(nonces: impl Fn(u32) -> [u8; 32], deadlines: Deadlines) -> Result<Self, GpuError> {
        Self::taken(nonces, Libraries::default(), deadlines)
    }

    /// As [`Survey::take`], with other libraries: whoever names them decides what the GPUs seem to say.
    ///
    /// # Errors
    /// As [`Survey::take`].
    #[cfg(feature = "danger-simulator")]
    pub fn danger_take_with(
        nonces: impl Fn(u32) -> [u8; 32],
        libraries: Libraries,
        deadlines: Deadlines,
    ) -> Result<Self, GpuError> {
        Self::taken(nonces, libraries, deadlines)
    }

    fn taken(
        nonces: impl Fn(u32) -> [u8; 32],
        libraries: Libraries,
        deadlines: Deadlines,
    ) -> Result<Self, GpuError> {
        let (mut machine, nscq) = Machine::open(libraries, deadlines)?;
        let gpus = machine.gpus();
        let mut survey = Self {
            driver: machine.driver_version(),
            gpus,
            architectures: (0..gpus).map(|gpu| machine.architecture(gpu)).collect(),
            settings: None,
            ready: None,
            evidence: None,
        };
        if gpus == 0 {
            return Ok(survey);
        }
        let settings = machine.settings();
        let environment = settings.as_ref().ok().map(|settings| settings.environment());
        survey.settings = Some(settings);
        if let Some(Ok(environment)) = environment {
            survey.ready = Some(machine.is_ready());
            survey.evidence = Some(machine.look(environment, nscq, nonces));
        }
        Ok(survey)
    }
}

impl Settings {
    /// What a confidential machine's settings say.
    ///
    /// # Errors
    /// [`GpuError::ModeOff`], [`GpuError::DevTools`], and [`GpuError::Value`] for a number without a meaning.
    pub fn environment(self) -> Result<Environment, GpuError> {
        Environment::read(self)
    }
}
