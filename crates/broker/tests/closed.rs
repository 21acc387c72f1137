//! What keeps the memory and the files of a broker to itself.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use confide_evidence::bytes::Bytes;
use confide_release::{Formatted, Profile};
use support::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_confide-broker");

#[tokio::test]
async fn a_serving_broker_leaves_no_core_dump() {
    let home = Home::new();
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--config"]).arg(home.config_file(""));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let proc = Path::new("/proc").join(child.id().to_string());
    let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
    // Of a process that is closed to debuggers, these files are root's.
    let owner = std::fs::metadata(proc.join("mem")).unwrap().uid();
    child.kill().unwrap();
    child.wait().unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!((words, owner), (vec!["0", "0"], 0));
}

#[test]
fn the_unit_keeps_the_brokers_memory_off_disks() {
    let unit = include_str!("../../../deploy/confide-broker.service");
    for line in ["LimitCORE=0", "MemorySwapMax=0", "NoNewPrivileges=yes", "ProtectSystem=strict"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
}

/// Whether bytes stand in one of the database's files.
fn kept(home: &Home, sealed: &[u8]) -> bool {
    std::fs::read_dir(home.folder.path()).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let database = path.file_name().unwrap().to_string_lossy().starts_with("broker.db");
        database && std::fs::read(&path).unwrap().windows(sealed.len()).any(|window| window == sealed)
    })
}

/// The sealed secret of the committed version, and that of the prepared one.
async fn sealed(home: &Home, volume: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    let volume = home.store().await.volume(&id(volume)).await.unwrap().unwrap();
    let prepared = volume.prepared().and_then(|version| version.secret.clone());
    (volume.committed().unwrap().secret.clone().unwrap(), prepared)
}

#[tokio::test]
async fn a_secret_that_was_deleted_is_in_no_file_of_the_database() {
    let home = Home::new();
    let owner = home.owner().await;
    add_model(&owner).await;
    let standing = owner.begin(&id("model"), &Bytes([1; 32])).await.unwrap();
    owner.prepare(&standing.volume, &Bytes([2; 32]), &secret(2)).await.unwrap();
    let (old, new) = sealed(&home, "model").await;
    assert!(kept(&home, &old) && kept(&home, new.as_ref().unwrap()));
    owner.commit(&id("model"), &Bytes([2; 32])).await.unwrap();
    assert!(!kept(&home, &old) && kept(&home, &new.unwrap()), "committed");

    let standing = owner.begin(&id("model"), &Bytes([2; 32])).await.unwrap();
    owner.prepare(&standing.volume, &Bytes([3; 32]), &secret(3)).await.unwrap();
    let (_, given_up) = sealed(&home, "model").await;
    owner.abandon(&id("model"), 3).await.unwrap();
    assert!(!kept(&home, &given_up.unwrap()), "given up");

    let (before, _) = sealed(&home, "model").await;
    owner.set_policy(&id("model"), &policy_for(&Bytes([7; 32]))).await.unwrap();
    assert!(!kept(&home, &before), "another policy");
    let (before, _) = sealed(&home, "model").await;
    owner.revoke(&id("model")).await.unwrap();
    assert!(!kept(&home, &before), "revoked");

    owner.add(&id("state"), Profile::State, &state_image(), &policy()).await.unwrap();
    let volume = home.store().await.volume(&id("state")).await.unwrap().unwrap();
    let token = volume.format.unwrap().token.unwrap();
    assert!(kept(&home, &token));
    let (broker, guest) = (home.broker().await, Guest::new(&home.identity()));
    let secrets = guest.ask(&broker, &home.identity(), &["state"]).await.unwrap();
    let [(name, secrets)] = secrets.try_into().unwrap();
    let report = Formatted { token: secrets.format_token.unwrap(), header: Bytes([4; 32]), volume: name };
    broker.formatted(&report.encode(), PEER).await.unwrap();
    assert!(!kept(&home, &token), "formatted");
}

#[tokio::test]
async fn a_command_leaves_no_log_of_changes_behind() {
    let home = Home::new();
    add_model(&home.owner().await).await;
    let config = home.config_file("");
    let revoked = Command::new(PROGRAM).args(["volume", "revoke", "model", "--config"]).arg(&config).output();
    assert!(revoked.unwrap().status.success());
    let wal = std::fs::metadata(home.path("broker.db-wal")).map_or(0, |found| found.len());
    assert_eq!(wal, 0);
}

#[tokio::test]
async fn a_file_with_the_databases_address_is_a_secret() {
    let home = Home::new();
    // Only some commands make a database.
    home.owner().await;
    let path = home.secret("url", home.url.as_bytes());
    let text = home
        .config_text("")
        .replace(&format!("url = \"{}\"", home.url), &format!("url_file = \"{}\"", path.display()));
    let config = home.path("broker.toml");
    std::fs::write(&config, text).unwrap();
    let list = || {
        let output =
            Command::new(PROGRAM).args(["volume", "list", "--config"]).arg(&config).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = list();
    assert!(status == Some(0) && said.contains("there are no volumes"), "{said}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (status, said) = list();
    assert!(status == Some(1) && said.contains("[storage_url_file]") && said.contains("644"), "{said}");
    home.secret("url", format!("{}{}", home.url, " ".repeat(5000)).as_bytes());
    let (status, said) = list();
    assert!(status == Some(1) && said.contains("[storage_url_file]") && said.contains("4096"), "{said}");
}
