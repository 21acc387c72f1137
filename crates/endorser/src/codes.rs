//! Codes of endorsements that could not be had.

/// Stable codes of [`crate::EndorserError`], [`crate::SetupError`], [`crate::StoreError`], [`crate::StapleError`] and
/// [`crate::GpuFolderError`]: code, what it means, what to do.
pub const CODES: &[(&str, &str, &str)] = &[
    ("endorsement_offline", "the object is not in the cache, and the network may not be used", OFFLINE),
    ("endorsement_unreachable", "there is no connection to the service, or it broke", NETWORK),
    ("endorsement_proxy", "the proxy does not let the connection through", NETWORK),
    ("endorsement_timed_out", "the answer did not arrive in time", NETWORK),
    (
        "endorsement_tls",
        "the service's certificate is not trusted, or TLS failed otherwise",
        "a PCCS with a certificate of its own needs it pinned: --pccs-certificate FILE; web authorities are read from \
         the system or SSL_CERT_FILE",
    ),
    (
        "endorsement_busy",
        "the service asks to come back later than this program waits (status 429)",
        "ask again later",
    ),
    (
        "endorsement_unavailable",
        "the service answers that it cannot answer now (statuses from 500)",
        "ask again later",
    ),
    (
        "endorsement_not_found",
        "the service knows no such platform, CA, TCB version, TCB evaluation data number or RIM (status 404 or 410)",
        "check --fmspc, --ca, --update or --id; a PCCS knows only what its operator has fetched: ask without --pccs, which \
         asks the vendor's own service; NVIDIA has RIMs of the drivers and VBIOSes that it released for confidential computing",
    ),
    ("endorsement_redirected", "the service points to another place, which is not followed", ADDRESS),
    ("endorsement_refused", "the service answers with another status than 200", ADDRESS),
    ("endorsement_too_large", "the answer is larger than any genuine one", ADDRESS),
    ("endorsement_malformed", "the answer is not of the form that the vendor's API describes", ADDRESS),
    (
        "endorsement_unsupported",
        "the object is of a form that this version does not read",
        "use a version of this program that reads it",
    ),
    (
        "endorsement_digest",
        "the object is not the one whose digest the answer has",
        "ask again; if it stays so, something on the way changes answers",
    ),
    (
        "endorsement_ocsp_refused",
        "the OCSP responder does not say anything about this certificate (unauthorized, malformedRequest, sigRequired)",
        "fetch the revocation lists (--crl) in its place; NVIDIA's responder does not serve the leaf certificates of devices",
    ),
    ("endorsement_other_object", "the answer is about another object than was asked for", ADDRESS),
    (
        "endorsement_signature",
        "the object is not signed by the certificates that it came with; it is not kept, and what is kept is used in its place",
        ADDRESS,
    ),
    (
        "endorsement_older",
        "the object is older than one that the service gave before",
        "the service has fallen behind: refresh it, ask the vendor's own, or forget what is known with `confide collateral \
         prune --all`",
    ),
    (
        "endorsement_expired",
        "the object's window is over",
        "the service gives old objects: refresh it, or ask the vendor's own",
    ),
    (
        "endorsement_not_yet_valid",
        "the object's window begins later",
        "services give what is valid today; for a past time give the collateral of that time as a file",
    ),
    ("endorser_url", "the address of a service is not one", "give it as https://HOST[:PORT]/PATH"),
    (
        "endorser_proxy",
        "the proxy that the environment names is not spoken to",
        "set HTTPS_PROXY to http://HOST:PORT, or name the service's host in NO_PROXY",
    ),
    (
        "endorser_certificate",
        "the certificate to be pinned cannot be used",
        "give the service's own certificate as PEM, with nothing else in the file",
    ),
    ("endorser_tls", "TLS cannot be set up", "report it: this is an error of this program"),
    (
        "store_failed",
        "a file or folder of the store, or one to be taken in, could not be read or written",
        "check that it exists, that you may read and write there and that the disk has room",
    ),
    (
        "store_file_unknown",
        "the file holds neither a RIM nor an OCSP answer nor a revocation list",
        "give RIMs as NVIDIA signs them (XML), answers and lists as DER, hexadecimal digits, base64 or PEM",
    ),
    (
        "store_rim_missing",
        "the store has no issue of a RIM that was to be copied",
        "fetch the RIM into the store, or take it in from a file, then copy again",
    ),
    (
        "store_rim_unnamed",
        "nothing in the RIM of a VBIOS says the board that it is for",
        "name the file for the RIM's id, such as NV_GPU_VBIOS_1010_0200_882_96009F0001.xml",
    ),
    (
        "store_too_many_files",
        "the folder holds more files than one import takes (4096)",
        "import its parts one after the other",
    ),
    (
        "staple_unreadable",
        "the file with the collateral to be stapled cannot be read",
        "check that the file exists and that the guest may read it",
    ),
    (
        "staple_malformed",
        "the file with the collateral to be stapled is none",
        "fetch it anew with `confide collateral fetch`",
    ),
    (
        "staple_not_valid",
        "the collateral to be stapled is of another time",
        "fetch it anew, and check the guest's clock",
    ),
    (
        "staple_too_large",
        "the collateral is larger than a document has room for",
        "give the collateral of one platform alone",
    ),
    (
        "staple_platform",
        "the guest does not know which platform it runs on",
        "see the cause in the message; the quoting service of the host must answer",
    ),
    (
        "gpu_endorsements_unreadable",
        "the folder of the GPUs' endorsements, or a file in it, cannot be read",
        "name a folder that exists and whose files this user may read",
    ),
    (
        "gpu_endorsements_too_large",
        "the folder of the GPUs' endorsements has more than 32 manifests, 128 OCSP answers, 32 revocation lists or 1 MiB",
        "leave in the folder only the manifests, answers and lists of the GPUs and switches that it is for",
    ),
    (
        "gpu_endorsements_invalid",
        "a file of the GPUs' endorsements is no manifest, OCSP answer or revocation list",
        "fetch the file that the error names again, or remove it",
    ),
];

const NETWORK: &str = "check the network; HTTPS_PROXY and NO_PROXY are kept; in place of the service stand Intel's collateral in a file or \
     a PCCS (--collateral, --pccs), AMD's certificates and lists in files (--cert, --crl), NVIDIA's manifests, answers and \
     lists taken into a store (confide rim import)";
const OFFLINE: &str = "leave --offline away, or give it from files: Intel's collateral with --collateral, AMD's certificates and lists with \
     --cert and --crl, NVIDIA's manifests, answers and lists through a store (confide rim import)";
const ADDRESS: &str = "is this the address of the service?";

/// What to do about a file that is no object of a service, or of another id than its name says.
pub(crate) const AS_SERVED: &str =
    "take the file as NVIDIA's service gives it, under the id that it was asked for";

/// What to do about a code.
pub(crate) fn what_to_do(code: &str) -> &'static str {
    CODES.iter().find(|(listed, ..)| *listed == code).map_or(ADDRESS, |(_, _, what_to_do)| what_to_do)
}

#[cfg(test)]
mod tests {
    use super::CODES;

    /// What stands behind each arrow of a match, in braces or without.
    fn arms(source: &str) -> impl Iterator<Item = &str> {
        source.split("=>").skip(1).map(|rest| rest.trim_start().trim_start_matches('{').trim_start())
    }

    #[test]
    fn every_code_of_the_errors_is_listed_and_no_other() {
        let source =
            [include_str!("error.rs"), include_str!("staple.rs"), include_str!("gpu_folder.rs")].concat();
        let named: Vec<&str> =
            arms(&source).filter_map(|rest| rest.strip_prefix('"')?.split('"').next()).collect();
        for code in named.iter().filter(|text| {
            ["endorse", "staple", "store_", "gpu_"].iter().any(|begin| text.starts_with(begin))
        }) {
            assert!(CODES.iter().any(|(listed, ..)| listed == code), "{code} is not listed");
        }
        for (code, meaning, what_to_do) in CODES {
            assert!(named.contains(code), "{code} is no code of an error");
            assert!(!meaning.is_empty() && !what_to_do.is_empty(), "{code}");
        }
    }
}
