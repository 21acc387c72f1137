//! The attackers of the demo against the client: each is refused for what is wrong with it and gets no byte of a
//! request. An attacker that does nothing wrong gets the whole of it, which shows that the counter counts.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;

use confide_client::{ChatRequest, Client, ClientError, PolicyText, Turn};
use confide_policy::Loaded;
use confide_testkit::attacker::{Attack, Attacker, Connection};
use confide_testkit::guest::{self, Guest, Listening, MODEL};
use confide_verifier::Status;

const SECRET: &str = "the secret question";

async fn attack(honest: &Listening, attack: Attack) -> Attacker {
    Attacker::start(SocketAddr::from(([127, 0, 0, 1], 0)), honest.address, attack).await.unwrap()
}

async fn ask(attacker: &Attacker, policy: String) -> Result<(), ClientError> {
    let policy = PolicyText::parse(policy, Loaded::AsDanger).unwrap();
    let client = Client::builder(&format!("https://{}", attacker.address()), policy)?.build();
    client.chat(ChatRequest::new(MODEL).turn(Turn::user(SECRET))).await.map(drop)
}

#[test]
fn the_program_tells_the_form_of_an_address() {
    for words in [&["--listen", "localhost:1"][..], &["--honest", "127.0.0.1"]] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_confide-attacker"));
        let output = command.args(["--attack", "relay"]).args(words).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("expected IP:PORT, such as 127.0.0.1:8443"), "{told}");
    }
}

fn lines(connections: &[Connection]) -> Vec<&str> {
    connections.iter().flat_map(|one| &one.requests).map(|request| request.line.as_str()).collect()
}

/// Runs one attack and gives the codes of the checks that failed.
async fn refusal(which: Attack) -> Vec<&'static str> {
    let honest = Guest::new(0).unwrap().listen().await.unwrap();
    let attacker = attack(&honest, which).await;
    let Err(ClientError::Rejected(appraised)) = ask(&attacker, guest::policy("per-key", 300)).await else {
        panic!("{which:?} was not rejected");
    };
    let seen = attacker.seen();
    assert_eq!(lines(&seen), ["POST /.well-known/confide/attestation"], "{which:?}");
    assert_eq!(seen.iter().map(Connection::bytes_beyond_attestation).sum::<usize>(), 0, "{which:?}");
    assert!(!honest.guest.saw(SECRET.as_bytes()), "{which:?}");
    let failed = appraised.result.checks.iter().filter(|check| check.status == Status::Fail);
    failed.map(|check| check.code).collect()
}

#[tokio::test]
async fn relayed_evidence_of_another_instance_is_refused() {
    assert_eq!(refusal(Attack::Relay).await, ["report_data"]);
}

#[tokio::test]
async fn one_changed_byte_of_the_model_manifest_is_refused() {
    assert_eq!(refusal(Attack::Manifest).await, ["model_manifest"]);
}

#[tokio::test]
async fn swapped_in_evidence_of_a_second_gpu_is_refused() {
    assert_eq!(refusal(Attack::GpuSwap).await, ["report_data"]);
}

#[tokio::test]
async fn a_gpu_in_the_place_of_the_measured_one_is_refused_though_all_is_signed() {
    assert_eq!(refusal(Attack::GpuReplaced).await, ["devices_event"]);
}

#[tokio::test]
async fn evidence_for_an_earlier_nonce_is_refused() {
    assert_eq!(refusal(Attack::Replay).await, ["report_data"]);
}

#[tokio::test]
async fn evidence_for_another_use_is_refused() {
    assert_eq!(refusal(Attack::Reflection).await, ["report_data"]);
}

#[tokio::test]
async fn other_keys_beside_a_genuine_quote_are_refused() {
    assert_eq!(refusal(Attack::KeySwap).await, ["report_data"]);
}

#[tokio::test]
async fn an_endpoint_without_an_attack_gets_the_request() {
    let honest = Guest::new(0).unwrap().listen().await.unwrap();
    let endpoint = attack(&honest, Attack::Honest).await;
    ask(&endpoint, guest::policy("per-key", 300)).await.unwrap();
    assert_whole_request(&endpoint.seen());
}

#[tokio::test]
async fn a_policy_that_waives_the_model_gives_an_attacker_the_request() {
    let honest = Guest::new(0).unwrap().listen().await.unwrap();
    let attacker = attack(&honest, Attack::Manifest).await;
    let policy = guest::policy("per-key", 300);
    let waived = policy.lines().map(|line| match line.starts_with("model = ") {
        true => "model = { waive = \"a control\" }",
        false => line,
    });
    ask(&attacker, waived.collect::<Vec<_>>().join("\n")).await.unwrap();
    assert_whole_request(&attacker.seen());
}

fn assert_whole_request(seen: &[Connection]) {
    assert_eq!(lines(seen), ["POST /.well-known/confide/attestation", "POST /v1/chat/completions"]);
    assert!(seen.iter().any(|one| one.contains(SECRET)));
    assert!(seen.iter().map(Connection::bytes_beyond_attestation).sum::<usize>() > SECRET.len());
}
