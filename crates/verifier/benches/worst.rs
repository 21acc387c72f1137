//! How long inputs of at most 4 MiB take to be refused that are made to cost time first.
//!
//! `cargo xtask bench` reads one line for each: name, median, 10th and 90th percentile in microseconds, separated by
//! tabs. Each input must be refused, or it would measure something else. With a folder as argument it measures nothing and
//! writes there what is costly for a program: [`write`] says which files.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    reason = "a program that measures, outside the pure crate"
)]

#[path = "../tests/algorithms/mod.rs"]
mod algorithms;
#[path = "../tests/guest/mod.rs"]
mod guest;
#[path = "../tests/snp/mod.rs"]
mod snp;

use algorithms::AWS;
use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use confide_evidence::boot_log::{MAX_BOOT_LOG, MIN_EVENT};
use confide_evidence::bytes::ByteString;
use confide_evidence::document::{
    Endorsements, EvidenceDocument, MAX_DEVICE_CRLS, MAX_DEVICES, MAX_DOCUMENT, MAX_OCSP_ANSWERS, MAX_RIMS,
    NvidiaEndorsements, TdxCollateral,
};
use confide_evidence::hash::sha256;
use confide_evidence::nvidia::{DeviceChain, Jwks, NrasAnswer, Report, device_of, evidence_list};
use confide_evidence::ocsp::{MAX_OCSP, MAX_OCSP_CERTIFICATES, OcspResponse};
use confide_evidence::pem;
use confide_evidence::record::{NrasOpinion, Record};
use confide_evidence::tdx::{MAX_COLLATERAL, collateral_from_json, collateral_to_json};
use confide_evidence::x509::{Certificate, Crl, MAX_CERTIFICATE, MAX_CRL};
use confide_policy::{AppraisalPolicy, ReferenceFile, Require};
use confide_simulator::{
    BootEvent, GpuCrlFlaw, GpuRevocationList, NrasDevice, NrasFlaw, NrasOptions, OcspFlaw, OcspOptions,
    RimFlaw, RimOptions, SimulatedBootLog, SimulatedGpu, SimulatedSnp, SimulatedTd, SnpCertificate,
    SnpExtension, SnpOptions, TdMeasurements,
};
use confide_verifier::{AttestationResult, Inputs, Status, Subject, evaluate};
use guest::{DANGER, Guest, NOW, challenge, danger, now};

const ROUNDS: usize = 15;

/// An input: its name, and what refuses it.
struct Case {
    name: String,
    refuse: Box<dyn Fn()>,
}

impl Case {
    fn new(name: impl Into<String>, refuse: impl Fn() + 'static) -> Self {
        Self { name: name.into(), refuse: Box::new(refuse) }
    }
}

fn main() {
    if let Some(folder) = std::env::args().skip(1).find(|word| word != "--bench") {
        return write(Path::new(&folder));
    }
    let policy = danger(DANGER);
    for case in [
        documents(&policy),
        devices(&policy),
        answers(&policy),
        quotes(&policy),
        logs(),
        reports(),
        files(),
        kept(&policy),
    ]
    .concat_cases()
    {
        let mut samples: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let started = Instant::now();
                (case.refuse)();
                started.elapsed()
            })
            .collect();
        samples.sort_unstable();
        let at = |percent: usize| samples[samples.len() * percent / 100].as_secs_f64() * 1e6;
        println!("{}\t{:.1}\t{:.1}\t{:.1}", case.name, at(50), at(10), at(90));
    }
}

/// Lists of cases as one.
trait ConcatCases {
    fn concat_cases(self) -> Vec<Case>;
}

impl<const N: usize> ConcatCases for [Vec<Case>; N] {
    fn concat_cases(self) -> Vec<Case> {
        self.into_iter().flatten().collect()
    }
}

fn document_case(name: &'static str, document: Vec<u8>, policy: &AppraisalPolicy) -> Case {
    assert!(document.len() <= MAX_DOCUMENT, "{name}: {} bytes", document.len());
    let policy = policy.clone();
    Case::new(name, move || {
        let challenge = challenge();
        refused(&Inputs {
            challenge: Some(&challenge),
            ..inputs(Subject::Document(&document), &Endorsements::default(), &policy)
        });
    })
}

/// Inputs of which nothing is known before.
fn inputs<'a>(
    subject: Subject<'a>,
    endorsements: &'a Endorsements,
    policy: &'a AppraisalPolicy,
) -> Inputs<'a> {
    Inputs {
        subject,
        endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy,
        challenge: None,
        now: now(),
        algorithms: &AWS,
    }
}

fn refused(inputs: &Inputs<'_>) -> AttestationResult {
    let rejection = evaluate(black_box(inputs)).expect_err("an accepted input is no refusal");
    black_box(*rejection.result)
}

fn documents(policy: &AppraisalPolicy) -> Vec<Case> {
    let honest = Guest::new().document();
    let encoded = honest.encode().unwrap();
    let key = b"host_visible\x80";
    let at = encoded.windows(key.len()).position(|window| window == key).unwrap() + key.len() - 1;
    let inserted = |list: Vec<u8>| [&encoded[..at], &list, &encoded[at + 1..]].concat();
    let with_collateral = |change: &dyn Fn(&mut TdxCollateral)| {
        let mut document = honest.clone();
        change(document.endorsements.as_mut().unwrap().tdx.as_mut().unwrap());
        document.encode().unwrap()
    };
    vec![
        document_case(
            "document: a list of three million empty strings",
            inserted([&[0x9a, 0, 0x30, 0, 0][..], &[0x60; 3 << 20]].concat()),
            policy,
        ),
        document_case(
            "document: four million levels of nesting",
            inserted(vec![0x81; MAX_DOCUMENT - encoded.len()]),
            policy,
        ),
        document_case("document: four megabytes of one string", inserted(one_string()), policy),
        document_case(
            "document: both revocation lists full of entries",
            with_collateral(&|collateral| {
                collateral.pck_crl = full_crl(&collateral.pck_crl, MAX_CRL);
                collateral.root_ca_crl = full_crl(&collateral.root_ca_crl, MAX_CRL);
            }),
            policy,
        ),
        document_case("document: 32 genuine GPUs in the wrong places", many_gpus().encode().unwrap(), policy),
    ]
}

/// As many devices as there may be, with as many manifests, answers and lists: each is about a certificate that counts, and
/// of none does the signature hold. Once beside as many opinions, of which all signatures but the last hold.
fn devices(policy: &AppraisalPolicy) -> Vec<Case> {
    let mut policy = policy.clone();
    (policy.devices.rim, policy.devices.revocation) = (Require::Required, Require::Required);
    let gpu = SimulatedGpu::new(0).unwrap();
    let evidence = device_of(&gpu.report([7; 32]), gpu.chain_pem().as_bytes()).unwrap();
    let devices = vec![evidence; MAX_DEVICES];
    let [_, above @ ..] = gpu.certificates() else { panic!("a chain") };
    let (mut rims, mut ocsp, mut crls) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0.. {
        let full = (rims.len() >= MAX_RIMS, ocsp.len() >= MAX_OCSP_ANSWERS, crls.len() >= MAX_DEVICE_CRLS);
        if full == (true, true, true) {
            break;
        }
        for options in gpu.rims(NOW) {
            let id = format!("{}-{number}", options.id);
            let options = RimOptions { id, flaw: RimFlaw::Signature, ..options };
            rims.push(options.encode().unwrap().into());
        }
        for (subject, issuer) in above.iter().zip(&above[1..]) {
            let flaw = OcspFlaw::Signature;
            let answer = OcspOptions {
                produced_at: NOW - number,
                this_update: NOW - 100,
                flaw,
                ..OcspOptions::good(NOW)
            };
            ocsp.push(answer.answer(subject).unwrap().into());
            let list =
                GpuRevocationList { number, flaw: GpuCrlFlaw::Signature, ..GpuRevocationList::empty(NOW) };
            crls.push(list.sign(issuer).unwrap().into());
        }
    }
    rims.truncate(MAX_RIMS);
    ocsp.truncate(MAX_OCSP_ANSWERS);
    crls.truncate(MAX_DEVICE_CRLS);
    let size = [&rims, &ocsp, &crls]
        .into_iter()
        .flatten()
        .map(|file: &ByteString| file.as_bytes().len())
        .sum::<usize>();
    assert!(size < MAX_DOCUMENT, "{size}");
    let endorsements =
        Endorsements { nvidia: Some(NvidiaEndorsements { crls, ocsp, rims }), ..Endorsements::default() };
    let case = |name, nras: Option<NrasOpinion>| {
        let (devices, endorsements, policy) = (devices.clone(), endorsements.clone(), policy.clone());
        Case::new(name, move || {
            let result = refused(&inputs(
                Subject::Devices {
                    devices: &devices,
                    nonces: &[[7; 32]; MAX_DEVICES],
                    rim_at: None,
                    nras: nras.as_ref(),
                },
                &endorsements,
                &policy,
            ));
            let signatures = result.checks.iter().find(|check| check.code == "nras_signature");
            assert_eq!(signatures.is_some_and(|check| check.status == Status::Fail), nras.is_some());
        })
    };
    vec![
        case("devices: 32 GPUs, and nearly two hundred endorsements of which no signature holds", None),
        case("devices: 32 GPUs, full endorsements and 32 NRAS answers", Some(opinions(&gpu))),
    ]
}

/// As many answers as are taken, each about one device and of its own time: the signature of the last token alone does not hold.
fn opinions(gpu: &SimulatedGpu) -> NrasOpinion {
    let mut last = NrasOptions::new([7; 32], NOW, vec![NrasDevice::gpu(gpu)]);
    let before = (1..).map(|age| NrasOptions { issued_at: NOW - age, ..last.clone() });
    let mut answers: Vec<NrasOptions> = before.take(MAX_DEVICES - 1).collect();
    last.flaw = NrasFlaw::DeviceSignature;
    answers.push(last);
    NrasOpinion {
        jwks: answers[0].jwks().unwrap().into_bytes().into(),
        answers: answers.iter().map(|answer| answer.answer().unwrap().into_bytes().into()).collect(),
    }
}

/// OCSP answers of the largest size: two that the parser refuses late, and as many beside a device as a document may have,
/// each with another signed part, about a certificate that counts, and of none does the signature hold.
fn answers(policy: &AppraisalPolicy) -> Vec<Case> {
    let mut policy = policy.clone();
    policy.devices.revocation = Require::Required;
    let gpu = SimulatedGpu::new(0).unwrap();
    let device = device_of(&gpu.report([7; 32]), gpu.chain_pem().as_bytes()).unwrap();
    let [_, subjects @ .., _] = gpu.certificates() else { panic!("a chain") };
    let honest: Vec<Vec<u8>> =
        subjects.iter().map(|subject| OcspOptions::good(NOW).answer(subject).unwrap()).collect();
    let ocsp: Vec<ByteString> = (0..MAX_OCSP_ANSWERS)
        .map(|number| padded_answer(&honest[number % honest.len()], number, 1).into())
        .collect();
    let size = ocsp.iter().map(|answer| answer.as_bytes().len()).sum::<usize>();
    assert!((MAX_OCSP_ANSWERS * MAX_OCSP / 16 * 15..=MAX_DOCUMENT).contains(&size), "{size}");
    let one_more = padded_answer(&honest[0], 0, MAX_OCSP_CERTIFICATES + 1);
    let parser = Case::new("OCSP answer: 16 KiB with a certificate too many", move || {
        black_box(OcspResponse::parse(black_box(&one_more)).expect_err("malformed"));
    });
    let nvidia = NvidiaEndorsements { crls: Vec::new(), ocsp, rims: Vec::new() };
    let endorsements = Endorsements { nvidia: Some(nvidia), ..Endorsements::default() };
    let appraisal = Case::new("devices: 128 OCSP answers of 16 KiB of which no signature holds", move || {
        let result = refused(&inputs(
            Subject::Devices {
                devices: std::slice::from_ref(&device),
                nonces: &[[7; 32]],
                rim_at: None,
                nras: None,
            },
            &endorsements,
            &policy,
        ));
        assert_eq!(result.code, Some("device_revocation"));
    });
    vec![parser, appraisal, refused_answer()]
}

/// An answer about more certificates than are accepted.
fn refused_answer() -> Case {
    let gpu = SimulatedGpu::new(0).unwrap();
    let answer = OcspOptions::good(NOW).answer(&gpu.certificates()[1]).unwrap();
    let OcspResponse { tbs, signature, .. } = OcspResponse::parse(&answer).unwrap();
    // ResponseData: responder, producedAt, responses.
    let (content, _) = element(&tbs);
    let after = element(element(content).1).1;
    let (singles, _) = element(after);
    let before = &content[..content.len() - after.len()];
    let room = (MAX_OCSP - 1024) / singles.len();
    let tbs = wrapped(0x30, &[before, &wrapped(0x30, &singles.repeat(room))].concat());
    let answer = signed_answer(&tbs, &signature, &[]);
    assert!((MAX_OCSP / 2..=MAX_OCSP).contains(&answer.len()), "{}", answer.len());
    Case::new("OCSP answer: one certificate as often as fits", move || {
        black_box(OcspResponse::parse(black_box(&answer)).expect_err("malformed"));
    })
}

/// The answer, almost as large as one may be, with its responder's certificate so many times and with an extension that its
/// signature does not cover, another for each number.
fn padded_answer(answer: &[u8], number: usize, certificates: usize) -> Vec<u8> {
    let OcspResponse { tbs, signature, certificates: own, .. } = OcspResponse::parse(answer).unwrap();
    let beside = own[0].der.repeat(certificates);
    let mut value = number.to_be_bytes().to_vec();
    value.resize(MAX_OCSP + own[0].der.len() - answer.len() - beside.len() - 64, 0);
    let extension = wrapped(0x30, &[wrapped(0x06, &[0x2a, 3]), wrapped(0x04, &value)].concat());
    let extensions = wrapped(0xa1, &wrapped(0x30, &extension));
    let tbs = wrapped(0x30, &[element(&tbs).0, &extensions].concat());
    let answer = signed_answer(&tbs, &signature, &beside);
    assert!(answer.len() <= MAX_OCSP, "{}", answer.len());
    answer
}

/// The DER around the signed part of an answer (RFC 6960 section 4.2.1).
fn signed_answer(tbs: &[u8], signature: &[u8], certificates: &[u8]) -> Vec<u8> {
    // ecdsa-with-SHA384.
    let algorithm = wrapped(0x30, &wrapped(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]));
    let beside =
        if certificates.is_empty() { Vec::new() } else { wrapped(0xa0, &wrapped(0x30, certificates)) };
    let signature = wrapped(0x03, &[&[0], signature].concat());
    let basic = wrapped(0x30, &[tbs, &algorithm, &signature, &beside].concat());
    // id-pkix-ocsp-basic.
    let kind = wrapped(0x06, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01]);
    let bytes = wrapped(0x30, &[kind, wrapped(0x04, &basic)].concat());
    wrapped(0x30, &[vec![0x0a, 1, 0], wrapped(0xa0, &bytes)].concat())
}

fn one_string() -> Vec<u8> {
    let size = (3_u32 << 20).to_be_bytes();
    [&[0x81, 0x7a][..], &size, &vec![b'x'; 3 << 20]].concat()
}

/// A revocation list with as many entries as fit into `size` bytes, its signature broken by that.
fn full_crl(list: &ByteString, size: usize) -> ByteString {
    // SEQUENCE { INTEGER, UTCTime }, the smallest entry.
    let entry = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        let mut entry = vec![0x30, 20, 0x02, 3, a | 0x40, b, c];
        entry.extend_from_slice(b"\x17\x0d250101000000Z");
        entry
    };
    let room = size - list.as_bytes().len() - 64;
    let entries: Vec<u8> = (0..u32::try_from(room / 22).unwrap()).flat_map(entry).collect();
    ByteString(with_entries(list.as_bytes(), &entries))
}

/// The list with `entries` before its extensions. The simulator's lists have none of their own unless they revoke.
fn with_entries(list: &[u8], entries: &[u8]) -> Vec<u8> {
    let (content, _) = element(list);
    let (tbs, after) = element(content);
    // The extensions, [0], are the last field of the signed part.
    let extensions = (0..tbs.len()).rev().find(|at| tbs[*at] == 0xa0 && element(&tbs[*at..]).1.is_empty());
    let at = extensions.unwrap();
    let tbs = wrapped(0x30, &[&tbs[..at], &wrapped(0x30, entries), &tbs[at..]].concat());
    wrapped(0x30, &[&tbs, after].concat())
}

/// Content of the first DER element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (header, length) = match der[1] {
        short if short < 0x80 => (2, usize::from(short)),
        long => {
            let digits = usize::from(long & 0x7f);
            (2 + digits, der[2..2 + digits].iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)))
        }
    };
    let end = (header + length).min(der.len());
    (&der[header.min(end)..end], &der[end..])
}

fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let digits = content.len().to_be_bytes();
            let start = digits.iter().position(|digit| *digit != 0).unwrap();
            out.push(0x80 | u8::try_from(digits.len() - start).unwrap());
            out.extend_from_slice(&digits[start..]);
        }
    }
    out.extend_from_slice(content);
    out
}

/// As many devices as a document takes, each with a whole chain and report, bound to the quote, with the nonce of the
/// first position: every one is looked at in full and refused.
fn many_gpus() -> EvidenceDocument {
    let guest = Guest::new();
    let devices = (0..MAX_DEVICES).map(|seed| {
        let gpu = SimulatedGpu::new(u64::try_from(seed).unwrap()).unwrap();
        Guest::device(&gpu, &guest.binding)
    });
    guest.document_of(devices.collect())
}

fn quotes(policy: &AppraisalPolicy) -> Vec<Case> {
    let (quote, collateral) = quote();
    let case = |name, change: &dyn Fn(&mut TdxCollateral)| {
        let (quote, policy, mut collateral) = (quote.clone(), policy.clone(), collateral.clone());
        change(&mut collateral);
        let endorsements = Endorsements { tdx: Some(collateral), ..Endorsements::default() };
        Case::new(name, move || {
            refused(&inputs(Subject::Quote(&quote), &endorsements, &policy));
        })
    };
    vec![
        case("quote: signed JSON of half a megabyte, unsigned", &|collateral| {
            collateral.tcb_info = format!("{}{}", collateral.tcb_info, " ".repeat(500 * 1024));
        }),
        case("quote: issuer chains of 64 KiB of nothing", &|collateral| {
            collateral.qe_identity_issuer_chain =
                "\n".repeat(60 * 1024) + &collateral.qe_identity_issuer_chain;
            collateral.tcb_info_issuer_chain.push('x');
        }),
        case("quote: a certificate of 12 KiB of base64 that is none", &|collateral| {
            let body = "MIIB".repeat(12 * 1024 / 4);
            let text = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
            collateral.pck_crl_issuer_chain = text.repeat(4);
        }),
    ]
}

/// The simulator's policy for a bare quote whose registers nobody has a value for: the log alone is at fault.
fn of_a_log() -> String {
    let line = |line: &str| match line.split_once(" = ") {
        Some((name @ ("rtmr0" | "rtmr1" | "rtmr2" | "rtmr3"), _)) => {
            format!("{name} = {{ waive = \"a test\" }}")
        }
        Some(("report_data", "{ from = \"document\" }")) => "report_data = { waive = \"a test\" }".to_owned(),
        _ => line.to_owned(),
    };
    DANGER.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A log of the largest size with as many events as fit, all for this register, which is not what the quote has.
fn full_log(register: u32) -> Vec<u8> {
    let mut log = SimulatedBootLog::default();
    let event = BootEvent { register, event_type: 13, digest: [7; 48], data: Vec::new() };
    let rest = MAX_BOOT_LOG - log.to_bytes().len();
    log.events.extend(vec![event; rest / MIN_EVENT]);
    log.table(MAX_BOOT_LOG)
}

/// A simulated quote and its collateral.
fn quote() -> (Vec<u8>, TdxCollateral) {
    let platform = Guest::new().platform;
    let quote = platform.quote(&SimulatedTd::new(TdMeasurements::default()).report([7; 64]));
    (quote, collateral_from_json(platform.collateral_json().as_bytes()).unwrap())
}

fn logs() -> Vec<Case> {
    let (quote, collateral) = quote();
    let endorsements = Endorsements { tdx: Some(collateral), ..Endorsements::default() };
    let policy = danger(&of_a_log());
    let case = |name, boot_log: Vec<u8>| {
        let (quote, endorsements, policy) = (quote.clone(), endorsements.clone(), policy.clone());
        Case::new(name, move || {
            let result = refused(&inputs(
                Subject::QuoteWithLog { quote: &quote, boot_log: &boot_log },
                &endorsements,
                &policy,
            ));
            assert!(result.code.is_some_and(|code| code.starts_with("boot_log")), "{:?}", result.code);
        })
    };
    vec![
        case("quote with a log: 1 MiB of events that do not replay", full_log(3)),
        case("quote with a log: 1 MiB of events for RTMR3", full_log(4)),
        case("quote with a log: 4 MiB", vec![0; 4 << 20]),
    ]
}

fn reports() -> Vec<Case> {
    let platform = SimulatedSnp::new(SnpOptions::at(NOW)).unwrap();
    let honest = snp::Case {
        report: platform.report(&platform.guest([7; 64])),
        certificates: platform.certificates().unwrap().to_vec(),
        lists: vec![platform.revocation_list().sign().unwrap()],
        seconds: NOW,
    };
    let policy = snp::danger(snp::DANGER);
    let case = |name, code: &'static str, change: &dyn Fn(&mut snp::Case)| {
        let (mut case, policy) = (honest.clone(), policy.clone());
        change(&mut case);
        Case::new(name, move || {
            let result = black_box(black_box(&case).appraise(&policy, &AWS));
            assert_eq!(result.code, Some(code), "{name}");
        })
    };
    let full = |last: u64| {
        let mut list = platform.revocation_list();
        // SEQUENCE { INTEGER of three bytes, UTCTime }.
        let entries = u64::try_from((MAX_CRL - 2048) / 22).unwrap();
        list.revoked = (0x40_0000..0x40_0000 + entries).chain([last]).collect();
        let list = list.sign().unwrap();
        assert!(list.len() <= MAX_CRL, "{}", list.len());
        vec![list; 4]
    };
    vec![
        case("SNP report: 4 MiB of bytes", "snp_report_format", &|case| case.report = vec![2; 4 << 20]),
        case("SNP report: four full lists, of which the last is not signed", "snp_crl_signature", &|case| {
            case.lists = full(1);
            *case.lists[3].last_mut().unwrap() ^= 1;
        }),
        case("SNP report: four full lists that revoke its key's issuer", "snp_revocation", &|case| {
            case.lists = full(platform.issuer().serial);
        }),
        case(
            "SNP report: certificates full of extensions, a broken report",
            "snp_report_signature",
            &|case| {
                let certificates = [platform.endorsement(), platform.issuer(), platform.root()];
                case.certificates = certificates.map(full_certificate).to_vec();
                *case.report.get_mut(0x2a0).unwrap() ^= 1;
            },
        ),
        case("SNP report: certificates that are none", "snp_endorsements_format", &|case| {
            case.certificates = (0..3).map(|byte| vec![byte; MAX_CERTIFICATE]).collect();
        }),
    ]
}

/// The certificate with as many further extensions as fit.
fn full_certificate(mut certificate: SnpCertificate) -> Vec<u8> {
    certificate.extensions.extend((0..1000).map(|number| SnpExtension {
        oid: vec![2, 25, 128 + number],
        critical: false,
        value: Vec::new(),
    }));
    let certificate = certificate.sign().unwrap();
    assert!(certificate.len() <= MAX_CERTIFICATE, "{}", certificate.len());
    certificate
}

/// Collateral files that are none.
fn texts() -> [(&'static str, String); 4] {
    let digits = format!("{{\"root_ca_crl\":\"{}\"}}", "0a".repeat((4 << 19) - 64));
    let escapes = format!("{{\"tcb_info\":\"{}\"}}", "\\u00e9".repeat((4 << 20) / 6 - 64));
    let values = format!("{{\"x\":[{}0]}}", "0,".repeat((4 << 19) - 64));
    let texts = [
        ("four megabytes of hexadecimal digits", digits),
        ("four megabytes of escapes", escapes),
        ("two million unknown values", values),
        ("four million brackets", "[".repeat(4 << 20)),
    ];
    assert!(texts.iter().all(|(_, text)| text.len() <= MAX_COLLATERAL));
    texts
}

fn files() -> Vec<Case> {
    let case = |(name, text): (&str, String)| {
        let name = format!("collateral file: {name}");
        Case::new(name, move || {
            black_box(collateral_from_json(black_box(text.as_bytes())).expect_err("malformed"));
        })
    };
    texts().into_iter().map(case).collect()
}

/// How one target of `tests/fuzz` reads its bytes: whether they are refused.
type Refuses = Box<dyn Fn(&[u8]) -> bool>;

/// What fuzzers have found: of each target whose bytes are what is read, the kept input that takes longest to be refused.
fn kept(policy: &AppraisalPolicy) -> Vec<Case> {
    readers(policy).into_iter().map(|(target, refuses)| slowest(target, refuses)).collect()
}

fn readers(policy: &AppraisalPolicy) -> Vec<(&'static str, Refuses)> {
    let (quote, collateral) = quote();
    let endorsements = Endorsements { tdx: Some(collateral), ..Endorsements::default() };
    let (documents, bare) = (policy.clone(), danger(&of_a_log()));
    let refuses = move |subject: Subject<'_>| {
        let challenge = challenge();
        let is_document = matches!(subject, Subject::Document(_));
        let policy = if is_document { &documents } else { &bare };
        let challenge = is_document.then_some(&challenge);
        let inputs = Inputs { challenge, ..inputs(subject, &endorsements, policy) };
        evaluate(black_box(&inputs)).is_err()
    };
    let refuses = Rc::new(refuses);
    let [as_quote, as_document, as_log, as_report] = std::array::from_fn(|_| Rc::clone(&refuses));
    vec![
        ("quote", Box::new(move |bytes| as_quote(Subject::Quote(bytes)))),
        ("document", Box::new(move |bytes| as_document(Subject::Document(bytes)))),
        ("boot_log", Box::new(move |bytes| as_log(Subject::QuoteWithLog { quote: &quote, boot_log: bytes }))),
        ("snp_report", Box::new(move |bytes| as_report(Subject::SnpReport(bytes)))),
        (
            "evaluate_bytes",
            Box::new(move |bytes| refuses(Subject::Quote(bytes)) & refuses(Subject::Document(bytes))),
        ),
        ("certificate", Box::new(|bytes| Certificate::parse(bytes).is_err())),
        ("collateral", Box::new(|bytes| collateral_from_json(bytes).is_err())),
        ("crl", Box::new(|bytes| Crl::parse(bytes).is_err())),
        ("evidence_list", Box::new(|bytes| evidence_list(bytes).is_err())),
        ("nras_answer", Box::new(|bytes| NrasAnswer::parse(bytes).is_err())),
        ("nras_jwks", Box::new(|bytes| Jwks::parse(bytes).is_err())),
        ("nvidia_chain", Box::new(|bytes| DeviceChain::parse(bytes).is_err())),
        ("nvidia_report", Box::new(|bytes| Report::parse(bytes).is_err())),
        ("ocsp", Box::new(|bytes| OcspResponse::parse(bytes).is_err())),
        ("pem", Box::new(|bytes| pem::certificates(bytes).is_err())),
        (
            "policy",
            Box::new(|bytes| {
                std::str::from_utf8(bytes).map_or(true, |text| AppraisalPolicy::parse_recorded(text).is_err())
            }),
        ),
        ("record", Box::new(|bytes| Record::decode(bytes).is_err())),
        ("references", Box::new(|bytes| ReferenceFile::parse(bytes).is_err())),
    ]
}

/// The kept input of a target that takes longest to be refused.
fn slowest(target: &str, refuses: Refuses) -> Case {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let inputs = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    let refused: Vec<Vec<u8>> = inputs.filter(|input| refuses(black_box(input))).collect();
    let taken = |input: &Vec<u8>| {
        let once = |_| {
            let started = Instant::now();
            black_box(refuses(black_box(input)));
            started.elapsed()
        };
        (0..3).map(once).min()
    };
    let count = refused.len();
    let slowest = refused.into_iter().max_by_key(taken);
    let slowest = slowest.unwrap_or_else(|| panic!("{} has nothing that is refused", folder.display()));
    let name = format!("found by the fuzzer of {target}: the slowest of {count}, {} bytes", slowest.len());
    Case::new(name, move || {
        assert!(black_box(refuses(black_box(&slowest))), "a kept input that is accepted is no refusal");
    })
}

/// Writes a quote with its policy, and what costs a program most beside them: `NAME.json`, collateral files; `log.bin`, a
/// boot event log; `cache`, a folder of endorsements with a full revocation list.
fn write(folder: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    let (quote, mut collateral) = quote();
    write("quote.bin", &quote);
    write("danger-policy.toml", of_a_log().as_bytes());
    write("honest.json", collateral_to_json(&collateral).as_bytes());
    write("log.bin", &full_log(3));
    collateral.pck_crl = full_crl(&collateral.pck_crl, MAX_CRL);
    let room = MAX_COLLATERAL - collateral_to_json(&collateral).len();
    collateral.root_ca_crl = full_crl(&collateral.root_ca_crl, room / 2);
    let lists = collateral_to_json(&collateral);
    assert!(lists.len() <= MAX_COLLATERAL, "{}", lists.len());
    write("lists full of entries.json", lists.as_bytes());
    for (name, text) in texts() {
        write(&format!("{name}.json"), text.as_bytes());
    }
    let service = folder.join("cache/service");
    std::fs::create_dir_all(&service).unwrap();
    let content = serde_json::json!({
        "fetched": 0,
        "chain": collateral.pck_crl_issuer_chain,
        "body": pem::base64_text(collateral.pck_crl.as_bytes()),
    });
    let content = content.to_string();
    let text = format!("confide-endorsement-1 {}\n{content}\n", sha256(content.as_bytes()));
    std::fs::write(service.join("pck-crl-platform.endorsement"), text).unwrap();
}
