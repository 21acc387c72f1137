//! `docs/limits.md`: every limit on what somebody else can lengthen, with the reason that stands above it.

use crate::source::{SHIPPING, Scanned, Source, sources};
use crate::{cell, hold, root};
use confide_endorser::Limits;
use confide_evidence::x509::{Crl, MAX_CRL, X509Error};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Constants that begin with `MAX_` and limit no size.
const NO_SIZES: [&str; 1] = ["MAX_TEMPERATURE"];

/// A limit: an integer constant `MAX_…` of a crate that ships, with the comment above it.
struct Limit {
    krate: &'static str,
    name: String,
    expression: String,
    comment: String,
}

/// The limits of a source.
fn limits(source: &Source) -> Vec<Limit> {
    let mut limits = Vec::new();
    let mut comment = String::new();
    for line in source.text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            comment.push_str(words);
            continue;
        }
        if let Some((name, expression)) = constant(line) {
            let (krate, comment) = (source.krate, comment.trim().to_owned());
            limits.push(Limit { krate, name: name.to_owned(), expression: expression.to_owned(), comment });
        }
        if !line.starts_with("#[") {
            comment.clear();
        }
    }
    limits
}

/// Name and expression of a line that declares a limit.
fn constant(line: &str) -> Option<(&str, &str)> {
    let (visibility, declared) = line.strip_suffix(';')?.split_once("const ")?;
    let (name, rest) = declared.split_once(": ")?;
    let (_, expression) = rest.split_once(" = ")?;
    let is_limit = name.starts_with("MAX_") && !NO_SIZES.contains(&name);
    (is_limit && (visibility.is_empty() || visibility.starts_with("pub"))).then_some((name, expression))
}

/// Values by crate and name. A name that is used across crates stands for one limit only.
#[derive(Default)]
struct Values(BTreeMap<(&'static str, String), u128>);

impl Values {
    fn of(limits: &[Limit]) -> Self {
        let mut values = Self::default();
        // Limits rest on others, and those on others again.
        for _ in 0..3 {
            for limit in limits {
                if let Some(value) = values.value(limit.krate, &limit.expression) {
                    values.0.insert((limit.krate, limit.name.clone()), value);
                }
            }
        }
        values
    }

    fn named(&self, krate: &'static str, name: &str) -> Option<u128> {
        let own = self.0.get(&(krate, name.to_owned()));
        let mut others = self.0.iter().filter(|((_, other), _)| other == name).map(|(_, value)| value);
        own.or_else(|| others.next().filter(|_| others.next().is_none())).copied()
    }

    /// A number, another limit, a shifted one, or a sum of products of these.
    fn value(&self, krate: &'static str, expression: &str) -> Option<u128> {
        let factor = |text: &str| {
            let text = text.trim().replace('_', "");
            match text.strip_prefix("0x") {
                Some(digits) => u128::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            }
        };
        let factor = |text: &str| {
            let name = text.trim().rsplit("::").next().unwrap_or_default();
            factor(text).or_else(|| self.named(krate, name))
        };
        if let Some((one, shift)) = expression.split_once("<<") {
            return factor(one)?.checked_shl(shift.trim().parse().ok()?);
        }
        let product = |text: &str| text.split('*').map(factor).product::<Option<u128>>();
        expression.split('+').map(product).sum()
    }
}

/// The value in the unit of the comment's first sentence.
fn with_unit(value: u128, comment: &str) -> String {
    let mib = 1 << 20;
    let what = comment.split(". ").next().unwrap_or_default().to_lowercase();
    match value {
        _ if !what.contains("byte") => value.to_string(),
        _ if value >= mib && value.is_multiple_of(mib) => format!("{} MiB", value / mib),
        1024.. if value.is_multiple_of(1024) => format!("{} KiB", value / 1024),
        _ => format!("{value} bytes"),
    }
}

/// Whether a comment says more than what is limited: where the number comes from.
fn has_source(comment: &str) -> bool {
    comment.matches(['.', ';', ':']).count() >= 2
}

fn page(limits: &[Limit], values: &Values) -> String {
    let mut text = "# Limits\n\n\
        Everything that somebody else can lengthen has a limit, checked before memory or time is spent on it. Written by \
        `cargo xtask docs` from the constants and what stands above them, which says where each number comes from. What \
        the largest inputs cost is measured by `cargo xtask bench`.\n\n\
        Together they are the `Budget` of an appraisal. There is no type of this name, and no argument: constants stand in \
        its place, so that everybody who appraises the same evidence comes to the same verdict, and a record need not say \
        under which limits it was made; and each stands where the size is checked, so that no caller can forget to pass it \
        or raise it.\n"
        .to_owned();
    text += &sums(values);
    for krate in SHIPPING {
        let of_crate: Vec<&Limit> = limits.iter().filter(|limit| limit.krate == krate).collect();
        if of_crate.is_empty() {
            continue;
        }
        write!(text, "\n## `{krate}`\n\n| limit | value | what, and why so much |\n|---|---:|---|\n")
            .unwrap();
        for Limit { name, expression, comment, .. } in of_crate {
            let value = values.value(krate, expression).unwrap_or_else(|| panic!("{name} = {expression}"));
            let plain = comment.replace("[`", "`").replace("`]", "`");
            writeln!(text, "| `{name}` | {} | {} |", with_unit(value, comment), cell(&plain)).unwrap();
        }
        if krate == "endorser" {
            text += &times_of_the_endorser();
        }
    }
    text
}

/// Verifications of a TDX quote with collateral that is given whole: the root's own signature, the PCK CA, two signers, two
/// lists, TCB info and QE identity in two sets, the PCK certificate, the QE report, the quote.
const VERIFICATIONS_OF_A_QUOTE: u128 = 1 + 1 + 2 + 2 + 4 + 1 + 1 + 1;
/// Of a GPU or switch: five certificates and the report.
const VERIFICATIONS_OF_A_DEVICE: u128 = 5 + 1;
/// Of NVIDIA's endorsements: a manifest's four certificates and its own, an answer's and its responder's, a list's.
const VERIFICATIONS_OF_A_MANIFEST: u128 = 4 + 1;
const VERIFICATIONS_OF_AN_ANSWER: u128 = 2;
/// Of an opinion of NVIDIA's attestation service, for each device: an overall token and the device's own, each of which may
/// name a key with a certificate of its own.
const VERIFICATIONS_OF_AN_OPINION: u128 = 2 + 2;
/// A verification on P-384 takes 0.2 ms: so many leave a quarter of the 250 ms in which everything is refused to parsing.
const MOST_VERIFICATIONS: u128 = 900;
/// The fewest bytes of an entry of a revocation list: a serial number of one byte and a time, with three headers.
const MIN_ENTRY: usize = 20;

/// What the constants add up to in one appraisal.
fn sums(values: &Values) -> String {
    let of = |name| values.named("evidence", name).unwrap();
    let (devices, lists, entries) = (of("MAX_DEVICES"), of("MAX_CRLS"), of("MAX_CRL") / MIN_ENTRY as u128);
    let endorsements = of("MAX_RIMS") * VERIFICATIONS_OF_A_MANIFEST
        + of("MAX_OCSP_ANSWERS") * VERIFICATIONS_OF_AN_ANSWER
        + of("MAX_DEVICE_CRLS");
    let endorsed = devices * VERIFICATIONS_OF_A_DEVICE + endorsements;
    let document = VERIFICATIONS_OF_A_QUOTE + endorsed;
    let opinion = devices * VERIFICATIONS_OF_AN_OPINION;
    let judged = endorsed + opinion;
    assert!(document.max(judged) <= MOST_VERIFICATIONS, "{document} of a document, {judged} of devices");
    let snp = of("MAX_CERTIFICATES") + lists + 1;
    format!(
        "\n## What they add up to\n\n\
        | of one appraisal | at most | |\n|---|---:|---|\n\
        | signature verifications of a TDX quote with its collateral | {VERIFICATIONS_OF_A_QUOTE} | root, PCK CA, two \
        signing certificates, two revocation lists, TCB info and QE identity of the standard and of the early set, PCK \
        certificate, QE report, quote. Each is made once, and where one \
        other than those of the early set fails, none follows; with prepared collateral three are left, for a known platform one |\n\
        | signature verifications of a GPU or switch | {VERIFICATIONS_OF_A_DEVICE} | five certificates and the report; certificates that devices share are verified once |\n\
        | signature verifications of NVIDIA's endorsements | {endorsements} | `MAX_RIMS` manifests with five, `MAX_OCSP_ANSWERS` \
        answers with two, `MAX_DEVICE_CRLS` lists with one; each is made once and only where a device needs it |\n\
        | signature verifications of an evidence document | {document} | a TDX quote, `MAX_DEVICES` devices and their endorsements |\n\
        | signature verifications of an opinion of NVIDIA's attestation service | {opinion} | for each of `MAX_DEVICES` devices an overall \
        token and its own, each with the certificate of its key |\n\
        | signature verifications of devices by themselves | {judged} | `MAX_DEVICES` devices, their endorsements and an opinion: no input \
        costs more, and {MOST_VERIFICATIONS} on P-384, of 0.2 ms each, is the most that any may |\n\
        | signature verifications of an SEV-SNP report | {snp} | `MAX_CERTIFICATES`, `MAX_CRLS` and the report |\n\
        | signature verifications of a file of reference values | | one for each key that the policy names, up to the first \
        that holds |\n\
        | entries of a revocation list | {entries} | `MAX_CRL`: an entry takes at least {MIN_ENTRY} bytes |\n\
        | revocation lists | {lists} | `MAX_CRLS` of an SEV-SNP report; a quote has two, NVIDIA's endorsements `MAX_DEVICE_CRLS` |\n\n\
        A revocation list is walked before its signature is verified: the issuer that it names tells which key that is. \
        The walk is linear and keeps the serial numbers, which are then sorted, and the names of critical extensions; certificates are \
        parsed first as well, for their keys. TCB info, QE identity and files of reference values are not read before their \
        signature holds, and boot event logs \
        not before that of the quote does.\n"
    )
}

/// How long the endorser tries, from its defaults and the comments above them.
fn times_of_the_endorser() -> String {
    let Limits { connect, attempt, total, attempts, first_pause, longest_pause } = Limits::default();
    let seconds = |time: Duration| format!("{} s", time.as_secs_f64());
    let values = [
        ("connect", seconds(connect)),
        ("attempt", seconds(attempt)),
        ("total", seconds(total)),
        ("attempts", attempts.to_string()),
        ("first_pause", seconds(first_pause)),
        ("longest_pause", seconds(longest_pause)),
    ];
    let path = root().join("crates/endorser/src/limits.rs");
    let source = std::fs::read_to_string(path).unwrap();
    let mut text = "\nOf `Limits`, which a caller may set otherwise; programs do not:\n\n\
        | limit | value | what, and why so much |\n|---|---:|---|\n"
        .to_owned();
    for (name, value) in values {
        let comment = comment_of(&source, name);
        assert!(has_source(&comment), "{name}: {comment}");
        writeln!(text, "| `{name}` | {value} | {} |", cell(&comment)).unwrap();
    }
    text
}

/// The comment above a field.
fn comment_of(source: &str, field: &str) -> String {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| line.starts_with(&format!("pub {field}: "))).unwrap();
    let above = lines[..at].iter().rev().map_while(|line| line.strip_prefix("///"));
    let mut words: Vec<&str> = above.map(str::trim).collect();
    words.reverse();
    words.join(" ")
}

#[test]
fn limits_md_is_what_the_code_says() {
    let limits: Vec<Limit> = sources().iter().flat_map(limits).collect();
    let bare: Vec<_> = limits
        .iter()
        .filter(|limit| !has_source(&limit.comment))
        .map(|limit| format!("{}::{}: {}", limit.krate, limit.name, limit.comment))
        .collect();
    assert!(bare.is_empty(), "limits whose comment does not say where the number comes from: {bare:#?}");
    hold("limits.md", &page(&limits, &Values::of(&limits)));
}

/// The lines above are found line by line; here the same constants are counted in the code as the compiler reads it.
#[test]
fn no_limit_is_overlooked() {
    for source in sources() {
        let code = Scanned::of(&source.text).code;
        let names = code.split("const MAX_").skip(1).map(|rest| rest.split(':').next().unwrap_or_default());
        let declared: Vec<_> = names
            .map(|name| format!("MAX_{name}"))
            .filter(|name| !NO_SIZES.contains(&name.as_str()))
            .collect();
        let found: Vec<_> = limits(&source).into_iter().map(|limit| limit.name).collect();
        assert_eq!(found, declared, "{}", source.path.display());
    }
}

#[test]
fn the_values_are_those_of_the_constants() {
    let limits: Vec<Limit> = sources().iter().flat_map(limits).collect();
    let values = Values::of(&limits);
    for limit in &limits {
        assert!(values.named(limit.krate, &limit.name).is_some(), "{} = {}", limit.name, limit.expression);
    }
    let constants = [
        ("evidence", "MAX_DOCUMENT", confide_evidence::document::MAX_DOCUMENT),
        ("evidence", "MAX_RECORD", confide_evidence::record::MAX_RECORD),
        ("evidence", "MAX_QUOTE", confide_evidence::tdx::MAX_QUOTE),
        ("evidence", "MAX_COLLATERAL", confide_evidence::tdx::MAX_COLLATERAL),
        ("evidence", "MAX_SIGNED_ANSWER", confide_evidence::tdx::MAX_SIGNED_ANSWER),
        ("evidence", "MAX_CRL_ANSWER", confide_evidence::tdx::MAX_CRL_ANSWER),
        ("evidence", "MAX_BOOT_LOG", confide_evidence::boot_log::MAX_BOOT_LOG),
        ("evidence", "MAX_REPORT", confide_evidence::nvidia::MAX_REPORT),
        ("evidence", "MAX_CRL", confide_evidence::x509::MAX_CRL),
        ("policy", "MAX_REFERENCE_FILE", confide_policy::MAX_REFERENCE_FILE),
        ("verifier", "MAX_PLATFORMS", confide_verifier::MAX_PLATFORMS),
        ("service", "MAX_CONFIG", confide_service::config::MAX_CONFIG),
    ];
    for (krate, name, constant) in constants {
        assert_eq!(values.named(krate, name), u128::try_from(constant).ok(), "{krate}::{name}");
    }
}

/// A list of the smallest entries, as many as fit, is read; one more is one too many.
#[test]
fn a_revocation_list_has_no_more_entries_than_the_page_says() {
    let list = |entries: usize| {
        let algorithm = value(0x30, &value(0x06, &[0x2a, 0x03]));
        let entry = value(0x30, &[value(0x02, &[7]), value(0x17, b"260101000000Z")].concat());
        assert_eq!(entry.len(), MIN_ENTRY);
        let entries = value(0x30, &entry.repeat(entries));
        let issuer = value(0x30, &[]);
        let fields = [&algorithm[..], &issuer, &value(0x17, b"260101000000Z"), &entries].concat();
        value(0x30, &[&value(0x30, &fields)[..], &algorithm, &value(0x03, &[0])].concat())
    };
    let around = list(MAX_CRL / MIN_ENTRY).len() - MAX_CRL / MIN_ENTRY * MIN_ENTRY;
    let most = (MAX_CRL - around) / MIN_ENTRY;
    assert_eq!(Crl::parse(&list(most)).unwrap().entries().len(), most);
    assert!(matches!(Crl::parse(&list(most + 1)), Err(X509Error::TooLarge { .. })));
    // The page counts entries alone.
    assert!(MAX_CRL / MIN_ENTRY - most < 20, "{around}");
}

/// DER of a value, with a length in its shortest form.
fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, middle, low] = content.len().to_be_bytes();
    let length = match content.len() {
        0..0x80 => vec![low],
        0x80..0x100 => vec![0x81, low],
        0x100..0x1_0000 => vec![0x82, middle, low],
        _ => vec![0x83, high, middle, low],
    };
    [&[tag][..], &length, content].concat()
}

#[test]
fn a_limit_without_a_source_is_told_from_one_with() {
    assert!(!has_source("The largest prompt, in bytes."));
    assert!(has_source("The largest prompt, in bytes. A million tokens of text take about 4 MiB."));
    assert_eq!(constant("const MAX_FILES: usize = 2 * crate::MAX;"), Some(("MAX_FILES", "2 * crate::MAX")));
    assert_eq!(constant("let const MAX_FILES: usize = 2;"), None);
    assert_eq!(Values::default().value("x", "3 * 0x10 + 1_000"), Some(1048));
    assert_eq!(Values::default().value("x", "1 << 20"), Some(1 << 20));
    assert_eq!(with_unit(2 << 20, "in bytes"), "2 MiB");
    assert_eq!(with_unit(4096, "in bytes"), "4 KiB");
    assert_eq!(with_unit(1000, "Bytes of it"), "1000 bytes");
    assert_eq!(with_unit(4096, "The most entries. Each has 8 bytes."), "4096");
}
