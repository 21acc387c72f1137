use super::*;
use proptest::prelude::*;

fn metadata(profile: Profile) -> Metadata {
    Metadata {
        segment_offset: HEADER_BYTES,
        keyslots_size: HEADER_BYTES - KEYSLOTS,
        keyslot: Keyslot { id: 1, offset: KEYSLOTS + area_size(profile), salt: [1; 32], iterations: 1000 },
        digest: KeyDigest { salt: [2; 32], iterations: 2000, digest: [3; 32] },
        hint: Some(Hint::new("broker.example:8443", "weights".parse().unwrap()).unwrap()),
    }
}

fn honest(profile: Profile) -> Value {
    serde_json::from_slice(&metadata(profile).to_json(profile)).unwrap()
}

/// What becomes of a header in which the value at a pointer is another one.
fn with(profile: Profile, pointer: &str, value: Value) -> Result<Metadata, VolumeError> {
    let mut root = honest(profile);
    *root.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    Metadata::parse(root.to_string().as_bytes(), profile)
}

/// What becomes of a header in which an object has one more field.
fn beside(pointer: &str, field: &str, value: Value) -> Result<Metadata, VolumeError> {
    let mut root = honest(Profile::Model);
    let object = root.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
    assert!(object.insert(field.to_owned(), value).is_none());
    Metadata::parse(root.to_string().as_bytes(), Profile::Model)
}

fn refused(pointer: &str, value: Value) -> &'static str {
    with(Profile::Model, pointer, value).unwrap_err().code()
}

const KEYSLOT: &str = "/keyslots/1";

fn at(path: &str) -> String {
    format!("{KEYSLOT}/{path}")
}

#[test]
fn what_is_written_is_read() {
    for profile in [Profile::Model, Profile::State] {
        let metadata = metadata(profile);
        assert_eq!(Metadata::parse(&metadata.to_json(profile), profile).unwrap(), metadata);
        let bare = Metadata { hint: None, ..metadata };
        assert_eq!(Metadata::parse(&bare.to_json(profile), profile).unwrap(), bare);
    }
}

#[test]
fn a_profile_is_not_read_as_the_other() {
    for (is, read) in [(Profile::Model, Profile::State), (Profile::State, Profile::Model)] {
        let error = Metadata::parse(honest(is).to_string().as_bytes(), read).unwrap_err();
        assert_eq!(error.code(), "volume_integrity_kind");
    }
}

#[test]
fn ciphers_that_encrypt_nothing_are_refused_by_name() {
    for name in ["cipher_null-ecb", "cipher_null", "null", "CIPHER_NULL-ecb", "capi:ecb(cipher_null)-null"] {
        let error = with(Profile::Model, "/segments/0/encryption", json!(name)).unwrap_err();
        assert_eq!(error.code(), "volume_null_cipher", "{name} {error}");
        assert_eq!(refused(&at("area/encryption"), json!(name)), "volume_null_cipher", "{name}");
    }
}

#[test]
fn any_other_cipher_is_refused() {
    for other in ["aes-cbc-essiv:sha256", "aes-xts-plain", "aes-xts-plain64 ", "serpent-xts-plain64", ""] {
        assert_eq!(refused("/segments/0/encryption", json!(other)), "volume_cipher", "{other}");
        assert_eq!(refused(&at("area/encryption"), json!(other)), "volume_cipher", "{other}");
    }
}

#[test]
fn segments_are_one_and_encrypted() {
    assert_eq!(refused("/segments/0/type", json!("linear")), "volume_part_type");
    assert_eq!(refused("/segments/0/type", json!("zero")), "volume_part_type");
    let segment = honest(Profile::Model)["segments"]["0"].clone();
    assert_eq!(beside("/segments", "1", segment).unwrap_err().code(), "volume_part_count");
    assert_eq!(refused("/segments", json!({})), "volume_part_count");
    assert_eq!(refused("/segments/0/sector_size", json!(512)), "volume_header_number");
    assert_eq!(refused("/segments/0/iv_tweak", json!("8")), "volume_header_number");
    let flags = beside("/segments/0", "flags", json!(["backup-final"])).unwrap_err();
    assert!(matches!(flags, VolumeError::Requirement { what: "segment flags" }));
}

#[test]
fn data_begin_behind_the_header_at_a_whole_mib() {
    for (offset, code) in [
        ("0", "volume_data_offset"),
        ("67108864", ""),
        ("68157440", "volume_data_offset"),
        ("18446744073708503040", "volume_data_offset"),
        ("1052672", "volume_alignment"),
        ("1048577", "volume_alignment"),
    ] {
        let read = with(Profile::Model, "/segments/0/offset", json!(offset));
        assert_eq!(read.map_or_else(|error| error.code(), |_| ""), code, "{offset}");
    }
    // An area of keyslots that reaches over the data.
    assert_eq!(refused("/config/keyslots_size", json!("1048576")), "volume_data_offset");
    assert_eq!(refused("/config/keyslots_size", json!("18446744073709547520")), "volume_data_offset");
    assert_eq!(refused("/config/keyslots_size", json!("1015807")), "volume_alignment");
}

#[test]
fn requirements_and_flags_are_refused_and_empty_ones_are_none() {
    for what in ["online-reencrypt", "online-reencrypt-v2", "offline-reencrypt", "inline-hw-tags", "x"] {
        let error = beside("/config", "requirements", json!({"mandatory": [what]})).unwrap_err();
        assert!(matches!(error, VolumeError::Requirement { what: "requirements" }), "{error}");
    }
    let error = beside("/config", "flags", json!(["allow-discards"])).unwrap_err();
    assert!(matches!(error, VolumeError::Requirement { what: "flags" }), "{error}");
    beside("/config", "requirements", json!({})).unwrap();
    beside("/config", "flags", json!([])).unwrap();
    assert_eq!(refused("/config/json_size", json!("16384")), "volume_header_number");
}

#[test]
fn keyslots_are_one_of_the_one_kind() {
    for kind in ["reencrypt", "luks1", "LUKS2"] {
        assert_eq!(refused(&at("type"), json!(kind)), "volume_part_type", "{kind}");
    }
    assert_eq!(refused(&at("af/type"), json!("luks2")), "volume_part_type");
    for kind in ["none", "journal", "checksum", "datashift"] {
        assert_eq!(refused(&at("area/type"), json!(kind)), "volume_part_type", "{kind}");
    }
    let argon = json!({"type": "argon2id", "time": 4, "memory": 1_048_576, "cpus": 4, "salt": ""});
    assert_eq!(refused(&at("kdf"), argon), "volume_part_type");
    let keyslot = honest(Profile::Model)["keyslots"]["1"].clone();
    assert_eq!(beside("/keyslots", "0", keyslot).unwrap_err().code(), "volume_part_count");
    assert_eq!(refused("/keyslots", json!({})), "volume_part_count");
}

#[test]
fn key_sizes_and_stripes_are_those_of_the_profile() {
    for size in [0, 32, 63, 65, 96, u64::MAX] {
        assert_eq!(refused(&at("key_size"), json!(size)), "volume_header_number", "{size}");
    }
    assert_eq!(refused(&at("area/key_size"), json!(32)), "volume_header_number");
    for stripes in [0_u64, 1, 3999, 4001, u64::MAX] {
        assert_eq!(refused(&at("af/stripes"), json!(stripes)), "volume_header_number", "{stripes}");
    }
}

#[test]
fn hash_functions_are_sha256_everywhere() {
    for pointer in [at("af/hash"), at("kdf/hash"), "/digests/0/hash".to_owned()] {
        for other in ["sha1", "sha512", "SHA256", ""] {
            assert_eq!(refused(&pointer, json!(other)), "volume_hash", "{pointer} {other}");
        }
    }
}

#[test]
fn iterations_are_bounded_from_below_and_above() {
    for pointer in [at("kdf/iterations"), "/digests/0/iterations".to_owned()] {
        for count in [0, 1, 999, 100_001, u64::from(u32::MAX) + 1000, u64::MAX] {
            assert_eq!(refused(&pointer, json!(count)), "volume_iterations", "{pointer} {count}");
        }
        for count in [1000, 100_000] {
            with(Profile::Model, &pointer, json!(count)).unwrap();
        }
    }
}

#[test]
fn areas_have_the_one_size_and_lie_between_headers_and_data() {
    for size in ["0", "258047", "258049", "262144", "18446744073709551615"] {
        assert_eq!(refused(&at("area/size"), json!(size)), "volume_area_size", "{size}");
    }
    for offset in ["0", "4096", "28672", "794624", "1048576", "18446744073709547520"] {
        assert_eq!(refused(&at("area/offset"), json!(offset)), "volume_area_bounds", "{offset}");
    }
    for offset in ["32769", "33280", "36863"] {
        assert_eq!(refused(&at("area/offset"), json!(offset)), "volume_alignment", "{offset}");
    }
    with(Profile::Model, &at("area/offset"), json!("790528")).unwrap();
    // An area that would lie within what is read, and beyond that of all keyslots.
    assert_eq!(refused("/config/keyslots_size", json!("262144")), "volume_area_bounds");
}

#[test]
fn salts_and_digests_have_32_bytes_in_canonical_base64() {
    let short = base64_text(&[1; 31]);
    for pointer in [at("kdf/salt"), "/digests/0/salt".to_owned(), "/digests/0/digest".to_owned()] {
        assert_eq!(refused(&pointer, json!(short)), "volume_header_length", "{pointer}");
        assert_eq!(refused(&pointer, json!("")), "volume_header_length", "{pointer}");
        let whole = base64_text(&[1; 32]);
        for broken in [format!(" {whole}"), whole.replace('=', ""), "*".to_owned()] {
            assert_eq!(refused(&pointer, json!(broken)), "volume_header_json", "{pointer} {broken}");
        }
    }
}

#[test]
fn parts_name_each_other() {
    for names in [json!([]), json!(["0"]), json!(["1", "1"]), json!(["01"])] {
        assert_eq!(refused("/digests/0/keyslots", names.clone()), "volume_header_reference", "{names}");
    }
    for names in [json!([]), json!(["1"]), json!(["0", "1"])] {
        assert_eq!(refused("/digests/0/segments", names.clone()), "volume_header_reference", "{names}");
    }
    assert_eq!(refused("/tokens/0/keyslots", json!(["0"])), "volume_header_reference");
    with(Profile::Model, "/tokens/0/keyslots", json!([])).unwrap();
    assert_eq!(refused("/digests/0/type", json!("sha256")), "volume_part_type");
    let digest = honest(Profile::Model)["digests"]["0"].clone();
    assert_eq!(beside("/digests", "1", digest).unwrap_err().code(), "volume_part_count");
}

#[test]
fn tokens_of_others_are_refused_and_ours_is_one_with_address_and_name() {
    for kind in ["luks2-keyring", "systemd-tpm2", "clevis", "Confide", ""] {
        assert_eq!(refused("/tokens/0/type", json!(kind)), "volume_foreign_token", "{kind}");
    }
    let foreign = json!({"type": "clevis", "keyslots": [], "jwe": {}});
    assert_eq!(beside("/tokens", "1", foreign).unwrap_err().code(), "volume_foreign_token");
    let own = honest(Profile::Model)["tokens"]["0"].clone();
    assert_eq!(beside("/tokens", "1", own).unwrap_err().code(), "volume_part_count");
    for address in ["", "a b", "a\n", "é", "a\"b", &"a".repeat(263)] {
        assert_eq!(refused("/tokens/0/broker", json!(address)), "volume_token", "{address}");
    }
    for name in ["", "../x", "A", "a b"] {
        assert_eq!(refused("/tokens/0/volume", json!(name)), "volume_token", "{name}");
    }
}

#[test]
fn integrity_tags_are_those_of_state_with_nothing_for_the_journal() {
    let state = |pointer: &str, value| with(Profile::State, pointer, value).unwrap_err().code();
    for kind in ["none", "aead", "poly1305", "hmac(sha512)", "hmac(sha1)", "crc32c"] {
        assert_eq!(state("/segments/0/integrity/type", json!(kind)), "volume_integrity_kind", "{kind}");
    }
    for journal in ["journal_encryption", "journal_integrity"] {
        let pointer = format!("/segments/0/integrity/{journal}");
        assert_eq!(state(&pointer, json!("hmac(sha256)")), "volume_integrity_kind", "{journal}");
    }
}

#[test]
fn unknown_fields_are_refused_in_every_object() {
    let objects = [
        "",
        "/config",
        "/segments/0",
        KEYSLOT,
        "/keyslots/1/af",
        "/keyslots/1/area",
        "/keyslots/1/kdf",
        "/digests/0",
        "/tokens/0",
    ];
    for pointer in objects {
        let error = beside(pointer, "more", json!(1)).unwrap_err();
        assert_eq!(error.code(), "volume_header_json", "{pointer}");
    }
}

#[test]
fn a_missing_field_is_refused_in_every_object() {
    fn objects(value: &Value, pointer: String, found: &mut Vec<(String, String)>) {
        for (key, inner) in value.as_object().into_iter().flatten() {
            found.push((pointer.clone(), key.clone()));
            objects(inner, format!("{pointer}/{key}"), found);
        }
    }
    for profile in [Profile::Model, Profile::State] {
        let mut fields = Vec::new();
        objects(&honest(profile), String::new(), &mut fields);
        assert!(fields.len() > 40);
        for (pointer, field) in fields {
            let mut root = honest(profile);
            root.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().shift_remove(&field);
            let read = Metadata::parse(root.to_string().as_bytes(), profile);
            // A header without our token is one; so is none of these without any other field.
            let may = pointer == "/tokens" && field == "0";
            assert_eq!(read.is_ok(), may, "{pointer}/{field}");
        }
    }
}

#[test]
fn names_twice_are_refused() {
    let text = honest(Profile::Model).to_string();
    for (once, twice) in [
        ("\"af\":", "\"kdf\":{\"type\":\"pbkdf2\"},\"af\":"),
        ("\"type\":\"crypt\"", "\"type\":\"crypt\",\"type\":\"crypt\""),
        ("\"digests\":{", "\"digests\":{\"0\":{},"),
        ("\"config\":", "\"tokens\":{},\"config\":"),
    ] {
        assert!(text.contains(once), "{once}");
        let error = Metadata::parse(text.replacen(once, twice, 1).as_bytes(), Profile::Model).unwrap_err();
        assert_eq!(error.code(), "volume_header_json", "{twice}");
    }
}

#[test]
fn numbers_in_strings_have_one_form() {
    for number in
        ["01048576", "+1048576", " 1048576", "1048576 ", "0x100000", "1e6", "-1", "", "99999999999999999999"]
    {
        assert_eq!(refused("/segments/0/offset", json!(number)), "volume_header_json", "{number:?}");
    }
    assert_eq!(refused("/segments/0/offset", json!(1_048_576)), "volume_header_json");
    for key in ["32", "01", "-1", "a", "4294967296"] {
        let error = beside("/tokens", key, json!({"type": "confide"})).unwrap_err();
        assert_eq!(error.code(), "volume_header_json", "{key}");
    }
    for size in ["Dynamic", "", "1 MiB"] {
        assert_eq!(refused("/segments/0/size", json!(size)), "volume_header_json", "{size}");
    }
    with(Profile::Model, "/segments/0/size", json!("4096")).unwrap();
}

#[test]
fn what_an_error_shows_of_a_header_is_short_and_printable() {
    let long = format!("\u{1b}[2J{}", "\u{202e}".repeat(500));
    let shown = with(Profile::Model, "/segments/0/encryption", json!(long)).unwrap_err().to_string();
    assert!(shown.len() < 1200 && shown.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{shown}");
    let field = beside("/config", &long, json!(1)).unwrap_err().to_string();
    assert!(field.len() < 1200 && field.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{field}");
}

/// A JSON value that may stand anywhere.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        any::<u64>().prop_map(|number| Value::from(number.to_string())),
        Just(json!({})),
        Just(json!([])),
        Just(json!(["0"])),
        Just(json!({"0": {"type": "crypt"}})),
    ]
}

/// The pointers of all values of a header.
fn pointers(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, inner)| pointers(inner, &format!("{here}/{key}"), found));
        }
        Value::Array(values) => {
            (0..)
                .zip(values)
                .for_each(|(at, inner): (usize, _)| pointers(inner, &format!("{here}/{at}"), found));
        }
        _ => {}
    }
}

proptest! {
    /// Whatever one value is replaced by: what is read after all writes itself in a form that is read to the same.
    #[test]
    fn one_replaced_value_is_refused_or_read_to_what_it_says(
        state: bool, at: prop::sample::Index, value in any_value(),
    ) {
        let profile = if state { Profile::State } else { Profile::Model };
        let mut root = honest(profile);
        let mut all = Vec::new();
        pointers(&root, "", &mut all);
        *root.pointer_mut(at.get(all.as_slice()).as_str()).unwrap() = value;
        if let Ok(read) = Metadata::parse(root.to_string().as_bytes(), profile) {
            prop_assert_eq!(Metadata::parse(&read.to_json(profile), profile).unwrap(), read.clone());
            prop_assert!(read.keyslot.offset >= KEYSLOTS);
            prop_assert!(read.keyslot.offset + area_size(profile) <= HEADER_BYTES);
            prop_assert!(read.segment_offset >= HEADER_BYTES);
        }
    }

    #[test]
    fn any_text_is_refused_or_read_without_a_panic(text in ".{0,200}") {
        let _ = Metadata::parse(text.as_bytes(), Profile::Model);
    }
}
