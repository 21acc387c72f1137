//! Images made of folders.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use confide_release::Profile;
use confide_volume::pack::{self, Pack, Packed};
use confide_volume::{Draw, HEADER_BYTES, HeaderCopy, VolumeError, rotate};

fn folder(at: &Path) {
    fs::create_dir_all(at.join("a/b")).unwrap();
    fs::write(at.join("a/b/weights"), vec![0x5a; 700_000]).unwrap();
    fs::write(at.join("config.json"), b"{\"confidential\":1}").unwrap();
}

fn packed(from: &Path, file: &Path, seed: u8) -> Result<Packed, VolumeError> {
    pack::create(Pack { from, file, hint: None, draw: &mut Draw::danger_seeded([seed; 32]) })
}

#[test]
fn the_same_folder_and_seed_give_the_same_image_and_another_seed_another() {
    let place = tempfile::tempdir().unwrap();
    let (from, at) = (place.path().join("from"), |name: &str| place.path().join(name));
    folder(&from);
    let first = packed(&from, &at("first"), 1).unwrap();
    // Times of files are left out.
    fs::write(from.join("config.json"), b"{\"confidential\":1}").unwrap();
    let again = packed(&from, &at("again"), 1).unwrap();
    let other = packed(&from, &at("other"), 2).unwrap();
    let bytes = |name: &str| fs::read(at(name)).unwrap();
    assert!(bytes("first") == bytes("again"), "the images differ");
    assert_eq!((first.header, first.size, first.verity), (again.header, again.size, again.verity));
    assert!(bytes("first") != bytes("other"));
    assert_ne!(first.header, other.header);
}

#[test]
fn an_image_shows_nothing_of_its_files_and_opens_with_its_secret_alone() {
    let place = tempfile::tempdir().unwrap();
    let (from, image) = (place.path().join("from"), place.path().join("image"));
    folder(&from);
    let made = packed(&from, &image, 1).unwrap();
    let bytes = fs::read(&image).unwrap();
    assert_eq!(bytes.len() as u64, HEADER_BYTES + made.size);
    let shown = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(!shown(b"config.json") && !shown(b"confidential") && !shown(&[0x5a; 32]));
    assert_eq!(fs::metadata(&image).unwrap().mode() & 0o777, 0o600);
    pack::check(&image, &made.header, &made.secret, &made.verity).unwrap();
    let other = packed(&from, &place.path().join("other"), 2).unwrap();
    let wrong = pack::check(&image, &made.header, &other.secret, &made.verity);
    assert!(matches!(wrong, Err(VolumeError::SecretWrong)));
    assert!(pack::check(&image, &other.header, &made.secret, &made.verity).is_err());
    assert!(fs::read_dir(place.path()).unwrap().count() == 3, "nothing else is left behind");
}

#[test]
fn one_changed_byte_of_ciphertext_is_found() {
    let place = tempfile::tempdir().unwrap();
    let (from, image) = (place.path().join("from"), place.path().join("image"));
    folder(&from);
    let made = packed(&from, &image, 1).unwrap();
    let file = File::options().read(true).write(true).open(&image).unwrap();
    for block in [0, 40, made.size / 4096 - 1] {
        let (mut byte, at) = ([0], HEADER_BYTES + block * 4096 + 100);
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let error = pack::check(&image, &made.header, &made.secret, &made.verity).unwrap_err();
        assert!(matches!(error, VolumeError::Verity { block: found } if found == block), "{error}");
        file.write_all_at(&byte, at).unwrap();
    }
    pack::check(&image, &made.header, &made.secret, &made.verity).unwrap();
}

#[test]
fn links_and_special_files_are_refused_and_no_file_is_overwritten() {
    let place = tempfile::tempdir().unwrap();
    let (from, image) = (place.path().join("from"), place.path().join("image"));
    folder(&from);
    symlink("/etc/passwd", from.join("a/link")).unwrap();
    let refused = packed(&from, &image, 1).unwrap_err();
    assert!(matches!(&refused, VolumeError::Source { path } if path.ends_with("a/link")), "{refused}");
    fs::remove_file(from.join("a/link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    assert_eq!(packed(&from, &image, 1).unwrap_err().code(), "volume_source");
    fs::remove_file(from.join("socket")).unwrap();
    assert!(!image.exists());
    fs::write(&image, b"mine").unwrap();
    assert_eq!(packed(&from, &image, 1).unwrap_err().code(), "volume_exists");
    assert_eq!(fs::read(&image).unwrap(), b"mine");
    assert_eq!(packed(&place.path().join("nothing"), &image, 1).unwrap_err().code(), "volume_exists");
}

#[test]
fn folders_of_many_small_and_of_no_files_are_packed() {
    let place = tempfile::tempdir().unwrap();
    let many = place.path().join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..1500 {
        fs::write(many.join(format!("a-file-with-a-longer-name-{number:05}")), b"x").unwrap();
    }
    fs::set_permissions(many.join("a-file-with-a-longer-name-00007"), fs::Permissions::from_mode(0o755))
        .unwrap();
    packed(&many, &place.path().join("image"), 1).unwrap();
    let none = place.path().join("none");
    fs::create_dir(&none).unwrap();
    packed(&none, &place.path().join("empty"), 1).unwrap();
}

#[test]
fn an_image_with_one_changed_byte_is_not_encrypted_anew() {
    let place = tempfile::tempdir().unwrap();
    let (from, old, new) = (place.path().join("from"), place.path().join("old"), place.path().join("new"));
    folder(&from);
    let mut made = packed(&from, &old, 1).unwrap();
    let file = File::options().read(true).write(true).open(&old).unwrap();
    let draw = &mut Draw::danger_seeded([8; 32]);
    for block in [0, 40, made.size / 4096 - 1] {
        let (mut byte, at) = ([0], HEADER_BYTES + block * 4096 + 100);
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let whole = (made.size, &made.verity);
        let again = rotate::reencrypt(&mut made.image, &new, &made.header, &made.secret, whole, draw);
        let error = again.unwrap_err();
        assert!(matches!(error, VolumeError::Verity { block: found } if found == block), "{error}");
        assert!(!new.exists(), "nothing is left behind");
        file.write_all_at(&byte, at).unwrap();
    }
}

#[test]
fn an_image_that_is_encrypted_anew_has_the_same_data_under_other_keys() {
    let place = tempfile::tempdir().unwrap();
    let (from, old, new) = (place.path().join("from"), place.path().join("old"), place.path().join("new"));
    folder(&from);
    let made = packed(&from, &old, 1).unwrap();
    let draw = &mut Draw::danger_seeded([8; 32]);
    let (mut image, whole) = (made.image, (made.size, &made.verity));
    let again = rotate::reencrypt(&mut image, &new, &made.header, &made.secret, whole, draw).unwrap();
    pack::check(&new, &again.header, &again.secret, &made.verity).unwrap();
    pack::check(&old, &made.header, &made.secret, &made.verity).unwrap();
    let key = |image: &Path, digest, secret| {
        let copy = HeaderCopy::read(&mut File::open(image).unwrap()).unwrap();
        let header = copy.check(Profile::Model, &[digest]).unwrap();
        header.unlock(secret).map(|key| key.expose().to_vec())
    };
    assert_ne!(
        key(&old, made.header, &made.secret).unwrap(),
        key(&new, again.header, &again.secret).unwrap(),
        "a new volume key"
    );
    assert!(key(&new, again.header, &made.secret).is_err(), "the old secret opens nothing of the new image");
    let (old, new) = (fs::read(&old).unwrap(), fs::read(&new).unwrap());
    let blocks = old.chunks(4096).zip(new.chunks(4096)).skip(256);
    assert!(blocks.into_iter().all(|(one, other)| one != other), "a block is encrypted as before");
    let there = place.path().join("new");
    let exists = rotate::reencrypt(&mut image, &there, &made.header, &made.secret, whole, draw);
    assert_eq!(exists.unwrap_err().code(), "volume_exists");
}
