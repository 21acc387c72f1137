//! Stable codes of the guest: those of its API, of the attestation endpoint, and those with which it does not start.
//!
//! The API also shows codes of [`confide_engine::codes`] that blame the request, and those of
//! [`confide_service::refusals`]. A guest that does not start may show any code of the crates that it is made of.

/// Declares each code once: a constant, and its row in [`CODES`].
macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal, $action:literal;)*) => {
        $(pub(crate) const $name: &str = $code;)*
        /// Every code: the code, what it means, what to do.
        pub const CODES: &[(&str, &str, &str)] = &[$(($name, $meaning, $action)),*];
    };
}

codes! {
    UNKNOWN_ROUTE = "unknown_route", "there is nothing at this path",
        "use /v1/chat/completions, /v1/models, /healthz or /readyz";
    METHOD_NOT_ALLOWED = "method_not_allowed", "the path does not take this method",
        "use a method of the header field Allow";
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", "the body is of another type than the path takes",
        "send application/json, or application/cbor to the attestation endpoint";
    UNSUPPORTED_CONTENT_ENCODING = "unsupported_content_encoding", "the body is compressed",
        "send it without Content-Encoding";
    REQUEST_TIMEOUT = "request_timeout", "the body did not arrive in time",
        "send the request again over a faster connection";
    REQUEST_UNREADABLE = "request_unreadable", "the body ended before its announced length, or its framing is broken",
        "send the request again";
    INVALID_UTF8 = "invalid_utf8", "the body is not UTF-8",
        "encode the body as UTF-8";
    INVALID_JSON = "invalid_json", "the body is not JSON, or a string in it has an escape that stands for no character",
        "correct the body at the place that the error names";
    DUPLICATE_PARAMETER = "duplicate_parameter", "a parameter appears twice",
        "send it once: two readers could read two different requests";
    MISSING_PARAMETER = "missing_parameter", "a required parameter is missing",
        "send the parameter that the error names";
    INVALID_TYPE = "invalid_type", "a parameter has the wrong type",
        "send it with the type that the error names";
    INVALID_VALUE = "invalid_value", "a parameter has a value that is not allowed",
        "send a value that the error allows";
    UNKNOWN_PARAMETER = "unknown_parameter", "the API has no such parameter",
        "leave the parameter out";
    UNSUPPORTED_PARAMETER = "unsupported_parameter", "the parameter would change the answer and is not supported here",
        "leave the parameter out, or send the value that the error names";
    MODEL_NOT_FOUND = "model_not_found", "the model is not served here",
        "use the model that the error names";
    SERVER_OVERLOADED = "server_overloaded", "as many requests run and wait as may",
        "send the request again after the seconds of the header field Retry-After";
    NOT_READY = "not_ready", "the guest is starting or draining",
        "send the request again after the seconds of the header field Retry-After";
    ENGINE_UNAVAILABLE = "engine_unavailable", "the engine is not running",
        "send the request again later; the guest ends when its engine does";
    ENGINE_FAILED = "engine_failed", "the engine failed on this request, or did not load the model in time",
        "look in the guest's log for the code of the failure";
    INTERNAL_ERROR = "internal_error", "a fault of the guest, or a system without random numbers",
        "report it with the guest's log";
    MALFORMED_ATTESTATION_REQUEST = "malformed_attestation_request", "the body is not the canonical CBOR of a nonce",
        "send a map with the one entry nonce, 32 bytes";
    ATTESTATION_OVERLOADED = "attestation_overloaded", "too many connections attest at the same time",
        "send the request again after the seconds of the header field Retry-After";
    ATTESTATION_FAILED = "attestation_failed", "the guest's devices gave no evidence",
        "send the request again later; the operator finds the cause in the guest's log";
    PROCESS_NOT_CLOSED = "process_not_closed", "the process cannot be closed to debuggers and core dumps",
        "let the guest's service call prctl and setrlimit";
    SIMULATOR_NOT_BUILT = "simulator_not_built", "simulated evidence was asked of a program that cannot make any",
        "set platform = \"tdx\", or build a demonstration with the feature danger-simulator";
    SIMULATED_TABLE = "simulated_table", "the table [simulated] stands beside another platform",
        "remove the table, or set platform = \"simulated\" in a demonstration";
    PCCS_CERTIFICATE_UNREADABLE = "pccs_certificate_unreadable", "the certificate of the PCCS cannot be read",
        "name a PEM file that exists and that this user may read";
    SIMULATED_GPUS = "simulated_gpus", "a simulated platform has GPUs to appraise and no emulated libraries, or the other way round",
        "in a test, set nvml and nscq of [simulated] beside the table [gpus]; in a demonstration, remove all three";
    GPU_POLICY_UNREADABLE = "gpu_policy_unreadable", "the policy that the guest holds its GPUs to cannot be read",
        "name a policy file that exists and that this user may read";
    GPU_POLICY_INVALID = "gpu_policy_invalid", "the file that gpus.policy names is no appraisal policy",
        "correct the field that the error names; confide policy check says of a file whether it is one";
    GPU_POLICY_DANGER = "gpu_policy_danger", "a danger policy is to hold the GPUs of a guest that is not simulated",
        "name an ordinary policy: a danger policy accepts GPUs whose keys everybody has";
    GPU_ENDORSEMENTS_UNREADABLE = "gpu_endorsements_unreadable", "the folder of the GPUs' endorsements, or a file in it, cannot be read",
        "name a folder that exists and whose files this user may read";
    GPU_ENDORSEMENTS_TOO_LARGE = "gpu_endorsements_too_large", "the folder of the GPUs' endorsements has more than 32 manifests, 128 OCSP answers, 32 revocation lists or 1 MiB",
        "leave in the folder only the manifests, answers and lists of this machine's GPUs and switches";
    GPU_ENDORSEMENTS_INVALID = "gpu_endorsements_invalid", "a file of the GPUs' endorsements is no manifest, OCSP answer or revocation list",
        "fetch the file that the error names again, or remove it";
    GPUS_MISSING = "gpus_missing", "the configuration has GPUs to appraise and the machine has none",
        "attach the GPUs to the virtual machine and boot it again, or remove the table [gpus]";
    BOOT_INCOMPLETE = "boot_incomplete", "the measured events are no complete boot",
        "report it: this is a fault of the guest";
    KEYS_FAILED = "keys_failed", "keys or the certificate of the TLS key cannot be made",
        "boot the machine again; the random source or the cryptographic library failed";
    RANDOM_FAILED = "random_failed", "the system's random source failed",
        "boot the machine again on a kernel with getrandom and a processor with RDSEED";
    LISTEN_FAILED = "listen_failed", "the configured address cannot be listened on",
        "set listen to an address of this machine that no other program uses";
    RUNTIME_FAILED = "runtime_failed", "threads or signals cannot be set up",
        "raise the limits of the guest's service on threads and descriptors";
    FILE_UNWRITABLE = "file_unwritable", "the manual's pages cannot be written",
        "give a folder that can be made or written to, on a disk that has room";
    OUTPUT_FAILED = "output_failed", "standard output cannot be written",
        "start the guest with a standard output that stays open";
}

/// What to do about the error with this code, by the tables of all that a guest is made of.
pub(crate) fn what_to_do(code: &str) -> Option<&'static str> {
    let tables = [
        CODES,
        confide_engine::codes::CODES,
        confide_attester::CODES,
        confide_endorser::CODES,
        confide_service::config::CODES,
        confide_service::logging::CODES,
    ];
    tables.into_iter().flatten().find(|(listed, ..)| *listed == code).map(|(.., action)| *action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_have_sentences_without_full_stops() {
        let codes: BTreeSet<&str> = CODES.iter().map(|(code, ..)| *code).collect();
        assert_eq!(codes.len(), CODES.len());
        for (code, meaning, action) in CODES {
            assert!(
                code.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'8')),
                "{code}"
            );
            for sentence in [meaning, action] {
                assert!(
                    sentence.len() > 10 && !sentence.ends_with('.') && !sentence.contains("  "),
                    "{code}: {sentence}"
                );
            }
        }
    }
}
