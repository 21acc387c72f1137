//! What no command may be thrown off by: each file that a command reads, given as it should not be. Every command gives the exit
//! status and the stable code that its documentation promises, and none panics.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use confide_endorser::MAX_GPU_STAPLE;
use confide_evidence::bytes::Bytes;
use confide_evidence::hex;
use confide_evidence::pem::{self, MAX_PEM};
use confide_evidence::tdx::{MAX_COLLATERAL, collateral_to_json};
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
    /// The file with one more byte.
    trailing: End,
    oversized: End,
    /// Bytes that are no text, and no beginning of any format.
    not_text: End,
    /// A folder in its place.
    folder: End,
    /// No file at all.
    missing: End,
}

impl<'a> Row<'a> {
    /// A row whose every bad file has one end.
    fn new(words: &'a [&'a str], file: &'a str, limit: usize, bad: End) -> Self {
        Self {
            words,
            file,
            limit,
            good: GOOD,
            empty: bad,
            cut: bad,
            trailing: bad,
            oversized: bad,
            not_text: bad,
            folder: UNREADABLE,
            missing: UNREADABLE,
        }
    }

    /// A row of a file whose every end is the same, also where it cannot be read.
    fn unreadable_too(words: &'a [&'a str], file: &'a str, limit: usize, bad: End) -> Self {
        Self { folder: bad, missing: bad, ..Self::new(words, file, limit, bad) }
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
            ("one byte too many", [&whole[..], b"\x01"].concat(), self.trailing),
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
        wrong.extend(differs(home, self.words, "missing", self.missing));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        wrong.extend(differs(home, self.words, "a folder", self.folder));
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, whole).unwrap();
        std::fs::set_permissions(&path, mode).unwrap();
        wrong
    }
}

const CONFIG: &str = "{home}/broker.toml";
const KEY_RELEASE: &str = include_str!("../../../policies/key-release.toml");

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

/// An address on which somebody listens, so that `serve` reads all its files and ends.
struct Taken(std::net::TcpListener);

impl Taken {
    const END: End = (1, "broker_listen_failed");

    fn new() -> Self {
        Self(std::net::TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Writes a configuration that names it, with further lines.
    fn configure(&self, home: &Home, more: &str) {
        let listen = self.0.local_addr().unwrap().to_string();
        let text = home.config_text(more).replace("127.0.0.1:0", &listen);
        std::fs::write(home.path("broker.toml"), text).unwrap();
    }
}

#[tokio::test]
async fn bad_configurations_end_every_command_that_reads_one() {
    let home = home().await;
    let mut wrong = Vec::new();
    // Somebody listens there: what is whole ends with that.
    let taken = Taken::new();
    taken.configure(&home, "");
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
            ["serve", ..] => Taken::END,
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
            trailing: (2, "config_syntax"),
            oversized: (2, "config_too_large"),
            not_text: (2, "config_not_utf8"),
            folder: (1, "config_unreadable"),
            missing: (1, "config_unreadable"),
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
    #[rustfmt::skip]
    let dangers: [&[&str]; 5] = [
        &["policy", "check", policy],
        &["policy", "test", "--danger-policy", policy, "--records", record],
        &["volume", "policy", "model", "--danger-policy", policy, "--config", CONFIG],
        &["volume", "add", "d", "--profile", "state", "--size", "4096", "--danger-policy", policy, "--config", CONFIG],
        &["volume", "create", "e", "--from", "{home}/files", "--file", "{home}/e.img", "--danger-policy", policy,
            "--config", CONFIG],
    ];
    std::fs::write(home.path("x.toml"), KEY_RELEASE).unwrap();
    std::fs::create_dir(home.path("files")).unwrap();
    std::fs::write(home.path("files/a"), b"a").unwrap();
    let policy = "{home}/x.toml";
    #[rustfmt::skip]
    let policies: [&[&str]; 5] = [
        &["policy", "check", policy],
        &["policy", "test", "--policy", policy, "--records", record],
        &["volume", "policy", "model", "--policy", policy, "--config", CONFIG],
        &["volume", "add", "p", "--profile", "state", "--size", "4096", "--policy", policy, "--config", CONFIG],
        &["volume", "create", "q", "--from", "{home}/files", "--file", "{home}/q.img", "--policy", policy,
            "--config", CONFIG],
    ];
    for (file, commands) in [("danger-x.toml", dangers), ("x.toml", policies)] {
        for words in commands {
            let good = match (file, words) {
                // Simulated evidence, which no other policy accepts.
                ("x.toml", ["policy", "test", ..]) => (10, ""),
                _ => GOOD,
            };
            wrong.extend(Row { good, ..Row::new(words, file, MAX_POLICY, invalid) }.check(&home));
        }
    }
    let policy = "{home}/danger-x.toml";
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
    // Text behind a PEM block belongs to no key (RFC 7468, section 2).
    let row = Row { trailing: GOOD, ..Row::unreadable_too(&shown, "identity.pem", 4096, identity) };
    wrong.extend(row.check(&home));
    let kek = (1, "kek_unusable");
    let listed = ["volume", "list", "--config", CONFIG];
    wrong.extend(Row::unreadable_too(&listed, "kek", 66, kek).check(&home));
    // The same key in hexadecimal digits: half of them are no raw key.
    let raw = std::fs::read(home.path("kek")).unwrap();
    for end in ["", "\n"] {
        home.secret("kek", (hex::encode(&raw) + end).as_bytes());
        wrong.extend(Row::unreadable_too(&listed, "kek", 66, kek).check(&home));
    }
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

/// Nobody answers at Vault's address: what is whole ends with that.
#[tokio::test]
async fn bad_files_about_vault_end_what_reads_them() {
    let home = Home::new();
    home.secret("token", b"hvs.example\n");
    let authority = rcgen::generate_simple_self_signed(vec!["v.example".into()]).unwrap();
    std::fs::write(home.path("authority.pem"), authority.cert.pem()).unwrap();
    let path = |name: &str| home.path(name).display().to_string();
    let vault = format!(
        "vault = {{ address = \"https://127.0.0.1:1\", key = \"k\", token = \"{}\", ca_certificate = \"{}\" }}",
        path("token"),
        path("authority.pem")
    );
    let text = home.config_text("").replace(&format!("file = \"{}\"", path("kek")), &vault);
    assert!(text.contains(&vault));
    std::fs::write(home.path("broker.toml"), text).unwrap();
    let serve = ["serve", "--config", CONFIG];
    let (asked, bad) = ((1, "kek_vault"), (1, "kek_vault_file"));
    // Half a token is a token.
    let token = Row { good: asked, cut: asked, ..Row::unreadable_too(&serve, "token", 4096, bad) };
    let authority = Row { good: asked, ..Row::unreadable_too(&serve, "authority.pem", 1 << 20, bad) };
    let wrong = [token.check(&home), authority.check(&home)].concat();
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

#[tokio::test]
async fn bad_endorsements_end_serve_as_a_bad_configuration_does() {
    let home = home().await;
    let taken = Taken::new();
    let serve = ["serve", "--config", CONFIG];
    let table = |name: &str, fields: &str| {
        let fields = fields.replace("{home}", &home.folder.path().display().to_string());
        format!("[{name}]\n{fields}")
    };
    let mut wrong = Vec::new();

    let guest = Guest::new(&home.identity());
    let collateral = guest.evidence(&Bytes([0; 32])).endorsements.unwrap().tdx.unwrap();
    std::fs::write(home.path("collateral.json"), collateral_to_json(&collateral)).unwrap();
    taken.configure(&home, &table("endorsements", "source = \"file\"\nfile = \"{home}/collateral.json\""));
    let row = Row::new(&serve, "collateral.json", MAX_COLLATERAL, (2, "collateral_unusable"));
    wrong.extend(Row { good: Taken::END, ..row }.check(&home));

    let certificate = include_bytes!("../../../fixtures/snp/common/key.der").to_vec();
    std::fs::write(home.path("pccs.pem"), pem::encode(&[certificate])).unwrap();
    let fields = "source = \"pccs\"\npccs = \"https://127.0.0.1:1\"\npccs_certificate = \"{home}/pccs.pem\"";
    taken.configure(&home, &table("endorsements", fields));
    let row = Row::new(&serve, "pccs.pem", MAX_PEM, (2, "endorser_certificate"));
    wrong.extend(Row { good: Taken::END, ..row }.check(&home));

    let gpu = confide_simulator::SimulatedGpu::new(0).unwrap();
    let manifest = gpu.rims(1_790_812_800)[0].encode().unwrap();
    std::fs::create_dir(home.path("gpus")).unwrap();
    std::fs::write(home.path("gpus/manifest.xml"), manifest).unwrap();
    taken.configure(&home, &table("gpu_endorsements", "folder = \"{home}/gpus\""));
    let row = Row {
        good: Taken::END,
        oversized: (2, "gpu_endorsements_too_large"),
        // A folder within the folder is none of its files, and a file that is gone neither.
        folder: Taken::END,
        missing: Taken::END,
        ..Row::new(&serve, "gpus/manifest.xml", MAX_GPU_STAPLE, (2, "gpu_endorsements_invalid"))
    };
    wrong.extend(row.check(&home));
    taken.configure(&home, &table("gpu_endorsements", "folder = \"{home}/collateral.json\""));
    wrong.extend(differs(&home, &serve, "a file for a folder", (1, "gpu_endorsements_unreadable")));
    all_right(&wrong);
}

#[tokio::test]
async fn a_bad_file_with_the_address_of_the_database_ends_what_reads_it() {
    let home = home().await;
    let table = format!("url = \"{}\"", home.url);
    let text =
        home.config_text("").replace(&table, &format!("url_file = \"{}\"", home.path("url").display()));
    std::fs::write(home.path("broker.toml"), text).unwrap();
    home.secret("url", home.url.as_bytes());
    let (none, no_address) = ((1, "storage_missing"), (2, "storage_address"));
    for words in [&["volume", "list", "--config", CONFIG][..], &["audit", "verify", "--config", CONFIG]] {
        let row = Row {
            // The address of another file, which is not there.
            cut: none,
            trailing: none,
            oversized: (1, "storage_url_file"),
            ..Row::new(words, "url", 4096, no_address)
        };
        all_right(&row.check(&home));
    }
}
