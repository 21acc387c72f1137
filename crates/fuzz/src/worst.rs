//! The inputs that take longest, as far as anyone knows: made here, because they are large.

use crate::beside::REFERENCES;
use crate::devices::HONEST as HONEST_DEVICE;
use crate::guest::{GPU, POLICY, Parts, gpu};
use crate::snp::HONEST;
use crate::{MAX_INPUT, Target, devices, rim, seeds};
use confide_evidence::bytes::ByteString;
use confide_evidence::document::{
    EvidenceDocument, MAX_DEVICE_CRLS, MAX_DEVICES, MAX_OCSP_ANSWERS, MAX_RIMS, NvidiaEndorsements,
};
use confide_evidence::nvidia::{MAX_DECODED, MAX_EVIDENCE_LIST, MAX_JWKS, MAX_NRAS_ANSWER};
use confide_evidence::ocsp::{MAX_OCSP, MAX_OCSP_CERTIFICATES, MAX_OCSP_RESPONSES, OcspResponse};
use confide_evidence::x509::Crl;
use confide_evidence::{hex, pem};
use confide_policy::MAX_REFERENCE_FILE;
use confide_service::config::MAX_CONFIG;
use confide_simulator::SimulatedGpu;
use serde_json::{Value, json};

/// Targets whose bytes are lists of changes, not what is appraised.
const DECISIONS: &[&str] = &[
    "evaluate_quote",
    "evaluate_collateral",
    "evaluate_document",
    "evaluate_snp",
    "evaluate_devices",
    "evaluate_log",
    "evaluate_references",
    "evaluate_opinion",
];

/// Inputs of a target with a word for each.
#[must_use]
pub fn of(target: &Target) -> Vec<(String, Vec<u8>)> {
    if DECISIONS.contains(&target.name) {
        return Vec::new();
    }
    let mut inputs: Vec<(String, Vec<u8>)> = FILLS
        .iter()
        .map(|unit| (format!("{:?} again and again", String::from_utf8_lossy(unit)), filled(unit)))
        .collect();
    for (position, seed) in seeds::of(target.name).into_iter().enumerate() {
        if !seed.is_empty() {
            inputs.push((format!("seed {position} again and again"), filled(&seed)));
        }
    }
    inputs.extend(match target.name {
        "crl" => vec![
            ("the shortest entries".to_owned(), crl()),
            ("an object identifier of a mebibyte".to_owned(), identified_crl()),
        ],
        "ocsp" => ocsp(),
        "evidence_list" => evidence_lists(),
        "nras_answer" => nras_answers(),
        "nras_jwks" => nras_jwks(),
        "tcb_info" => {
            vec![("many levels".to_owned(), levels()), ("many advisories".to_owned(), advisories())]
        }
        "collateral" => collaterals(),
        "policy" => vec![("many tables".to_owned(), tables()), ("many values".to_owned(), values())],
        "egress_policy" => vec![("as many rules as there may be".to_owned(), egress_rules())],
        "cache_file" => vec![("a list of the shortest entries".to_owned(), cached_list())],
        "reference_state" => vec![("many series".to_owned(), series())],
        "conformance_case" => cases(),
        "references" => vec![("many sets".to_owned(), sets()), ("many values".to_owned(), set_values())],
        "discovery_file" => vec![("as many instances as a file holds".to_owned(), instances())],
        "evaluate_snp_files" => lists(),
        "evaluate_device_files" => device_files(),
        "rim" | "rim_canonical" => rim::worst(),
        "evaluate_bytes" => documents(),
        _ => Vec::new(),
    });
    inputs
}

fn instances() -> Vec<u8> {
    let instance = b"[[instance]]\nurl = \"https://a\"\n";
    instance.repeat(MAX_CONFIG / instance.len())
}

/// What parsers nest in, loop over or scan.
const FILLS: &[&[u8]] = &[
    b"[",
    b"{",
    b"\"",
    b"\\",
    b" ",
    b"\n",
    b"0",
    b"-",
    b"=",
    b"a",
    b"[[",
    b"{\"a\":",
    b"[0,",
    b"a.",
    b"a=1\n",
    b"[a]\n",
    b"\x00",
    b"\x30\x80",
    b"\x30\x82\xff\xff",
    b"\x9f",
    b"\x81",
    b"\xa1\x60",
    b"\x60",
    b"\x80",
    b"\xff",
    b"%0A",
    b"%25",
    b"-----BEGIN CERTIFICATE-----",
    b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
    "\u{1f980}".as_bytes(),
];

/// 4 MiB of copies.
fn filled(unit: &[u8]) -> Vec<u8> {
    let mut bytes = unit.repeat(MAX_INPUT / unit.len() + 1);
    bytes.truncate(MAX_INPUT);
    bytes
}

/// DER of one value.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let size = (content.len() as u64).to_be_bytes();
    let digits: Vec<u8> = size.iter().copied().skip_while(|byte| *byte == 0).collect();
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(content.len() as u8);
    } else {
        out.push(0x80 | digits.len() as u8);
        out.extend(digits);
    }
    out.extend_from_slice(content);
    out
}

/// A revocation list of almost the largest size, with the shortest entries, that nobody signed.
fn crl() -> Vec<u8> {
    let algorithm = der(0x30, &der(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
    let time = der(0x17, b"260101000000Z");
    let entry = der(0x30, &[der(0x02, &[7]), time.clone()].concat());
    let entries = der(0x30, &entry.repeat(50_000));
    let tbs = [der(0x02, &[1]), algorithm.clone(), der(0x30, &[]), time.clone(), time, entries].concat();
    der(0x30, &[der(0x30, &tbs), algorithm, der(0x03, &[0, 0x30, 0])].concat())
}

/// A revocation list of almost the largest size whose only extension has one object identifier of that size.
fn identified_crl() -> Vec<u8> {
    let algorithm = der(0x30, &der(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
    let time = der(0x17, b"260101000000Z");
    let oid = [vec![0x81; (1 << 20) - 200], vec![1]].concat();
    let extension = [der(0x06, &oid), der(0x01, &[0xff]), der(0x04, &[])].concat();
    let extensions = der(0xa0, &der(0x30, &der(0x30, &extension)));
    let tbs = [der(0x02, &[1]), algorithm.clone(), der(0x30, &[]), time.clone(), time, extensions].concat();
    der(0x30, &[der(0x30, &tbs), algorithm, der(0x03, &[0, 0x30, 0])].concat())
}

/// OCSP answers of the largest size.
fn ocsp() -> Vec<(String, Vec<u8>)> {
    let extension = der(0x30, &[der(0x06, &[0x2a, 3]), der(0x04, &[])].concat());
    let single = |number: u8| {
        let algorithm = der(0x30, &der(0x06, &[0x2b, 0x0e, 0x03, 0x02, 0x1a]));
        let hashes = der(0x04, &[7; 20]).repeat(2);
        let id =
            der(0x30, &[algorithm, hashes, der(0x02, &[[1; 19].as_slice(), &[number]].concat())].concat());
        der(0x30, &[id, vec![0x80, 0], der(0x18, b"20261001000000Z")].concat())
    };
    let with = |singles: &[Vec<u8>], extensions: &[u8], certificates: &[u8]| {
        let answer = answer_of(&singles.concat(), extensions, &[0x30, 0], certificates);
        assert!(answer.len() <= MAX_OCSP, "{} bytes", answer.len());
        answer
    };
    let one = |number: usize| {
        let oid = der(0x06, &[0x2a, 0x81 + (number / 128) as u8, (number % 128) as u8]);
        der(0x30, &[oid, der(0x04, &[])].concat())
    };
    let many: Vec<u8> = (0..1600).flat_map(one).collect();
    let identified =
        der(0x30, &[der(0x06, &[vec![0x81; MAX_OCSP - 300], vec![1]].concat()), der(0x04, &[])].concat());
    let own = HONEST_DEVICE.subjects.first().expect("a certificate").clone();
    let singles: Vec<Vec<u8>> = (0..200).map(single).collect();
    let most = &singles[..MAX_OCSP_RESPONSES];
    vec![
        ("the most certificates".to_owned(), with(most, &[], &own.repeat(MAX_OCSP_CERTIFICATES))),
        ("as many answers as fit".to_owned(), with(&singles[..150], &[], &[])),
        ("as many extensions as fit".to_owned(), with(most, &many, &[])),
        ("one extension again and again".to_owned(), with(most, &extension.repeat(1800), &[])),
        ("one object identifier".to_owned(), with(&singles[..1], &identified, &[])),
    ]
}

/// An answer of these single responses, extensions, signature and certificates.
fn answer_of(singles: &[u8], extensions: &[u8], signature: &[u8], certificates: &[u8]) -> Vec<u8> {
    let time = der(0x18, b"20261001000000Z");
    let behind = if extensions.is_empty() { Vec::new() } else { der(0xa1, &der(0x30, extensions)) };
    let responder = der(0xa2, &der(0x04, &[5; 20]));
    let tbs = der(0x30, &[responder, time, der(0x30, singles), behind].concat());
    signed_answer(&tbs, signature, certificates)
}

/// The DER around the signed part of an answer.
fn signed_answer(tbs: &[u8], signature: &[u8], certificates: &[u8]) -> Vec<u8> {
    // ecdsa-with-SHA384.
    let algorithm = der(0x30, &der(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]));
    let beside = if certificates.is_empty() { Vec::new() } else { der(0xa0, &der(0x30, certificates)) };
    let signature = der(0x03, &[&[0], signature].concat());
    let basic = der(0x30, &[tbs, &algorithm, &signature, &beside].concat());
    let kind = der(0x06, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01]);
    let bytes = der(0x30, &[kind, der(0x04, &basic)].concat());
    der(0x30, &[vec![0x0a, 1, 0], der(0xa0, &bytes)].concat())
}

/// Endorsements of a device as many and as large as fit, of which no signature holds.
fn device_files() -> Vec<(String, Vec<u8>)> {
    let NvidiaEndorsements { crls, ocsp, rims } = &HONEST_DEVICE.endorsements;
    let whole = |what: &str, kind: u8, files: Vec<Vec<u8>>| {
        let files: Vec<ByteString> = files.into_iter().map(ByteString).collect();
        let bytes = devices::joined(kind, &files);
        assert!(bytes.len() <= MAX_INPUT, "{what}: {} bytes", bytes.len());
        (what.to_owned(), bytes)
    };
    let answers = |size: usize| {
        let padded = |number: usize| padded_answer(&ocsp[number % ocsp.len()].0, number, size);
        (0..(MAX_INPUT / (size + 3)).min(MAX_OCSP_ANSWERS)).map(padded).collect()
    };
    let again = |file: &Vec<u8>| vec![file.clone(); (MAX_INPUT / (file.len() + 3)).min(MAX_RIMS)];
    let broken = |file: &ByteString| {
        let mut file = file.0.clone();
        let at = file.len() - 8;
        file[at] ^= 1;
        file
    };
    vec![
        whole("the most answers of the largest size", 1, answers(MAX_OCSP)),
        whole("the most answers", 1, answers(4096)),
        whole("one list again and again", 2, vec![broken(&crls[0]); MAX_DEVICE_CRLS]),
        whole("lists of the shortest entries", 2, vec![crl(), crl(), crl()]),
        whole("one manifest again and again", 0, again(&rims[0].0)),
    ]
}

/// An answer of about this size with an extension that its signature does not cover, another for each number.
fn padded_answer(answer: &[u8], number: usize, size: usize) -> Vec<u8> {
    let OcspResponse { tbs, signature, certificates, .. } =
        OcspResponse::parse(answer).expect("the simulator's answer");
    // The header of a SEQUENCE of 128 bytes and more.
    let content = &tbs[2 + usize::from(tbs[1] & 0x7f)..];
    let mut value = number.to_be_bytes().to_vec();
    value.resize(size - answer.len() - 64, 0);
    let extension = der(0x30, &[der(0x06, &[0x2a, 3]), der(0x04, &value)].concat());
    let tbs = der(0x30, &[content, &der(0xa1, &der(0x30, &extension))].concat());
    let certificates: Vec<u8> = certificates.into_iter().flat_map(|one| one.der).collect();
    let answer = signed_answer(&tbs, &signature, &certificates);
    assert!(answer.len() <= size && OcspResponse::parse(&answer).is_ok(), "{} bytes", answer.len());
    answer
}

/// Evidence lists of the largest size, and files that hold evidence in other forms.
fn evidence_lists() -> Vec<(String, Vec<u8>)> {
    let list = |unit: &str| format!("[{}0]", unit.repeat((MAX_EVIDENCE_LIST - 3) / unit.len())).into_bytes();
    let digits = |unit: &str| unit.repeat(MAX_DECODED / unit.len()).into_bytes();
    vec![
        ("the most devices".to_owned(), seeds::evidence_list(MAX_DEVICES)),
        ("numbers".to_owned(), list("0,")),
        ("objects".to_owned(), list("{\"a\":0},")),
        ("digits".to_owned(), digits("30")),
        ("digits of the shortest values".to_owned(), digits("3000")),
        ("digits apart".to_owned(), digits("3 0 0 0 ")),
        ("base64 of the shortest values".to_owned(), digits("MAAwADAA")),
        ("the shortest values".to_owned(), [0x30, 0].repeat(MAX_DECODED / 2)),
    ]
}

/// Answers of the largest size: many devices, one token of many parts, many members.
fn nras_answers() -> Vec<(String, Vec<u8>)> {
    let answer =
        |overall: &str, devices: &str| format!("[[\"JWT\",\"{overall}\"],{{{devices}}}]").into_bytes();
    let many = |unit: &str| unit.repeat((MAX_NRAS_ANSWER - 64) / unit.len());
    vec![
        ("members".to_owned(), answer("", &(many("\"\":\"\",") + "\"\":\"\""))),
        ("a token of dots".to_owned(), answer(&many("."), "\"GPU-0\":\"\"")),
        ("a token of letters".to_owned(), answer(&many("A"), "\"GPU-0\":\"\"")),
        ("lists".to_owned(), many("[").into_bytes()),
    ]
}

/// Key sets of the largest size.
fn nras_jwks() -> Vec<(String, Vec<u8>)> {
    let set =
        |unit: &str| format!("{{\"keys\":[{}0]}}", unit.repeat((MAX_JWKS - 16) / unit.len())).into_bytes();
    vec![
        ("numbers".to_owned(), set("0,")),
        ("keys of one id".to_owned(), set("{\"kty\":\"RSA\",\"kid\":\"a\"},")),
    ]
}

/// TCB info with more levels than are accepted.
fn levels() -> Vec<u8> {
    changed_tcb_info(|info| {
        let level = info["tcbLevels"][0].clone();
        info["tcbLevels"] = vec![level; 600].into();
    })
}

/// TCB info with one long list of advisories.
fn advisories() -> Vec<u8> {
    changed_tcb_info(|info| info["tcbLevels"][0]["advisoryIDs"] = vec!["INTEL-SA-00000"; 30_000].into())
}

fn changed_tcb_info(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let seed = seeds::of("tcb_info").into_iter().next().expect("a seed");
    let mut info = serde_json::from_slice(&seed).expect("the simulator's TCB info");
    change(&mut info);
    info.to_string().into_bytes()
}

/// Collateral files of the largest size.
fn collaterals() -> Vec<(String, Vec<u8>)> {
    let file = |start: &str, unit: &str, end: &str| {
        let times = (MAX_INPUT - start.len() - end.len()) / unit.len();
        [start, &unit.repeat(times), end].concat().into_bytes()
    };
    vec![
        ("hexadecimal digits".to_owned(), file("{\"root_ca_crl\":\"", "0a", "\"}")),
        ("escapes".to_owned(), file("{\"tcb_info\":\"", "\\u00e9", "\"}")),
        ("an unknown list".to_owned(), file("{\"x\":[", "0,", "0]}")),
    ]
}

/// The file of the cache of a root's list with many entries.
fn cached_list() -> Vec<u8> {
    let body = pem::base64_text(&crl());
    let content = json!({ "fetched": 0, "chain": null, "body": body });
    format!("root-ca-crl.endorsement\n{content}").into_bytes()
}

fn series() -> Vec<u8> {
    let one = json!({ "name": "a", "key": "", "version": 0, "digest": "0".repeat(64) });
    json!({ "format": "confide-reference-state/1", "series": vec![one; 9_000] }).to_string().into_bytes()
}

/// Files with the most revocation lists, none of which the root signed.
fn lists() -> Vec<(String, Vec<u8>)> {
    let file = |lists: &[Vec<u8>]| [&[0], &lists.concat()[..]].concat();
    vec![
        ("lists of the shortest entries".to_owned(), file(&[crl(), crl(), crl(), crl()])),
        (
            "lists of one object identifier".to_owned(),
            file(&std::array::from_fn::<_, 4, _>(|_| identified_crl())),
        ),
        ("the same lists of the root's name".to_owned(), file(&[named_crl(), named_crl(), named_crl()])),
    ]
}

/// The honest root's list with many entries, which its signature does not cover.
fn named_crl() -> Vec<u8> {
    let honest = &HONEST.endorsements.crls[0].0;
    let list = Crl::parse(honest).expect("the simulator's list");
    let time = der(0x17, b"260101000000Z");
    let entry = der(0x30, &[der(0x02, &[7]), time.clone()].concat());
    // id-RSASSA-PSS, behind the header of its AlgorithmIdentifier.
    let identifier = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    let found = honest.windows(identifier.len()).position(|window| window == identifier);
    let at = found.expect("AMD's lists are signed with RSASSA-PSS") - 2;
    let algorithm = &honest[at..at + 2 + usize::from(honest[at + 1])];
    let times = [der(0x17, b"260930000000Z"), der(0x17, b"261101000000Z")].concat();
    let entries = der(0x30, &entry.repeat(50_000));
    let tbs = [&der(0x02, &[1]), algorithm, &list.issuer, &times, &entries].concat();
    der(0x30, &[&der(0x30, &tbs), algorithm, &der(0x03, &[&[0], &list.signature[..]].concat())].concat())
}

/// Cases of the conformance suite.
fn cases() -> Vec<(String, Vec<u8>)> {
    let marked = |evidence: &Value, endorsements: &Value, content: &str| {
        let case = seeds::case(POLICY, evidence, endorsements, &seeds::accepted()).to_string();
        assert!(case.contains("\"MARK\""), "{case}");
        case.replacen("\"MARK\"", content, 1).into_bytes()
    };
    let quote = |blob: Value| json!({ "kind": "tdx-quote", "quote": blob });
    let none = json!({});
    let list = format!("[{}0]", "0,".repeat(1_900_000));
    let objects = format!("[{}0]", "{\"a\":0},".repeat(450_000));
    let digits = format!("\"{}\"", "00".repeat(1_900_000));
    let base64 = format!("\"{}\"", "AAAA".repeat(950_000));
    let report = json!({ "kind": "snp-report", "report": { "hex": hex::encode(&HONEST.report) } });
    let shortest = json!({ "base64": pem::base64_text(&crl()) });
    let lists = json!({ "snp_certificates": [], "snp_crls": [shortest, shortest] });
    let collateral = json!({ "tdx_collateral": { "json": "MARK" } });
    let lists = seeds::case(POLICY, &report, &lists, &seeds::accepted()).to_string().into_bytes();
    let cases = [
        ("the most devices", seeds::device_case(MAX_DEVICES as u64).to_string().into_bytes()),
        ("too many devices", too_many_devices()),
        ("a long list for a quote", marked(&quote(json!({ "json": "MARK" })), &none, &list)),
        ("a list of objects for a quote", marked(&quote(json!({ "json": "MARK" })), &none, &objects)),
        ("a long quote in digits", marked(&quote(json!({ "hex": "MARK" })), &none, &digits)),
        ("a long quote in base64", marked(&quote(json!({ "base64": "MARK" })), &none, &base64)),
        ("a long list for collateral", marked(&quote(json!({ "hex": "00" })), &collateral, &list)),
        ("an unknown field", marked(&json!({ "kind": "tdx-quote", "x": "MARK" }), &none, &list)),
        ("an unknown kind", marked(&json!({ "kind": "x", "x": "MARK" }), &none, &objects)),
        ("lists of the shortest entries", lists),
    ];
    cases.map(|(what, case)| (what.to_owned(), case)).to_vec()
}

/// One genuine device as often as 4 MiB have room for it.
fn too_many_devices() -> Vec<u8> {
    let mut case = seeds::device_case(1);
    let device = case["evidence"]["devices"][0].take();
    let times = MAX_INPUT / (device.to_string().len() + 1) - 2;
    case["evidence"]["devices"] = vec![device; times].into();
    case.to_string().into_bytes()
}

/// Reference values as large as a file may be.
fn sets() -> Vec<u8> {
    let (head, _) = REFERENCES.split_once("[reference").expect("the example has sets");
    let mut text = head.to_owned();
    for number in 0.. {
        let set = format!("[reference.s{number}]\nmr_td = [\"{}\"]\n", "1".repeat(96));
        if text.len() + set.len() > MAX_REFERENCE_FILE {
            break;
        }
        text.push_str(&set);
    }
    text.into_bytes()
}

fn set_values() -> Vec<u8> {
    let (head, _) = REFERENCES.split_once("[reference").expect("the example has sets");
    let value = format!("\"{}\",", "1".repeat(96));
    let times = (MAX_REFERENCE_FILE - head.len() - 64) / value.len();
    format!("{head}[reference.a]\nmr_td = [{}]\n", value.repeat(times)).into_bytes()
}

/// Networks within each other, in both phases, each with as many ports as it may have.
fn egress_rules() -> Vec<u8> {
    let ports: Vec<u16> = (1..=16).collect();
    let rule = |phase: &str, prefix: u32| {
        let address = std::net::Ipv6Addr::from(0x2600_u128 << 112);
        format!("[[{phase}]]\ncidr = \"{address}/{prefix}\"\nports = {ports:?}\nprotocol = \"tcp\"\n")
    };
    let rules: String =
        (16..=128).flat_map(|prefix| [rule("bootstrap", prefix), rule("serving", prefix)]).collect();
    format!("format = \"confide-egress-policy/1\"\nname = \"worst\"\nlog = \"none\"\n{rules}").into_bytes()
}

fn tables() -> Vec<u8> {
    (0..50_000).map(|number| format!("[t{number}]\n")).collect::<String>().into_bytes()
}

fn values() -> Vec<u8> {
    format!("a = [{}]", "\"00\",".repeat(150_000)).into_bytes()
}

/// Documents that are well formed and large.
fn documents() -> Vec<(String, Vec<u8>)> {
    let mut devices = Parts::honest();
    devices.devices = (0..MAX_DEVICES as u32)
        .map(|position| gpu(&SimulatedGpu::new(u64::from(position)).expect("usual options"), position))
        .collect();
    let mut same = Parts::honest();
    same.devices = (0..MAX_DEVICES as u32).map(|position| gpu(&GPU, position)).collect();
    let mut claims = Parts::honest();
    claims.claims.engine.flags = vec!["\u{1}".repeat(15_000); 256];
    let honest = Parts::honest().document();
    let mut log = honest.clone();
    log.boot_log = Some(vec![0xff; 3 << 20].into());
    let mut revoked = honest.clone();
    if let Some(tdx) = revoked.endorsements.as_mut().and_then(|stapled| stapled.tdx.as_mut()) {
        tdx.pck_crl = crl().into();
        tdx.root_ca_crl = crl().into();
    }
    let whole = [
        ("as many genuine devices as there may be", devices.document()),
        ("one genuine device as often as there may be devices", same.document()),
        ("long claims", claims.document()),
        ("a boot log of 3 MiB", log),
        ("both revocation lists full of entries", revoked),
    ];
    let inserted = [
        ("three million empty strings", [&[0x9a, 0, 0x30, 0, 0][..], &[0x60; 3 << 20]].concat()),
        ("three million levels of nesting", vec![0x81; 3 << 20]),
        ("a string of 3 MiB", [&[0x81, 0x7a, 0, 0x30, 0, 0][..], &[b'x'; 3 << 20]].concat()),
    ];
    let encoded = |document: EvidenceDocument| document.encode().expect("a document of at most 4 MiB");
    let honest = encoded(honest);
    let inserted = inserted.map(|(what, list)| (what, with_hosts(&honest, &list)));
    let whole = whole.map(|(what, document)| (what, encoded(document)));
    whole.into_iter().chain(inserted).map(|(what, document)| (what.to_owned(), document)).collect()
}

/// The document with another CBOR value in place of its empty list of hosts, in its claims.
fn with_hosts(document: &[u8], value: &[u8]) -> Vec<u8> {
    let field = b"host_visible\x80";
    let found = document.windows(field.len()).position(|window| window == field);
    let at = found.expect("an honest document lets no host see anything") + field.len() - 1;
    [&document[..at], value, &document[at + 1..]].concat()
}
