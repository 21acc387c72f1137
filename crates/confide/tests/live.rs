//! The commands that talk to a guest: exit statuses, what is printed where, and what reaches the guest.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use confide_testkit::guest::{self, Attestation, Chat, Guest, Listening, MODEL, SeenRequest, WORDS};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Semaphore;

const SECRET: &str = "the secret question";

/// A guest, and a folder with a policy that accepts it.
struct Rig {
    guest: Listening,
    folder: TempDir,
}

impl Rig {
    async fn new(guest: Guest) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("danger-test.toml"), guest::policy("per-key", 300)).unwrap();
        Self { guest: guest.listen().await.unwrap(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command with the guest's address behind `flag` and the policy that accepts it.
    fn command(&self, words: &[&str], flag: &str) -> Command {
        let mut command = confide();
        command.args(words).args([flag, &self.guest.url()]);
        command.arg("--danger-policy").arg(self.path("danger-test.toml"));
        command
    }

    /// A command that takes the guest's address by itself, and the policy that accepts it.
    fn guest_of(&self, words: &[&str]) -> Command {
        let mut command = confide();
        command.args(words).arg(self.guest.url());
        command.arg("--danger-policy").arg(self.path("danger-test.toml"));
        command
    }

    fn chat(&self) -> Command {
        self.command(&["chat"], "--url")
    }
}

fn confide() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command and holds its exit status.
fn run(command: &mut Command, status: i32) -> Output {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{command:?}\n{}\n{}", out(&output), err(&output));
    output
}

fn run_with_input(command: &mut Command, input: &[u8], status: i32) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(status), "{command:?}\n{}\n{}", out(&output), err(&output));
    output
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_prints_verdict_and_answer_apart() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let output = run(rig.chat().arg(SECRET), 0);
    assert_eq!(out(&output), format!("{}\n", WORDS.concat()));
    assert!(err(&output).starts_with("SIMULATED ACCEPTED\n"), "{}", err(&output));
    let asked: Value = serde_json::from_slice(&rig.guest.guest.requests()[1].body).unwrap();
    assert_eq!((&asked["model"], &asked["messages"][0]["content"]), (&json!(MODEL), &json!(SECRET)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_verified_and_told_nothing() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let accepted = run(rig.guest_of(&["verify"]).arg("--json"), 0);
    let verdict: Value = serde_json::from_str(&out(&accepted)).unwrap();
    assert_eq!((&verdict["outcome"], &verdict["simulated"]), (&json!("accepted"), &json!(true)));
    assert!(verdict["checks"].as_array().unwrap().len() > 50, "every check is told");
    assert!(out(&run(&mut rig.guest_of(&["verify"]), 0)).starts_with("SIMULATED ACCEPTED\n"));
    let checked = run(rig.guest_of(&["verify"]).args(["--cross-check", "--json"]), 0);
    assert!(out(&checked).contains("dcap-qvl 0.7.1 finds UpToDate, too"));
    run(rig.guest_of(&["verify"]).args(["--format", "ear"]), 0);
    let guest = &rig.guest.guest;
    assert_eq!((guest.requests().len(), guest.attestations()), (4, 4), "nothing but requests for evidence");

    let _ = guest.clone().attesting(Attestation::OtherExporter);
    let refused = run(rig.guest_of(&["verify"]).arg("--json"), 10);
    let verdict: Value = serde_json::from_str(&out(&refused)).unwrap();
    assert_eq!((&verdict["outcome"], &verdict["code"]), (&json!("rejected"), &json!("report_data")));
    let _ = guest.clone().attesting(Attestation::Fixed(b"no CBOR".to_vec()));
    assert!(out(&run(&mut rig.guest_of(&["verify"]), 30)).starts_with("MALFORMED (document_format)"));
    let _ = guest.clone().attesting(Attestation::Status(404));
    assert!(err(&run(&mut rig.guest_of(&["verify"]), 1)).contains("[attestation_status]"));
    assert_eq!(guest.requests().len(), guest.attestations());
    let plain = rig.guest.url().replace("https", "http");
    assert!(err(&run(confide().args(["verify", &plain]), 2)).contains("[plain_http_refused]"));
    assert!(err(&run(confide().args(["verify", "quot"]), 2)).contains("[invalid_url]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_verify_and_record_do_not_mix() {
    for words in [
        &["verify"][..],
        &["verify", "https://guest.example", "quote"],
        &["verify", "--json", "quote", "--quote", "a", "--at", "2026-06-08T00:00:00Z"],
        &["record", "https://guest.example"],
        &["record", "--out", "a"],
        &["record", "guest", "--out", "a", "--url", "https://guest.example"],
    ] {
        let refused = run(confide().args(words), 2);
        assert!(err(&refused).contains("Usage: confide"), "{words:?}: {}", err(&refused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_short_is_an_error() {
    for torn in [Chat::Torn, Chat::TornEvent] {
        let rig = Rig::new(Guest::new(0).unwrap().chatting(torn)).await;
        let output = run(rig.chat().arg(SECRET), 1);
        assert!(err(&output).contains("error: "), "{}", err(&output));
        let whole = format!("{}\n", WORDS.concat());
        assert!(!out(&output).is_empty() && out(&output) != whole, "what came is printed: {}", out(&output));
        let output = run(rig.chat().args(["--json", SECRET]), 1);
        let printed: Value = serde_json::from_str(&out(&output)).unwrap();
        assert!(printed["content"].is_null() && printed["error"]["what_to_do"].is_string(), "{printed}");
        // The guest was accepted before its answer broke off.
        assert_eq!(printed["verdict"]["outcome"], "accepted", "{printed}");
    }
}

/// A terminal: the end that a test holds, and the end that a program has.
fn terminal() -> (std::fs::File, std::os::fd::OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = openpt(flags).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let terminal = ioctl_tiocgptpeer(&controller, flags).unwrap();
    (controller.into(), terminal)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_alone_is_told_what_takes_long() {
    let rig = Rig::new(Guest::new(0).unwrap().attesting(Attestation::Silent)).await;
    let (controller, terminal) = terminal();
    let mut command = rig.guest_of(&["verify"]);
    let mut waiting = Running(command.stdout(Stdio::piped()).stderr(terminal).spawn().unwrap());
    drop(command);
    let mut line = String::new();
    BufReader::new(controller).read_line(&mut line).unwrap();
    let expected = format!("… asking {} for its evidence and appraising it\r\n", rig.guest.url());
    assert_eq!(line, expected);
    assert!(waiting.0.try_wait().unwrap().is_none(), "it waits");

    let mut command = rig.guest_of(&["verify"]);
    let mut piped = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    std::thread::sleep(std::time::Duration::from_secs(2));
    piped.0.kill().unwrap();
    let mut told = String::new();
    piped.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_sent_whole_and_its_commands_are_not() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let (mut controller, terminal) = terminal();
    let mut command = rig.chat();
    command.args(["--system", "Be brief."]).stdin(terminal).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    controller.write_all(b"first\n/nonesuch\nsecond\n/verdict\n/clear\n/system\n//third\n/quit\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), format!("{}\n", WORDS.concat()).repeat(3));
    assert!(err(&output).contains("(no such command: /help lists them)"), "{}", err(&output));
    assert_eq!(err(&output).matches("SIMULATED ACCEPTED\n").count(), 2, "at the start and for /verdict");
    let requests = rig.guest.guest.requests();
    let said = |request: &SeenRequest| -> Vec<(String, String)> {
        let asked: Value = serde_json::from_slice(&request.body).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let messages = asked["messages"].as_array().unwrap();
        messages.iter().map(|message| (text(&message["role"]), text(&message["content"]))).collect()
    };
    let asked: Vec<_> = requests[1..].iter().map(said).collect();
    let turn = |role: &str, text: &str| (role.to_owned(), text.to_owned());
    let answer = turn("assistant", &WORDS.concat());
    let (system, first) = (turn("system", "Be brief."), turn("user", "first"));
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0], [system.clone(), first.clone()]);
    assert_eq!(asked[1], [system, first, answer, turn("user", "second")]);
    assert_eq!(asked[2], [turn("user", "/third")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_reads_the_question_from_standard_input() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    run_with_input(&mut rig.chat(), SECRET.as_bytes(), 0);
    assert!(rig.guest.guest.saw(SECRET.as_bytes()));
    assert!(err(&run_with_input(&mut rig.chat(), b" \n", 2)).contains("[prompt_missing]"));
    // An argument that holds no question is told before the guest is asked for anything.
    let asked = rig.guest.guest.requests().len();
    assert!(err(&run(rig.chat().arg(" "), 2)).contains("[prompt_missing]"));
    assert_eq!(rig.guest.guest.requests().len(), asked);
    assert!(err(&run_with_input(&mut rig.chat(), b"\xff", 30)).contains("[prompt_malformed]"));
    let (before, most) = (rig.guest.guest.requests().len(), 16 * 1024 * 1024);
    let told = err(&run_with_input(&mut rig.chat(), &vec![b'a'; most + 1], 30));
    assert!(told.contains(&format!("larger than {most} bytes [prompt_malformed]")), "{told}");
    assert_eq!(rig.guest.guest.requests().len(), before + 1, "the attestation alone was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_prints_one_json_object() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let output = run(rig.chat().args(["--json", "--max-tokens", "9", SECRET]), 0);
    let printed: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(
        (&printed["verdict"]["outcome"], &printed["verdict"]["simulated"]),
        (&json!("accepted"), &json!(true))
    );
    assert_eq!((&printed["content"], &printed["model"]), (&json!(WORDS.concat()), &json!(MODEL)));
    assert_eq!((&printed["finish_reason"], &printed["usage"]["total_tokens"]), (&json!("stop"), &json!(9)));
    assert!(printed["error"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_values_of_a_signed_file_are_held_against_the_guest() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol/references/");
    let signed = |version: u32| {
        let text = std::fs::read_to_string(format!("{example}example.toml")).unwrap();
        let lines = text.lines().map(|line| match line.split_once(" = ") {
            Some(("version", _)) => format!("version = {version}\n"),
            Some(("issued", _)) => "issued = 2020-01-01\n".to_owned(),
            Some(("expires", _)) => "expires = 2099-12-31\n".to_owned(),
            _ => format!("{line}\n"),
        });
        std::fs::write(rig.path("references.toml"), lines.collect::<String>()).unwrap();
        let mut sign = confide();
        sign.args(["policy", "sign", "--key", &format!("{example}ed25519.key.pem")]);
        out(&run(sign.arg(rig.path("references.toml")), 0))
    };
    let table = signed(3);
    let policy = guest::policy("per-key", 300);
    let lines = policy.lines().map(|line| match line.split_once(" = ") {
        Some((field @ ("mr_td" | "rtmr0" | "rtmr1" | "rtmr2"), _)) => {
            format!("{field} = {{ from = \"reference\" }}\n")
        }
        _ => format!("{line}\n"),
    });
    let table = table.split_once("In policies:").unwrap().1;
    let policy = format!("{}{table}", lines.collect::<String>());
    std::fs::write(rig.path("danger-test.toml"), policy).unwrap();
    let chat = |status| {
        let mut chat = rig.chat();
        chat.args(["--json", SECRET, "--state"]).arg(rig.path("state"));
        let output = run(chat.arg("--references").arg(rig.path("references.toml")), status);
        serde_json::from_str::<Value>(&out(&output)).unwrap()
    };
    let printed = chat(0);
    assert_eq!(printed["verdict"]["reference_set"], "release-2");
    assert!(rig.guest.guest.saw(SECRET.as_bytes()));
    // An older file, after the newer one: the guest is refused, and is told nothing more.
    let requests = rig.guest.guest.requests().len();
    signed(2);
    assert_eq!(chat(10)["verdict"]["code"], "reference_version");
    assert_eq!(rig.guest.guest.requests().len(), requests + 1, "the attestation request alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_verifier_is_asked_before_the_prompt_is_sent() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let output = run(rig.chat().args(["--json", "--cross-check", SECRET]), 0);
    let printed: Value = serde_json::from_str(&out(&output)).unwrap();
    let checks = printed["verdict"]["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["code"] == "cross_check").unwrap();
    assert_eq!(
        (&check["status"], &check["actual"]),
        (&json!("pass"), &json!("dcap-qvl 0.7.1 finds UpToDate, too"))
    );
    let text = std::fs::read_to_string(rig.path("danger-test.toml")).unwrap();
    let waived = text.lines().find(|line| line.starts_with("cross_check = ")).unwrap();
    let required = text.replace(waived, "cross_check = \"required\"");
    std::fs::write(rig.path("danger-test.toml"), required).unwrap();
    let output = run(rig.chat().arg(SECRET), 10);
    assert!(err(&output).contains("(cross_check)"), "{}", err(&output));
    run(rig.chat().args(["--cross-check", SECRET]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_guest_ends_with_10_and_sees_nothing() {
    let rig = Rig::new(Guest::new(0).unwrap().attesting(Attestation::OtherExporter)).await;
    let output = run(rig.chat().arg(SECRET), 10);
    assert_eq!(out(&output), "");
    assert!(err(&output).starts_with("SIMULATED REJECTED (report_data)\n"), "{}", err(&output));

    let output = run(rig.chat().args(["--json", SECRET]), 10);
    let printed: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(
        (&printed["verdict"]["code"], &printed["error"]["code"]),
        (&json!("report_data"), &json!("report_data"))
    );
    assert!(printed["content"].is_null() && printed["error"]["what_to_do"].is_string(), "{printed}");

    let mut ordinary = confide();
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/client.toml");
    run(ordinary.args(["chat", "--url", &rig.guest.url(), "--policy", policy, SECRET]), 10);
    let guest = &rig.guest.guest;
    assert!(!guest.saw(SECRET.as_bytes()));
    assert_eq!(guest.requests().len(), guest.attestations());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_on_standard_input_is_not_read_before_the_verdict() {
    let rig = Rig::new(Guest::new(0).unwrap().attesting(Attestation::OtherKey)).await;
    let mut command = rig.chat();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Standard input stays open: the refusal does not wait for it.
    let stdin = child.stdin.take().unwrap();
    let status = child.wait().unwrap();
    drop(stdin);
    assert_eq!(status.code(), Some(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_have_their_statuses() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let danger = rig.path("danger-test.toml");
    let chat = |url: &str| {
        let mut command = confide();
        command.args(["chat", "--url", url, "--danger-policy"]).arg(&danger).arg(SECRET);
        command
    };
    let plain = rig.guest.url().replace("https", "http");
    assert!(err(&run(&mut chat(&plain), 2)).contains("[plain_http_refused]"));
    assert!(err(&run(&mut chat("guest.example"), 2)).contains("[invalid_url]"));
    assert!(rig.guest.guest.seen().is_empty());
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    assert!(err(&run(&mut chat(&format!("https://{closed}")), 1)).contains("[dial_failed]"));

    for (attestation, status, code) in [
        (Attestation::Status(404), 1, "attestation_status"),
        (Attestation::MediaType("text/html"), 30, "attestation_media_type"),
        (Attestation::TooLarge, 30, "evidence_too_large"),
    ] {
        let _ = rig.guest.guest.clone().attesting(attestation);
        assert!(err(&run(rig.chat().arg(SECRET), status)).contains(&format!("[{code}]")));
    }
    let _ = rig.guest.guest.clone().attesting(Attestation::Fixed(b"no CBOR".to_vec()));
    assert!(err(&run(rig.chat().arg(SECRET), 30)).starts_with("MALFORMED (document_format)"));
    let _ = rig.guest.guest.clone().attesting(Attestation::Honest).chatting(Chat::Refuse(404));
    let told = err(&run(rig.chat().arg(SECRET), 1));
    assert!(told.contains("the guest answered 404: refused (no_such_model) [upstream_error]"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_comes_from_a_file() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    std::fs::write(rig.path("key"), "sk-1\n").unwrap();
    run(rig.chat().arg("--api-key-file").arg(rig.path("key")).arg(SECRET), 0);
    let headers = &rig.guest.guest.requests()[1].headers;
    assert!(headers.contains(&("authorization".to_owned(), "Bearer sk-1".to_owned())), "{headers:?}");
    run(rig.chat().arg("--api-key-file").arg(rig.path("missing")).arg(SECRET), 1);
    std::fs::write(rig.path("key"), b"sk\xff").unwrap();
    run(rig.chat().arg("--api-key-file").arg(rig.path("key")).arg(SECRET), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn appraisals_of_live_guests_are_recorded_and_replay() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let record = rig.path("record.cbor");
    run(rig.chat().arg("--record").arg(&record).arg(SECRET), 0);
    let output = run(rig.guest_of(&["record"]).arg("--json").arg("--out").arg(&record), 0);
    let verdict: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(verdict["outcome"], "accepted");
    let _ = rig.guest.guest.clone().attesting(Attestation::OtherKey);
    run(rig.guest_of(&["record"]).arg("--out").arg(&record), 10);

    let bytes = std::fs::read(&record).unwrap();
    let records: Vec<_> = confide_evidence::record::read_all(&bytes).collect::<Result<_, _>>().unwrap();
    assert_eq!(records.len(), 3);
    assert!(records.windows(2).all(|two| two[1].prev == two[0].hash()));
    assert_eq!(records[1].outcome.as_deref(), Some(out(&output).trim()));
    // The last one, which was rejected, decides the exit status: each must be found again.
    let replayed = run(confide().args(["replay", "--json"]).arg(&record), 10);
    let stored: Vec<&str> = records.iter().map(|record| record.outcome.as_deref().unwrap()).collect();
    assert_eq!((out(&replayed).lines().collect::<Vec<_>>(), err(&replayed)), (stored, String::new()));
}

/// A running program; it ends when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_says_where_it_listens_serves_and_ends_on_sigterm() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let record = rig.path("record.cbor");
    let mut command = rig.command(&["proxy"], "--upstream");
    command.args(["--listen", "127.0.0.1:0", "--record"]).arg(&record);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut proxy = Running(child);
    let mut line = String::new();
    BufReader::new(proxy.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&ready["event"], &ready["upstream"]), (&json!("ready"), &json!(rig.guest.url())));
    let listen = ready["listen"].as_str().unwrap();
    assert_eq!(ready["base_url"], format!("http://{listen}/v1"));

    let mut stream = TcpStream::connect(listen).unwrap();
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": SECRET }] }).to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {listen}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\r\nx-confide-verdict: accepted, SIMULATED\r\n"), "{answer}");
    assert!(answer.contains("An RTMR is a measurement register."), "{answer}");

    // The shell's own `kill`: a bare Debian has no program of that name.
    let killed = Command::new("sh").args(["-c", &format!("kill -TERM {}", proxy.0.id())]).status().unwrap();
    assert!(killed.success());
    assert_eq!(proxy.0.wait().unwrap().code(), Some(0));
    let mut told = String::new();
    proxy.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.starts_with("SIMULATED ACCEPTED\n"), "{told}");
    run(confide().arg("replay").arg(&record), 0);
}

/// Starts a proxy and reads the line in which it says where it listens.
fn start(command: &mut Command) -> (Running, Value) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut proxy = Running(child);
    let mut line = String::new();
    BufReader::new(proxy.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready = serde_json::from_str(&line).unwrap_or_else(|_| {
        let mut told = String::new();
        proxy.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        panic!("it does not listen: {told}")
    });
    (proxy, ready)
}

/// Sends SIGTERM. The shell's own `kill`: a bare Debian has no program of that name.
fn terminate(proxy: &Running) {
    let killed = Command::new("sh").args(["-c", &format!("kill -TERM {}", proxy.0.id())]).status().unwrap();
    assert!(killed.success());
}

/// Ends a proxy and gives what it told on standard error.
fn end(proxy: Running) -> String {
    terminate(&proxy);
    ended(proxy, 0)
}

/// Waits for a proxy to end with a status, and gives what it told on standard error.
fn ended(mut proxy: Running, status: i32) -> String {
    let found = proxy.0.wait().unwrap().code();
    let mut told = String::new();
    proxy.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(found, Some(status), "{told}");
    told
}

/// Status and body of the answer to one request.
fn request(listen: &str, method: &str, path: &str, fields: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(listen).unwrap();
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.0\r\nhost: {listen}\r\n{fields}content-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A stream that the guest has begun and that waits: its connection, and what came of it so far.
fn waiting_stream(listen: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(listen).unwrap();
    let body = json!({ "model": MODEL, "stream": true, "messages": [{ "role": "user", "content": SECRET }] })
        .to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.0\r\nhost: {listen}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut came = Vec::new();
    while !String::from_utf8_lossy(&came).contains("\r\n\r\ndata: ") || !came.ends_with(b"\n\n") {
        let mut piece = [0; 1024];
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "it ends: {came:?}");
        came.extend_from_slice(&piece[..length]);
    }
    (stream, String::from_utf8(came).unwrap())
}

fn until_it_drains(listen: &str) {
    while request(listen, "GET", "/_confide/health/ready", "", "").0 != 503 {}
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_a_drain_cuts_are_told_so_and_the_proxy_ends_with_1() {
    for (drain, signals) in [("0", 1), ("3600", 2)] {
        let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
        let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Gated(std::sync::Arc::clone(&gate)))).await;
        let mut command = rig.command(&["proxy"], "--upstream");
        let (proxy, ready) = start(command.args(["--listen", "127.0.0.1:0", "--drain-seconds", drain]));
        let listen = ready["listen"].as_str().unwrap();
        let (mut stream, came) = waiting_stream(listen);
        assert!(came.starts_with("HTTP/1.1 200 OK\r\n") || came.starts_with("HTTP/1.0 200 OK\r\n"), "{came}");
        terminate(&proxy);
        if signals == 2 {
            until_it_drains(listen);
            let (status, refused) = request(listen, "POST", "/v1/chat/completions", "", &chat_body(MODEL));
            assert!(status == 503 && refused.contains("\"code\":\"endpoint_draining\""), "{refused}");
            terminate(&proxy);
        }
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        let event: Value = serde_json::from_str(rest.strip_prefix("data: ").unwrap().trim_end()).unwrap();
        assert_eq!(event["error"]["code"], "endpoint_ended", "{rest}");
        let told = ended(proxy, 1);
        assert!(
            told.contains("error: 1 request was cut: still under way at the end [requests_cut]\n"),
            "{told}"
        );
        gate.add_permits(100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_takes_no_longer_than_it_may_ends_the_proxy_with_0() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Gated(std::sync::Arc::clone(&gate)))).await;
    let mut command = rig.command(&["proxy"], "--upstream");
    let (proxy, ready) =
        start(command.args(["--listen", "127.0.0.1:0"]).env("CONFIDE_DRAIN_SECONDS", "3600"));
    let listen = ready["listen"].as_str().unwrap();
    let (mut stream, _) = waiting_stream(listen);
    terminate(&proxy);
    until_it_drains(listen);
    gate.add_permits(100);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    ended(proxy, 0);
}

fn chat_body(model: &str) -> String {
    json!({ "model": model, "messages": [{ "role": "user", "content": SECRET }] }).to_string()
}

fn files_below(root: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Descriptors are dealt out before: more programs than can be served wait, and each that is accepted gets its answer.
#[tokio::test(flavor = "multi_thread")]
async fn with_few_files_the_proxy_takes_no_more_connections_than_it_can_serve() {
    let gate = Arc::new(Semaphore::new(0));
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Gated(Arc::clone(&gate)))).await;
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_confide"), "proxy"]);
    command.args(["--listen", "127.0.0.1:0", "--upstream", &rig.guest.url(), "--danger-policy"]);
    let (proxy, ready) = start(command.arg(rig.path("danger-test.toml")).stdin(Stdio::null()));
    let listen = ready["listen"].as_str().unwrap();
    let mut programs: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(listen).unwrap()).collect();
    let (idle, body) = (programs.split_off(4), chat_body(MODEL));
    for program in &mut programs {
        let length = body.len();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.0\r\nhost: {listen}\r\ncontent-length: {length}\r\n\r\n"
        );
        program.write_all(format!("{head}{body}").as_bytes()).unwrap();
        program.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut status = [0; 12];
        program.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.0 200", "{}", String::from_utf8_lossy(&status));
    }
    assert_eq!(rig.guest.guest.seen().len(), 4, "each has its own connection to the guest");
    drop(idle);
    assert_eq!(request(listen, "GET", "/_confide/health/live", "", "").0, 200, "the others' turn comes");
    gate.add_permits(1000);
    for mut program in programs {
        let mut rest = String::new();
        program.read_to_string(&mut rest).unwrap();
        assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
    }
    end(proxy);
}

/// Every folder that the program could find by its environment is below the one that is searched.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_record_the_proxy_leaves_no_prompt_and_no_answer_in_a_file_or_log() {
    const MARK: &str = "zq7-marked-prompt";
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let home = rig.path("home");
    std::fs::create_dir(&home).unwrap();
    let mut command = rig.command(&["proxy"], "--upstream");
    // The most that can be logged.
    command
        .args(["--listen", "127.0.0.1:0", "--log-filter", "trace"])
        .current_dir(&home)
        .env("RUST_LOG", "trace");
    for name in ["HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
        command.env(name, &home);
    }
    command.env("SSLKEYLOGFILE", home.join("keys"));
    let (proxy, ready) = start(&mut command);
    let listen = ready["listen"].as_str().unwrap();
    let question = |stream: bool| {
        let messages = json!([{ "role": "user", "content": MARK }, { "role": "system", "content": MARK }]);
        json!({ "model": MODEL, "stream": stream, "messages": messages, "user": MARK }).to_string()
    };
    let chat = |body: &str| request(listen, "POST", "/v1/chat/completions", "", body);
    for stream in [false, true] {
        let (status, answer) = chat(&question(stream));
        assert!(status == 200 && answer.contains(WORDS[2].trim()), "{answer}");
    }
    assert!(rig.guest.guest.saw(MARK.as_bytes()), "the control: prompts arrive");
    // What is no request, or none that anybody serves, with the mark wherever a program could put it.
    let bodies = [MARK.to_owned(), format!("{{\"model\": \"{MARK}\"}}"), format!("{{\"{MARK}\": ")];
    let mut statuses: Vec<u16> = bodies.iter().map(|body| chat(body).0).collect();
    for (method, path) in
        [("GET", format!("/{MARK}")), ("POST", format!("/v1/{MARK}")), (MARK, "/".to_owned())]
    {
        statuses.push(request(listen, method, &path, &format!("x-mark: {MARK}\r\n"), MARK).0);
    }
    assert!(statuses.iter().filter(|status| **status >= 400).count() >= 3, "{statuses:?}");
    for answer in [Chat::Refuse(500), Chat::Torn, Chat::TornEvent, Chat::Close] {
        let _ = rig.guest.guest.clone().chatting(answer);
        for stream in [false, true] {
            chat(&question(stream));
        }
    }
    request(listen, "GET", "/_confide/status", "", "");
    // What is not HTTP, of which the endpoint logs that its connection ended.
    let mut other = std::net::TcpStream::connect(listen).unwrap();
    std::io::Write::write_all(&mut other, format!("{MARK}\r\n\r\n").as_bytes()).unwrap();
    other.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    std::io::Read::read_to_end(&mut other, &mut Vec::new()).unwrap();
    let told = end(proxy);
    assert!(told.contains("SIMULATED ACCEPTED\n"), "{told}");
    assert!(
        told.contains(" DEBUG confide_client::"),
        "the control: events of every level are written: {told}"
    );
    std::fs::write(home.join("told"), &told).unwrap();
    let files = files_below(&rig.path(""));
    assert!(files.iter().any(|file| file.ends_with("home/told")) && files.len() > 1, "{files:?}");
    for file in files {
        let held = std::fs::read(&file).unwrap();
        // Answers come in these pieces, or whole.
        for said in [MARK, WORDS[0], &WORDS[2..].concat()] {
            let found = held.windows(said.len()).any(|window| window == said.as_bytes());
            assert!(!found, "{said:?} in {}", file.display());
        }
    }
    assert!(!home.join("keys").exists(), "TLS secrets were written to a file that the environment names");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_stands_before_several_guests_and_tells_of_them() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let other = Guest::serving(1, "another").unwrap().listen().await.unwrap();
    let bad = Guest::new(2).unwrap().attesting(Attestation::OtherKey).listen().await.unwrap();
    let policy = guest::policy_for("per-key", 300, &[MODEL, "another"]);
    std::fs::write(rig.path("danger-test.toml"), policy).unwrap();
    std::fs::write(rig.path("fleet.toml"), format!("[[instance]]\nurl = \"{}\"\n", bad.url())).unwrap();
    std::fs::write(rig.path("token"), "t0ken\n").unwrap();
    std::fs::write(rig.path("key"), "sk-guest\n").unwrap();
    let record = rig.path("record.cbor");
    let mut command = rig.command(&["proxy"], "--upstream");
    command
        .args(["--listen", "127.0.0.1:0", "--upstream", &other.url(), "--upstreams"])
        .arg(rig.path("fleet.toml"));
    command.arg("--token-file").arg(rig.path("token")).arg("--upstream-key-file").arg(rig.path("key"));
    let (proxy, ready) = start(command.arg("--record").arg(&record));
    assert_eq!(ready["upstream"], rig.guest.url());
    assert_eq!(ready["upstreams"], json!([rig.guest.url(), other.url(), bad.url()]));
    let listen = ready["listen"].as_str().unwrap();
    let token = "authorization: Bearer t0ken\r\n";

    assert_eq!(request(listen, "GET", "/_confide/status", "", "").0, 401);
    assert_eq!(request(listen, "POST", "/v1/chat/completions", "", &chat_body(MODEL)).0, 401);
    for model in [MODEL, "another"] {
        let (status, answer) = request(listen, "POST", "/v1/chat/completions", token, &chat_body(model));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["model"]), (200, &json!(model)));
    }
    let status = |address: std::net::SocketAddr| {
        let (_, status) = request(listen, "GET", "/_confide/status", token, "");
        let status: Value = serde_json::from_str(&status).unwrap();
        let instances = status["instances"].as_array().unwrap().clone();
        instances.into_iter().find(|one| one["instance"] == address.to_string()).unwrap()
    };
    while status(bad.address)["state"] == "pending" {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let instance = status(bad.address);
    assert_eq!(
        (&instance["state"], &instance["reason"]["code"]),
        (&json!("quarantined"), &json!("report_data"))
    );
    let path = format!("/_confide/verdicts/{}", bad.address);
    let (found, verdict) = request(listen, "GET", &path, token, "");
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert_eq!((found, &verdict["code"]), (502, &json!("report_data")));
    let (_, metrics) = request(listen, "GET", "/_confide/metrics", token, "");
    assert!(
        metrics.contains(&format!("confide_quarantines_total{{instance=\"{}\"}} 1\n", bad.address)),
        "{metrics}"
    );

    let told = end(proxy);
    let line = format!("note: {} quarantined (report_data) for ", bad.address);
    assert_eq!(told.matches(&line).count(), 1, "{told}");
    assert!(told.contains(&format!(" {} SIMULATED accepted\n", other.address)), "{told}");
    assert!(!bad.guest.saw(SECRET.as_bytes()) && other.guest.saw(SECRET.as_bytes()));
    assert!(other.guest.saw(b"sk-guest") && !other.guest.saw(b"t0ken") && !told.contains("t0ken"));
    let records = std::fs::read(&record).unwrap();
    assert_eq!(confide_evidence::record::read_all(&records).count(), 3, "one of each instance");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_no_instance_or_no_token_does_not_start() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let file = rig.path("file");
    let mut proxy = confide();
    run(proxy.args(["proxy", "--danger-policy"]).arg(rig.path("danger-test.toml")), 2);
    for (text, status, code) in [
        ("[[instance]]\nurl = \"http://a.example\"\n", 2, "config_invalid"),
        ("[[instance]]\nurl = \"https://a.example\"\nmodel = \"m\"\n", 2, "config_unknown_field"),
        ("[[instance]]\nurl = \"https://a\"\n[[instance]]\nurl = \"https://a\"\n", 2, "instance_twice"),
    ] {
        std::fs::write(&file, text).unwrap();
        let mut proxy = rig.command(&["proxy"], "--upstream");
        let told = err(&run(proxy.args(["--listen", "127.0.0.1:0", "--upstreams"]).arg(&file), status));
        assert!(told.contains(&format!("[{code}]")), "{told}");
    }
    let mut proxy = rig.command(&["proxy"], "--upstream");
    let told = err(&run(proxy.args(["--listen", "127.0.0.1:0", "--upstreams"]).arg(rig.path("missing")), 1));
    assert!(told.contains("[config_unreadable]"), "{told}");
    let mut proxy = rig.command(&["proxy"], "--upstream");
    let told = err(&run(proxy.args(["--listen", "127.0.0.1:0", "--upstream", &rig.guest.url()]), 2));
    assert!(told.contains("[instance_twice]"), "{told}");
    for text in ["", "\n", "two words", "caf\u{e9}", &"a".repeat(16 * 1024 + 1)] {
        std::fs::write(&file, text).unwrap();
        for (flag, code) in [("--token-file", "token_file"), ("--upstream-key-file", "upstream_key_file")] {
            let mut proxy = rig.command(&["proxy"], "--upstream");
            let told = err(&run(proxy.args(["--listen", "127.0.0.1:0", flag]).arg(&file), 30));
            assert!(told.contains(&format!("[{code}]")), "{told}");
        }
    }
    let mut proxy = rig.command(&["proxy"], "--upstream");
    let told = err(&run(proxy.args(["--listen", "0.0.0.0:0", "--danger-listen-anywhere"]), 2));
    assert!(told.contains("[token_missing]"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_listens_on_loopback_unless_told_otherwise() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let proxy = |address: &str| {
        let mut command = rig.command(&["proxy"], "--upstream");
        command.args(["--listen", address]);
        command
    };
    assert!(err(&run(&mut proxy("0.0.0.0:0"), 2)).contains("[listen_not_loopback]"));
    run(&mut proxy("localhost"), 2);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(err(&run(&mut proxy(&address), 1)).contains("[listen_failed]"));
    let plain = rig.guest.url().replace("https", "http");
    let mut command = confide();
    command.args(["proxy", "--upstream", &plain, "--danger-policy"]).arg(rig.path("danger-test.toml"));
    assert!(err(&run(&mut command, 2)).contains("[plain_http_refused]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_file_that_holds_no_records_is_left_as_it_was_and_nothing_is_sent() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let file = rig.path("notes.txt");
    std::fs::write(&file, "notes of somebody\n").unwrap();
    let mut chat = rig.chat();
    chat.arg("--record").arg(&file).arg(SECRET);
    let mut record = rig.guest_of(&["record"]);
    record.arg("--out").arg(&file);
    let mut proxy = rig.command(&["proxy"], "--upstream");
    proxy.args(["--listen", "127.0.0.1:0", "--record"]).arg(&file);
    for command in [&mut chat, &mut record, &mut proxy] {
        let output = run(command, 30);
        let told = err(&output);
        assert!(out(&output).is_empty(), "it says that it listens: {}", out(&output));
        assert!(told.contains(file.to_str().unwrap()), "{told}");
        assert!(told.contains("[record_malformed]"), "{told}");
        assert_eq!(std::fs::read(&file).unwrap(), b"notes of somebody\n");
    }
    assert!(!rig.guest.guest.saw(SECRET.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_whose_record_cannot_be_written_ends() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let mut command = rig.command(&["proxy"], "--upstream");
    command.args(["--listen", "127.0.0.1:0", "--record"]).arg(rig.path("missing").join("record.cbor"));
    let output = run(&mut command, 1);
    assert!(err(&output).contains("[file_unwritable]"), "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_file_that_is_broken_while_the_proxy_serves_ends_it_with_1() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let (record, fleet) = (rig.path("record.cbor"), rig.path("fleet.toml"));
    std::fs::write(&fleet, "").unwrap();
    let mut command = confide();
    command.args(["proxy", "--listen", "127.0.0.1:0", "--danger-policy"]).arg(rig.path("danger-test.toml"));
    command.arg("--upstreams").arg(&fleet).arg("--record").arg(&record);
    let (mut proxy, _) = start(&mut command);
    std::fs::write(&record, "notes of somebody\n").unwrap();
    std::fs::write(&fleet, format!("[[instance]]\nurl = \"{}\"\n", rig.guest.url())).unwrap();
    assert_eq!(proxy.0.wait().unwrap().code(), Some(1));
    let mut told = String::new();
    proxy.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("[record_malformed]") && told.contains(record.to_str().unwrap()), "{told}");
    assert_eq!(std::fs::read(&record).unwrap(), b"notes of somebody\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_a_folder_that_is_recorded_to_is_refused_at_once() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let mut holder = rig.command(&["proxy"], "--upstream");
    let (holder, _) = start(holder.args(["--listen", "127.0.0.1:0", "--record"]).arg(rig.path("hold/")));
    let file = rig.path("hold").join("appraisals.cbor");
    let mut chat = rig.chat();
    chat.arg("--record").arg(&file).arg(SECRET);
    let mut record = rig.guest_of(&["record"]);
    record.arg("--out").arg(&file);
    let mut proxy = rig.command(&["proxy"], "--upstream");
    proxy.args(["--listen", "127.0.0.1:0", "--record"]).arg(&file);
    for command in [&mut chat, &mut record, &mut proxy] {
        let output = run(command, 1);
        assert!(err(&output).contains("[record_folder_in_use]"), "{}", err(&output));
        assert!(out(&output).is_empty(), "{}", out(&output));
    }
    assert!(!rig.guest.guest.saw(SECRET.as_bytes()));
    end(holder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_told_that_the_question_is_read_from_it() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let (mut controller, terminal) = terminal();
    let mut command = rig.chat();
    command.arg("--json").stdin(terminal).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop(command);
    controller.write_all(b"first\n\x04").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(err(&output).contains("the question is read from standard input"), "{}", err(&output));
    let piped = run_with_input(rig.chat().arg("--json"), b"second", 0);
    assert!(!err(&piped).contains("standard input"), "{}", err(&piped));
}
