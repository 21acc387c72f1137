//! `confide doctor`: what a guest or host has to attest with, and what to do about what it lacks.

mod clock;
mod cpu;
mod finding;
mod gpus;
mod report;
mod tcb;

pub use finding::DOCTOR;

use crate::endorser::{self, EndorserFlags};
use crate::input::{Otherwise, PolicyFlags};
use crate::status::{Failure, Status};
use crate::{guest, render};
use clock::Signs;
use confide_attester::gpu::{Deadlines, GpuError, Survey as GpuSurvey};
use confide_attester::kernel::{Kernel, Place, Trial, TrialError};
use confide_endorser::{BaseUrl, Nvidia, NvidiaStore, Origin};
use confide_evidence::time::{format_rfc3339, seconds};
use finding::Finding;
use gpus::Manifests;
use report::{Nature, Report};
use std::path::PathBuf;
use std::time::Duration;
use tcb::{Asking, Told};

/// Say what this guest or host has to attest with, and what to do about what it lacks
///
/// Run it as root in the virtual machine, or on its host: platform, configfs-tsm, a trial quote, the platform's TCB by Intel's
/// collateral, GPUs with their mode, driver and manifests, and the clock. Every check is told of, also one that does not apply
/// to this machine or could not be run, with the reason.
///
/// The trial quote answers no challenge. It is appraised by policies/inspect.toml unless --policy names another one; report
/// data, RTMR3 and early TCB levels are not looked at. A status that the next TCB recovery brings is warned of with --update
/// both. Nothing is changed: GPUs keep their ready state, and a guest that serves goes on.
///
/// The first word is HEALTHY, or INCOMPLETE where a check could not be run, or TO BE MENDED.
///
/// Exit status: 0 nothing must be mended, 10 something must, or the TCB of a TDX guest could not be told although services may
/// be asked, 2 wrong usage, 1 internal error. Warnings are no failures.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    endorser: EndorserFlags,
    #[command(flatten)]
    policy: PolicyFlags,
    /// Store of NVIDIA's manifests (`confide rim`) to look into before NVIDIA is asked what it publishes
    #[arg(long, value_name = "DIR")]
    rim_store: Option<PathBuf>,
    /// Service to ask for manifests in place of NVIDIA's, https://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    rim_service: Option<BaseUrl>,
    /// Certificate that this service shows, PEM: exactly this one is trusted, in place of the web authorities
    #[arg(long, value_name = "FILE", requires = "rim_service")]
    rim_service_certificate: Option<PathBuf>,
    /// Seconds to wait for the trial quote, 1 to 600: the kernel itself gives up after 30
    #[arg(long, value_name = "SECONDS", default_value_t = 35, value_parser = clap::value_parser!(u64).range(1..=600))]
    quote_timeout: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[cfg(feature = "danger-simulator")]
    #[command(flatten)]
    made_up: MadeUp,
}

/// A machine that files make up.
#[cfg(feature = "danger-simulator")]
#[derive(Debug, clap::Args)]
struct MadeUp {
    /// Folder with the files of a made-up kernel, in place of /
    #[arg(long, value_name = "DIR")]
    danger_root: Option<PathBuf>,
    /// Library in place of NVIDIA's NVML and NSCQ
    #[arg(long, value_name = "FILE")]
    danger_nvml: Option<PathBuf>,
}

impl Doctor {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let now = confide_endorser::now();
        let policy = self.policy.load(Otherwise::Inspect, now)?;
        let endorser = self.endorser.endorser_with(self.nvidia()?)?;
        let kernel = self.kernel();
        let survey = kernel.survey();
        let place = survey.place;
        let boot_log = kernel.boot_log();
        let mut findings = vec![
            cpu::tee(&survey),
            cpu::tdx_module(&survey),
            cpu::tdx_device(&survey),
            cpu::register(&survey),
            cpu::boot_log(place, &boot_log),
            cpu::snp(&survey),
        ];
        let trial = cpu::is_guest(place).then(|| self.trial(&kernel)).transpose()?;
        findings.extend(match &trial {
            Some(trial) => cpu::quoting(&survey, trial),
            None => cpu::quoting_of_host(place, &kernel),
        });
        let asking = Asking {
            endorser: &endorser,
            flags: &self.endorser,
            policy: &policy,
            boot_log: boot_log.ok().flatten(),
            now,
        };
        let Told { findings: of_platform, windows, simulated } =
            guest::block_on(async { Ok(platform(place, trial, &asking).await) })?;
        findings.extend(of_platform);
        findings.extend(self.gpus(place, survey.nvidia_gpus, &asking)?);
        findings.push(clock::clock(&Signs {
            now: seconds(confide_endorser::now()),
            service: endorser.service_time(),
            windows: &windows,
            synchronized: survey.time_synchronized,
        }));
        let nature = if simulated || self.is_made_up() { Nature::Simulated } else { Nature::Genuine };
        let report = Report::new(place, nature, self.endorser.network(), format_rfc3339(now), findings);
        report.print(self.json);
        Ok(report.status())
    }

    fn trial(&self, kernel: &Kernel) -> Result<Result<Trial, TrialError>, Failure> {
        let limit = Duration::from_secs(self.quote_timeout);
        render::progress(&format!("asking for a quote, {} seconds at most", limit.as_secs()));
        Ok(kernel.trial(&random()?, limit))
    }

    fn gpus(
        &self,
        place: Place,
        on_bus: Option<usize>,
        asking: &Asking<'_>,
    ) -> Result<Vec<Finding>, Failure> {
        if let Some(on_bus @ 1..) = on_bus {
            let gpus = render::counted(on_bus, "GPU");
            render::progress(&format!("asking the NVIDIA driver for {gpus}, some minutes at most"));
        }
        let drawn = random()?;
        let survey = self.gpu_survey(|position| nonce(drawn, position));
        let manifests = Manifests {
            store: self.rim_store.clone().map(NvidiaStore::at),
            endorser: asking.endorser,
            network: self.endorser.network(),
        };
        guest::block_on(async { Ok(gpus::gpus(place, on_bus, &survey, &manifests).await) })
    }

    fn nvidia(&self) -> Result<Nvidia, Failure> {
        let Some(base) = self.rim_service.clone() else { return Ok(Nvidia::public()) };
        let trust = endorser::trust(self.rim_service_certificate.as_deref())?;
        Ok(Nvidia::public().rims_at(Origin { base, trust }))
    }

    #[cfg(not(feature = "danger-simulator"))]
    fn kernel(&self) -> Kernel {
        Kernel::running()
    }

    #[cfg(feature = "danger-simulator")]
    fn kernel(&self) -> Kernel {
        self.made_up.danger_root.clone().map_or_else(Kernel::running, Kernel::danger_at)
    }

    #[cfg(not(feature = "danger-simulator"))]
    fn gpu_survey(&self, nonces: impl Fn(u32) -> [u8; 32]) -> Result<GpuSurvey, GpuError> {
        GpuSurvey::take(nonces, Deadlines::default())
    }

    #[cfg(feature = "danger-simulator")]
    fn gpu_survey(&self, nonces: impl Fn(u32) -> [u8; 32]) -> Result<GpuSurvey, GpuError> {
        let Some(library) = self.made_up.danger_nvml.clone() else {
            return GpuSurvey::take(nonces, Deadlines::default());
        };
        let libraries = confide_attester::gpu::Libraries { nvml: library.clone(), nscq: library };
        GpuSurvey::danger_take_with(nonces, libraries, Deadlines::default())
    }

    #[cfg(not(feature = "danger-simulator"))]
    fn is_made_up(&self) -> bool {
        false
    }

    #[cfg(feature = "danger-simulator")]
    fn is_made_up(&self) -> bool {
        self.made_up.danger_root.is_some() || self.made_up.danger_nvml.is_some()
    }
}

/// What the platform's own evidence tells.
async fn platform(place: Place, trial: Option<Result<Trial, TrialError>>, asking: &Asking<'_>) -> Told {
    match trial {
        Some(Ok(trial)) if place == Place::SnpGuest => tcb::of_snp(&trial),
        Some(Ok(trial)) => {
            render::progress("asking for Intel's collateral, a minute at most");
            tcb::of_quote(&trial, asking).await
        }
        Some(Err(_)) | None => tcb::without_quote(place),
    }
}

/// The nonce of one device: each signs its own.
fn nonce(mut drawn: [u8; 32], position: u32) -> [u8; 32] {
    drawn[..4].copy_from_slice(&position.to_be_bytes());
    drawn
}

fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Failure::new(Status::Internal, "random_failed", "the system gives no random bytes"))?;
    Ok(bytes)
}
