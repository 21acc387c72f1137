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
        "use /v1/chat/completions, /v1/models, /healthz, /readyz or /metrics";
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
    NOT_CONFINED = "not_confined", "the guest cannot be kept from files, ports or system calls that it does not need, or its memory from swap",
        "use a kernel of 6.7 or later with seccomp filters and Landlock, and start the guest as root or as process 1 of the image";
    STATUS_SOCKET = "status_socket", "the socket on which root of the machine gets reports cannot be listened on",
        "set status.socket to a path whose folder this user may write to, and at which no other guest listens";
    STATUS_UNREACHABLE = "status_unreachable", "no guest gives a report at this socket, or not to this user",
        "run it as root in the guest's machine, with the path of status.socket of its configuration";
    SIMULATOR_NOT_BUILT = "simulator_not_built", "simulated evidence was asked of a program that cannot make any",
        "set platform = \"tdx\", or build a demonstration with the feature danger-simulator";
    SIMULATED_TABLE = "simulated_table", "the table [simulated] stands beside another platform",
        "remove the table, or set platform = \"simulated\" in a demonstration";
    QUOTING_TABLE = "quoting_table", "the table [quoting] stands beside a software machine",
        "remove the table";
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
    GPU_ENDORSEMENTS_MISSING = "gpu_endorsements_missing", "nobody gives NVIDIA's endorsements of the GPUs",
        "set gpus.endorsements to a folder with them, or have a broker release a volume's key: it gives what its own folder has";
    GPUS_MISSING = "gpus_missing", "the configuration has GPUs to appraise and the machine has none",
        "attach the GPUs to the virtual machine and boot it again, or remove the table [gpus]";
    BOOT_NEEDED = "boot_needed", "the configuration has a network, an egress policy, a broker or volumes, which serve does not set up",
        "start the guest with confide-guest boot, or remove the tables [network], [egress], [broker] and [[volumes]]";
    ENDORSEMENTS_LOCKED = "endorsements_locked", "the guest is to ask a service for endorsements that its locked egress keeps it from",
        "set source = \"file\" in [endorsements] and have somebody else replace the file, or remove the table: clients then fetch for themselves";
    EGRESS_POLICY_UNREADABLE = "egress_policy_unreadable", "the egress policy cannot be read",
        "name a policy file that exists and that this user may read";
    EGRESS_POLICY_INVALID = "egress_policy_invalid", "the file is no egress policy, or has a rule that would not be carried out",
        "correct what the error names; confide policy check says of a file whether it is one";
    EGRESS_SERVING_WIDER = "egress_serving_wider", "the egress policy allows something while serving that it does not allow before",
        "remove the rule from the serving phase, or give bootstrap one that covers it in ports, mode and caps";
    VOLUMES_INVALID = "volumes_invalid", "the tables of volumes and broker do not fit each other",
        "correct what the error names: each volume has a name, a device and a mount of its own, and all but scratch volumes need the table [broker]";
    CONFIGURATION_MISSING = "configuration_missing", "the guest has found no configuration to boot with",
        "put /etc/confide/guest.toml into the image, or attach a disk whose serial is config";
    CONFIGURATION_DISK = "configuration_disk_invalid", "the disk with the configuration is larger than 64 KiB, or has other bytes behind its text than zeros",
        "write the TOML file to a disk of at most 65536 bytes and fill it up with zeros";
    SYSTEM_FAILED = "system_failed", "the kernel refused a mount, a file or a device that the guest needs",
        "look in the message for the path and the system's error; the kernel of the image lacks it, or the guest is not root";
    MODULE_FAILED = "module_failed", "a kernel module of the image cannot be loaded",
        "build the image with modules of its own kernel, each after those that it depends on, in /etc/confide/modules";
    KERNEL_NOT_CLOSED = "kernel_not_closed", "a setting that keeps others out of the kernel cannot be made",
        "use a kernel with the setting that the error names, and run the guest as root";
    SWAP_ACTIVE = "swap_active", "swap is on, which writes memory to a disk of the host's",
        "boot without swap";
    NETWORK_FAILED = "network_failed", "the network device cannot be set up as configured",
        "give the virtual machine exactly one network device, correct the table [network], and run the guest as root";
    DEVICE_MISSING = "device_missing", "a device that the configuration names did not appear",
        "attach the disk to the virtual machine, or correct the field device of the volume";
    CLOCK_UNTRUSTED = "clock_untrusted", "the kernel counts time by what the host may set, so that the broker's time would not last",
        "give the virtual machine a stable TSC, and use a kernel that counts by it (clocksource=tsc)";
    RDSEED_MISSING = "rdseed_missing", "the processor gives nothing by RDSEED, or again and again the same, so that all randomness could be the host's",
        "boot on a processor with RDSEED, do not hide it from the virtual machine, and look for what draws on it without pause";
    BROKER_UNREACHABLE = "broker_unreachable", "the broker did not answer in time",
        "check that the broker runs, that broker.address is its address and that the network leads there";
    BROKER_IDENTITY_WRONG = "broker_identity_wrong", "whoever answers at the broker's address does not hold the measured key",
        "set broker.identity to what confide-broker identity shows, or find out who answers in the broker's place";
    BROKER_REFUSED = "broker_refused", "the broker refused to release keys, without a code that could be passed on",
        "look in the broker's audit log for the decision about this boot";
    RELEASE_UNVERIFIED = "release_unverified", "the broker's answer is not signed by the measured key for this very request",
        "find out who stands between guest and broker: a replayed or altered answer looks like this";
    RELEASE_INVALID = "release_invalid", "the broker's answer is malformed or seals what a release does not hold",
        "use guest and broker of the same version";
    VOLUME_PROFILE_WRONG = "volume_profile_wrong", "the broker protects the volume in another way than its role asks for",
        "use the roles weights and code for volumes of the profile model, and state for those of the profile state";
    VOLUME_FILE_SYSTEM = "volume_file_system", "a new volume cannot be given a file system",
        "put mke2fs into the image, and give the volume a device that is large enough";
    VOLUME_NOT_MOUNTED = "volume_not_mounted", "an opened volume cannot be mounted",
        "create volumes with confide-broker volume create, which makes an ext4 file system";
    PRIVILEGES_KEPT = "privileges_kept", "the guest could not give up the privileges that it needs no longer",
        "start the guest as root with all capabilities, or as process 1 of the image";
    MODEL_MANIFEST_WRONG = "model_manifest_wrong", "the model's files are not those that model.manifest names",
        "set model.manifest to the manifest of the model on the volume, or put the right model there";
    DEVICE_ATTACHED = "device_attached", "a device was attached to the guest while it served",
        "attach every device before the virtual machine boots";
    DEVICES_UNWATCHED = "devices_unwatched", "the kernel's messages about devices cannot be read",
        "report it with the guest's log";
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
        confide_volume::CODES,
        confide_egress::CODES,
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
