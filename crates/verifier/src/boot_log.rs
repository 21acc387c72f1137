//! The boot event log against the registers of a quote: replayed in one pass, after the quote's signatures hold.

use crate::appraise::Progress;
use crate::check::Checks;
use crate::result::Outcome;
use crate::rules;
use confide_evidence::boot_log::{BootEvent, BootLog, Register, extend};
use confide_policy::{BootReference, Expect, HexBytes, RequireGiven};

/// The registers that a boot extends.
const BOOT_REGISTERS: [Register; 3] = [Register::Rtmr0, Register::Rtmr1, Register::Rtmr2];
/// How many bad events one check names.
const NAMED: usize = 4;

/// Appraises a boot event log by the policy. `registers` are those of a quote whose signatures hold.
pub(crate) fn appraise(log: Option<&[u8]>, registers: [&[u8; 48]; 4], progress: &mut Progress<'_>) {
    let tdx = &progress.inputs.policy.tdx;
    let checks = &mut progress.checks;
    let Some(bytes) = log else { return absent(&tdx.boot_log, &tdx.boot_events, checks) };
    if let (RequireGiven::Waive(reason), Expect::Waive(events)) = (&tdx.boot_log, &tdx.boot_events) {
        checks.waive(&rules::BOOT_LOG, reason, format!("{} bytes, not looked at", bytes.len()));
        checks.waive(&rules::BOOT_EVENTS, events, "not looked at");
        return;
    }
    let log = match BootLog::parse(bytes) {
        Ok(log) => log,
        Err(error) => {
            checks.fail(&rules::BOOT_LOG_FORMAT, error.to_string());
            checks.not_reached(&[&rules::BOOT_LOG, &rules::BOOT_EVENTS]);
            progress.outcome = progress.outcome.or(Some(Outcome::Malformed));
            return;
        }
    };
    let (events, size) = (log.events().count(), log.bytes().len());
    checks.pass(&rules::BOOT_LOG_FORMAT, format!("{events} events in {size} bytes"));
    let found = replays(&log, registers);
    match (&tdx.boot_log, found) {
        (RequireGiven::Waive(reason), Ok(actual)) => checks.waive(&rules::BOOT_LOG, reason, actual),
        (RequireGiven::Waive(reason), Err(actual)) => {
            checks.waive(&rules::BOOT_LOG, reason, actual);
            // The host writes what it likes into a log that nothing signs, the references' events among it.
            if let Expect::AnyOf(_) = &tdx.boot_events {
                return checks.fail(&rules::BOOT_EVENTS, "a log that is not of this boot");
            }
        }
        (_, Ok(actual)) => checks.pass(&rules::BOOT_LOG, actual),
        (_, Err(actual)) => checks.fail(&rules::BOOT_LOG, actual),
    }
    references(&log, &tdx.boot_events, checks);
}

fn absent(log: &RequireGiven, events: &Expect<BootReference>, checks: &mut Checks) {
    const NONE: &str = "no boot event log was given";
    match log {
        RequireGiven::Required => checks.fail(&rules::BOOT_LOG, NONE),
        RequireGiven::WhenGiven => checks.not_run(&rules::BOOT_LOG, NONE),
        RequireGiven::Waive(reason) => checks.waive(&rules::BOOT_LOG, reason, NONE),
    }
    match events {
        Expect::AnyOf(_) => checks.fail(&rules::BOOT_EVENTS, NONE),
        Expect::Waive(reason) => checks.waive(&rules::BOOT_EVENTS, reason, NONE),
    }
}

/// One register on its way from zero to what the quote has.
struct Replayed<'a> {
    register: Register,
    signed: &'a [u8; 48],
    value: [u8; 48],
    events: usize,
    /// The last event after which the register was what the quote has; 0 before the first.
    reached: Option<usize>,
    /// The first event after that one.
    beyond: Option<BootEvent<'a>>,
}

impl<'a> Replayed<'a> {
    fn new(register: Register, signed: &'a [u8; 48]) -> Self {
        let value = [0; 48];
        let reached = (signed == &value).then_some(0);
        Self { register, signed, value, events: 0, reached, beyond: None }
    }

    fn extend(&mut self, event: BootEvent<'a>) {
        extend(&mut self.value, event.digest);
        self.events = self.events.saturating_add(1);
        if &self.value == self.signed {
            (self.reached, self.beyond) = (Some(event.number), None);
        } else if self.reached.is_some() && self.beyond.is_none() {
            self.beyond = Some(event);
        }
    }

    fn fault(&self) -> Option<String> {
        let Self { register, signed, value, events, .. } = self;
        if value == *signed {
            return None;
        }
        Some(match (self.reached, &self.beyond) {
            (Some(reached), Some(event)) => {
                format!("{register} has the events up to {reached}, but not {}", describe(event))
            }
            _ => format!(
                "{register} replays to {} over {events} events, the quote has {}",
                HexBytes(*value),
                HexBytes(**signed)
            ),
        })
    }
}

/// Replays the log. The error names every register that it does not reach and the first events that no boot log may have.
fn replays<'a>(log: &BootLog<'a>, registers: [&'a [u8; 48]; 4]) -> Result<String, String> {
    let [rtmr0, rtmr1, rtmr2, _] = registers;
    let mut boot = [
        Replayed::new(Register::Rtmr0, rtmr0),
        Replayed::new(Register::Rtmr1, rtmr1),
        Replayed::new(Register::Rtmr2, rtmr2),
    ];
    let mut faults = Vec::new();
    for event in log.events() {
        match boot.iter_mut().find(|replayed| replayed.register == event.register) {
            Some(replayed) if event.is_measured() => replayed.extend(event),
            Some(_) => {}
            None if event.register == Register::Mrtd && !event.is_measured() => {}
            None if faults.len() < NAMED => faults.push(misplaced(&event)),
            None => {}
        }
    }
    faults.extend(boot.iter().filter_map(Replayed::fault));
    if !faults.is_empty() {
        return Err(faults.join("; "));
    }
    let counts: Vec<String> = boot
        .iter()
        .map(|replayed| format!("{} over {} events", replayed.register, replayed.events))
        .collect();
    Ok(format!("replays to {}", counts.join(", ")))
}

fn misplaced(event: &BootEvent<'_>) -> String {
    match event.register {
        Register::Rtmr3 => format!("{} is for RTMR3, which the runtime alone extends", describe(event)),
        register => format!("{} is for {register}, which nothing extends", describe(event)),
    }
}

/// An event for people: its description is what the log says of it.
fn describe(event: &BootEvent<'_>) -> String {
    format!("event {} ({} \"{}\")", event.number, event.event_type, event.description())
}

/// Holds the measured events against the policy's references, and names the first one that differs.
fn references(log: &BootLog<'_>, expected: &Expect<BootReference>, checks: &mut Checks) {
    let references = match expected {
        Expect::Waive(reason) => return checks.waive(&rules::BOOT_EVENTS, reason, "not looked at"),
        Expect::AnyOf(references) => references,
    };
    let mut nearest: Option<Divergence> = None;
    for reference in references {
        match against(log, reference) {
            Ok(()) => return checks.pass(&rules::BOOT_EVENTS, format!("those of {:?}", reference.name)),
            Err(found) if nearest.as_ref().is_none_or(|so_far| so_far.equal < found.equal) => {
                nearest = Some(found);
            }
            Err(_) => {}
        }
    }
    let actual = nearest.map_or_else(|| "the policy names no reference".to_owned(), |found| found.text);
    checks.fail(&rules::BOOT_EVENTS, actual);
}

/// The first event that is not a reference's.
struct Divergence {
    /// How many events before it are.
    equal: usize,
    text: String,
}

fn against(log: &BootLog<'_>, reference: &BootReference) -> Result<(), Divergence> {
    let BootReference { name, rtmr0, rtmr1, rtmr2 } = reference;
    let mut expected = [rtmr0.iter(), rtmr1.iter(), rtmr2.iter()];
    let mut equal = 0_usize;
    for event in log.events().filter(BootEvent::is_measured) {
        let place = BOOT_REGISTERS.iter().position(|register| *register == event.register);
        let Some(expected) = place.and_then(|at| expected.get_mut(at)) else { continue };
        let register = event.register;
        let text = match expected.next() {
            Some(digest) if digest.0 == *event.digest => {
                equal = equal.saturating_add(1);
                continue;
            }
            Some(digest) => format!(
                "{} extends {register} with {}, {name:?} has {digest}",
                describe(&event),
                HexBytes(*event.digest)
            ),
            None => format!("{} extends {register}, {name:?} has no further event for it", describe(&event)),
        };
        return Err(Divergence { equal, text });
    }
    for (register, mut rest) in BOOT_REGISTERS.iter().zip(expected) {
        if let Some(digest) = rest.next() {
            let text = format!("the log has no further event for {register}, {name:?} has {digest}");
            return Err(Divergence { equal, text });
        }
    }
    Ok(())
}
