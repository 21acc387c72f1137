//! Measuring events, and composing evidence over them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use confide_evidence::bytes::ByteString;
use confide_evidence::document::{
    Claims, CpuEvidence, DeviceEvidence, EvidenceDocument, Gpus, KeySet, Platform, VERSION, devices_digest,
};
use confide_evidence::event::{DevicesInUse, EventLog, EventLogError, RuntimeEvent};
use confide_evidence::tdx::{Padding, Quote};
use confide_evidence::transcript::{Binding, Transcript};

use crate::device::{Cpu, Device, Devices, Nature, Separate};
use crate::error::AttesterError;
use crate::gpu::{Found, Node, Ready};
use crate::tsm::ConfigfsTdx;
use crate::vsock::VsockTdx;

/// The machine that this guest runs on, and what has been measured on it.
///
/// Calls may come from several threads: each device serves one at a time, a quote and its log belong together.
pub struct Attester {
    nature: Nature,
    measured: Mutex<Measured>,
    devices: Box<dyn Devices>,
}

/// The CPU and the log of what RTMR3 holds: one lock, because a quote signs the register as it is.
struct Measured {
    cpu: Box<dyn Cpu>,
    log: Log,
}

enum Log {
    Exact(EventLog),
    /// An extension failed midway.
    Unknown,
}

impl Attester {
    /// The TDX guest in which this process runs. It has no GPUs until [`Attester::with_gpus`].
    ///
    /// # Errors
    /// [`AttesterError::NoPlatform`] when the kernel offers no TDX interfaces.
    pub fn tdx() -> Result<Self, AttesterError> {
        Ok(Self::new(Box::new(ConfigfsTdx::open()?), Vec::new()))
    }

    /// As [`Attester::tdx`], with quotes from the host's quote generation service on this vsock port, instead of the kernel's
    /// configfs-tsm.
    ///
    /// # Errors
    /// [`AttesterError::NoPlatform`] when the kernel offers no TDX interfaces.
    pub fn tdx_over_vsock(port: u32) -> Result<Self, AttesterError> {
        Ok(Self::new(Box::new(VsockTdx::open(port)?), Vec::new()))
    }

    pub(crate) fn new(cpu: Box<dyn Cpu>, devices: Vec<Box<dyn Device>>) -> Self {
        Self {
            nature: cpu.nature(),
            measured: Mutex::new(Measured { cpu, log: Log::Exact(EventLog::new()) }),
            devices: Box::new(Separate::new(devices)),
        }
    }

    /// The same machine with these GPUs and switches in place of those it had: from now on they report.
    #[must_use]
    pub fn with_gpus<W: Send + Sync + 'static>(self, node: Node<Ready<W>>) -> Self {
        Self { devices: Box::new(node), ..self }
    }

    /// Whether evidence comes from hardware.
    pub fn nature(&self) -> Nature {
        self.nature
    }

    /// Lets this process go on as another user, who has no privileges: from then on it can still measure and attest. It takes
    /// root, before the user is changed.
    ///
    /// # Errors
    /// [`AttesterError::NoPlatform`] and [`AttesterError::Device`].
    pub fn hand_to(&self, user: u32) -> Result<(), AttesterError> {
        lock(&self.measured).cpu.hand_to(user)
    }

    /// What has been measured so far.
    ///
    /// # Errors
    /// [`AttesterError::RegisterUnknown`].
    pub fn log(&self) -> Result<EventLog, AttesterError> {
        lock(&self.measured).exact_log().cloned()
    }

    /// Payload of the event `devices`: the devices in the order of their evidence.
    pub fn devices_in_use(&self) -> DevicesInUse {
        self.devices.in_use()
    }

    /// The GPU facts of the claims.
    pub fn gpus(&self) -> Gpus {
        self.devices.gpus()
    }

    /// Extends an event into RTMR3 and adds it to the log.
    ///
    /// # Errors
    /// When the grammar does not allow the event now: nothing is then extended. When the register cannot be
    /// extended: nothing can then be measured or attested until the next boot.
    pub fn measure(&self, event: RuntimeEvent) -> Result<(), AttesterError> {
        let mut measured = lock(&self.measured);
        let mut log = measured.exact_log()?.clone();
        let digest = event.digest();
        log.push(event)?;
        measured.log = Log::Unknown;
        measured.cpu.extend_rtmr3(&digest)?;
        measured.log = Log::Exact(log);
        Ok(())
    }

    /// An evidence document for `binding`: gathers device evidence under the nonces that follow from the binding,
    /// composes the transcript over devices, keys, claims and boot id, and has the CPU sign it.
    ///
    /// Blocks while the devices work, some 40 ms on hardware; callers keep it off asynchronous threads.
    ///
    /// # Errors
    /// When the log is not complete for the binding's role and the claimed egress mode, or a device fails.
    pub fn attest(
        &self,
        binding: &Binding,
        key_set: &KeySet,
        claims: &Claims,
    ) -> Result<EvidenceDocument, AttesterError> {
        let devices = self.devices.evidence(&|position| binding.gpu_nonce(position))?;
        self.attest_over(devices, binding, key_set, claims)
    }

    /// As [`Attester::attest`], with evidence of GPUs and switches that are found and not ready, in place of those of this
    /// machine: before keys are released nothing takes work.
    ///
    /// # Errors
    /// As [`Attester::attest`].
    pub fn attest_with(
        &self,
        binding: &Binding,
        key_set: &KeySet,
        claims: &Claims,
        node: &Node<Found>,
    ) -> Result<EvidenceDocument, AttesterError> {
        let devices = node.evidence(|position| binding.gpu_nonce(position))?;
        self.attest_over(devices, binding, key_set, claims)
    }

    fn attest_over(
        &self,
        devices: Vec<DeviceEvidence>,
        binding: &Binding,
        key_set: &KeySet,
        claims: &Claims,
    ) -> Result<EvidenceDocument, AttesterError> {
        let mut measured = lock(&self.measured);
        let log = measured.exact_log()?;
        log.check_complete(binding.role(), claims.egress.mode)?;
        let boot_id = log.boot().ok_or(EventLogError::Missing("boot"))?.boot_id;
        let events = log.clone();
        let transcript = Transcript {
            binding: *binding,
            keyset: key_set.digest(),
            devices: devices_digest(&devices),
            claims: claims.digest(),
            boot_id,
        };
        let quote = measured.cpu.quote(&transcript.report_data())?;
        Ok(EvidenceDocument {
            cpu: CpuEvidence::Tdx { quote: quote.into() },
            batch: None,
            claims: claims.clone(),
            events,
            boot_id,
            devices,
            key_set: key_set.clone(),
            version: VERSION,
            boot_log: measured.cpu.boot_log().map(ByteString),
            platform: Platform::Tdx,
            endorsements: measured.cpu.endorsements(),
        })
    }

    /// The PCK chain, PEM, that certifies this machine's quotes. It says which platform this is, for whoever fetches its
    /// endorsements. It is taken from a quote over zeros, which goes no further.
    ///
    /// Blocks while the host makes the quote; callers keep it off asynchronous threads.
    ///
    /// # Errors
    /// When the CPU gives no quote, or none of a form that is known.
    pub fn pck_chain(&self) -> Result<Vec<u8>, AttesterError> {
        let quote = lock(&self.measured).cpu.quote(&[0; 64])?;
        Ok(Quote::parse(&quote, Padding::Refused)?.signature.pck_chain.to_vec())
    }
}

impl Measured {
    fn exact_log(&self) -> Result<&EventLog, AttesterError> {
        match &self.log {
            Log::Exact(log) => Ok(log),
            Log::Unknown => Err(AttesterError::RegisterUnknown),
        }
    }
}

/// A panic under a lock leaves the log unchanged or `Unknown`, so that its state stays true.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::bytes::{Bytes, Digest};
    use confide_evidence::document::*;
    use confide_evidence::event::*;
    use confide_evidence::transcript::Role;
    use std::io;

    /// Keeps what it is asked to sign; extends fail when told so.
    struct Recorder {
        extended: std::sync::Arc<Mutex<Vec<[u8; 48]>>>,
        fails_at: usize,
    }

    impl Cpu for Recorder {
        fn nature(&self) -> Nature {
            Nature::Hardware
        }

        fn extend_rtmr3(&mut self, digest: &[u8; 48]) -> Result<(), AttesterError> {
            let mut extended = lock(&self.extended);
            if extended.len() == self.fails_at {
                let source = io::Error::from_raw_os_error(5);
                return Err(AttesterError::Device { action: "extend", path: "rtmr3".into(), source });
            }
            extended.push(*digest);
            Ok(())
        }

        fn quote(&mut self, report_data: &[u8; 64]) -> Result<Vec<u8>, AttesterError> {
            Ok(report_data.to_vec())
        }

        fn boot_log(&self) -> Option<Vec<u8>> {
            Some(b"log".to_vec())
        }

        fn endorsements(&self) -> Option<Endorsements> {
            None
        }

        fn hand_to(&mut self, _user: u32) -> Result<(), AttesterError> {
            Ok(())
        }
    }

    struct EchoDevice(u8);

    impl Device for EchoDevice {
        fn in_use(&self) -> DeviceInUse {
            DeviceInUse { mode: "spt".into(), certificate: Bytes([self.0; 32]) }
        }

        fn environment(&self) -> &'static str {
            "PROD"
        }

        fn evidence(&mut self, nonce: &[u8; 32]) -> Result<DeviceEvidence, AttesterError> {
            let chain = vec![self.0].into();
            Ok(DeviceEvidence { kind: DeviceKind::NvidiaGpu, chain, report: nonce.to_vec().into() })
        }
    }

    fn attester(fails_at: usize) -> (Attester, std::sync::Arc<Mutex<Vec<[u8; 48]>>>) {
        let extended = std::sync::Arc::new(Mutex::new(Vec::new()));
        let cpu = Recorder { extended: extended.clone(), fails_at };
        let devices: Vec<Box<dyn Device>> = vec![Box::new(EchoDevice(0)), Box::new(EchoDevice(1))];
        (Attester::new(Box::new(cpu), devices), extended)
    }

    fn build() -> Build {
        Build { image: None, version: "1".into(), revision: "r".into() }
    }

    fn digest(fill: u8) -> Digest {
        Bytes([fill; 32])
    }

    fn events() -> Vec<RuntimeEvent> {
        vec![
            RuntimeEvent::Boot(Boot { build: build(), boot_id: Bytes([7; 16]), broker_key: None }),
            RuntimeEvent::Configuration(Configuration { digest: digest(1) }),
            RuntimeEvent::NoVolumes,
            RuntimeEvent::Model(LoadedModel { manifest: digest(2) }),
            RuntimeEvent::Devices(DevicesInUse { devices: vec![] }),
            RuntimeEvent::Open,
        ]
    }

    fn claims(gpus: Gpus) -> Claims {
        Claims {
            gpus,
            build: build(),
            model: Model { name: "m".into(), manifest: digest(2) },
            egress: Egress::open(),
            engine: Engine { kind: "builtin".into(), flags: vec![], environment: vec![] },
            volumes: vec![],
            changing: Changing { drops: 0, locked_at: None, guest_time: 1 },
            configuration: digest(1),
        }
    }

    fn key_set() -> KeySet {
        KeySet::Recipient(KemKey { alg: KemAlgorithm::XWing, public: Bytes([3; 1216]) })
    }

    fn serve() -> Binding {
        Binding::Serve { nonce: Bytes([1; 32]), exporter: Bytes([2; 32]), tls_spki: Bytes([3; 32]) }
    }

    #[test]
    fn the_signed_report_data_covers_the_document() {
        let (attester, extended) = attester(usize::MAX);
        for event in events() {
            attester.measure(event).unwrap();
        }
        let claims = claims(attester.gpus());
        let document = attester.attest(&serve(), &key_set(), &claims).unwrap();
        let transcript = Transcript {
            binding: serve(),
            keyset: document.key_set.digest(),
            devices: devices_digest(&document.devices),
            claims: document.claims.digest(),
            boot_id: document.boot_id,
        };
        let CpuEvidence::Tdx { quote } = &document.cpu else { panic!("{:?}", document.cpu) };
        assert_eq!(quote.as_bytes(), transcript.report_data());
        assert_eq!(document.boot_id, Bytes([7; 16]));
        assert_eq!(document.boot_log.as_ref().map(|log| log.as_bytes()), Some(&b"log"[..]));
        assert_eq!(document.events.events(), events());
        let expected: Vec<_> = events().iter().map(RuntimeEvent::digest).collect();
        assert_eq!(*lock(&extended), expected);
        for (position, device) in document.devices.iter().enumerate() {
            assert_eq!(device.report.as_bytes(), serve().gpu_nonce(position as u32));
        }
        assert_eq!(claims.gpus.count, 2);
        document.encode().unwrap();
    }

    #[test]
    fn nothing_is_attested_before_the_events_of_its_role() {
        let (attester, _) = attester(usize::MAX);
        let claims = claims(attester.gpus());
        let attest = |binding: &Binding| attester.attest(binding, &key_set(), &claims).map(|_| ());
        assert!(matches!(attest(&serve()), Err(AttesterError::Events(EventLogError::Missing("boot")))));
        for event in events().into_iter().take(2) {
            attester.measure(event).unwrap();
        }
        let key_release = Binding::KeyRelease { nonce: Bytes([1; 32]) };
        assert_eq!(key_release.role(), Role::KeyRelease);
        attest(&key_release).unwrap();
        assert!(matches!(attest(&serve()), Err(AttesterError::Events(EventLogError::Missing(_)))));
        for event in events().into_iter().skip(2) {
            attester.measure(event).unwrap();
        }
        attest(&serve()).unwrap();
        assert!(matches!(attest(&key_release), Err(AttesterError::Events(EventLogError::Unexpected(_)))));
    }

    #[test]
    fn an_event_out_of_order_is_not_extended() {
        let (attester, extended) = attester(usize::MAX);
        assert!(matches!(attester.measure(RuntimeEvent::Open), Err(AttesterError::Events(_))));
        assert!(lock(&extended).is_empty());
    }

    #[test]
    fn a_failed_extension_ends_all_attestation() {
        let (attester, _) = attester(1);
        let [boot, configuration] = [events().remove(0), events().remove(1)];
        attester.measure(boot).unwrap();
        assert!(matches!(attester.measure(configuration.clone()), Err(AttesterError::Device { .. })));
        assert!(matches!(attester.measure(configuration), Err(AttesterError::RegisterUnknown)));
        let claims = claims(attester.gpus());
        let error = attester.attest(&serve(), &key_set(), &claims).unwrap_err();
        assert!(matches!(error, AttesterError::RegisterUnknown));
    }
}
