//! Stable codes of the broker: those of its answers, and those with which the program ends.

/// Declares each code once: a constant, and its row in [`CODES`].
macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal, $action:literal;)*) => {
        $(pub(crate) const $name: &str = $code;)*
        /// Every code: the code, what it means, what to do.
        pub const CODES: &[(&str, &str, &str)] = &[$(($name, $meaning, $action)),*];
    };
}

codes! {
    CHALLENGE_UNKNOWN = "challenge_unknown", "the challenge was never drawn here, or has been used",
        "ask for a new challenge and make evidence for it: each is good for one request, whatever became of that";
    CHALLENGE_EXPIRED = "challenge_expired", "the time of the challenge is over",
        "ask for a new challenge and make evidence for it at once";
    CHALLENGES_EXHAUSTED = "challenges_exhausted", "as many challenges are open as may be",
        "send the request again after the seconds of the header field Retry-After";
    RELEASE_REQUEST_MALFORMED = "release_request_malformed", "the body is not the canonical CBOR of a request for keys",
        "send what docs/broker.md describes: guest and broker may be of versions that do not fit";
    MESSAGE_MALFORMED = "message_malformed", "the body is not the canonical CBOR of this message",
        "send what docs/broker.md describes: guest and broker may be of versions that do not fit";
    BROKER_KEY = "broker_key", "the guest's measured configuration names another broker's key",
        "configure the guest with the key that confide-broker identity show prints";
    VOLUME_UNKNOWN = "volume_unknown", "there is no volume of this name",
        "correct the name in the guest's configuration, or add the volume with confide-broker volume add or create";
    VOLUME_REVOKED = "volume_revoked", "the volume is revoked: its keys are released no more",
        "pack the contents as a new volume";
    VOLUME_EXISTS = "volume_name_taken", "there is a volume of this name",
        "choose another name: names are not given twice, not after a revocation either";
    VOLUME_BUSY = "volume_busy", "the volume was changed again and again while keys were to be released",
        "send the request again later";
    VOLUME_HEADER = "volume_header", "the header is of no version of this volume",
        "name the image that belongs to the volume";
    VOLUME_SETTINGS = "volume_settings", "what is said of a volume does not fit its profile",
        "correct what the message names: --verity-root, --verity-salt, --verity-blocks and --encrypt-to are for model alone, a secret has 64 bytes";
    ROTATION_MISSING = "rotation_missing", "no rotation of this volume is under way",
        "begin one with confide-broker volume rotate ID --file IMG";
    ROTATION_OPEN = "rotation_open", "a rotation of this volume is under way",
        "end it with confide-broker volume rotate, with the same image, or give it up with --abandon";
    NOT_FORMATTED = "not_formatted", "the volume has no header yet: its guest formats it at its first boot",
        "boot the guest first";
    FORMAT_TOKEN = "format_token", "there is no volume of this name that was released with this token",
        "nothing, where it is an attack; else the guest reports another volume than it has formatted";
    FORMATTED_OTHERWISE = "formatted_otherwise", "the volume is formatted already, with another header",
        "look for a second guest that uses the volume: the first one's report counts";
    RATE_LIMITED = "rate_limited", "this address has asked too often",
        "send the request again after the seconds of the header field Retry-After";
    BROKER_BUSY = "broker_busy", "as many requests are worked on as may be, or the broker is starting or draining",
        "send the request again after the seconds of the header field Retry-After";
    ENDORSEMENTS_FAILED = "endorsements_failed", "the broker could not get the endorsements that the evidence lacks",
        "send the request again later; the broker's log names the cause";
    BROKER_FAULT = "broker_fault", "a fault of the broker, its database or its key-encryption key",
        "send the request again later; the broker's log names the cause";
    UNKNOWN_PATH = "request_path_unknown", "there is nothing at this path",
        "use /v1/challenge, /v1/release, /v1/formatted, /v1/failure, /healthz or /readyz";
    WRONG_METHOD = "wrong_method", "the path does not take this method",
        "use the method of the header field Allow";
    WRONG_MEDIA_TYPE = "wrong_media_type", "the body is of another type than the path takes",
        "send application/vnd.confide.release+cbor, without Content-Encoding";
    BODY_TOO_LARGE = "request_body_too_large", "the body is larger than the path takes",
        "send what docs/broker.md describes";
    BODY_UNREADABLE = "request_body_unreadable", "the body ended before its announced length, or did not arrive in time",
        "send the request again";
    IDENTITY_KEY_UNUSABLE = "identity_key_unusable", "the broker's identity key cannot be read, drawn, written or certified",
        "name an Ed25519 key in PKCS#8 that only the broker's user may read; confide-broker identity make draws one";
    KEK_UNUSABLE = "kek_unusable", "the key-encryption key cannot be read",
        "name a file with 32 bytes or 64 hexadecimal digits that only the broker's user may read";
    KEK_WRONG = "kek_wrong", "what is in the database does not open under this key-encryption key",
        "give the broker the key-encryption key that its database was begun with; where it is that, a row was changed";
    KEK_VAULT = "kek_vault", "Vault does not do what it is asked",
        "look at address, token, policy and key of the table [kek.vault]; the message says what Vault answers";
    KEK_VAULT_FILE = "kek_vault_file", "the token for Vault, or the certificates of its authority, cannot be used",
        "name a file with the token in one line that only the broker's user may read, and a PEM file of at most 1 MiB with certificates";
    STORAGE_ADDRESS = "storage_address", "the database's address is neither that of SQLite nor of PostgreSQL",
        "set storage.url to sqlite:PATH or postgres://USER@HOST/NAME";
    STORAGE_URL_FILE = "storage_url_file", "the file with the database's address is too long, or others may read it",
        "name a file of at most 4096 bytes that only the broker's user may read";
    STORAGE_MISSING = "storage_missing", "there is no database of a broker where the configuration says",
        "correct storage.url: a relative path begins at the folder that the program runs in. Only serve, volume add and volume create make a database";
    STORAGE_FAILED = "storage_failed", "the database failed, or cannot be reached",
        "look at the message: path, permissions, room on the disk, or PostgreSQL's address and role";
    STORAGE_NEWER = "storage_newer", "the database was made by a later version of the broker",
        "run that version: a schema is never taken back";
    STORAGE_CORRUPT = "storage_corrupt", "the database holds what the broker does not write",
        "restore the database from a copy";
    COLLATERAL_UNUSABLE = "collateral_unusable", "the file with Intel's collateral cannot be read as that",
        "name a file in the form QuoteCollateralV3, as confide collateral fetch writes it";
    POLICY_UNUSABLE = "policy_unusable", "the policy cannot be read, or is none that the broker takes",
        "correct what the message names; confide policy check tells the same";
    DANGER_POLICY = "danger_policy", "a danger policy where none is taken, or an ordinary one where one is expected",
        "give a policy with a [danger] table by --danger-policy from a file danger-*.toml, and start serve with --danger-simulator";
    DANGER_POLICY_NOT_BUILT = "danger_policy_not_built", "this build accepts no simulated evidence",
        "use a genuine guest, or a build with the feature danger-simulator for a demonstration";
    RECORD_UNUSABLE = "record_unusable", "the file of records cannot be read, or holds no appraisal of an evidence document",
        "give a record file, or a folder of records, of guests' evidence documents";
    AUDIT_FAULT = "audit_fault", "the audit log does not hold: an entry or record is missing, was changed or explains nothing",
        "hold it against a copy of the database from before; the message names the entry";
    AUDIT_HEAD = "audit_head", "the signed head cannot be read, or is not signed by the broker's identity key",
        "give the head that confide-broker audit head wrote, and the identity key of that broker";
    AUDIT_ENTRY = "audit_entry", "there is no such entry in the audit log, or it has no record",
        "look for entries with confide-broker audit show";
    FILE_UNREADABLE = "broker_file_unreadable", "a file cannot be read",
        "name a file that exists and that this user may read";
    FILE_UNWRITABLE = "broker_file_unwritable", "a file cannot be written, or is there already",
        "name a file that does not exist, in a folder that can be written to, on a disk that has room";
    IMAGE_UNOPENED = "image_unopened", "the image of a volume is not there, or may not be read and written",
        "name the image of the volume, a file that exists and that this user may read and write";
    LISTEN_FAILED = "broker_listen_failed", "the configured address cannot be listened on",
        "set listen to an address of this machine that no other program uses";
    RUNTIME_FAILED = "broker_runtime_failed", "threads, signals or random numbers cannot be had",
        "raise the limits of the broker's service on threads and descriptors";
    OUTPUT_FAILED = "broker_output_failed", "standard output cannot be written",
        "run the program with a standard output that stays open";
}

/// Of an image that a rotation has replaced: a code of [`confide_volume::CODES`], where guests have it from, too.
pub(crate) const VOLUME_ROLLED_BACK: &str = "volume_rolled_back";
/// Of a new image whose file is there already: another of them.
pub(crate) const IMAGE_EXISTS: &str = "volume_exists";

/// What to do about the error with this code, by the tables of all that a broker is made of.
pub(crate) fn what_to_do(code: &str) -> Option<&'static str> {
    let tables = [
        CODES,
        confide_endorser::CODES,
        confide_volume::CODES,
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
            for text in [meaning, action] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{code}: {text}");
            }
        }
    }
}
