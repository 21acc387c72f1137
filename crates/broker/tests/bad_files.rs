//! What no command may be thrown off by: each file that a command reads, given as it should not be. Every command gives the exit
//! status and the stable code that its documentation promises, and none panics.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use confide_policy::MAX_POLICY;
use confide_record::MAX_FILE;
use confide_service::config::MAX_CONFIG;
use support::*;

/// Exit status and code; no code where the command did what it was asked.
type End = (i32, &'static str);

const GOOD: End = (0, "");
const UNREADABLE: End = (1, "broker_file_unreadable");

fn differs(home: &Home, words: &[&str], what: &str, expected: End) -> Option<String> {
    let words = words.iter().map(|word| word.replace("{home}", &home.folder.path().display().to_string()));
    let words: Vec<String> = words.collect();
    let output = Command::new(env!("CARGO_BIN_EXE_confide-broker")).args(&words).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let (status, code) = expected;
    let told = code.is_empty() || said.contains(&format!("[{code}]"));
    let fine = output.status.code() == Some(status) && told && !said.contains("panicked");
    (!fine).then(|| format!("{words:?}, {what}: {:?}, not {expected:?}: {said}", output.status.code()))
}

/// One file of one command.
struct Row<'a> {
    words: &'a [&'a str],
    file: &'a str,
    /// The most bytes that are read of it.
    limit: usize,
    /// Its end as it is.
    good: End,
    empty: End,
    /// Its first half.
    cut: End,
    oversized: End,
    /// Bytes that are no text, and no beginning of any format.
    not_text: End,
    /// A folder in its place, and no file at all.
    unreadable: End,
}

impl<'a> Row<'a> {
    /// A row whose every bad file has one end.
    fn new(words: &'a [&'a str], file: &'a str, limit: usize, bad: End) -> Self {
        let (empty, cut, oversized, not_text) = (bad, bad, bad, bad);
        Self { words, file, limit, good: GOOD, empty, cut, oversized, not_text, unreadable: UNREADABLE }
    }

    /// All that differs; the file is as it was when this returns.
    fn check(&self, home: &Home) -> Vec<String> {
        let path = home.path(self.file);
        let whole = std::fs::read(&path).unwrap();
        let mut wrong = Vec::new();
        let mut oversized = whole.clone();
        oversized.resize(self.limit + 1, b' ');
        let forms = [
            ("empty", Vec::new(), self.empty),
            ("cut", whole[..whole.len() / 2].to_vec(), self.cut),
            ("oversized", oversized, self.oversized),
            ("0xff", vec![0xff; 1000], self.not_text),
            ("whole", whole.clone(), self.good),
        ];
        for (what, bytes, expected) in forms {
            // Permissions stay: it is the same file.
            std::fs::write(&path, bytes).unwrap();
            wrong.extend(differs(home, self.words, what, expected));
        }
        let mode = std::fs::metadata(&path).unwrap().permissions();
        std::fs::remove_file(&path).unwrap();
        wrong.extend(differs(home, self.words, "missing", self.unreadable));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        wrong.extend(differs(home, self.words, "a folder", self.unreadable));
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, whole).unwrap();
        std::fs::set_permissions(&path, mode).unwrap();
        wrong
    }
}

const CONFIG: &str = "{home}/broker.toml";

/// A home with a volume, a record of its release, and a signed head.
async fn home() -> Home {
    let home = Home::new();
    add_model(&home.owner().await).await;
    let (broker, guest) = (home.broker().await, Guest::new(&home.identity()));
    guest.ask(&broker, &home.identity(), &["model"]).await.unwrap();
    home.config_file("");
    std::fs::write(home.path("danger-x.toml"), policy()).unwrap();
    let record = ["audit", "show", "--record", "1", "--out", "{home}/record.cbor", "--config", CONFIG];
    let head = ["audit", "head", "--out", "{home}/head.cbor", "--config", CONFIG];
    for words in [&record[..], &head[..]] {
        assert_eq!(differs(&home, words, "preparing", GOOD), None);
    }
    home
}

fn all_right(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn bad_configurations_end_every_command_that_reads_one() {
    let home = home().await;
    let mut wrong = Vec::new();
    let commands: [&[&str]; 7] = [
        &["check", "--config", CONFIG],
        &["volume", "list", "--config", CONFIG],
        &["volume", "policy", "model", "--danger-policy", "{home}/danger-x.toml", "--config", CONFIG],
        &["audit", "verify", "--config", CONFIG],
        &["audit", "show", "--config", CONFIG],
        &["audit", "head", "--out", "/nonexistent/head", "--config", CONFIG],
        &["serve", "--config", CONFIG],
    ];
    for words in commands {
        let bad = (2, "config_invalid");
        let good = match words {
            // Nobody ends it: it is not started with a configuration that is whole.
            ["serve", ..] => continue,
            ["audit", "head", ..] => (1, "broker_file_unwritable"),
            _ => GOOD,
        };
        let row = Row {
            words,
            file: "broker.toml",
            limit: MAX_CONFIG,
            good,
            empty: bad,
            cut: (2, ""),
            oversized: (2, "config_too_large"),
            not_text: (2, "config_not_utf8"),
            unreadable: (1, "config_unreadable"),
        };
        wrong.extend(row.check(&home));
    }
    std::fs::write(home.path("broker.toml"), "listen = 1\n").unwrap();
    wrong.extend(differs(&home, &["serve", "--config", CONFIG], "a number for text", (2, "config_invalid")));
    all_right(&wrong);
}

#[tokio::test]
async fn bad_policies_and_records_end_what_reads_them() {
    let home = home().await;
    let invalid = (30, "policy_unusable");
    let policy = "{home}/danger-x.toml";
    let record = "{home}/record.cbor";
    let mut wrong = Vec::new();
    let commands: [&[&str]; 3] = [
        &["policy", "check", policy],
        &["policy", "test", "--danger-policy", policy, "--records", record],
        &["volume", "policy", "model", "--danger-policy", policy, "--config", CONFIG],
    ];
    for words in commands {
        let row = Row::new(words, "danger-x.toml", MAX_POLICY, invalid);
        wrong.extend(row.check(&home));
    }
    let unusable = (30, "record_unusable");
    let tested = ["policy", "test", "--danger-policy", policy, "--records", record];
    let row = Row::new(&tested, "record.cbor", MAX_FILE, unusable);
    // A folder in its place is a folder of records, which has none.
    wrong.extend(row.check(&home));
    all_right(&wrong);
}

#[tokio::test]
async fn bad_keys_secrets_and_heads_end_what_reads_them() {
    let home = home().await;
    home.secret("secret", &[1; 64]);
    let header = "01".repeat(32);
    let mut wrong = Vec::new();
    let identity = (1, "identity_key_unusable");
    let shown = ["identity", "show", "{home}/identity.pem"];
    let row = Row { unreadable: identity, ..Row::new(&shown, "identity.pem", 4096, identity) };
    wrong.extend(row.check(&home));
    let kek = (1, "kek_unusable");
    let listed = ["volume", "list", "--config", CONFIG];
    let row = Row { unreadable: kek, ..Row::new(&listed, "kek", 66, kek) };
    wrong.extend(row.check(&home));
    let settings = (2, "volume_settings");
    let policy = "{home}/danger-x.toml";
    #[rustfmt::skip]
    let add = [
        "volume", "add", "more", "--profile", "state", "--size", "4096", "--secret", "{home}/secret", "--header", &header,
        "--danger-policy", policy, "--config", CONFIG,
    ];
    let row = Row::new(&add, "secret", 64, settings);
    wrong.extend(row.check(&home));
    let head = (30, "audit_head");
    let verify = ["audit", "verify", "--head", "{home}/head.cbor", "--config", CONFIG];
    let row = Row::new(&verify, "head.cbor", 256, head);
    wrong.extend(row.check(&home));
    for (file, words, expected) in
        [("identity.pem", &shown[..], identity), ("kek", &listed[..], kek), ("secret", &add[..], settings)]
    {
        let path = home.path(file);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        wrong.extend(differs(&home, words, "one that others may read", expected));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    all_right(&wrong);
}

#[tokio::test]
async fn bad_databases_and_images_end_what_reads_them() {
    let home = home().await;
    let mut wrong = Vec::new();
    let image = home.path("model.img");
    let rotate = ["volume", "rotate", "model", "--file", "{home}/model.img", "--config", CONFIG];
    wrong.extend(differs(&home, &rotate, "no image", (1, "image_unopened")));
    for (what, bytes, code) in [
        ("an empty image", Vec::new(), "volume_unreadable"),
        ("a short image", vec![0xff; 1000], "volume_unreadable"),
        ("an image without a header", vec![0; 2 << 20], "volume_not_luks2"),
    ] {
        std::fs::write(&image, bytes).unwrap();
        wrong.extend(differs(&home, &rotate, what, (1, code)));
    }
    std::fs::create_dir(home.path("files")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", home.path("files/link")).unwrap();
    #[rustfmt::skip]
    let create = |from: &'static str| [
        "volume", "create", "other", "--from", from, "--file", "{home}/new.img", "--danger-policy", "{home}/danger-x.toml",
        "--config", CONFIG,
    ];
    wrong.extend(differs(&home, &create("{home}/files"), "a folder with a link", (1, "volume_source")));
    wrong.extend(differs(&home, &create("{home}/none"), "no folder", (1, "broker_file_unreadable")));
    assert!(!Path::new(&home.path("new.img")).exists());
    for name in ["broker.db-wal", "broker.db-shm"] {
        let _ = std::fs::remove_file(home.path(name));
    }
    std::fs::write(home.path("broker.db"), vec![0xff; 8192]).unwrap();
    for words in [&["volume", "list", "--config", CONFIG][..], &["audit", "verify", "--config", CONFIG]] {
        wrong.extend(differs(&home, words, "a database that is none", (1, "storage_failed")));
    }
    all_right(&wrong);
}
