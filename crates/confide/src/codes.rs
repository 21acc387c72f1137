//! Codes of failures that are no verdicts.

/// Stable codes of this program's own, beside those of checks ([`confide_verifier::rules::ALL`]), clients
/// ([`confide_client::CODES`]), channels, the local endpoint ([`confide_client::proxy::CODES`]) and fetched endorsements
/// ([`confide_endorser::CODES`]): code, what it means, what to do.
pub const CODES: &[(&str, &str, &str)] = &[
    (
        "file_unreadable",
        "a file, or standard input, could not be read",
        "check that the file exists and that you may read it",
    ),
    (
        "file_unwritable",
        "a file could not be written",
        "check that the folder exists, that you may write there and that the disk has room",
    ),
    (
        "token_file",
        "the file with the endpoint's token does not hold one word",
        "write the token into the file, in one line of visible ASCII characters",
    ),
    (
        "upstream_key_file",
        "the file with the guests' key does not hold one word",
        "write the key into the file, in one line of visible ASCII characters",
    ),
    (
        "output_failed",
        "standard output could not be written to its end",
        "run the command again with a standard output that has room",
    ),
    (
        "policy_malformed",
        "the policy is not one that this build reads",
        "correct what the message names, or use a version of `confide` that knows what stands there; `confide policy check` \
         tells the same",
    ),
    (
        "egress_serving_wider",
        "the egress policy allows something while serving that it does not allow before",
        "remove the rule from the serving phase, or give bootstrap one that covers it in ports, mode and caps",
    ),
    (
        "danger_policy_flag",
        "a danger policy was given by --policy, or an ordinary one by --danger-policy",
        "give a policy with a [danger] table by --danger-policy, and any other by --policy",
    ),
    (
        "danger_policy_name",
        "a danger policy's file does not say by its name what it is",
        "name a file with a [danger] table danger-*.toml, and give any other by --policy",
    ),
    (
        "danger_policy_unsupported",
        "this build accepts no simulated evidence",
        "use a genuine guest, or a build with the feature danger-simulator for a demonstration",
    ),
    (
        "references_not_asked",
        "a file of reference values was given and the policy takes none",
        "leave --references away, or name the file's keys in the policy's [signed_references]",
    ),
    (
        "reference_file_malformed",
        "a file of reference values cannot be read",
        "correct the line that the message names",
    ),
    (
        "signing_key",
        "the key that was to sign is not one",
        "make one with: openssl genpkey -algorithm ed25519 -out key.pem",
    ),
    (
        "signing_failed",
        "the signature over reference values could not be made",
        "report it: this is an error of this program",
    ),
    (
        "state_folder",
        "there is no folder to remember versions of reference files in",
        "name a folder with --state",
    ),
    (
        "state_malformed",
        "the memory for versions of reference files cannot be read",
        "restore the file; without it, older reference files would be accepted again",
    ),
    (
        "state_unwritable",
        "the versions of reference files that were seen could not be remembered",
        "name another folder with --state",
    ),
    (
        "cache_failed",
        "the cache of endorsements could not be used",
        "check the folder that the message names, or name another one with --cache",
    ),
    (
        "cache_unknown",
        "there is no folder for the cache of endorsements",
        "name a folder with --cache, or set XDG_CACHE_HOME or HOME",
    ),
    (
        "setting_invalid",
        "a setting of the configuration file or of the environment has a value that its flag does not take",
        "correct the line or the variable that the message names",
    ),
    (
        "setting_danger",
        "the configuration file or the environment asks for something dangerous",
        "remove it there, and give the flag where it is really meant",
    ),
    (
        "api_key_file",
        "the file does not hold an API key",
        "put the key alone into the file, as printable text",
    ),
    ("prompt_missing", "the prompt is empty", "give the question as an argument or on standard input"),
    ("prompt_malformed", "the prompt is too long or is not text", "give UTF-8 text of at most 16 MiB"),
    (
        "record_malformed",
        "a record file is not one, or one of its records is broken",
        "use the file as `confide record` wrote it; a truncated file has lost its end",
    ),
    (
        "record_chain",
        "a record does not follow the one before it",
        "records were removed, put in or changed: use an unchanged copy",
    ),
    (
        "record_policy",
        "a verdict was made by another policy than the one that was given",
        "compare the recorded policy with the one that was agreed on: the verdict says nothing of that one",
    ),
    (
        "record_folder_in_use",
        "another program records in the folder, or to the file",
        "end that program, or name another folder or file",
    ),
    (
        "receipt_unvouched",
        "no record of the folder vouches for a receipt",
        "the record was removed or changed, or the receipt put in: use an unchanged copy of the folder",
    ),
    ("head_malformed", "the file holds no signed head", "give a file that `confide audit --sign-head` wrote"),
    (
        "head_key",
        "the key that is to verify a head is not one",
        "make one with: openssl pkey -in key.pem -pubout -out public.pem",
    ),
    (
        "head_signature",
        "the key that was given did not sign the head",
        "give the head and the public key that belong together",
    ),
    (
        "head_torn",
        "a file of the folder ends with a part of an entry, and no head is signed over that",
        "let the program that records end, or open the folder once more: it moves the part into a file beside",
    ),
    (
        "head_truncated",
        "the folder has fewer entries than a head that was signed of it",
        "its end was removed: use the copy that the head was signed of",
    ),
    (
        "head_rewritten",
        "the folder has other entries than a head that was signed of it",
        "it was written anew: use the copy that the head was signed of",
    ),
    (
        "head_key_missing",
        "--head names a file, and no key that the head in it is signed by",
        "give --head-key PEM with it, or the 64 hexadecimal digits of the last record's hash in its place",
    ),
    (
        "replay_head",
        "the last record is not the one that --head names",
        "the file was truncated or written anew: use the copy that belongs to the hash",
    ),
    (
        "replay_mismatch",
        "a stored outcome is not what its inputs give",
        "the record was altered, or another version of the evaluator wrote it",
    ),
    ("case_malformed", "a conformance case cannot be read", "see docs/conformance.md for the form of cases"),
    (
        "case_unsupported",
        "a conformance case is of a kind that this version does not run",
        "use the case with a version of this program that knows its kind",
    ),
    (
        "quote_platform",
        "the quote names no platform whose collateral could be fetched",
        "give the platform with --fmspc and --ca",
    ),
    (
        "too_many_files",
        "more files of one kind were given than are taken",
        "give at most 32 manifests, 128 OCSP answers and 32 revocation lists, those that are about these devices, and 256 files of evidence",
    ),
    (
        "store_missing",
        "the folder that is named as a store is not there",
        "check its name; `confide rim fetch` and `confide rim import` make one",
    ),
    (
        "stdin_twice",
        "standard input is named as two of a command's files",
        "give all but one of them as files",
    ),
    (
        "snp_vlek_certificate",
        "the report is signed by a VLEK, whose certificate only the cloud provider gives",
        "give it with --cert, beside the certificates and the list that `confide collateral fetch --report` fetches",
    ),
    (
        "snp_report_platform",
        "the report does not say of which chip or product its signing key is",
        "name the product of a report of version 2 with --product; have the host unmask CHIP_ID",
    ),
    (
        "runtime_failed",
        "the system gave no threads for network work",
        "free memory or threads, and try again",
    ),
    (
        "requests_cut",
        "the endpoint was told to end, and requests were still under way when their time was over",
        "nothing is wrong with the endpoint: let their programs ask again, and give answers more time with --drain-seconds",
    ),
    ("random_failed", "the system gave no random bytes", "report it: this is an error of the system"),
    ("signal_failed", "the system gave no signal handler", "report it: this is an error of this program"),
];

/// What to do about a code of this program, of fetched endorsements or of a check: a file that cannot be read at all has the
/// code of the check that it would fail.
pub(crate) fn what_to_do(code: &str) -> Option<&'static str> {
    let mut listed = CODES.iter().chain(confide_endorser::CODES);
    if let Some((_, _, what_to_do)) = listed.find(|(listed, ..)| *listed == code) {
        return Some(*what_to_do);
    }
    confide_verifier::rules::ALL.iter().find(|rule| rule.code == code).map(|rule| rule.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Every source file of this crate but this one.
    fn sources(folder: &Path, out: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, out);
            } else if !path.ends_with("codes.rs") {
                out.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    /// The codes that the sources name: a text behind a status, or one that is called a code.
    fn named(text: &str) -> BTreeSet<&str> {
        let behind = |marker: &'static str| {
            text.split(marker).skip(1).filter_map(|rest| {
                let (before, rest) = rest.split_once('"')?;
                let direct = before.chars().all(|one| one.is_alphanumeric() || ", \n(=".contains(one));
                direct.then(|| rest.split('"').next())?
            })
        };
        let code =
            |text: &&str| text.len() > 3 && text.chars().all(|one| one.is_ascii_lowercase() || one == '_');
        behind("Status::").chain(behind("let code")).filter(code).collect()
    }

    #[test]
    fn every_code_that_the_sources_name_is_listed_and_every_listed_one_is_named() {
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
        let named = named(&text);
        assert!(named.len() > 20, "{named:?}");
        let elsewhere: Vec<&str> = confide_verifier::rules::ALL
            .iter()
            .map(|rule| rule.code)
            .chain(confide_client::CODES.iter().map(|(code, ..)| *code))
            .collect();
        let is_listed = |code: &str| what_to_do(code).is_some() || elsewhere.contains(&code);
        let missing: Vec<_> = named.iter().filter(|code| !is_listed(code)).collect();
        assert!(missing.is_empty(), "without an entry in CODES: {missing:?}");
        for (code, meaning, what_to_do) in CODES {
            assert!(text.contains(&format!("\"{code}\"")), "{code} is no code of this program");
            assert!(!meaning.is_empty() && !what_to_do.is_empty(), "{code}");
        }
    }

    #[test]
    fn a_code_is_found_in_the_forms_that_the_sources_use() {
        let text = r#"Failure::new(Status::Internal, "file_odd", error); (Status::Usage, "flag_odd"); Status::Rejected,
            "over_lines"; let code = "named_odd"; line("no_code"); Failure::new(status, error.code(), "A sentence")"#;
        assert_eq!(named(text), BTreeSet::from(["file_odd", "flag_odd", "named_odd", "over_lines"]));
    }
}
