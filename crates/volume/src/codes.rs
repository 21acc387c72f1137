//! Stable codes of this crate's errors. Users, tools and documents refer to them; sentences may change.

/// Declares each code once: a constant, and its row in [`CODES`].
macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal, $action:literal;)*) => {
        $(pub(crate) const $name: &str = $code;)*
        /// Every code: the code, what it means, what to do.
        pub const CODES: &[(&str, &str, &str)] = &[$(($name, $meaning, $action)),*];
    };
}

codes! {
    IO = "volume_unreadable", "a volume's disk or file cannot be read or written",
        "check the disk, its size and the permissions of the file";
    NOT_LUKS2 = "volume_not_luks2", "a volume has no LUKS2 header",
        "check that the right disk is attached; make the volume with confide-broker volume create";
    HEADER_SIZE = "volume_header_size", "a volume's header has another size than 16 KiB",
        "make the volume with confide-broker volume create";
    BINARY_FIELD = "volume_header_field", "a field of a volume's binary header has no such value",
        "do not use this volume: make it anew, or restore its image";
    CHECKSUM = "volume_header_checksum", "a volume's header does not have its checksum: it is torn or was changed",
        "restore the image; where a rotation was interrupted, run confide-broker volume rotate again";
    JSON = "volume_header_json", "a volume's header is not of a form that the guest reads",
        "make the volume with confide-broker volume create";
    REQUIREMENT = "volume_requirement", "a volume's header asks for something, such as to finish a re-encryption",
        "finish or undo with cryptsetup what was begun, outside of the guest";
    COUNT = "volume_part_count", "a volume's header has more or fewer segments, keyslots, digests or tokens than a volume has",
        "leave one of each (cryptsetup luksKillSlot), or make the volume with confide-broker volume create";
    TYPE = "volume_part_type", "a part of a volume's header is of a kind that the guest does not read",
        "make the volume with confide-broker volume create, or with cryptsetup --type luks2 --pbkdf pbkdf2";
    NULL_CIPHER = "volume_null_cipher", "a volume's header names the cipher that encrypts nothing: somebody changed it",
        "do not use this volume: restore its image, and ask who wrote to it";
    CIPHER = "volume_cipher", "a volume's header names another cipher than aes-xts-plain64",
        "make the volume with confide-broker volume create";
    INTEGRITY = "volume_integrity_kind", "a volume's integrity tags are not those of its profile",
        "release the volume with the profile that it was made with";
    HASH = "volume_hash", "a volume's header uses another hash function than SHA-256",
        "make the volume with confide-broker volume create, or with cryptsetup --hash sha256";
    NUMBER = "volume_header_number", "a number in a volume's header is not that of its profile",
        "make the volume with confide-broker volume create";
    ITERATIONS = "volume_iterations", "a volume's header asks for too many or too few iterations of PBKDF2",
        "make the volume with cryptsetup --pbkdf-force-iterations 1000: its secret is random";
    LENGTH = "volume_header_length", "a salt or a digest in a volume's header has another length than 32 bytes",
        "make the volume with confide-broker volume create";
    AREA_SIZE = "volume_area_size", "a volume's keyslot has another size than its profile's",
        "make the volume with confide-broker volume create";
    AREA_BOUNDS = "volume_area_bounds", "a volume's keyslot lies over its headers or beyond the first MiB",
        "make the volume with confide-broker volume create";
    ALIGNMENT = "volume_alignment", "an offset in a volume's header is no multiple of a block",
        "make the volume with confide-broker volume create";
    SEGMENT_OFFSET = "volume_data_offset", "a volume's data begin in its header, or more than 64 MiB behind its beginning",
        "make the volume with confide-broker volume create";
    REFERENCE = "volume_header_reference", "the parts of a volume's header do not name each other",
        "make the volume with confide-broker volume create";
    FOREIGN_TOKEN = "volume_foreign_token", "a volume's header has a token of another program",
        "remove it with cryptsetup token remove";
    TOKEN = "volume_token", "the token in a volume's header has no usable address or name",
        "make the volume with confide-broker volume create";
    ROLLED_BACK = "volume_rolled_back", "a volume's header is not the one that the broker released: an older one, or a changed one",
        "attach the volume as the last rotation left it; to give up a rotation, run confide-broker volume rotate again";
    SECRET_WRONG = "volume_secret_wrong", "the released secret does not open the volume",
        "check with confide-broker volume list that the broker holds this volume's secret";
    TOO_SMALL = "volume_too_small", "a volume's disk is smaller than what is on it",
        "attach the whole image, or a larger disk";
    RELEASED = "volume_released_size", "a size that the broker released cannot be that of a volume",
        "add the volume to the broker again";
    NAME = "volume_name", "a volume has a name that no mapping may have",
        "use a name of 1 to 64 bytes of a-z, 0-9, '.', '_' and '-'";
    NO_DISK = "volume_no_disk", "what should be a volume's disk is none",
        "check the device's path in the configuration";
    MAPPING = "volume_mapping_failed", "the kernel refused to open a volume",
        "look in the kernel's log; the kernel needs dm-crypt, dm-verity and dm-integrity with aes, xts, sha256, hmac and authenc";
    NO_DEVICE_MAPPER = "volume_no_device_mapper", "the kernel offers no device-mapper of version 4",
        "use a kernel with dm-mod, and run as root";
    KEYRING = "volume_keyring", "the kernel did not take a volume's key",
        "use a kernel with keyrings (CONFIG_KEYS)";
    CORRUPTED = "volume_corrupted", "a block of a volume is damaged or was changed",
        "restore the image, and check the disk";
    VERITY = "volume_verity", "a block of a volume does not have its hash: it is damaged or was changed",
        "restore the image, and check the disk";
    RANDOM = "volume_random", "the operating system gives no random bytes",
        "check that the kernel's random source works";
    TOOL = "volume_tool", "a program of e2fsprogs is missing or failed",
        "install e2fsprogs, and read what it said";
    SOURCE = "volume_source", "a folder to be packed holds what is neither a file nor a folder",
        "replace links by the files that they lead to, and remove sockets, pipes and devices";
    LOCKED = "volume_locked", "another program works on a volume's image",
        "let it end, and give the command again; what an interruption left is ended then";
    EXISTS = "volume_exists", "a file that would be written exists already",
        "choose another name, or remove the file";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_is_listed_once_and_begins_with_volume() {
        let listed: BTreeSet<&str> = CODES.iter().map(|(code, ..)| *code).collect();
        assert_eq!(listed.len(), CODES.len());
        assert!(listed.iter().all(|code| code.starts_with("volume_")));
    }
}
