//! The built program, over TLS, with guests on simulated machines.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

mod support;

use std::fs::{File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use confide_broker::identity::Identity;
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{CpuEvidence, Platform};
use confide_evidence::hex;
use confide_evidence::pem::{base64, base64_text};
use confide_evidence::record::{Record, Subject};
use confide_release::{
    CHALLENGE_PATH, Challenge, FAILURE_PATH, FORMATTED_PATH, Failure, Formatted, IdentityKey, MAX_REQUEST,
    MEDIA_TYPE, Profile, RELEASE_PATH, Refusal, ReleaseAnswer, ReleaseRequest,
};
use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::authority::Authority;
use support::client::Client;
use support::postgres::Postgres;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PROGRAM: &str = env!("CARGO_BIN_EXE_confide-broker");

/// A running `serve`, which is ended when dropped.
struct Serving {
    child: Child,
    client: Client,
}

impl Serving {
    fn start(config: &Path) -> Self {
        Self::start_with(config, |command| {
            command.arg("--danger-simulator");
        })
    }

    /// With further settings of the command. What it logs goes to the file `log` beside the configuration.
    fn start_with(config: &Path, settings: impl FnOnce(&mut Command)) -> Self {
        let log = File::options().append(true).create(true).open(config.with_file_name("log")).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--config"]).arg(config).stdout(Stdio::piped()).stderr(log);
        settings(&mut command);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["event"], "ready");
        let address = ready["listen"].as_str().unwrap().strip_prefix("https://").unwrap().parse().unwrap();
        let key = IdentityKey::from_der(&base64(ready["identity"].as_str().unwrap()).unwrap()).unwrap();
        Self { child, client: Client { address, key } }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn done(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Exit status and standard error of a command that fails.
fn failed(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Adds the volumes `model` and `state` by the program.
fn add_volumes(home: &Home, config: &str) {
    std::fs::write(home.path("danger-key-release.toml"), policy()).unwrap();
    let policy = home.path("danger-key-release.toml").display().to_string();
    let secret = home.secret("secret", &[1; 64]).display().to_string();
    let (header, root, salt) = ("01".repeat(32), "08".repeat(32), "09".repeat(32));
    #[rustfmt::skip]
    let said = done(&[
        "volume", "add", "model", "--profile", "model", "--size", "1048576", "--secret", &secret, "--header", &header,
        "--verity-root", &root, "--verity-salt", &salt, "--verity-blocks", "250", "--danger-policy", &policy, "--config", config,
    ]);
    assert!(said.contains("model: added under policy \"danger-key-release\""), "{said}");
    let said = done(&[
        "volume",
        "add",
        "state",
        "--profile",
        "state",
        "--size",
        "1048576",
        "--danger-policy",
        &policy,
        "--config",
        config,
    ]);
    assert!(said.contains("to be formatted by its guest"), "{said}");
}

/// What a guest does.
async fn boot(serving: &Serving, guest: &Guest, volumes: &[&str]) -> support::client::Answer {
    let answer = serving.client.send(Method::POST, CHALLENGE_PATH, "", Vec::new()).await;
    assert_eq!(answer.status, 200);
    let nonce = Challenge::decode(&answer.body).unwrap().nonce;
    serving.client.post(RELEASE_PATH, guest.request(&nonce, volumes).encode()).await
}

async fn round_trip(home: Home) {
    let config = home.config_file("").display().to_string();
    add_volumes(&home, &config);
    let serving = Serving::start(Path::new(&config));
    assert_eq!(serving.client.key, *home.identity().public());
    let guest = Guest::new(&home.identity());
    let challenge = serving.client.send(Method::POST, CHALLENGE_PATH, "", Vec::new()).await;
    let nonce = Challenge::decode(&challenge.body).unwrap().nonce;
    let request = guest.request(&nonce, &["model", "state"]);
    let answer = serving.client.post(RELEASE_PATH, request.encode()).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["content-type"]),
        (200, &MEDIA_TYPE.parse().unwrap())
    );
    let verified = ReleaseAnswer::decode(&answer.body)
        .unwrap()
        .verify(&serving.client.key, &request, &guest.recipient)
        .unwrap();
    let secrets = verified.open(&guest.recipient).unwrap();
    assert_eq!(secrets[0].1.versions[0].secret.expose(), &[1; 64]);
    let token = secrets[1].1.format_token.unwrap();
    let report = Formatted { token, header: Bytes([4; 32]), volume: id("state") };
    assert_eq!(serving.client.post(FORMATTED_PATH, report.encode()).await.status, 204);
    let failure = Failure::new("manifest", Bytes([1; 16]), "the model is another one");
    assert_eq!(serving.client.post(FAILURE_PATH, failure.encode()).await.status, 204);
    // Once more, as an attacker would.
    let replayed = serving.client.post(RELEASE_PATH, request.encode()).await;
    assert_eq!((replayed.status.as_u16(), replayed.code().as_str()), (403, "challenge_unknown"));
    // The owner revokes, while the broker serves.
    done(&["volume", "revoke", "model", "--config", &config]);
    let answer = boot(&serving, &guest, &["model"]).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "volume_revoked"));
    let listed = done(&["volume", "list", "--config", &config]);
    assert!(listed.contains("REVOKED") && listed.contains(&"04".repeat(32)), "{listed}");
    audit_commands(&home, &config);
}

/// The log that [`round_trip`] has made, by the program.
fn audit_commands(home: &Home, config: &str) {
    let head = home.path("head.cbor").display().to_string();
    let said = done(&["audit", "head", "--out", &head, "--config", config]);
    assert!(said.contains("8 entries"), "{said}");
    let said = done(&["audit", "verify", "--head", &head, "--config", config]);
    assert!(said.contains("the log holds: 8 entries, 2 records appraised again"), "{said}");
    let shown = done(&["audit", "show", "--json", "--config", config]);
    let whats: Vec<String> = shown
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["what"].as_str().unwrap().to_owned())
        .collect();
    #[rustfmt::skip]
    assert_eq!(whats, ["volume-added", "volume-added", "released", "formatted", "failure-reported", "refused", "volume-revoked", "refused"]);
    let record = home.path("appraisal.cbor").display().to_string();
    done(&["audit", "show", "--record", "2", "--out", &record, "--config", config]);
    let policy = home.path("danger-key-release.toml").display().to_string();
    let said = done(&["policy", "test", "--danger-policy", &policy, "--records", &record]);
    assert!(said.contains("SIMULATED accepted"), "{said}");
    let said = failed(&["policy", "test", "--records", &record]);
    assert_eq!(said.0, Some(10));
    let (status, said) = failed(&["audit", "show", "--record", "0", "--out", &record, "--config", config]);
    assert_eq!(status, Some(1));
    assert!(said.contains("has no record") && said.contains("[audit_entry]"), "{said}");
    let (status, said) = failed(&["audit", "show", "--record", "99", "--out", &record, "--config", config]);
    assert_eq!(status, Some(1));
    assert!(said.contains("there is no entry 99") && said.contains("[audit_entry]"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_gets_its_keys_from_the_program_with_sqlite() {
    round_trip(Home::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_gets_its_keys_from_the_program_with_postgresql() {
    let Some(server) = Postgres::start("the program on PostgreSQL") else { return };
    round_trip(Home::with(server.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_on_one_database_of_sqlite_take_a_challenge_once() {
    challenges_are_taken_once(Home::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_programs_on_one_database_of_postgresql_take_a_challenge_once() {
    let Some(server) = Postgres::start("two programs on PostgreSQL") else { return };
    challenges_are_taken_once(Home::with(server.url())).await;
}

async fn challenges_are_taken_once(home: Home) {
    add_model(&home.owner().await).await;
    let config = home.config_file("");
    let (one, two) = (Serving::start(&config), Serving::start(&config));
    let guest = Guest::new(&home.identity());
    for _ in 0..3 {
        let challenge = one.client.send(Method::POST, CHALLENGE_PATH, "", Vec::new()).await;
        let nonce = Challenge::decode(&challenge.body).unwrap().nonce;
        let request = guest.request(&nonce, &["model"]).encode();
        let (first, second) = tokio::join!(
            one.client.post(RELEASE_PATH, request.clone()),
            two.client.post(RELEASE_PATH, request.clone()),
        );
        let mut statuses = [first.status.as_u16(), second.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 403]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_of_the_protocol_is_refused_by_its_code() {
    let home = Home::new();
    let serving = Serving::start(&home.config_file(""));
    let client = serving.client;
    let cases = [
        (Method::GET, CHALLENGE_PATH, "", vec![], 405, "wrong_method"),
        (Method::POST, "/healthz", "", vec![], 405, "wrong_method"),
        (Method::POST, "/v1/other", MEDIA_TYPE, vec![], 404, "request_path_unknown"),
        (Method::POST, RELEASE_PATH, "application/json", vec![1], 415, "wrong_media_type"),
        (Method::POST, RELEASE_PATH, "", vec![1], 415, "wrong_media_type"),
        (Method::POST, RELEASE_PATH, MEDIA_TYPE, vec![1], 400, "release_request_malformed"),
        (Method::POST, RELEASE_PATH, MEDIA_TYPE, vec![0; MAX_REQUEST + 1], 413, "request_body_too_large"),
        (Method::POST, FORMATTED_PATH, MEDIA_TYPE, vec![0; 1025], 413, "request_body_too_large"),
        (Method::POST, FORMATTED_PATH, MEDIA_TYPE, vec![0; 1024], 400, "message_malformed"),
        (Method::POST, FAILURE_PATH, MEDIA_TYPE, vec![], 400, "message_malformed"),
        (Method::POST, CHALLENGE_PATH, "", vec![1], 413, "request_body_too_large"),
    ];
    for (method, path, media_type, body, status, code) in cases {
        let answer = client.send(method.clone(), path, media_type, body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{method} {path}");
        assert_eq!(answer.headers["content-type"], "application/json");
    }
    for path in ["/healthz", "/readyz"] {
        let answer = client.send(Method::GET, path, "", Vec::new()).await;
        assert_eq!(answer.status, 200, "{path}");
    }
}

/// What is answered to these bytes over TLS until the broker closes the connection.
async fn raw(client: &Client, bytes: &[u8]) -> String {
    let mut stream = client.connect(&rustls::version::TLS13).await.unwrap();
    // A peer that is refused early may be told before it has said everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    read.expect("the connection is closed").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_is_told_so_in_the_form_of_the_api_and_harms_nothing() {
    let home = Home::new();
    let serving = Serving::start(&home.config_file("[limits]\nread_seconds = 4"));
    let head = |more: &str| format!("POST {RELEASE_PATH} HTTP/1.1\r\nhost: b\r\n{more}").into_bytes();
    let long = |length| "x".repeat(length);
    for (bytes, status, code) in [
        (vec![0xff; 1000], 400, "malformed_http"),
        (b"\x16\x03\x01\x02\x00".to_vec(), 400, "malformed_http"),
        (head("content-length: 4\r\ncontent-length: 5\r\n\r\n1234"), 400, "malformed_http"),
        (head("\0: \x01\r\n\r\n"), 400, "malformed_http"),
        (head(&format!("x: {}\r\n\r\n", long(70_000))), 431, "request_head_too_large"),
        (head(&format!("{}\r\n", "x: y\r\n".repeat(100))), 431, "request_head_too_large"),
        (format!("POST /{} HTTP/1.1\r\n\r\n", long(70_000)).into_bytes(), 431, "request_head_too_large"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), 505, "http_version_unsupported"),
        (head("x: "), 408, "request_head_timed_out"),
        // And what is HTTP, and none of the protocol's requests.
        (b"GET /other HTTP/1.1\r\nhost: b\r\n\r\n".to_vec(), 404, "request_path_unknown"),
        (
            head("content-type: text/plain\r\ncontent-length: 1\r\nconnection: close\r\n\r\n1"),
            415,
            "wrong_media_type",
        ),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let answer = raw(&serving.client, &bytes).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{shown}: {answer:?}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {head}");
        let error = serde_json::from_str::<Value>(body).unwrap()["error"].take();
        let mut names: Vec<&String> = error.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["code", "message", "param", "type"], "{shown}: {error}");
        assert_eq!(
            (&error["code"], &error["type"]),
            (&code.into(), &"invalid_request_error".into()),
            "{shown}"
        );
        assert!(error["param"].is_null() && error["message"].is_string(), "{shown}: {error}");
    }
    // What is no TLS gets no HTTP.
    let mut stream = tokio::net::TcpStream::connect(serving.client.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: b\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok() && !answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(serving.client.send(Method::POST, CHALLENGE_PATH, "", Vec::new()).await.status, 200);
    assert_eq!(serving.client.send(Method::GET, "/readyz", "", Vec::new()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_asks_too_often_is_told_when_to_ask_again() {
    let home = Home::new();
    let limits = "[limits]\nrequests_per_minute = 3\nfailures_per_minute = 1";
    let serving = Serving::start(&home.config_file(limits));
    for _ in 0..3 {
        assert_eq!(serving.client.send(Method::POST, CHALLENGE_PATH, "", Vec::new()).await.status, 200);
    }
    let answer = serving.client.send(Method::POST, CHALLENGE_PATH, "", Vec::new()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "rate_limited"));
    let error: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(error["error"]["type"], "rate_limit_error");
    let pause: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=21).contains(&pause), "{pause}");
    // Reports of failures have an allowance of their own, and health has none.
    let failure = Failure::new("x", Bytes([1; 16]), "y").encode();
    assert_eq!(serving.client.post(FAILURE_PATH, failure.clone()).await.status, 204);
    assert_eq!(serving.client.post(FAILURE_PATH, failure).await.status, 429);
    assert_eq!(serving.client.send(Method::GET, "/healthz", "", Vec::new()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_in_time_or_is_cut_is_given_up() {
    let home = Home::new();
    let serving = Serving::start(&home.config_file("[limits]\nread_seconds = 1"));
    let mut stream = serving.client.connect(&rustls::version::TLS13).await.unwrap();
    let head = format!(
        "POST {RELEASE_PATH} HTTP/1.1\r\nhost: b\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: 9\r\n\r\nabc"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let count =
        tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_body_unreadable"), "{answer}");
    // A handshake that does not come is given up, too.
    let mut silent = tokio::net::TcpStream::connect(serving.client.address).await.unwrap();
    let mut byte = [0; 1];
    let ended = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut byte)).await;
    assert!(matches!(ended.unwrap(), Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_of_version_1_3_and_of_the_identity_key_alone() {
    let home = Home::new();
    let serving = Serving::start(&home.config_file(""));
    let other = Client { key: *Home::new().identity().public(), ..serving.client };
    assert!(other.connect(&rustls::version::TLS13).await.is_err());
    assert!(serving.client.connect(&rustls::version::TLS13).await.is_ok());
    // A client hello of TLS 1.2, without the extension supported_versions.
    let mut stream = tokio::net::TcpStream::connect(serving.client.address).await.unwrap();
    let mut hello = vec![0x03, 0x03];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 0]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    stream.write_all(&record).await.unwrap();
    let mut alert = [0; 7];
    stream.read_exact(&mut alert).await.unwrap();
    assert_eq!(alert[..5], [0x15, 3, 3, 0, 2], "an alert");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_has_so_many_connections() {
    let home = Home::new();
    let serving = Serving::start(&home.config_file("[limits]\nconnections_per_address = 2"));
    let one = serving.client.connect(&rustls::version::TLS13).await.unwrap();
    let _two = serving.client.connect(&rustls::version::TLS13).await.unwrap();
    assert!(serving.client.connect(&rustls::version::TLS13).await.is_err());
    drop(one);
    let mut there = false;
    for _ in 0..50 {
        there = serving.client.connect(&rustls::version::TLS13).await.is_ok();
        if there {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(there, "a place that became free is given again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_answers_what_is_under_way_and_ends_with_0() {
    let home = Home::new();
    let mut serving = Serving::start(&home.config_file(""));
    let mut stream = serving.client.connect(&rustls::version::TLS13).await.unwrap();
    let failure = Failure::new("x", Bytes([1; 16]), "y").encode();
    let head = format!(
        "POST {FAILURE_PATH} HTTP/1.1\r\nhost: b\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\n\r\n",
        failure.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&failure[..5]).await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    serving.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    stream.write_all(&failure[5..]).await.unwrap();
    let mut answer = vec![0; 4096];
    let count = stream.read(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer[..count]).starts_with("HTTP/1.1 204 "));
    drop(stream);
    let status = tokio::task::spawn_blocking(move || serving.child.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_flag_a_volume_with_a_danger_policy_is_not_released() {
    let home = Home::new();
    let config = home.config_file("").display().to_string();
    add_volumes(&home, &config);
    let guest = Guest::new(&home.identity());
    let without = Serving::start_with(Path::new(&config), |_| {});
    let answer = boot(&without, &guest, &["model"]).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "danger_policy"));
    drop(without);
    let with = Serving::start(Path::new(&config));
    assert_eq!(boot(&with, &guest, &["model"]).await.status, 200);
}

#[test]
fn a_danger_policy_is_added_by_its_flag_and_name_alone() {
    let home = Home::new();
    let config = home.config_file("").display().to_string();
    std::fs::write(home.path("danger-x.toml"), policy()).unwrap();
    std::fs::write(home.path("plain.toml"), policy()).unwrap();
    let add = |flag: &str, file: &str| {
        let path = home.path(file).display().to_string();
        failed(&[
            "volume",
            "add",
            "s",
            "--profile",
            "state",
            "--size",
            "4096",
            flag,
            &path,
            "--config",
            &config,
        ])
    };
    for (flag, file) in [("--policy", "danger-x.toml"), ("--danger-policy", "plain.toml")] {
        let (status, said) = add(flag, file);
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("[danger_policy]"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_from_systemd_credentials() {
    let home = Home::new();
    add_model(&home.owner().await).await;
    let named = |text: String, from: &str, to: &str| {
        let path = home.path(from).display().to_string();
        text.replace(&format!("\"{path}\""), to)
    };
    let text = named(home.config_text(""), "identity.pem", "{ credential = \"identity\" }");
    let text = named(text, "kek", "\"kek\"").replace("file = \"kek\"", "credential = \"kek\"");
    let config = home.path("broker.toml");
    std::fs::write(&config, text).unwrap();
    // As systemd makes it: a folder of its own, files 0440.
    let folder = home.path("credentials");
    std::fs::create_dir(&folder).unwrap();
    for (from, to) in [("identity.pem", "identity"), ("kek", "kek")] {
        std::fs::rename(home.path(from), folder.join(to)).unwrap();
        let group = std::fs::metadata(folder.join(to)).unwrap().gid();
        let mode = if group == 0 { 0o440 } else { 0o400 };
        std::fs::set_permissions(folder.join(to), Permissions::from_mode(mode)).unwrap();
    }
    let serving = Serving::start_with(&config, |command| {
        command.arg("--danger-simulator").env("CREDENTIALS_DIRECTORY", &folder);
    });
    let identity = Identity::read(&folder.join("identity")).unwrap();
    let answer = boot(&serving, &Guest::new(&identity), &["model"]).await;
    assert_eq!(answer.status, 200);
    let config = config.display().to_string();
    let (status, said) = failed(&["volume", "list", "--config", &config]);
    assert_eq!(status, Some(1));
    assert!(said.contains("CREDENTIALS_DIRECTORY") && said.contains("[broker_file_unreadable]"), "{said}");
    std::fs::set_permissions(folder.join("kek"), Permissions::from_mode(0o444)).unwrap();
    let list = Command::new(PROGRAM)
        .args(["volume", "list", "--config", &config])
        .env("CREDENTIALS_DIRECTORY", &folder)
        .output()
        .unwrap();
    let said = String::from_utf8(list.stderr).unwrap();
    assert!(list.status.code() == Some(1) && said.contains("[kek_unusable]"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_is_open_for_a_day_is_an_alarm_in_lists_and_in_the_log() {
    let home = Home::new();
    let owner = home.owner().await;
    add_model(&owner).await;
    let standing = owner.begin(&id("model"), &Bytes([1; 32])).await.unwrap();
    owner.prepare(&standing.volume, &Bytes([2; 32]), &secret(2)).await.unwrap();
    let config = home.config_file("");
    let list = ["volume", "list", "--config", config.to_str().unwrap()];
    assert!(!done(&list).contains("ALARM"), "it is new");
    sql(&home, "UPDATE versions SET since = since - 86500 WHERE state = 'prepared'").await;
    let listed = done(&list);
    assert!(listed.contains("ALARM: the rotation to generation 2 is overdue"), "{listed}");
    let listed: Value = serde_json::from_str(&done(&[&list[..], &["--json"]].concat())).unwrap();
    assert_eq!(listed["alarms"].as_array().unwrap().len(), 1, "{listed}");
    let serving = Serving::start(&config);
    until_logged(&home, "a rotation is overdue").await;
    drop(serving);
    owner.abandon(&id("model"), 2).await.unwrap();
    assert!(!done(&list).contains("ALARM"), "it was given up");
}

/// Changes the database.
async fn sql(home: &Home, statement: &'static str) {
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&home.url).await.unwrap();
    sqlx::query(statement).execute(&pool).await.unwrap();
    pool.close().await;
}

async fn until_logged(home: &Home, text: &str) {
    for _ in 0..300 {
        if std::fs::read_to_string(home.path("log")).is_ok_and(|log| log.contains(text)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the log does not say {text:?}");
}

/// What an answer says: status and code.
fn told(answer: &support::client::Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.code())
}

fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_of_a_guest_is_told_over_the_wire_by_its_code() {
    let home = Home::new();
    let owner = home.owner().await;
    add_model(&owner).await;
    owner.add(&id("state"), Profile::State, &state_image(), &policy()).await.unwrap();
    owner.add(&id("gone"), Profile::State, &state_image(), &policy()).await.unwrap();
    owner.revoke(&id("gone")).await.unwrap();
    let serving = Serving::start(&home.config_file(""));
    let guest = Guest::new(&home.identity());
    assert_eq!(told(&boot(&serving, &guest, &["other"]).await), refusal(403, "volume_unknown"));
    assert_eq!(told(&boot(&serving, &guest, &["gone"]).await), refusal(403, "volume_revoked"));
    let stranger = Guest::with(Some(Home::new().identity().public().to_der()), configuration());
    assert_eq!(told(&boot(&serving, &stranger, &["model"]).await), refusal(403, "broker_key"));
    let changed = Guest::with(Some(home.identity().public().to_der()), Bytes([9; 32]));
    let answer = boot(&serving, &changed, &["model"]).await;
    assert_eq!(told(&answer), refusal(403, "configuration"));
    let said = Refusal::from_json(&answer.body).unwrap().error;
    assert!(
        said.expected.is_some() && said.actual.unwrap().contains(&"09".repeat(32)),
        "what was expected and found"
    );
    let unread =
        ReleaseRequest { document: vec![1].into(), ..guest.request(&nonce(&serving).await, &["model"]) };
    let answer = serving.client.post(RELEASE_PATH, unread.encode()).await;
    assert_eq!(told(&answer), refusal(403, "document_format"));
    let answer = serving.client.post(RELEASE_PATH, guest.request(&Bytes([1; 32]), &["model"]).encode()).await;
    assert_eq!(told(&answer), refusal(403, "challenge_unknown"));
    // Of a volume that its guest formats.
    let token = format_token(&serving, &guest).await;
    let report = |token, header, volume: &str| {
        Formatted { token, header: Bytes([header; 32]), volume: id(volume) }.encode()
    };
    for (body, expected) in [
        (report(Bytes([0; 32]), 1, "state"), refusal(403, "format_token")),
        (report(token, 1, "other"), refusal(403, "format_token")),
    ] {
        assert_eq!(told(&serving.client.post(FORMATTED_PATH, body).await), expected);
    }
    assert_eq!(serving.client.post(FORMATTED_PATH, report(token, 1, "state")).await.status, 204);
    let answer = serving.client.post(FORMATTED_PATH, report(token, 2, "state")).await;
    assert_eq!(told(&answer), refusal(409, "formatted_otherwise"));
    // A fault of the broker's own names no cause.
    sql(&home, "DROP TABLE challenges").await;
    let answer = serving.client.send(Method::POST, CHALLENGE_PATH, "", Vec::new()).await;
    assert_eq!(told(&answer), refusal(500, "broker_fault"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("challenges"), "{answer:?}");
    until_logged(&home, "storage_failed").await;
}

/// The token to format the volume `state` with, as its guest is released it.
async fn format_token(serving: &Serving, guest: &Guest) -> Bytes<32> {
    let request = guest.request(&nonce(serving).await, &["state"]);
    let answer = serving.client.post(RELEASE_PATH, request.encode()).await;
    let answer = ReleaseAnswer::decode(&answer.body).unwrap();
    let verified = answer.verify(&serving.client.key, &request, &guest.recipient).unwrap();
    verified.open(&guest.recipient).unwrap()[0].1.format_token.unwrap()
}

/// Of a challenge.
async fn nonce(serving: &Serving) -> Bytes<32> {
    let answer = serving.client.send(Method::POST, CHALLENGE_PATH, "", Vec::new()).await;
    Challenge::decode(&answer.body).unwrap().nonce
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_that_settings_make_are_told_over_the_wire_by_their_code() {
    let home = Home::new();
    add_model(&home.owner().await).await;
    let guest = Guest::new(&home.identity());
    let serving = Serving::start_with(&home.config_file(""), |_| {});
    assert_eq!(told(&boot(&serving, &guest, &["model"]).await), refusal(403, "danger_policy"));
    drop(serving);

    let serving = Serving::start(&home.config_file("[limits]\nchallenges = 1\nchallenge_seconds = 1"));
    let request = guest.request(&nonce(&serving).await, &["model"]).encode();
    let answer = serving.client.send(Method::POST, CHALLENGE_PATH, "", Vec::new()).await;
    assert_eq!(told(&answer), refusal(503, "challenges_exhausted"));
    assert!(answer.headers.contains_key("retry-after"));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let answer = serving.client.post(RELEASE_PATH, request).await;
    assert_eq!(told(&answer), refusal(403, "challenge_expired"));
    drop(serving);

    std::fs::create_dir(home.path("gpus")).unwrap();
    let table = format!("[gpu_endorsements]\nfolder = \"{}\"", home.path("gpus").display());
    let serving = Serving::start(&home.config_file(&table));
    std::fs::remove_dir(home.path("gpus")).unwrap();
    let answer = boot(&serving, &guest, &["model"]).await;
    assert_eq!(told(&answer), refusal(502, "endorsements_failed"));
    assert!(answer.headers.contains_key("retry-after"));
}

/// What an owner would have to be quick for: whenever the broker looks at a volume, it has been changed again.
async fn change_volumes_at_every_look(home: &Home) {
    sql(home, "ALTER TABLE volumes RENAME TO kept").await;
    let view = "CREATE VIEW volumes AS SELECT id, profile, size, verity_root, verity_salt, verity_blocks, policy, \
                random() & 9223372036854775807 AS revision, created_at, revoked_at, format_token, format_digest FROM kept";
    sql(home, view).await;
    sql(home, "CREATE TRIGGER changed INSTEAD OF UPDATE ON volumes BEGIN SELECT 1; END").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_is_changed_again_and_again_is_told_over_the_wire_as_busy() {
    let home = Home::new();
    let owner = home.owner().await;
    add_model(&owner).await;
    owner.add(&id("state"), Profile::State, &state_image(), &policy()).await.unwrap();
    let serving = Serving::start(&home.config_file(""));
    let guest = Guest::new(&home.identity());
    assert_eq!(boot(&serving, &guest, &["model"]).await.status, 200, "the control");
    let token = format_token(&serving, &guest).await;
    change_volumes_at_every_look(&home).await;
    let report = Formatted { token, header: Bytes([1; 32]), volume: id("state") }.encode();
    for answer in
        [boot(&serving, &guest, &["model"]).await, serving.client.post(FORMATTED_PATH, report).await]
    {
        assert_eq!(told(&answer), refusal(503, "volume_busy"));
        assert_eq!(answer.headers["retry-after"], "2");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_appraisals_that_may_run_a_guest_is_told_that_the_broker_is_busy() {
    let home = Home::new();
    add_model(&home.owner().await).await;
    // A caching service that takes connections and says nothing: who has to be asked about holds the one place.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    Authority::new().write_ca(&home.path("pccs.pem"));
    let settings = format!(
        "[endorsements]\nsource = \"pccs\"\npccs = \"https://{}\"\npccs_certificate = \"{}\"\n[limits]\nappraisals = 1",
        silent.local_addr().unwrap(),
        home.path("pccs.pem").display(),
    );
    let serving = Serving::start(&home.config_file(&settings));
    let guest = Guest::new(&home.identity());
    let nonce = nonce(&serving).await;
    let mut document = guest.evidence(&nonce);
    document.endorsements = None;
    let document = document.encode().unwrap().into();
    let request = ReleaseRequest { nonce, volumes: vec![id("model")], document }.encode();
    let client = serving.client;
    let waiting = tokio::spawn(async move { client.post(RELEASE_PATH, request).await });
    let asked = tokio::time::timeout(Duration::from_secs(30), silent.accept()).await.unwrap().unwrap();
    let answer = boot(&serving, &guest, &["model"]).await;
    assert_eq!(told(&answer), refusal(503, "broker_busy"));
    assert_eq!(answer.headers["retry-after"], "2");
    drop((silent, asked));
    assert_eq!(told(&waiting.await.unwrap()), refusal(502, "endorsements_failed"));
    assert_eq!(boot(&serving, &guest, &["model"]).await.status, 200, "the place is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_while_the_broker_drains_is_told_that_it_is_busy() {
    let home = Home::new();
    let serving = Serving::start(&home.config_file(""));
    let mut stream = serving.client.connect(&rustls::version::TLS13).await.unwrap();
    let head = format!("POST {CHALLENGE_PATH} HTTP/1.1\r\nhost: b\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    serving.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(300)).await;
    stream.write_all(b"\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("broker_busy"), "{answer}");
    assert!(answer.contains("retry-after: 5\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_in_any_file_log_or_answer() {
    let home = Home::new();
    // Bytes that stand nowhere else.
    let marked: Vec<u8> = (0..64_u8).map(|place| 0xc0 ^ place.wrapping_mul(37)).collect();
    let kek: Vec<u8> = (0..32_u8).map(|place| 0x5b ^ place.wrapping_mul(41)).collect();
    home.secret("kek", &kek);
    let config = home.config_file("[log]\nfilter = \"trace\"").display().to_string();
    std::fs::write(home.path("danger-x.toml"), policy()).unwrap();
    let (file, rules) = (home.secret("secret", &marked), home.path("danger-x.toml"));
    let (file, rules) = (file.to_str().unwrap(), rules.to_str().unwrap());
    let header = "01".repeat(32);
    #[rustfmt::skip]
    let mut outputs = vec![
        run(&["volume", "add", "marked", "--profile", "state", "--size", "4096", "--secret", file, "--header", &header, "--danger-policy", rules, "--config", &config]),
        run(&["volume", "add", "fresh", "--profile", "state", "--size", "4096", "--danger-policy", rules, "--config", &config]),
    ];
    let serving = Serving::start(Path::new(&config));
    let guest = Guest::new(&home.identity());
    let request = guest.request(&nonce(&serving).await, &["marked", "fresh"]);
    let released = serving.client.post(RELEASE_PATH, request.encode()).await;
    let answer = ReleaseAnswer::decode(&released.body).unwrap();
    let secrets = answer.verify(&serving.client.key, &request, &guest.recipient).unwrap();
    let secrets = secrets.open(&guest.recipient).unwrap();
    assert_eq!(secrets[0].1.versions[0].secret.expose()[..], marked, "it was released");
    let token = secrets[1].1.format_token.unwrap();
    let mut answers = vec![released, serving.client.post(RELEASE_PATH, request.encode()).await];
    let wrong = Formatted { token, header: Bytes([1; 32]), volume: id("marked") }.encode();
    answers.push(serving.client.post(FORMATTED_PATH, wrong).await);
    done(&["volume", "revoke", "marked", "--config", &config]);
    answers.push(boot(&serving, &guest, &["marked"]).await);
    outputs.push(run(&["volume", "list", "--json", "--config", &config]));
    outputs.push(run(&["audit", "show", "--json", "--config", &config]));
    let head = home.path("head.cbor").display().to_string();
    outputs.push(run(&["audit", "head", "--out", &head, "--config", &config]));
    drop(serving);

    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in std::fs::read_dir(home.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !["kek", "secret", "identity.pem"].contains(&name.as_str()) {
            places.push((name, std::fs::read(&path).unwrap()));
        }
    }
    let log = &places.iter().find(|(name, _)| name == "log").unwrap().1;
    let log = String::from_utf8_lossy(log);
    assert!(log.contains("keys released") && log.contains("keys refused"), "{log}");
    places.extend(answers.into_iter().map(|answer| ("an answer".to_owned(), answer.body.to_vec())));
    for output in outputs {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        places.push(("an output".to_owned(), [output.stdout, output.stderr].concat()));
    }
    let drawn = secrets[1].1.versions[0].secret.expose().to_vec();
    for (what, secret) in [("marked", marked), ("drawn", drawn), ("token", token.0.to_vec()), ("kek", kek)] {
        let part = &secret[..12];
        let listed = format!("{part:?}");
        let forms = [
            part.to_vec(),
            hex::encode(part).into_bytes(),
            hex::encode(part).to_uppercase().into_bytes(),
            base64_text(part).into_bytes(),
            listed.trim_matches(['[', ']']).as_bytes().to_vec(),
        ];
        for (place, bytes) in &places {
            for form in &forms {
                let found = bytes.windows(form.len()).any(|window| window == form);
                assert!(!found, "{what} is in {place}: {}", String::from_utf8_lossy(form));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_is_tested_on_recorded_documents_of_every_outcome() {
    let home = Home::new();
    add_model(&home.owner().await).await;
    let config = home.config_file("").display().to_string();
    let serving = Serving::start(Path::new(&config));
    let guest = Guest::new(&home.identity());
    assert_eq!(boot(&serving, &guest, &["model"]).await.status, 200);
    let other = Guest::with(Some(home.identity().public().to_der()), Bytes([9; 32]));
    assert_eq!(boot(&serving, &other, &["model"]).await.code(), "configuration");
    for entry in ["1", "2"] {
        let record = home.path(&format!("{entry}.cbor")).display().to_string();
        done(&["audit", "show", "--record", entry, "--out", &record, "--config", &config]);
    }
    // What nobody has signed has no record in the log; somebody else may have recorded it.
    let mut unsupported = guest.evidence(&nonce(&serving).await);
    let (report, certificates) = (vec![0; 1184].into(), Vec::new());
    unsupported.cpu = CpuEvidence::SevSnp { report, certificates };
    unsupported.platform = Platform::SevSnp;
    let accepted = std::fs::read(home.path("1.cbor")).unwrap();
    let accepted = Record::decode(&accepted).unwrap();
    for (name, document) in [("3", vec![1]), ("4", unsupported.encode().unwrap())] {
        let record = Record { subject: Subject::Document(document.into()), ..accepted.clone() };
        std::fs::write(home.path(&format!("{name}.cbor")), record.encode()).unwrap();
    }
    std::fs::write(home.path("danger-x.toml"), policy()).unwrap();
    let rules = home.path("danger-x.toml").display().to_string();
    for (entry, status, outcome) in
        [("1", 0, "accepted"), ("2", 10, "rejected"), ("3", 30, "malformed"), ("4", 20, "unsupported")]
    {
        let record = home.path(&format!("{entry}.cbor")).display().to_string();
        let output = run(&["policy", "test", "--danger-policy", &rules, "--records", &record, "--json"]);
        assert_eq!(output.status.code(), Some(status), "{outcome}: {output:?}");
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((verdict["outcome"].as_str(), verdict["simulated"].is_boolean()), (Some(outcome), true));
        assert!(verdict["checks"].is_array(), "the whole verdict");
        let output = run(&["policy", "test", "--danger-policy", &rules, "--records", &record]);
        assert!(String::from_utf8(output.stdout).unwrap().contains(outcome), "{outcome}");
    }
}

#[test]
fn commands_that_look_at_a_database_make_none() {
    let home = Home::new();
    let config = home.config_file("").display().to_string();
    let config = config.as_str();
    std::fs::write(home.path("danger-x.toml"), policy()).unwrap();
    let [policy, image, head] =
        ["danger-x.toml", "x.img", "head.cbor"].map(|name| home.path(name).display().to_string());
    let policy = policy.as_str();
    let database = home.path("broker.db");
    let refused = |words: &[&str]| {
        let (status, said) = failed(&[words, &["--config", config]].concat());
        assert_eq!(status, Some(1), "{words:?}: {said}");
        assert!(said.contains("[storage_missing]"), "{words:?}: {said}");
        assert!(said.contains(&database.display().to_string()), "{words:?}: {said}");
    };
    let all = || {
        refused(&["audit", "verify"]);
        refused(&["audit", "verify", "--json"]);
        refused(&["audit", "show"]);
        refused(&["audit", "show", "--record", "0", "--out", &image]);
        refused(&["audit", "head", "--out", &head]);
        refused(&["volume", "list"]);
        refused(&["volume", "revoke", "model"]);
        refused(&["volume", "rotate", "model", "--file", &image]);
        refused(&["volume", "rotate", "model", "--abandon"]);
        refused(&["volume", "policy", "model", "--danger-policy", policy]);
    };
    all();
    assert!(!database.exists() && !Path::new(&head).exists());
    // A file that is there and that no broker has begun is none either, and stays as it is.
    std::fs::write(&database, b"").unwrap();
    all();
    assert_eq!(std::fs::metadata(&database).unwrap().len(), 0);
    std::fs::remove_file(&database).unwrap();
    // A key-encryption key that cannot be read makes none before it is told.
    std::fs::remove_file(home.path("kek")).unwrap();
    let add = ["volume", "add", "s", "--profile", "state", "--size", "4096", "--danger-policy", policy];
    let (_, said) = failed(&[&add[..], &["--config", config]].concat());
    assert!(said.contains("[kek_unusable]") && !database.exists(), "{said}");
    home.secret("kek", &[7; 32]);
    done(&[&add[..], &["--config", config]].concat());
    assert!(done(&["volume", "list", "--config", config]).contains("s state 4096 bytes"));
}

/// Puts the files of a database into another folder. No program has it open.
fn copy_database(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let file = entry.unwrap();
        if file.file_name().to_string_lossy().starts_with("broker.db") {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

#[test]
fn a_database_that_was_put_back_as_a_whole_shows_against_a_kept_head() {
    let home = Home::new();
    let config = home.config_file("").display().to_string();
    let config = config.as_str();
    add_volumes(&home, config);
    let (now, kept) = (home.folder.path(), home.path("kept"));
    std::fs::create_dir(&kept).unwrap();
    copy_database(now, &kept);
    done(&["volume", "revoke", "model", "--config", config]);
    let head = home.path("head.cbor").display().to_string();
    done(&["audit", "head", "--out", &head, "--config", config]);
    let against = ["audit", "verify", "--head", &head, "--config", config];
    done(&against);
    copy_database(&kept, now);
    assert!(!done(&["volume", "list", "--config", config]).contains("REVOKED"), "the revocation is undone");
    // Nothing in the database itself says so.
    done(&["audit", "verify", "--config", config]);
    let (status, said) = failed(&against);
    assert_eq!(status, Some(10));
    assert!(said.contains("[audit_fault]") && said.contains("it was truncated"), "{said}");
    // Nor does it help that the log becomes as long again.
    done(&["volume", "revoke", "state", "--config", config]);
    done(&["audit", "verify", "--config", config]);
    let (status, said) = failed(&against);
    assert_eq!(status, Some(10));
    assert!(said.contains("[audit_fault]") && said.contains("was written anew"), "{said}");
}

#[test]
fn an_empty_log_is_told_loudly() {
    let home = Home::new();
    let config = home.config_file("").display().to_string();
    let config = config.as_str();
    // Whatever opens a database for good; nothing is decided in it.
    drop(Serving::start(Path::new(config)));
    let head = home.path("head.cbor").display().to_string();
    for words in
        [&["audit", "verify"][..], &["audit", "verify", "--json"], &["audit", "head", "--out", &head]]
    {
        let output = run(&[words, &["--config", config]].concat());
        assert!(output.status.success(), "{words:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("WARNING: the audit log is empty"), "{words:?}: {said}");
    }
    for (words, expected) in [
        (["audit", "show", "--config", config], "no entry from 0 on"),
        (["volume", "list", "--config", config], "there are no volumes"),
    ] {
        let output = run(&words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && output.stdout.is_empty() && said.contains(expected), "{said}");
    }
}

#[test]
fn a_policy_that_refuses_every_guest_is_warned_of_where_a_volume_gets_it() {
    let home = Home::new();
    let config = home.config_file("").display().to_string();
    let config = config.as_str();
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/client.toml");
    #[rustfmt::skip]
    let add = |name: &str, policy: &[&str]| done(&[
        &["volume", "add", name, "--profile", "state", "--size", "4096", "--config", config][..], policy,
    ].concat());
    let none = "warning: there is no reference set, so that every guest is refused";
    let said = add("built-in", &[]);
    assert!(said.contains(none) && !said.contains("claims."), "{said}");
    for said in [
        add("clients", &["--policy", client]),
        done(&["volume", "policy", "built-in", "--policy", client, "--config", config]),
        done(&["policy", "check", client]),
    ] {
        for expected in
            [none, "claims.egress_mode refuses", "claims.egress_policy refuses", "claims.model refuses"]
        {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
}

#[test]
fn the_end_of_a_command_follows_its_kind() {
    let home = Home::new();
    let config = home.config_file("").display().to_string();
    let config = config.as_str();
    std::fs::write(home.path("danger-x.toml"), policy()).unwrap();
    let policy = home.path("danger-x.toml").display().to_string();
    let policy = policy.as_str();
    let path = |name: &str| home.path(name).display().to_string();
    let ends = |words: &[&str], status: i32, expected: &[&str]| {
        let found = failed(&[words, &["--config", config]].concat());
        assert_eq!(found.0, Some(status), "{words:?}: {}", found.1);
        for expected in expected {
            assert!(found.1.contains(expected), "{words:?}: {expected}: {}", found.1);
        }
    };
    let add = |size: &'static str| {
        ["volume", "add", "s", "--profile", "state", "--size", size, "--danger-policy", policy]
    };
    // Wrong usage, whether clap finds it or the owner's rules.
    for size in ["1G", "1", "0", "513"] {
        ends(&add(size), 2, &["expected a number of bytes, a multiple of 512 above zero"]);
    }
    let add_model = ["volume", "add", "m", "--profile", "model", "--size", "4096", "--danger-policy", policy];
    ends(&add_model, 2, &["[volume_settings]"]);
    // A file in the way, a folder that is none, and images that are none are named.
    std::fs::create_dir(home.path("files")).unwrap();
    std::fs::write(home.path("files/a"), b"a").unwrap();
    std::fs::write(home.path("there.img"), b"short").unwrap();
    let (files, there, none) = (path("files"), path("there.img"), path("none"));
    let create =
        |from, file| ["volume", "create", "m", "--from", from, "--file", file, "--danger-policy", policy];
    ends(&create(&files, &there), 10, &["[volume_exists]", &there]);
    ends(&create(&none, &there), 1, &["[broker_file_unreadable]", &none, "--from"]);
    let image = path("m.img");
    done(&[&create(&files, &image)[..], &["--config", config]].concat());
    ends(&["volume", "rotate", "m", "--file", &none], 1, &["[image_unopened]", &none, "that exists"]);
    ends(&["volume", "rotate", "m", "--file", &there], 1, &["[volume_unreadable]", &there, "too short"]);
    // An image that a rotation has replaced ends with 10, whether it is the volume's own or another's.
    let other = path("other.img");
    let create_other =
        ["volume", "create", "o", "--from", &files, "--file", &other, "--danger-policy", policy];
    done(&[&create_other[..], &["--config", config]].concat());
    ends(&["volume", "rotate", "m", "--file", &other], 10, &["[volume_rolled_back]"]);
    let new = path("new.img");
    let said = done(&["volume", "rotate", "m", "--file", &image, "--encrypt-to", &new, "--config", config]);
    assert!(said.contains(&format!("the image is {new} from now on, and {image} is refused")), "{said}");
    ends(&["volume", "rotate", "m", "--file", &image], 10, &["[volume_rolled_back]"]);
}
