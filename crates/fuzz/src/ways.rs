//! One appraisal in every way that it can be had: cold, with prepared collateral, and with what a memo knows.

use crate::evaluate;
use crate::guest::{PLATFORM, now};
use confide_evidence::document::{Endorsements, EvidenceDocument, TdxCollateral};
use confide_evidence::tdx::collateral_from_json;
use confide_simulator::SimulatedTd;
use confide_verifier::{
    AttestationResult, Inputs, Memo, Outcome, PreparedCollateral, PreparedDevices, Status, Subject, evaluate,
    rules,
};
use std::sync::LazyLock;

/// The most bytes of a verdict: evidence cannot fill it.
const MAX_VERDICT: usize = 512 * 1024;

/// The collateral of the simulated platform.
pub(crate) static COLLATERAL: LazyLock<TdxCollateral> = LazyLock::new(|| {
    collateral_from_json(PLATFORM.collateral_json().as_bytes()).expect("the simulator's collateral")
});

/// The quote of an honest TD.
pub(crate) static QUOTE: LazyLock<Vec<u8>> =
    LazyLock::new(|| PLATFORM.quote(&SimulatedTd::default().report([7; 64])));

/// [`COLLATERAL`] beside the evidence.
pub(crate) static ENDORSEMENTS: LazyLock<Endorsements> =
    LazyLock::new(|| Endorsements { tdx: Some(COLLATERAL.clone()), ..Endorsements::default() });

/// The honest quote under the policy for quotes.
fn honest(memo: Option<&Memo>) -> AttestationResult {
    let bare = evaluate::inputs(Subject::Quote(&QUOTE), &ENDORSEMENTS, None, now());
    let inputs = Inputs { memo, ..bare };
    let result = verdict(&inputs);
    assert!(result.accepted(), "the honest quote is refused with {:?}", result.code);
    result
}

fn verdict(inputs: &Inputs<'_>) -> AttestationResult {
    evaluate(inputs).unwrap_or_else(|rejection| *rejection.result)
}

/// The verdict as the inputs stand.
pub(crate) fn cold(inputs: &Inputs<'_>) -> AttestationResult {
    let result = verdict(inputs);
    consistent(&result);
    result
}

/// The verdict, which is the same in every way and in every field: cold; with a memo that knows nothing, that knows what the
/// evidence has taught it, and that knows the honest platform; with prepared collateral; with prepared endorsements of
/// devices.
pub(crate) fn every(inputs: &Inputs<'_>) -> AttestationResult {
    let alone = cold(inputs);
    let same = |inputs: &Inputs<'_>, way: &str| assert_eq!(verdict(inputs), alone, "{way}");

    let memo = Memo::new();
    same(&Inputs { memo: Some(&memo), ..*inputs }, "with an empty memo");
    if alone.accepted() {
        same(&Inputs { memo: Some(&memo), ..*inputs }, "with a memo that has seen the evidence");
        assert_eq!(honest(Some(&memo)), *HONEST, "what evidence teaches changes no honest verdict");
    } else {
        assert_eq!((memo.platforms(), memo.collaterals()), (0, 0), "nothing is kept of what is refused");
    }

    let warm = Memo::new();
    let _ = honest(Some(&warm));
    same(&Inputs { memo: Some(&warm), ..*inputs }, "with a memo that knows the platform");

    if let Some(collateral) = collateral(inputs) {
        let prepared = PreparedCollateral::new(&collateral, inputs.policy, inputs.algorithms);
        let inputs = Inputs { prepared: Some(&prepared), ..*inputs };
        same(&inputs, "with prepared collateral");
        same(&Inputs { memo: Some(&warm), ..inputs }, "with prepared collateral and a known platform");
    }

    if let Some(nvidia) = &inputs.endorsements.nvidia {
        let prepared = PreparedDevices::new(nvidia);
        let inputs = Inputs { prepared_devices: Some(&prepared), ..*inputs };
        same(&inputs, "with prepared endorsements of devices");
        same(&inputs, "with those, which know their signatures");
    }
    alone
}

static HONEST: LazyLock<AttestationResult> = LazyLock::new(|| honest(None));

/// The collateral that the appraisal takes: what is given, or else what is stapled.
fn collateral(inputs: &Inputs<'_>) -> Option<TdxCollateral> {
    if let Some(given) = &inputs.endorsements.tdx {
        return Some(given.clone());
    }
    let Subject::Document(bytes) = inputs.subject else { return None };
    EvidenceDocument::decode(bytes).ok()?.endorsements?.tdx
}

/// A verdict's outcome, code and checks agree.
fn consistent(result: &AttestationResult) {
    let first = result.checks.iter().find(|check| check.status == Status::Fail).map(|check| check.code);
    assert_eq!(result.code, first);
    assert_eq!(result.accepted(), result.outcome == Outcome::Accepted);
    assert!(result.accepted() != result.code.is_some(), "{:?} with {:?}", result.outcome, result.code);
    assert_eq!(result.accepted(), result.valid_until.is_some());
    for check in &result.checks {
        assert!(rules::ALL.iter().any(|rule| rule.code == check.code), "{} is no rule", check.code);
    }
    let size = result.to_json().len();
    assert!(size < MAX_VERDICT, "a verdict of {size} bytes");
}
