//! The first attested byte: from TCP connect to the first token of an answer, on a platform that is known.

use std::collections::HashSet;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use confide_client::{Client, PolicyText, Prompt, Protocols, Request};
use confide_simulator::{PlatformOptions, SimulatedGpu, SimulatedPlatform, SimulatedTd};
use http_body_util::BodyExt;

use crate::print_times;

const ROUNDS: usize = 200;
const QUESTION: &str =
    r#"{"model":"tiny","stream":true,"messages":[{"role":"user","content":"What is an RTMR?"}]}"#;

pub(crate) async fn measure(guest: SocketAddr, policy: PolicyText) -> Result<()> {
    // The policy says `every-connection`, so that each lease connects and attests anew: connections of HTTP/2 would be shared.
    // The first one prepares collateral.
    let client = Client::builder(&format!("https://{guest}"), policy)?.protocols(Protocols::Http1).build();
    let (mut attested, mut sent, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    let mut nonces = HashSet::new();
    for round in 0..=ROUNDS {
        let started = Instant::now();
        let lease = client.lease().await.context("the guest was refused")?;
        let is_attested = started.elapsed();
        ensure!(nonces.insert(*lease.verdict().nonce()), "a verdict that was there before");
        let request = Request::post("/v1/chat/completions", Prompt::from(QUESTION.to_owned()))?
            .header("content-type", b"application/json")?;
        let mut answer = lease.send(request).await?;
        let has_head = started.elapsed();
        answer.body.frame().await.context("no token")??;
        if round > 0 {
            attested.push(is_attested);
            sent.push(has_head);
            answered.push(started.elapsed());
        }
        // An answer that is not read to its end closes its connection: the next round dials.
        drop(answer);
    }
    print_times("TCP connect to verdict", &mut attested);
    print_times("TCP connect to the head of the first answer", &mut sent);
    print_times("TCP connect to its first token", &mut answered);
    print_times("of which the simulator's quote and GPU report", &mut quoting()?);
    Ok(())
}

/// What the software machine takes for a quote and a GPU's report, of which hardware has its own times.
fn quoting() -> Result<Vec<Duration>> {
    let (platform, gpu) = (SimulatedPlatform::new(PlatformOptions::at(0))?, SimulatedGpu::new(0)?);
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let drawn = u8::try_from(round % 256)?;
        let started = Instant::now();
        black_box(platform.quote(&SimulatedTd::default().report([drawn; 64])));
        black_box(gpu.report([drawn; 32]));
        times.push(started.elapsed());
    }
    Ok(times)
}
