//! What a policy says of a platform and of releases: graces, age limits, lists of hardware, reference sets, and waivers
//! that show.
#![allow(clippy::unwrap_used, missing_docs, clippy::disallowed_methods, dead_code, reason = "tests")]

mod algorithms;
mod guest;

use confide_evidence::bytes::Bytes;
use confide_evidence::document::EvidenceDocument;
use confide_evidence::event::{LoadedModel, RuntimeEvent};
use confide_evidence::tdx::collateral_from_json;
use confide_policy::{AppraisalPolicy, HexBytes, Loaded, PolicyError};
use confide_simulator::{FMSPC, PlatformOptions, SimulatedPlatform, SvnLevel, TdMeasurements, Window};
use confide_verifier::{AttestationResult, Check, Outcome, Status, rules};
use guest::{DANGER, Guest, NOW, challenge, danger, failures, verdict};

const DAY: u64 = 86_400;

/// The simulator's policy with these lines in place of those of the same name, and more behind it.
fn policy(lines: &[&str], more: &str) -> AppraisalPolicy {
    let name = |line: &str| line.split_once(" = ").map(|(name, _)| name.to_owned());
    let changed = DANGER.lines().map(|line| {
        let by = lines.iter().find(|by| name(by).is_some() && name(by) == name(line));
        by.map_or(line, |by| by)
    });
    let text = changed.collect::<Vec<_>>().join("\n");
    for line in lines {
        assert!(text.contains(line), "{line}");
    }
    danger(&format!("{text}\n{more}"))
}

fn platform(change: impl FnOnce(&mut PlatformOptions)) -> SimulatedPlatform {
    let mut options = PlatformOptions::at(NOW);
    change(&mut options);
    SimulatedPlatform::new(options).unwrap()
}

/// The document of a guest on a platform.
fn on(platform: SimulatedPlatform) -> EvidenceDocument {
    Guest { platform, ..Guest::new() }.document()
}

/// A platform that has reached the older level alone: `OutOfDate`, INTEL-SA-00000.
fn outdated() -> SimulatedPlatform {
    platform(|options| options.sgx_svn[0] = 3)
}

fn appraise(document: &EvidenceDocument, policy: &AppraisalPolicy) -> AttestationResult {
    verdict(document, Some(&challenge()), policy)
}

fn check<'r>(result: &'r AttestationResult, code: &str) -> &'r Check {
    let found = result.checks.iter().find(|check| check.code == code);
    found.unwrap_or_else(|| panic!("no check {code}: {:?}", result.code))
}

fn grace(status: &str, advisories: &str, until: &str) -> AppraisalPolicy {
    let entry = format!(
        "[[tdx.grace]]\nname = \"new-bios\"\nstatus = \"{status}\"\nadvisories = [{advisories}]\nuntil = {until}\nreason = \"BIOS in December\"\n"
    );
    policy(&[], &entry)
}

#[test]
fn a_grace_accepts_its_status_until_its_end_and_shows_as_a_waiver() {
    let document = on(outdated());
    let strict = appraise(&document, &danger(DANGER));
    assert_eq!((strict.outcome, strict.code), (Outcome::Rejected, Some("tcb_status")));
    // One minute from now.
    let result = appraise(&document, &grace("OutOfDate", "\"INTEL-SA-00000\"", "2026-10-01T00:01:00Z"));
    assert_eq!(result.outcome, Outcome::Accepted, "{:?}", failures(&result));
    let shown = check(&result, "tcb_status");
    assert_eq!(shown.status, Status::Waived);
    for word in ["new-bios", "OutOfDate", "INTEL-SA-00000", "2026-10-01T00:01:00Z", "BIOS in December"] {
        assert!(shown.expected.contains(word), "{word}: {}", shown.expected);
    }
    assert_eq!(result.tcb_status, Some("OutOfDate"), "what it is does not change");
    assert_eq!(result.valid_until.as_deref(), Some("2026-10-01T00:01:00Z"), "no longer than the grace");
}

#[test]
fn a_grace_that_has_ended_is_named_in_the_rejection() {
    let result = appraise(&on(outdated()), &grace("OutOfDate", "\"INTEL-SA-00000\"", "2026-09-30"));
    assert_eq!(result.code, Some("tcb_status"));
    let expected = &check(&result, "tcb_status").expected;
    assert!(
        expected.contains("new-bios") && expected.contains("ended at 2026-09-30T23:59:59Z"),
        "{expected}"
    );
}

#[test]
fn a_grace_for_something_else_is_none() {
    for (status, advisories) in [
        ("OutOfDate", "\"INTEL-SA-99999\""),
        ("OutOfDate", ""),
        ("OutOfDateConfigurationNeeded", "\"INTEL-SA-00000\""),
    ] {
        let result = appraise(&on(outdated()), &grace(status, advisories, "2027-01-01"));
        assert_eq!(result.code, Some("tcb_status"), "{status} {advisories}");
        assert!(!check(&result, "tcb_status").expected.contains("new-bios"));
    }
    // A second advisory is open beside the one that the grace names.
    let two = platform(|options| {
        options.sgx_svn[0] = 3;
        options.tee_tcb_svn[0] = 6;
    });
    let result = appraise(&on(two), &grace("OutOfDate", "\"INTEL-SA-00000\"", "2027-01-01"));
    assert_eq!(result.advisory_ids, ["INTEL-SA-00000", "INTEL-SA-00001"]);
    assert_eq!(result.code, Some("tcb_status"));
}

/// Each open advisory needs a grace that has not ended; which one it is does not matter.
#[test]
fn graces_for_different_advisories_cover_a_platform_together() {
    let entry = |name: &str, advisory: &str, until: &str| {
        format!(
            "[[tdx.grace]]\nname = \"{name}\"\nstatus = \"OutOfDate\"\nadvisories = [\"{advisory}\"]\nuntil = {until}\nreason = \"{name} is on its way\"\n"
        )
    };
    let two = platform(|options| {
        options.sgx_svn[0] = 3;
        options.tee_tcb_svn[0] = 6;
    });
    let document = on(two);
    let with = |entries: &[String]| appraise(&document, &policy(&[], &entries.concat()));
    let bios = entry("bios", "INTEL-SA-00000", "2027-01-01");
    let module = entry("module", "INTEL-SA-00001", "2026-10-01T00:01:00Z");
    let result = with(&[bios.clone(), module.clone()]);
    assert_eq!(result.advisory_ids, ["INTEL-SA-00000", "INTEL-SA-00001"]);
    assert_eq!(result.outcome, Outcome::Accepted, "{:?}", failures(&result));
    let shown = check(&result, "tcb_status");
    assert_eq!(shown.status, Status::Waived);
    for word in ["bios is on its way", "module is on its way", "INTEL-SA-00000", "INTEL-SA-00001"] {
        assert!(shown.expected.contains(word), "{word}: {}", shown.expected);
    }
    assert_eq!(result.valid_until.as_deref(), Some("2026-10-01T00:01:00Z"), "no longer than the shorter one");
    for alone in [&bios, &module] {
        assert_eq!(with(std::slice::from_ref(alone)).code, Some("tcb_status"));
    }
    let result = with(&[bios, entry("module", "INTEL-SA-00001", "2026-09-30")]);
    assert_eq!(result.code, Some("tcb_status"));
    let expected = &check(&result, "tcb_status").expected;
    assert!(expected.contains("\"module\" for it ended") && !expected.contains("bios"), "{expected}");
}

/// A part of the platform for whose shortcoming Intel names no advisory is not covered by what is named of another.
#[test]
fn a_grace_for_named_advisories_covers_no_shortcoming_without_a_name() {
    let unnamed = || SvnLevel::new("OutOfDate", &[]);
    let module = platform(|options| {
        options.sgx_svn[0] = 3;
        options.tee_tcb_svn[0] = 6;
        options.module_identities[0].levels[1].verdict = unnamed();
    });
    let enclave = platform(|options| {
        options.sgx_svn[0] = 3;
        options.qe.levels[0].verdict = unnamed();
    });
    for (what, platform) in [("TDX module", module), ("quoting enclave", enclave)] {
        let document = on(platform);
        let result = appraise(&document, &grace("OutOfDate", "\"INTEL-SA-00000\"", "2027-01-01"));
        assert_eq!(result.advisory_ids, ["INTEL-SA-00000"], "{what}");
        assert_eq!((result.outcome, result.code), (Outcome::Rejected, Some("tcb_status")), "{what}");
        let result = appraise(&document, &grace("OutOfDate", "", "2027-01-01"));
        assert_eq!(
            result.code,
            Some("tcb_status"),
            "{what}: nor does one for what has no name cover the rest"
        );
    }
    let alone = platform(|options| options.qe.levels[0].verdict = unnamed());
    let result = appraise(&on(alone), &grace("OutOfDate", "", "2027-01-01"));
    assert_eq!(result.outcome, Outcome::Accepted, "{:?}", failures(&result));
}

#[test]
fn a_report_that_states_no_service_td_meets_no_expectation_of_one() {
    let named = policy(&[&format!("mr_service_td = {{ any_of = [\"{}\"] }}", "11".repeat(48))], "");
    let result = appraise(&Guest::new().document(), &named);
    assert_eq!((result.outcome, result.code), (Outcome::Rejected, Some("mr_service_td")));
    assert!(check(&result, "mr_service_td").actual.contains("does not state it"));
}

#[test]
fn no_ordinary_policy_accepts_revoked() {
    let client = confide_policy::CLIENT;
    let listed = client.replacen("any_of = [\"UpToDate\"]", "any_of = [\"UpToDate\", \"Revoked\"]", 1);
    let early = client.replacen(
        "early_tcb_status = { waive = \"what is to come decides nothing yet\" }",
        "early_tcb_status = { any_of = [\"Revoked\"] }",
        1,
    );
    let graced = format!(
        "{client}\n[[tdx.grace]]\nname = \"x\"\nstatus = \"Revoked\"\nadvisories = []\nuntil = 2027-01-01\nreason = \"y\"\n"
    );
    for (field, text) in
        [("tdx.tcb_status", listed), ("tdx.early_tcb_status", early), ("tdx.grace.x", graced)]
    {
        assert_ne!(text, client);
        let refused = AppraisalPolicy::parse(&text, Loaded::Normally);
        assert_eq!(refused, Err(PolicyError::AcceptsRevoked(field.to_owned())));
    }
}

#[test]
fn an_earlier_evaluation_data_number_is_rejected() {
    let document = Guest::new().document();
    let result = appraise(&document, &policy(&["tcb_evaluation = { at_least = 20 }"], ""));
    assert_eq!(check(&result, "tcb_evaluation").status, Status::Pass);
    let result = appraise(&document, &policy(&["tcb_evaluation = { at_least = 21 }"], ""));
    assert_eq!(result.code, Some("tcb_evaluation"));
    assert_eq!(check(&result, "tcb_evaluation").actual, "TCB info 20, QE identity 20");
}

#[test]
fn collateral_older_than_its_limit_is_rejected_and_a_verdict_ends_with_the_limit() {
    let ages = [
        (
            "tcb_info_age",
            14,
            (|options, window| options.windows.tcb_info = window) as fn(&mut PlatformOptions, Window),
        ),
        ("qe_identity_age", 14, |options, window| options.windows.qe_identity = window),
        ("pck_crl_age", 14, |options, window| options.windows.pck_crl = window),
        ("root_crl_age", 380, |options, window| options.windows.root_ca_crl = window),
    ];
    for (code, days, set) in ages {
        let aged = |age: u64| {
            let window = Window { from: NOW - age, until: NOW + 30 * DAY };
            appraise(&on(platform(|options| set(options, window))), &danger(DANGER))
        };
        let result = aged(days * DAY - 60);
        assert_eq!(result.outcome, Outcome::Accepted, "{code}: {:?}", failures(&result));
        assert_eq!(result.valid_until.as_deref(), Some("2026-10-01T00:01:00Z"), "{code}");
        let result = aged(days * DAY + 1);
        assert_eq!(failures(&result), [code]);
        assert!(
            check(&result, code).actual.contains(&format!("{days}.0 days ago")),
            "{:?}",
            check(&result, code)
        );
    }
}

#[test]
fn hardware_is_listed_or_denied_and_denial_wins() {
    let own = HexBytes(platform_ppid());
    let other = "00112233445566778899aabbccddeeff";
    let fmspc = HexBytes(FMSPC);
    let cases = [
        ("ppid", format!("any_of = [\"{other}\", \"{own}\"]"), Status::Pass),
        ("ppid", format!("any_of = [\"{other}\"]"), Status::Fail),
        ("ppid", format!("any_of = [\"{own}\"], deny = [\"{own}\"]"), Status::Fail),
        ("ppid", format!("waive = \"any\", deny = [\"{own}\"]"), Status::Fail),
        ("ppid", format!("waive = \"any\", deny = [\"{other}\"]"), Status::Waived),
        ("fmspc", format!("any_of = [\"{fmspc}\"]"), Status::Pass),
        ("fmspc", "any_of = [\"b0c06f000000\"]".to_owned(), Status::Fail),
        ("fmspc", format!("any_of = [\"{fmspc}\"], deny = [\"{fmspc}\"]"), Status::Fail),
    ];
    for (field, list, expected) in cases {
        let result = appraise(&Guest::new().document(), &policy(&[&format!("{field} = {{ {list} }}")], ""));
        let code = if field == "ppid" { "ppid" } else { "platform_kind" };
        assert_eq!(check(&result, code).status, expected, "{field} {list}");
        assert_eq!(result.outcome == Outcome::Accepted, expected != Status::Fail, "{field} {list}");
    }
}

fn platform_ppid() -> [u8; 16] {
    let chain = Guest::new().platform.collateral().pck_certificate_chain.clone();
    let leaf = confide_evidence::pem::certificates(chain.as_bytes()).unwrap().remove(0);
    let leaf = confide_evidence::x509::Certificate::parse(&leaf).unwrap();
    confide_evidence::tdx::PckExtension::from_certificate(&leaf).unwrap().ppid
}

/// An honest document with the early collateral of a platform that has an early set of its own.
fn with_early(change: impl FnOnce(&mut PlatformOptions)) -> EvidenceDocument {
    let early = platform(|options| {
        options.evaluation_data_number = 21;
        change(options);
    });
    let mut document = Guest::new().document();
    let stapled = document.endorsements.as_mut().unwrap().tdx.as_mut().unwrap();
    stapled.early = Some(collateral_from_json(early.collateral_json().as_bytes()).unwrap().into_early());
    document
}

#[test]
fn a_tcb_recovery_that_is_coming_is_shown_and_decides_where_the_policy_asks() {
    let coming =
        with_early(|options| options.tcb_levels[0].verdict = SvnLevel::new("OutOfDate", &["INTEL-SA-02"]));
    let required = policy(&["early_tcb_status = { any_of = [\"UpToDate\"] }"], "");
    let result = appraise(&coming, &danger(DANGER));
    assert_eq!(result.outcome, Outcome::Accepted);
    assert_eq!((result.tcb_status, result.early_tcb_status), (Some("UpToDate"), Some("OutOfDate")));
    let shown = check(&result, "early_tcb_status");
    assert_eq!(shown.status, Status::Waived);
    assert!(
        shown
            .actual
            .starts_with("TCB recovery coming: UpToDate becomes OutOfDate with evaluation data number 21"),
        "{}",
        shown.actual
    );
    assert_eq!(appraise(&coming, &required).code, Some("early_tcb_status"));
    let calm = with_early(|_| ());
    let result = appraise(&calm, &required);
    assert_eq!((result.outcome, result.early_tcb_status), (Outcome::Accepted, Some("UpToDate")));
    assert!(check(&result, "early_tcb_status").actual.starts_with("no change"));
    let standard = with_early(|options| options.evaluation_data_number = 20);
    for policy in [&required, &danger(DANGER)] {
        let result = appraise(&standard, policy);
        assert_eq!((result.outcome, result.early_tcb_status), (Outcome::Accepted, Some("UpToDate")));
        let actual = &check(&result, "early_tcb_status").actual;
        assert!(
            actual
                .starts_with("no TCB recovery is announced, or the standard set was given for the early one"),
            "{actual}"
        );
    }
    let ending = with_early(|options| {
        options.windows.tcb_info = Window { from: NOW - DAY, until: NOW + 60 };
    });
    let ends = |policy| appraise(&ending, policy).valid_until;
    assert_eq!(ends(&required).as_deref(), Some("2026-10-01T00:01:00Z"), "what it rests on");
    assert_eq!(ends(&danger(DANGER)).as_deref(), Some("2026-10-01T00:05:00Z"), "what decides nothing");
}

#[test]
fn early_collateral_that_is_missing_broken_or_outside_of_its_window_satisfies_nobody() {
    let required = policy(&["early_tcb_status = { any_of = [\"UpToDate\"] }"], "");
    let missing = Guest::new().document();
    let mut broken = with_early(|_| ());
    let early = &mut broken.endorsements.as_mut().unwrap().tdx.as_mut().unwrap().early;
    early.as_mut().unwrap().tcb_info_signature.0[9] ^= 1;
    let ended = with_early(|options| {
        options.windows.tcb_info = Window { from: NOW - 2 * DAY, until: NOW - DAY };
    });
    let foreign = with_early(|options| options.tcb_info_fmspc = [9; 6]);
    let older = with_early(|options| options.evaluation_data_number = 19);
    let aged = with_early(|options| {
        options.windows.qe_identity = Window { from: NOW - 15 * DAY, until: NOW + DAY };
    });
    for (what, document, word) in [
        ("missing", missing, "no early collateral"),
        ("broken", broken, "does not verify"),
        ("ended", ended, "early TCB info ended"),
        ("of the recovery before", older, "evaluation data number 19, the standard one has 20"),
        ("too old", aged, "early QE identity is older"),
        ("of other platforms", foreign, "TCB info 090909090909"),
    ] {
        let result = appraise(&document, &required);
        assert_eq!(failures(&result), ["early_tcb_status"], "{what}");
        assert!(
            check(&result, "early_tcb_status").actual.contains(word),
            "{what}: {:?}",
            check(&result, "early_tcb_status")
        );
        assert_eq!(
            appraise(&document, &danger(DANGER)).outcome,
            Outcome::Accepted,
            "{what}: it decides nothing"
        );
    }
}

const FROM_SETS: [&str; 5] = [
    "mr_td = { from = \"reference\" }",
    "rtmr0 = { from = \"reference\" }",
    "rtmr1 = { from = \"reference\" }",
    "rtmr2 = { from = \"reference\" }",
    "configuration = { from = \"reference\" }",
];

/// A reference set with the simulator's measurements, but for those given.
fn set(name: &str, rtmr1: Option<&str>, configuration: [u8; 32]) -> String {
    let td = TdMeasurements::default();
    let [rtmr0, simulated, rtmr2, _] = td.rtmr.map(HexBytes);
    let rtmr1 = rtmr1.map_or_else(|| simulated.to_string(), str::to_owned);
    format!(
        "[reference.{name}]\nmr_td = [\"{}\"]\nrtmr0 = [\"{}\", \"{}\"]\nrtmr1 = [\"{rtmr1}\"]\nrtmr2 = [\"{}\"]\nconfiguration = [\"{}\"]\n",
        HexBytes(td.mrtd),
        "11".repeat(48),
        rtmr0,
        rtmr2,
        HexBytes(configuration),
    )
}

#[test]
fn the_reference_set_that_matches_is_named() {
    let sets = [set("release-1", Some(&"22".repeat(48)), [6; 32]), set("release-2", None, [6; 32])].concat();
    let result = appraise(&Guest::new().document(), &policy(&FROM_SETS, &sets));
    assert_eq!(result.outcome, Outcome::Accepted, "{:?}", failures(&result));
    assert_eq!(result.reference_set.as_deref(), Some("release-2"));
    assert_eq!(check(&result, "reference_set").actual, "release-2 of the policy");
    let expected = &check(&result, "rtmr1").expected;
    assert!(expected.ends_with("of the reference set release-2"), "{expected}");
}

#[test]
fn a_mixture_of_two_reference_sets_is_rejected() {
    // RTMR1 is that of release-2, the configuration that of release-1: each value is in some set.
    let sets = [set("release-1", Some(&"22".repeat(48)), [6; 32]), set("release-2", None, [7; 32])].concat();
    let result = appraise(&Guest::new().document(), &policy(&FROM_SETS, &sets));
    assert_eq!((result.outcome, result.code), (Outcome::Rejected, Some("reference_set")));
    assert_eq!(result.reference_set, None);
    let actual = &check(&result, "reference_set").actual;
    assert!(actual.contains("release-1") && actual.contains("release-2"), "{actual}");
    assert_eq!(
        failures(&result).len(),
        2,
        "the set, and the one field that differs: {:?}",
        failures(&result)
    );
}

#[test]
fn without_a_reference_set_that_has_the_field_nothing_is_accepted() {
    let none = appraise(&Guest::new().document(), &policy(&FROM_SETS, ""));
    assert_eq!(failures(&none), ["reference_set", "mr_td", "rtmr0", "rtmr1", "rtmr2", "configuration"]);
    let all = set("release-1", None, [6; 32]);
    let partial: String =
        all.lines().filter(|line| !line.starts_with("rtmr2")).map(|line| format!("{line}\n")).collect();
    let result = appraise(&Guest::new().document(), &policy(&FROM_SETS, &partial));
    assert_eq!(failures(&result), ["reference_set", "rtmr2"]);
}

#[test]
fn claims_are_held_against_the_set_that_the_measurements_match() {
    let model = |byte: u8| format!("model = [\"{}\"]\n", HexBytes([byte; 32]));
    let lines = [&FROM_SETS[..], &["model = { from = \"reference\" }"]].concat();
    let text = |sets: &str| policy(&lines, sets);
    let right = format!("{}{}", set("release-1", None, [6; 32]), model(5));
    assert_eq!(appraise(&Guest::new().document(), &text(&right)).outcome, Outcome::Accepted);
    let wrong = format!("{}{}", set("release-1", None, [6; 32]), model(8));
    let result = appraise(&Guest::new().document(), &text(&wrong));
    assert_eq!(failures(&result), ["reference_set", "model_manifest"]);
    // A guest that measures another model than it claims is found by its events.
    let mut guest = Guest::new();
    guest.events[3] = RuntimeEvent::Model(LoadedModel { manifest: Bytes([8; 32]) });
    assert!(failures(&appraise(&guest.document(), &text(&right))).contains(&"event_claims"));
}

/// Settings that are no expectation of evidence, and so have no waiver.
const NEVER_WAIVED: [&str; 14] = [
    "danger.tdx_root_spki_sha256",
    "danger.gpu_root_spki_sha256",
    "danger.rim_root_spki_sha256",
    "danger.nras_root_spki_sha256",
    "danger.snp_root_spki_sha256",
    "tdx.ppid.deny",
    "tdx.fmspc.deny",
    "devices.driver.deny",
    "devices.vbios.deny",
    "devices.machine.devices",
    "freshness.max_age_seconds",
    "freshness.attest",
    "freshness.batch",
    "models",
];

#[test]
fn connections_that_ride_on_a_verdict_show_in_it() {
    let document = Guest::new().document();
    let verdict_of = |attest: &str| {
        let text = DANGER.replace("attest = \"per-key\"", &format!("attest = {attest:?}"));
        verdict(&document, Some(&challenge()), &danger(&text))
    };
    let (each, per_key) = (verdict_of("every-connection"), verdict_of("per-key"));
    let line = "further connections to the same TLS key are not attested";
    assert!(per_key.accepted() && per_key.assumptions.iter().any(|told| told.starts_with(line)));
    assert!(per_key.to_json().contains(line) && per_key.to_ear().contains(line));
    assert!(each.accepted() && !each.to_json().contains(line) && !each.to_ear().contains(line));
}

#[test]
fn each_waiver_shows_in_the_verdict() {
    let document = Guest::new().document();
    let (mut shown, mut never) = (0, Vec::new());
    let base = danger(DANGER);
    // Verdicts on reports of the other platform show its waivers: `snp_simulated.rs`.
    for field in base.fields().into_iter().filter(|field| !field.path.starts_with("snp.")) {
        // A table of its own has no other around it.
        let (table, name) = field.path.rsplit_once('.').unwrap_or(("", &field.path));
        let mut within = String::new();
        let waived: Vec<String> = DANGER
            .lines()
            .map(|line| {
                if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                    within = header.to_owned();
                }
                match line.split_once(" = ") {
                    Some((found, _)) if found == name && within == table => {
                        format!("{name} = {{ waive = \"loosened by a test\" }}")
                    }
                    _ => line.to_owned(),
                }
            })
            .collect();
        let mut text = waived.join("\n");
        if text == DANGER.trim_end() {
            // What the policy leaves at its default is written behind its table's header.
            let (header, line) =
                (format!("\n[{table}]\n"), format!("{name} = {{ waive = \"loosened by a test\" }}\n"));
            text = text.replacen(&header, &format!("{header}{line}"), 1);
        }
        let Ok(policy) = AppraisalPolicy::parse(&text, Loaded::AsDanger) else {
            never.push(field.path.to_string());
            continue;
        };
        if text == DANGER.trim_end() {
            never.push(field.path.to_string());
            continue;
        }
        let result = appraise(&document, &policy);
        let code = field.code.unwrap();
        let shows = |check: &&Check| {
            // What was not given reads `not_run`, also where it is waived.
            check.code == code
                && matches!(check.status, Status::Waived | Status::NotRun)
                && check.expected == "waived: loosened by a test"
        };
        assert_eq!(result.checks.iter().filter(shows).count(), 1, "{}", field.path);
        shown += 1;
    }
    assert_eq!(never, NEVER_WAIVED);
    assert!(shown > 35, "{shown}");
}

#[test]
fn every_field_drives_a_check_that_exists() {
    for field in danger(DANGER).fields().into_iter().filter(|field| field.code.is_some()) {
        assert!(
            rules::ALL.iter().any(|rule| Some(rule.code) == field.code),
            "{} {:?}",
            field.path,
            field.code
        );
    }
}
