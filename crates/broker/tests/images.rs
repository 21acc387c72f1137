//! Images by the built program: packed, rotated, encrypted anew, and whatever an interruption leaves.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

mod support;

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use confide_broker::owner::Owner;
use confide_evidence::bytes::Digest;
use confide_release::{Profile, Secret};
use confide_volume::rotate::{self, Prepared};
use confide_volume::{Draw, HeaderCopy, Image, VolumeError, pack};
use support::*;

/// Exit status, standard output and standard error of a command.
fn run(home: &Home, arguments: &[&str]) -> (Option<i32>, String, String) {
    let config = home.config_file("");
    let output = Command::new(env!("CARGO_BIN_EXE_confide-broker"))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn done(home: &Home, arguments: &[&str]) -> String {
    let (status, said, error) = run(home, arguments);
    assert_eq!(status, Some(0), "{arguments:?}: {error}");
    said
}

/// The code in brackets of a command that is refused.
fn refused(home: &Home, arguments: &[&str]) -> String {
    let (status, _, error) = run(home, arguments);
    assert_ne!(status, Some(0), "{arguments:?}");
    let line = error.lines().next().unwrap();
    line.rsplit_once('[').unwrap().1.trim_end_matches(']').to_owned()
}

/// A home with the volume `model`, packed into `model.img`.
fn packed() -> (Home, String) {
    let home = Home::new();
    let folder = home.path("files");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config.json"), "{}").unwrap();
    std::fs::write(folder.join("weights"), vec![7; 100_000]).unwrap();
    let (from, file) = (text(&folder), text(&home.path("model.img")));
    let said =
        done(&home, &["volume", "create", "model", "--from", &from, "--file", &file, "--address", "b:1"]);
    assert!(said.contains("model: packed into") && said.contains("\"key-release\""), "{said}");
    (home, file)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The committed generation of the volume `model`, and its header and secret as the broker holds them.
async fn committed(owner: &Owner) -> (u64, Digest, Secret) {
    committed_of(owner, "model").await
}

async fn committed_of(owner: &Owner, name: &str) -> (u64, Digest, Secret) {
    let volume = owner.volume(&id(name)).await.unwrap();
    let version = volume.committed().unwrap();
    let (generation, header) = (version.generation, version.header.unwrap());
    (generation, header, owner.begin(&id(name), &header).await.unwrap().secret)
}

/// Whether an image opens as a guest that is released the volume `model` would open it, and every block of it is whole.
async fn opens(owner: &Owner, file: &str) -> bool {
    opens_as(owner, "model", file).await
}

async fn opens_as(owner: &Owner, name: &str, file: &str) -> bool {
    let (_, header, secret) = committed_of(owner, name).await;
    let verity = owner.volume(&id(name)).await.unwrap().verity.unwrap();
    pack::check(Path::new(file), &header, &secret, &verity).is_ok()
}

#[tokio::test]
async fn a_folder_is_packed_and_its_key_is_the_brokers() {
    let (home, file) = packed();
    let owner = home.owner().await;
    assert!(opens(&owner, &file).await);
    let header = HeaderCopy::read(&mut File::open(&file).unwrap()).unwrap().primary(Profile::Model).unwrap();
    let hint = header.hint().unwrap();
    assert_eq!((hint.broker(), hint.volume()), ("b:1", &id("model")));
    let (from, other) = (text(&home.path("files")), text(&home.path("other.img")));
    let again = ["volume", "create", "model", "--from", &from, "--file", &other];
    assert_eq!(refused(&home, &again), "volume_name_taken");
    assert!(!Path::new(&other).exists(), "nothing is packed for a name that is taken");
    let over = ["volume", "create", "other", "--from", &from, "--file", &file];
    assert_eq!(refused(&home, &over), "volume_exists");
    assert!(opens(&owner, &file).await);
}

/// In a user namespace in which this user is nobody, and so has none of root's capabilities.
#[tokio::test]
async fn a_folder_is_packed_and_its_image_rotated_without_root() {
    let (home, _) = packed();
    let (from, file) = (text(&home.path("files")), text(&home.path("mine.img")));
    let config = text(&home.config_file(""));
    let probe = "! grep -q 'CapEff:.*[1-9a-f]' /proc/self/status && test \"$(id -u)\" != 0";
    let nobody = Command::new("unshare").args(["--user", "sh", "-c", probe]).output();
    if !nobody.as_ref().is_ok_and(|output| output.status.success()) {
        println!("not run: packing without root: no user namespace (unshare --user): {nobody:?}");
        return;
    }
    let owner = home.owner().await;
    for command in
        [&["create", "mine", "--from", &from, "--file", &file][..], &["rotate", "mine", "--file", &file]]
    {
        let mut program = Command::new("unshare");
        program.args(["--user", "--", env!("CARGO_BIN_EXE_confide-broker"), "volume"]).args(command);
        let output = program.args(["--config", &config]).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(opens_as(&owner, "mine", &file).await);
}

#[tokio::test]
async fn an_image_is_rotated_and_its_old_copy_is_refused_as_rolled_back() {
    let (home, file) = packed();
    let old = text(&home.path("old.img"));
    std::fs::copy(&file, &old).unwrap();
    let owner = home.owner().await;
    assert!(done(&home, &["volume", "rotate", "model", "--file", &file]).contains("generation 2 committed"));
    assert_eq!(committed(&owner).await.0, 2);
    assert!(opens(&owner, &file).await && !opens(&owner, &old).await);
    assert_eq!(refused(&home, &["volume", "rotate", "model", "--file", &old]), "volume_rolled_back");
    assert!(done(&home, &["volume", "rotate", "model", "--file", &file]).contains("generation 3 committed"));
    assert!(opens(&owner, &file).await);
}

#[tokio::test]
async fn an_image_is_encrypted_anew_into_another_file() {
    let (home, file) = packed();
    let new = text(&home.path("new.img"));
    let owner = home.owner().await;
    let said = done(&home, &["volume", "rotate", "model", "--file", &file, "--encrypt-to", &new]);
    assert!(said.contains("generation 2 committed"), "{said}");
    assert!(opens(&owner, &new).await && !opens(&owner, &file).await);
    assert_eq!(refused(&home, &["volume", "rotate", "model", "--file", &file]), "volume_rolled_back");
    // What a guest writes is not encrypted anew by its owner, who cannot follow it.
    owner.add(&id("state"), Profile::State, &state_image(), &policy()).await.unwrap();
    let again = ["volume", "rotate", "state", "--file", &new, "--encrypt-to", &file];
    assert_eq!(refused(&home, &again), "volume_settings");
}

#[tokio::test]
async fn an_image_that_was_changed_is_not_encrypted_anew_and_the_intact_copy_still_opens() {
    let (home, file) = packed();
    let (intact, new) = (text(&home.path("intact.img")), text(&home.path("new.img")));
    std::fs::copy(&file, &intact).unwrap();
    let image = File::options().read(true).write(true).open(&file).unwrap();
    let (mut byte, at) = ([0], (1 << 20) + 40 * 4096 + 100);
    image.read_exact_at(&mut byte, at).unwrap();
    image.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let command = ["volume", "rotate", "model", "--file", &file, "--encrypt-to", &new];
    assert_eq!(refused(&home, &command), "volume_verity");
    assert!(!Path::new(&new).exists());
    let owner = home.owner().await;
    assert_eq!(committed(&owner).await.0, 1, "the old generation stays committed");
    assert!(opens(&owner, &intact).await);
}

#[tokio::test]
async fn a_rotation_that_was_interrupted_before_its_header_was_written_begins_anew() {
    let (home, file) = packed();
    let owner = home.owner().await;
    let (_, header, _) = committed(&owner).await;
    let standing = owner.begin(&id("model"), &header).await.unwrap();
    owner.prepare(&standing.volume, &Digest::from([3; 32]), &secret(3)).await.unwrap();
    let listed = done(&home, &["volume", "list"]);
    assert!(listed.contains("generation 2 prepared at"), "{listed}");
    let said = done(&home, &["volume", "rotate", "model", "--file", &file]);
    assert!(said.contains("generation 3 committed"), "{said}");
    assert!(opens(&owner, &file).await);
}

#[tokio::test]
async fn a_rotation_that_was_interrupted_after_its_header_was_written_is_committed() {
    let (home, file) = packed();
    let owner = home.owner().await;
    written(&owner, &file).await;
    let said = done(&home, &["volume", "rotate", "model", "--file", &file]);
    assert!(said.contains("generation 2 committed"), "{said}");
    assert!(opens(&owner, &file).await);
}

#[tokio::test]
async fn a_rotation_is_given_up_and_the_image_settled() {
    let (home, file) = packed();
    let owner = home.owner().await;
    assert_eq!(refused(&home, &["volume", "rotate", "model", "--abandon"]), "rotation_missing");
    written(&owner, &file).await;
    let said = done(&home, &["volume", "rotate", "model", "--abandon", "--file", &file]);
    assert!(said.contains("generation 2 given up"), "{said}");
    assert!(opens(&owner, &file).await);
    assert_eq!(committed(&owner).await.0, 1);
}

/// Prepares a rotation, writes it, and stops before the commit.
async fn written(owner: &Owner, file: &str) {
    let (mut image, prepared) = prepared(owner, file).await;
    rotate::write(&mut image, &prepared).unwrap();
}

/// Prepares a rotation, and stops before anything is written.
async fn prepared(owner: &Owner, file: &str) -> (Image, Prepared) {
    let (_, header, secret) = committed(owner).await;
    let standing = owner.begin(&id("model"), &header).await.unwrap();
    let mut image = locked(file).unwrap();
    let draw = &mut Draw::system();
    let prepared = rotate::prepare(&mut image, Profile::Model, &header, &secret, draw).unwrap();
    owner.prepare(&standing.volume, &prepared.header(), prepared.secret()).await.unwrap();
    (image, prepared)
}

fn locked(file: &str) -> Result<Image, VolumeError> {
    let path = Path::new(file);
    Image::lock(File::options().read(true).write(true).open(path).unwrap(), path)
}

#[tokio::test]
async fn while_a_rotation_runs_every_other_command_on_its_image_is_refused() {
    let (home, file) = packed();
    let new = text(&home.path("new.img"));
    let owner = home.owner().await;
    let (mut image, prepared) = prepared(&owner, &file).await;
    for command in [
        &["volume", "rotate", "model", "--file", &file][..],
        &["volume", "rotate", "model", "--file", &file, "--abandon"],
        &["volume", "rotate", "model", "--file", &file, "--encrypt-to", &new],
    ] {
        assert_eq!(refused(&home, command), "volume_locked", "{command:?}");
    }
    let volume = owner.volume(&id("model")).await.unwrap();
    assert_eq!(volume.prepared().unwrap().header, Some(prepared.header()), "it is not given up");
    // The one that was there first goes on, as if nobody had come.
    rotate::write(&mut image, &prepared).unwrap();
    assert_eq!(owner.commit(&id("model"), &prepared.header()).await.unwrap(), 2);
    rotate::settle(&mut image, Profile::Model, &prepared.header()).unwrap();
    drop(image);
    assert!(opens(&owner, &file).await);
    assert!(done(&home, &["volume", "rotate", "model", "--file", &file]).contains("generation 3 committed"));
    assert!(opens(&owner, &file).await);
}

/// Whether a process has an exclusive lock on a file (proc_locks(5)), found out without asking for one.
fn has_locked(process: u32, file: &str) -> bool {
    let inode = format!(":{}", std::fs::metadata(file).unwrap().ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", owner, place, ..] = &words[..] else { return false };
        *owner == process.to_string() && place.ends_with(&inode)
    })
}

#[tokio::test]
async fn a_rotation_has_its_image_to_itself_until_it_is_committed() {
    let (home, file) = packed();
    let owner = home.owner().await;
    // Preparing and committing take a second or two, in which the image is looked at.
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&home.url).await.unwrap();
    for statement in [
        "CREATE TABLE numbers AS WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 200) SELECT x FROM n",
        "CREATE TRIGGER slow_prepare BEFORE INSERT ON versions BEGIN SELECT COUNT(a.x + b.x + c.x) FROM numbers a, numbers b, numbers c; END",
        "CREATE TRIGGER slow_commit BEFORE UPDATE ON versions BEGIN SELECT COUNT(a.x + b.x + c.x) FROM numbers a, numbers b, numbers c; END",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let config = home.config_file("");
    let mut rotating = Command::new(env!("CARGO_BIN_EXE_confide-broker"))
        .args(["volume", "rotate", "model", "--file", &file, "--config"])
        .arg(config)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let (mut had, mut states) = (false, Vec::new());
    let status = loop {
        let is_locked = has_locked(rotating.id(), &file);
        let volume = owner.volume(&id("model")).await.unwrap();
        let state = (volume.committed().unwrap().generation, volume.prepared().is_some());
        if is_locked {
            had = true;
            states.push(state);
        }
        assert!(is_locked || !had || state == (2, false), "given away in the state {state:?}");
        if let Some(status) = rotating.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert!(status.success());
    states.dedup();
    assert!(states.starts_with(&[(1, false), (1, true)]), "locked before anything is prepared: {states:?}");
    assert!(opens(&owner, &file).await);
}

#[tokio::test]
async fn an_image_that_exists_is_added_by_its_header() {
    let (home, file) = packed();
    let owner = home.owner().await;
    let (_, header, secret) = committed(&owner).await;
    let path = text(&home.secret("secret", secret.expose()));
    let zeros = "00".repeat(32);
    #[rustfmt::skip]
    let arguments = [
        "volume", "add", "second", "--profile", "model", "--size", "4096", "--file", &file, "--secret", &path,
        "--verity-root", &zeros, "--verity-salt", &zeros, "--verity-blocks", "1",
    ];
    done(&home, &arguments);
    let second = owner.volume(&id("second")).await.unwrap();
    assert_eq!(second.committed().unwrap().header, Some(header));
    let alone = ["volume", "add", "third", "--profile", "state", "--size", "4096", "--secret", &path];
    assert_eq!(refused(&home, &alone), "volume_settings");
}
