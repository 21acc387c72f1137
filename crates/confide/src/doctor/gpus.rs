//! NVIDIA's devices: driver, mode, evidence, and whether NVIDIA publishes the manifests that they need.

use super::finding::{
    Check, Finding, GPU_DEV_TOOLS, GPU_DRIVER, GPU_ENVIRONMENT, GPU_EVIDENCE, GPU_MODE, GPU_READY, GPU_RIM,
};
use crate::endorser;
use crate::render::counted;
use confide_attester::gpu::{GpuError, Settings, Survey};
use confide_attester::kernel::Place;
use confide_endorser::{Endorser, Network, NvidiaStore, RimId, rim_ids};
use confide_evidence::document::DeviceEvidence;
use confide_evidence::nvidia::{DeviceChain, Report};
use std::collections::BTreeSet;
use std::error::Error as _;

/// Where manifests are looked up.
pub(super) struct Manifests<'a> {
    pub(super) store: Option<NvidiaStore>,
    pub(super) endorser: &'a Endorser,
    pub(super) network: Network,
}

/// The findings about all devices. `on_bus` is how many GPUs the kernel sees, where it lets the PCI bus be read.
pub(super) async fn gpus(
    place: Place,
    on_bus: Option<usize>,
    survey: &Result<Survey, GpuError>,
    manifests: &Manifests<'_>,
) -> Vec<Finding> {
    match survey {
        Ok(survey) if survey.gpus > 0 => of(survey, on_bus, manifests).await,
        Ok(_) => match on_bus {
            Some(0) => absent("the driver counts no GPU, and none is on the PCI bus"),
            Some(on_bus) => {
                let on_bus = counted(on_bus, "GPU");
                unanswered(GPU_DRIVER.fail(format!("the driver counts no GPU, and {on_bus} on the PCI bus")))
            }
            None => unseen("the driver counts no GPU, and the PCI bus cannot be read"),
        },
        Err(GpuError::Library { .. }) if on_bus == Some(0) => {
            absent("no GPU of NVIDIA's is on the PCI bus, and there is no NVML")
        }
        Err(GpuError::Library { .. }) if matches!(place, Place::TdxHost | Place::SnpHost) => {
            absent("this host has no NVIDIA driver: the guests that it gives its GPUs to have one, and tell")
        }
        Err(GpuError::Library { .. }) if on_bus.is_none() => {
            unseen("there is no NVML, and the PCI bus cannot be read")
        }
        Err(error) => {
            let bus = match on_bus {
                Some(on_bus) => format!("{} on the PCI bus", counted(on_bus, "GPU")),
                None => "the PCI bus cannot be read".to_owned(),
            };
            let found = format!("{} [{}]; {bus}", told(error), error.code());
            unanswered(GPU_DRIVER.fail_do(found, remedy(error)))
        }
    }
}

const ALL: [Check; 7] =
    [GPU_DRIVER, GPU_MODE, GPU_DEV_TOOLS, GPU_ENVIRONMENT, GPU_READY, GPU_EVIDENCE, GPU_RIM];
const BUS: &str = "mount sysfs (mount -t sysfs none /sys), and run this command as root";

fn absent(reason: &str) -> Vec<Finding> {
    ALL.map(|check| check.not_applicable(reason)).into()
}

/// Whether there are GPUs is not known.
fn unseen(reason: &str) -> Vec<Finding> {
    ALL.map(|check| check.not_run_do(reason, BUS)).into()
}

fn unanswered(driver: Finding) -> Vec<Finding> {
    let others = [GPU_MODE, GPU_DEV_TOOLS, GPU_ENVIRONMENT, GPU_READY, GPU_EVIDENCE, GPU_RIM];
    let others = others.map(|check| check.not_run("the driver does not answer for the GPUs"));
    [vec![driver], others.into()].concat()
}

async fn of(survey: &Survey, on_bus: Option<usize>, manifests: &Manifests<'_>) -> Vec<Finding> {
    let mut findings = vec![driver(survey, on_bus)];
    match &survey.settings {
        Some(Ok(settings)) => {
            findings.extend([mode(*settings), dev_tools(*settings), environment(*settings)])
        }
        Some(Err(error)) => {
            findings.push(GPU_MODE.fail_do(format!("{} [{}]", told(error), error.code()), remedy(error)));
            findings.extend(
                [GPU_DEV_TOOLS, GPU_ENVIRONMENT].map(|check| check.not_run("the driver tells no settings")),
            );
        }
        None => findings.extend(
            [GPU_MODE, GPU_DEV_TOOLS, GPU_ENVIRONMENT]
                .map(|check| check.not_run("the driver tells no settings")),
        ),
    }
    findings.push(ready(survey));
    let ids = match &survey.evidence {
        Some(Ok(evidence)) => {
            let (finding, ids) = read(evidence);
            findings.push(finding);
            ids
        }
        Some(Err(error)) => {
            findings.push(GPU_EVIDENCE.fail_do(format!("{} [{}]", told(error), error.code()), remedy(error)));
            None
        }
        None => {
            findings.push(GPU_EVIDENCE.not_run("the GPUs are in no mode in which they report"));
            None
        }
    };
    findings.push(match ids {
        Some(ids) => rims(&ids, manifests).await,
        None => GPU_RIM.not_run("no report says which manifests the devices need"),
    });
    findings
}

fn driver(survey: &Survey, on_bus: Option<usize>) -> Finding {
    let version = survey.driver.as_deref().unwrap_or("of an unknown version");
    let names: BTreeSet<String> = survey.architectures.iter().map(|one| architecture(*one)).collect();
    let names: Vec<String> = names.into_iter().collect();
    let found = format!("driver {version}, GPUs: {}, architecture {}", survey.gpus, names.join(" and "));
    let without = |number: &Option<u32>| number.is_some_and(|number| number < HOPPER);
    if survey.architectures.iter().any(without) {
        return GPU_DRIVER
            .fail_do(found, "use Hopper or Blackwell GPUs: older ones have no confidential mode");
    }
    match on_bus {
        Some(on_bus) if on_bus == survey.gpus => GPU_DRIVER.ok(found),
        Some(on_bus) => {
            let on_bus = counted(on_bus, "GPU");
            GPU_DRIVER.fail_do(format!("{found}; {on_bus} on the PCI bus"), OTHER_COUNT)
        }
        None => GPU_DRIVER.not_run_do(
            format!("{found}; whether these are all is not known: the PCI bus cannot be read"),
            BUS,
        ),
    }
}

const OTHER_COUNT: &str = "look in the kernel's log for the GPU that is missing (as root: dmesg | grep -i nvrm), and power the \
                           virtual machine off and boot it again";

/// `NVML_DEVICE_ARCH_HOPPER`.
const HOPPER: u32 = 9;

/// `NVML_DEVICE_ARCH_…`.
fn architecture(number: Option<u32>) -> String {
    match number {
        Some(HOPPER) => "Hopper".to_owned(),
        Some(10) => "Blackwell".to_owned(),
        Some(number) => format!("number {number}"),
        None => "unknown".to_owned(),
    }
}

fn mode(settings: Settings) -> Finding {
    match settings.environment() {
        Err(error @ GpuError::ModeOff) => GPU_MODE.fail_do(error.to_string(), remedy(&error)),
        Err(error @ GpuError::Value { field: "ccFeature" | "multiGpuMode", .. }) => {
            GPU_MODE.fail_do(error.to_string(), remedy(&error))
        }
        _ => GPU_MODE.ok(match settings.multi_gpu {
            1 => "on, protected PCIe",
            2 => "on, encrypted NVLink (multi pass-through)",
            _ => "on, each GPU for itself",
        }),
    }
}

fn dev_tools(settings: Settings) -> Finding {
    match settings.dev_tools {
        0 => GPU_DEV_TOOLS.ok("off"),
        1 => GPU_DEV_TOOLS.fail("on: tools may look into the GPUs"),
        found => GPU_DEV_TOOLS.fail(format!("the driver says {found}, which has no meaning")),
    }
}

fn environment(settings: Settings) -> Finding {
    match settings.environment {
        2 => GPU_ENVIRONMENT.ok("PROD"),
        1 => GPU_ENVIRONMENT.fail("SIM: NVIDIA's simulation"),
        0 => GPU_ENVIRONMENT.fail("UNAVAILABLE: the driver does not say"),
        found => GPU_ENVIRONMENT.fail(format!("the driver says {found}, which has no meaning")),
    }
}

fn ready(survey: &Survey) -> Finding {
    match &survey.ready {
        Some(Ok(true)) => GPU_READY.ok("ready: the GPUs take work, as while a confidential guest serves"),
        Some(Ok(false)) => GPU_READY.ok("not ready: confide-guest sets it once it has appraised the GPUs"),
        Some(Err(error)) => GPU_READY.fail_do(format!("{} [{}]", told(error), error.code()), remedy(error)),
        None => GPU_READY.not_run("the GPUs are in no mode that has such a state"),
    }
}

/// Reads the devices' evidence; the ids of all manifests that it needs, where it can be read.
fn read(evidence: &[DeviceEvidence]) -> (Finding, Option<BTreeSet<RimId>>) {
    let mut ids = BTreeSet::new();
    let mut shown = BTreeSet::new();
    for (position, device) in evidence.iter().enumerate() {
        match versions(device) {
            Ok((versions, needed)) => {
                shown.insert(versions);
                ids.extend(needed);
            }
            Err(error) => return (GPU_EVIDENCE.fail(format!("device {position}: {error}")), None),
        }
    }
    let shown: Vec<String> = shown.into_iter().collect();
    let found = format!(
        "devices that report: {} ({}); `confide verify gpu` appraises them",
        evidence.len(),
        shown.join(" and ")
    );
    (GPU_EVIDENCE.ok(found), Some(ids))
}

/// What a device runs, and the ids of its manifests.
fn versions(device: &DeviceEvidence) -> Result<(String, Vec<RimId>), String> {
    let report = Report::parse(device.report.as_bytes()).map_err(|error| format!("its report: {error}"))?;
    let chain = DeviceChain::parse(device.chain.as_bytes()).map_err(|error| format!("its chain: {error}"))?;
    let ids = rim_ids(&report, &chain).map_err(|error| error.to_string())?;
    let driver = report.opaque.driver_version.map(|version| format!("driver {version}, "));
    let vbios = report.opaque.vbios_version.as_deref().unwrap_or("unknown");
    Ok((format!("{}VBIOS {vbios}", driver.unwrap_or_default()), ids))
}

async fn rims(ids: &BTreeSet<RimId>, manifests: &Manifests<'_>) -> Finding {
    let (mut known, mut open) = (Vec::new(), Vec::new());
    for id in ids {
        let kept = manifests.store.as_ref().map(|store| store.rims(id));
        match kept {
            Some(Ok(found)) if !found.is_empty() => known.push(format!("{id} (store)")),
            Some(Err(error)) => {
                return GPU_RIM.warn_do(format!("{error} [{}]", error.code()), error.hint());
            }
            _ => open.push(id),
        }
    }
    if open.is_empty() {
        return GPU_RIM.ok(known.join(", "));
    }
    let names = |ids: &[&RimId]| ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ");
    if manifests.network == Network::Offline {
        let found = format!("not in a store: {}, and NVIDIA may not be asked", names(&open));
        return GPU_RIM
            .not_run_do(found, "leave --offline away, or name a store that has them with --rim-store");
    }
    let listed: BTreeSet<RimId> = match manifests.endorser.rim_ids().await {
        Ok(ids) => ids.into_iter().collect(),
        Err(error) => {
            let failure = endorser::failure(&error);
            let found =
                format!("{} [{}]; not in a store: {}", failure.message(), failure.code(), names(&open));
            return GPU_RIM.warn_do(found, failure.what_to_do().unwrap_or_default().to_owned());
        }
    };
    let (published, missing): (Vec<&RimId>, Vec<&RimId>) =
        open.into_iter().partition(|id| listed.contains(id));
    known.extend(published.iter().map(|id| format!("{id} (published)")));
    if missing.is_empty() {
        return GPU_RIM.ok(known.join(", "));
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    GPU_RIM.fail(format!("NVIDIA publishes none for {}; known: {known}", names(&missing)))
}

fn told(error: &GpuError) -> String {
    let source = error.source().map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

fn remedy(error: &GpuError) -> &'static str {
    let listed = confide_attester::CODES.iter().find(|(code, ..)| *code == error.code());
    listed.map(|(_, _, remedy)| *remedy).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    const ON: Settings = Settings { environment: 2, feature: 1, dev_tools: 0, multi_gpu: 0 };

    #[test]
    fn every_setting_has_a_finding_in_good_and_bad_states() {
        for (settings, states) in [
            (ON, [State::Ok, State::Ok, State::Ok]),
            (Settings { multi_gpu: 2, ..ON }, [State::Ok, State::Ok, State::Ok]),
            (Settings { feature: 0, multi_gpu: 1, ..ON }, [State::Ok, State::Ok, State::Ok]),
            (Settings { feature: 0, ..ON }, [State::Fail, State::Ok, State::Ok]),
            (Settings { feature: 7, ..ON }, [State::Fail, State::Ok, State::Ok]),
            (Settings { multi_gpu: 7, ..ON }, [State::Fail, State::Ok, State::Ok]),
            (Settings { dev_tools: 1, ..ON }, [State::Ok, State::Fail, State::Ok]),
            (Settings { dev_tools: 7, ..ON }, [State::Ok, State::Fail, State::Ok]),
            (Settings { environment: 1, ..ON }, [State::Ok, State::Ok, State::Fail]),
            (Settings { environment: 0, ..ON }, [State::Ok, State::Ok, State::Fail]),
            (Settings { environment: 7, ..ON }, [State::Ok, State::Ok, State::Fail]),
        ] {
            let found = [mode(settings), dev_tools(settings), environment(settings)];
            assert_eq!(found.clone().map(|finding| finding.status), states, "{settings:?}: {found:?}");
        }
    }

    #[test]
    fn gpus_without_a_confidential_mode_are_told_by_their_architecture() {
        let survey = |number| Survey {
            driver: None,
            gpus: 1,
            architectures: vec![number],
            settings: None,
            ready: None,
            evidence: None,
        };
        let found = |number| driver(&survey(number), Some(1));
        assert_eq!(found(Some(8)).status, State::Fail);
        for number in [Some(9), Some(10), Some(11), None] {
            assert_eq!(found(number).status, State::Ok, "{number:?}");
        }
        assert_eq!(found(None).found, "driver of an unknown version, GPUs: 1, architecture unknown");
    }

    #[test]
    fn a_driver_that_counts_other_gpus_than_the_bus_is_told() {
        let survey = Survey {
            driver: None,
            gpus: 7,
            architectures: vec![Some(HOPPER); 7],
            settings: None,
            ready: None,
            evidence: None,
        };
        for (on_bus, status) in [
            (Some(7), State::Ok),
            (Some(8), State::Fail),
            (Some(6), State::Fail),
            (Some(0), State::Fail),
            (None, State::NotRun),
        ] {
            let found = driver(&survey, on_bus);
            assert_eq!((found.status, found.remedy.is_some()), (status, status != State::Ok), "{on_bus:?}");
        }
        assert!(driver(&survey, Some(8)).found.ends_with("; 8 GPUs on the PCI bus"));
    }
}
