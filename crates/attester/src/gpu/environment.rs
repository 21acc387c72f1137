//! What the driver says of the GPUs' mode. No device signs it: the guest that read it is measured.

use confide_evidence::document::Gpus;

use super::error::GpuError;

/// The confidential-computing settings of all GPUs, as NVML gives them (`nvmlSystemGetConfComputeSettings`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Environment {
    /// What the GPUs run in.
    pub kind: EnvironmentKind,
    /// How several GPUs work together. In the protected-PCIe mode the switches give evidence too.
    pub multi_gpu: MultiGpu,
}

/// `NVML_CC_SYSTEM_ENVIRONMENT_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvironmentKind {
    /// There is no GPU.
    NoGpu,
    /// 0: the driver does not say.
    Unavailable,
    /// 1: NVIDIA's simulation.
    Sim,
    /// 2: hardware in production.
    Prod,
}

/// `NVML_CC_SYSTEM_MULTIGPU_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultiGpu {
    /// 0: each GPU for itself.
    Single,
    /// 1: eight Hopper GPUs and their switches.
    ProtectedPcie,
    /// 2: Blackwell GPUs with encrypted NVLink.
    NvLinkEncryption,
}

/// The numbers of `nvmlSystemConfComputeSettings_t`, as the driver gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `environment`: 0 unavailable, 1 simulation, 2 production.
    pub environment: u32,
    /// `ccFeature`: 1 on.
    pub feature: u32,
    /// `devToolsMode`: 1 on.
    pub dev_tools: u32,
    /// `multiGpuMode`: 0 none, 1 protected PCIe, 2 NVLink encryption.
    pub multi_gpu: u32,
}

impl Environment {
    /// Without a GPU there is nothing to say.
    pub(super) const NO_GPU: Self = Self { kind: EnvironmentKind::NoGpu, multi_gpu: MultiGpu::Single };

    /// What a confidential machine's settings say. The protected-PCIe mode stands beside a `ccFeature` of 0.
    pub(super) fn read(settings: Settings) -> Result<Self, GpuError> {
        let kind = match settings.environment {
            0 => EnvironmentKind::Unavailable,
            1 => EnvironmentKind::Sim,
            2 => EnvironmentKind::Prod,
            found => return Err(GpuError::Value { field: "environment", found }),
        };
        let multi_gpu = match settings.multi_gpu {
            0 => MultiGpu::Single,
            1 => MultiGpu::ProtectedPcie,
            2 => MultiGpu::NvLinkEncryption,
            found => return Err(GpuError::Value { field: "multiGpuMode", found }),
        };
        match (settings.feature, multi_gpu) {
            (1, _) | (0, MultiGpu::ProtectedPcie) => {}
            (0, _) => return Err(GpuError::ModeOff),
            (found, _) => return Err(GpuError::Value { field: "ccFeature", found }),
        }
        match settings.dev_tools {
            0 => Ok(Self { kind, multi_gpu }),
            1 => Err(GpuError::DevTools),
            found => Err(GpuError::Value { field: "devToolsMode", found }),
        }
    }

    /// The environment as the claims name it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            EnvironmentKind::NoGpu => "",
            EnvironmentKind::Unavailable => "UNAVAILABLE",
            EnvironmentKind::Sim => "SIM",
            EnvironmentKind::Prod => "PROD",
        }
    }

    /// The claims of a node of so many GPUs. GPUs with device tools are never taken into one.
    pub(super) fn claims(&self, gpus: usize, ready: ReadyState) -> Gpus {
        let (count, environment) = (u64::try_from(gpus).unwrap_or(u64::MAX), self.name().to_owned());
        Gpus { count, ready: ready == ReadyState::Ready, dev_tools: false, environment }
    }
}

/// NVML's `NVML_CC_ACCEPTING_CLIENT_REQUESTS_…`, of all GPUs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadyState {
    NotReady,
    Ready,
}

impl ReadyState {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::NotReady => 0,
            Self::Ready => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SINGLE: Settings = Settings { environment: 2, feature: 1, dev_tools: 0, multi_gpu: 0 };

    #[test]
    fn the_three_confidential_modes_are_read() {
        for (feature, number, multi_gpu) in [
            (1, 0, MultiGpu::Single),
            (0, 1, MultiGpu::ProtectedPcie),
            (1, 1, MultiGpu::ProtectedPcie),
            (1, 2, MultiGpu::NvLinkEncryption),
        ] {
            let read = Environment::read(Settings { feature, multi_gpu: number, ..SINGLE }).unwrap();
            assert_eq!(read, Environment { kind: EnvironmentKind::Prod, multi_gpu });
        }
        let names = [0, 1, 2]
            .map(|environment| Environment::read(Settings { environment, ..SINGLE }).unwrap().name());
        assert_eq!(names, ["UNAVAILABLE", "SIM", "PROD"]);
        assert_eq!(Environment::NO_GPU.name(), "");
    }

    #[test]
    fn a_mode_that_is_not_confidential_is_refused() {
        for multi_gpu in [0, 2] {
            let read = Environment::read(Settings { feature: 0, multi_gpu, ..SINGLE });
            assert!(matches!(read, Err(GpuError::ModeOff)), "{read:?}");
        }
        let read = Environment::read(Settings { dev_tools: 1, ..SINGLE });
        assert!(matches!(read, Err(GpuError::DevTools)), "{read:?}");
    }

    #[test]
    fn a_number_without_a_meaning_is_refused() {
        for (settings, name) in [
            (Settings { environment: 3, ..SINGLE }, "environment"),
            (Settings { feature: 2, ..SINGLE }, "ccFeature"),
            (Settings { dev_tools: u32::MAX, ..SINGLE }, "devToolsMode"),
            (Settings { multi_gpu: 3, ..SINGLE }, "multiGpuMode"),
        ] {
            let error = Environment::read(settings).unwrap_err();
            assert!(matches!(error, GpuError::Value { field, .. } if field == name), "{error}");
        }
    }
}
