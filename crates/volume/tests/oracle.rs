//! Our reader and our writer against `cryptsetup` and `veritysetup`, on plain files: no device-mapper is needed.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use confide_release::{Profile, Secret};
use confide_volume::pack::{self, Pack};
use confide_volume::{Draw, HeaderCopy, Hint, Image, VolumeError, rotate, verity};
use zeroize::Zeroizing;

mod support;
use support::{run, tried};

/// A folder with a key file, whose 64 bytes are a secret.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        fs::write(place.at("key"), key(1)).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An image that cryptsetup formats with more arguments.
    fn formatted(&self, more: &[&str]) -> PathBuf {
        let (image, key) = (self.at("image"), self.at("key"));
        let file = File::create(&image).unwrap();
        file.set_len(32 << 20).unwrap();
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"-q", &"luksFormat", &"--type", &"luks2"];
        arguments.extend(more.iter().map(|one| one as &dyn AsRef<std::ffi::OsStr>));
        arguments.extend::<[&dyn AsRef<std::ffi::OsStr>; 3]>([&"--key-file", &key, &image]);
        run("cryptsetup", &arguments);
        image
    }

    /// The volume key that cryptsetup finds in an image by the key file.
    fn volume_key(&self, image: &Path, key: &Path) -> Result<Vec<u8>, String> {
        let found = self.at("volume-key");
        let _ = fs::remove_file(&found);
        tried(
            "cryptsetup",
            &[
                &"-q",
                &"luksDump",
                &"--dump-volume-key",
                &"--volume-key-file",
                &found,
                &"--key-file",
                &key,
                &image,
            ],
        )?;
        Ok(fs::read(found).unwrap())
    }
}

fn key(byte: u8) -> [u8; 64] {
    std::array::from_fn(|at| byte.wrapping_mul(31).wrapping_add(at as u8))
}

fn secret(byte: u8) -> Secret {
    Secret::new(Zeroizing::new(key(byte)))
}

fn header(image: &Path) -> Result<confide_volume::Header, VolumeError> {
    let copy = HeaderCopy::read(&mut File::open(image).unwrap())?;
    let digest = copy.primary(Profile::Model)?.digest();
    copy.check(Profile::Model, &[digest])
}

fn locked(image: &Path) -> Image {
    Image::lock(File::options().read(true).write(true).open(image).unwrap(), image).unwrap()
}

const MODEL: &[&str] = &[
    "--cipher",
    "aes-xts-plain64",
    "--key-size",
    "512",
    "--sector-size",
    "4096",
    "--hash",
    "sha256",
    "--pbkdf",
    "pbkdf2",
    "--pbkdf-force-iterations",
    "1000",
];

#[test]
fn a_volume_that_cryptsetup_formats_opens_with_the_volume_key_that_cryptsetup_finds() {
    let place = Place::new();
    let image = place.formatted(MODEL);
    let header = header(&image).unwrap();
    let ours = header.unlock(&secret(1)).unwrap();
    assert_eq!(ours.expose(), place.volume_key(&image, &place.at("key")).unwrap());
    assert!(matches!(header.unlock(&secret(2)), Err(VolumeError::SecretWrong)));
    assert_eq!(header.data_offset(), 16 << 20, "cryptsetup's own reserve");
    let uuid = run("cryptsetup", &[&"luksUUID", &image]);
    assert_eq!(header.uuid(), String::from_utf8(uuid).unwrap().trim_end());
}

#[test]
fn what_cryptsetup_formats_otherwise_is_refused() {
    let place = Place::new();
    let otherwise = |from: &str, to: &'static str| -> &'static str {
        let more: Vec<&str> = MODEL.iter().map(|one| if *one == from { to } else { *one }).collect();
        header(&place.formatted(&more)).map(drop).unwrap_err().code()
    };
    assert_eq!(otherwise("aes-xts-plain64", "aes-xts-plain"), "volume_cipher");
    assert_eq!(otherwise("512", "256"), "volume_header_number");
    assert_eq!(otherwise("4096", "512"), "volume_header_number");
    assert_eq!(otherwise("sha256", "sha512"), "volume_hash");
    assert_eq!(otherwise("1000", "100001"), "volume_iterations");
    let argon = [
        "--cipher",
        "aes-xts-plain64",
        "--key-size",
        "512",
        "--sector-size",
        "4096",
        "--pbkdf",
        "argon2id",
        "--pbkdf-force-iterations",
        "4",
        "--pbkdf-memory",
        "32",
        "--pbkdf-parallel",
        "1",
    ];
    assert_eq!(header(&place.formatted(&argon)).unwrap_err().code(), "volume_part_type");
    let image = place.formatted(MODEL);
    fs::write(place.at("other"), key(2)).unwrap();
    let (own, other) = (place.at("key"), place.at("other"));
    let fast: [&dyn AsRef<std::ffi::OsStr>; 4] =
        [&"--pbkdf", &"pbkdf2", &"--pbkdf-force-iterations", &"1000"];
    let add: [&dyn AsRef<std::ffi::OsStr>; 6] = [&"-q", &"luksAddKey", &"--key-file", &own, &image, &other];
    run("cryptsetup", &[&add[..], &fast[..]].concat());
    assert_eq!(header(&image).unwrap_err().code(), "volume_part_count");
    // One that is left is enough, whatever its number.
    run("cryptsetup", &[&"-q", &"luksKillSlot", &"--key-file", &other, &image, &"0"]);
    assert_eq!(
        header(&image).unwrap().unlock(&secret(2)).unwrap().expose(),
        place.volume_key(&image, &other).unwrap()
    );
    let token = place.at("token.json");
    fs::write(&token, r#"{"type":"someone","keyslots":["1"]}"#).unwrap();
    run("cryptsetup", &[&"token", &"import", &"--json-file", &token, &image]);
    assert_eq!(header(&image).unwrap_err().code(), "volume_foreign_token");
}

/// A folder with files of several sizes, and the image that it is packed into.
fn packed(place: &Place, seed: u8) -> (PathBuf, pack::Packed) {
    let folder = place.at("folder");
    if !folder.exists() {
        fs::create_dir_all(folder.join("sub/folder")).unwrap();
        fs::write(folder.join("config.json"), b"{}").unwrap();
        fs::write(folder.join("empty"), b"").unwrap();
        let weights: Vec<u8> = (0..3_000_000_u32).flat_map(|at| at.to_le_bytes()).take(3_000_001).collect();
        fs::write(folder.join("sub/folder/weights"), weights).unwrap();
    }
    let image = place.at(&format!("packed-{seed}"));
    let _ = fs::remove_file(&image);
    let hint = Hint::new("broker.example:8443", "weights".parse().unwrap()).unwrap();
    let draw = &mut Draw::danger_seeded([seed; 32]);
    let packed = pack::create(Pack { from: &folder, file: &image, hint: Some(&hint), draw }).unwrap();
    (image, packed)
}

/// The file of an image's secret.
fn secret_file(place: &Place, secret: &Secret) -> PathBuf {
    let path = place.at("secret");
    fs::write(&path, secret.expose()).unwrap();
    path
}

#[test]
fn cryptsetup_accepts_what_we_pack_and_finds_the_same_volume_key() {
    let place = Place::new();
    let (image, packed) = packed(&place, 1);
    drop(packed.image);
    let key = secret_file(&place, &packed.secret);
    let dump = String::from_utf8(run("cryptsetup", &[&"luksDump", &image])).unwrap();
    for line in
        ["cipher: aes-xts-plain64", "sector: 4096 [bytes]", "0: luks2", "0: confide", "AF stripes: 4000"]
    {
        let flat = dump.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(&line.split_whitespace().collect::<Vec<_>>().join(" ")), "{line} in {dump}");
    }
    run("cryptsetup", &[&"open", &"--test-passphrase", &"--key-file", &key, &image]);
    let header = header(&image).unwrap();
    assert_eq!(header.digest(), packed.header);
    assert_eq!(header.hint().unwrap().volume().as_str(), "weights");
    let ours = header.unlock(&packed.secret).unwrap();
    assert_eq!(ours.expose(), place.volume_key(&image, &key).unwrap());
    let wrong =
        tried("cryptsetup", &[&"open", &"--test-passphrase", &"--key-file", &place.at("key"), &image]);
    assert!(wrong.is_err(), "another secret opens nothing");
}

#[test]
fn cryptsetup_decrypts_what_we_pack_and_veritysetup_and_e2fsck_accept_it() {
    let place = Place::new();
    let (image, packed) = packed(&place, 2);
    drop(packed.image);
    let key = secret_file(&place, &packed.secret);
    // Offline: neither root nor device-mapper; a lock of its own below /run, which others may not have.
    let decrypt = "mount -t tmpfs none /run && exec cryptsetup -q reencrypt --decrypt --force-offline-reencrypt --header \"$1\" --key-file \"$2\" \"$3\"";
    let moved = place.at("header");
    run("unshare", &[&"-rm", &"sh", &"-c", &decrypt, &"sh", &moved, &key, &image]);
    let plain = fs::read(&image).unwrap();
    let size = usize::try_from(packed.size).unwrap();
    let plain = place.at("plain").tap_write(&plain[..size]);
    let (root, salt) = (packed.verity.root.to_string(), packed.verity.salt.to_string());
    let offset = (packed.verity.data_blocks * verity::BLOCK).to_string();
    run("veritysetup", &[&"verify", &plain, &plain, &root, &format!("--hash-offset={offset}")]);
    let dump = String::from_utf8(run("veritysetup", &[&"dump", &plain, &format!("--hash-offset={offset}")]))
        .unwrap();
    assert!(dump.contains(&salt), "{dump}");
    verity::check(&mut File::open(&plain).unwrap(), &packed.verity).unwrap();
    run("e2fsck", &[&"-f", &"-n", &plain]);
    let weights = place.at("weights");
    run("debugfs", &[&"-R", &format!("dump /sub/folder/weights {}", weights.display()), &plain]);
    assert_eq!(fs::read(weights).unwrap(), fs::read(place.at("folder/sub/folder/weights")).unwrap());
    // One bit of one block of data: both refuse it.
    let file = File::options().read(true).write(true).open(&plain).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5 * verity::BLOCK + 9).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 5 * verity::BLOCK + 9).unwrap();
    assert!(
        tried("veritysetup", &[&"verify", &plain, &plain, &root, &format!("--hash-offset={offset}")])
            .is_err()
    );
    let error = verity::check(&mut File::open(&plain).unwrap(), &packed.verity).unwrap_err();
    assert!(matches!(error, VolumeError::Verity { block: 5 }), "{error}");
}

trait TapWrite {
    fn tap_write(self, bytes: &[u8]) -> Self;
}

impl TapWrite for PathBuf {
    fn tap_write(self, bytes: &[u8]) -> Self {
        fs::write(&self, bytes).unwrap();
        self
    }
}

#[test]
fn trees_that_veritysetup_makes_are_accepted() {
    let place = Place::new();
    for blocks in [2_u64, 128, 129, 4000] {
        let image = place.at("tree");
        let data: Vec<u8> = (0..blocks * 512).flat_map(u64::to_le_bytes).collect();
        fs::write(&image, &data).unwrap();
        let (count, offset) = (blocks.to_string(), (blocks * verity::BLOCK).to_string());
        let salt = "5a".repeat(32);
        let said = run(
            "veritysetup",
            &[
                &"format",
                &image,
                &image,
                &format!("--data-blocks={count}"),
                &format!("--hash-offset={offset}"),
                &format!("--salt={salt}"),
            ],
        );
        let said = String::from_utf8(said).unwrap();
        let root = said.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim();
        let digest = |text: &str| confide_evidence::hex::decode_array::<32>(text).unwrap().into();
        let tree = confide_release::Verity { root: digest(root), salt: digest(&salt), data_blocks: blocks };
        verity::check(&mut File::open(&image).unwrap(), &tree).unwrap();
        assert_eq!(fs::metadata(&image).unwrap().len(), verity::size(blocks).unwrap(), "{blocks}");
    }
}

#[test]
fn cryptsetup_follows_each_step_of_a_rotation() {
    let place = Place::new();
    let (image, packed) = packed(&place, 3);
    drop(packed.image);
    let old = secret_file(&place, &packed.secret);
    let volume_key = place.volume_key(&image, &old).unwrap();
    let mut file = locked(&image);
    let draw = &mut Draw::danger_seeded([9; 32]);
    let prepared = rotate::prepare(&mut file, Profile::Model, &packed.header, &packed.secret, draw).unwrap();
    rotate::write(&mut file, &prepared).unwrap();
    rotate::settle(&mut file, Profile::Model, &prepared.header()).unwrap();
    // cryptsetup waits for the same lock.
    drop(file);
    let new = place.at("new").tap_write(prepared.secret().expose());
    run("cryptsetup", &[&"luksDump", &image]);
    assert_eq!(place.volume_key(&image, &new).unwrap(), volume_key);
    assert!(tried("cryptsetup", &[&"open", &"--test-passphrase", &"--key-file", &old, &image]).is_err());
    pack::check(&image, &prepared.header(), prepared.secret(), &packed.verity).unwrap();
}

#[test]
fn a_volume_that_cryptsetup_formats_is_rotated() {
    let place = Place::new();
    let image = place.formatted(MODEL);
    let volume_key = place.volume_key(&image, &place.at("key")).unwrap();
    let committed = header(&image).unwrap().digest();
    let mut file = locked(&image);
    let prepared =
        rotate::prepare(&mut file, Profile::Model, &committed, &secret(1), &mut Draw::system()).unwrap();
    rotate::write(&mut file, &prepared).unwrap();
    rotate::settle(&mut file, Profile::Model, &prepared.header()).unwrap();
    // cryptsetup waits for the same lock.
    drop(file);
    let new = place.at("new").tap_write(prepared.secret().expose());
    assert_eq!(place.volume_key(&image, &new).unwrap(), volume_key);
    let opened = header(&image).unwrap().unlock(prepared.secret()).unwrap();
    assert_eq!(opened.expose(), volume_key);
}
