//! Speed of the tiny model: prompt and answer tokens a second, one sequence at a time.
//!
//! `cargo xtask bench` reads one line for each figure: name, median, 10th and 90th percentile in tokens a second,
//! separated by tabs.
#![expect(clippy::print_stdout, reason = "a program that measures")]

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use confide_engine::{ChatRequest, Engine, KvCache, Message, ModelDirectory, Resources, Sampling};

const ROUNDS: usize = 15;
/// Tokens of a measured prompt, and as many of a measured answer.
const TOKENS: usize = 128;

fn main() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/tiny");
    let engine = Engine::load(&mut ModelDirectory::open(&folder)?, &Resources::of_this_machine())?;
    let (mut prompts, mut answers, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (prompt, answer) = decode(&engine)?;
        prompts.push(speed(TOKENS, prompt));
        answers.push(speed(TOKENS, answer));
        let (tokens, whole) = request(&engine)?;
        requests.push(speed(tokens, whole));
    }
    print("prompt of 128 tokens, in one step", prompts);
    print("answer of 128 tokens, one a step", answers);
    print("\"What is an RTMR?\": answer tokens over the time of the whole request", requests);
    Ok(())
}

/// A prompt, then an answer of the same length that no stop token ends.
fn decode(engine: &Engine) -> Result<(Duration, Duration)> {
    let decoder = engine.decoder();
    let mut cache = KvCache::new(engine.pages(), 2 * TOKENS);
    let prompt: Vec<u32> = (0..TOKENS as u32).map(|token| 10 + token).collect();
    let started = Instant::now();
    decoder.forward(&prompt, &mut cache)?;
    let prompted = Instant::now();
    for token in &prompt {
        decoder.forward(&[*token], &mut cache)?;
    }
    Ok((prompted - started, prompted.elapsed()))
}

/// A request as the API makes it: template, tokens, sampling, text.
fn request(engine: &Engine) -> Result<(usize, Duration)> {
    let mut request = ChatRequest::new(vec![Message::new("user", "What is an RTMR?")]);
    request.sampling = Sampling::greedy();
    let started = Instant::now();
    let (_, usage) = engine.complete(&request, |_| ControlFlow::Continue(()))?;
    Ok((usage.completion_tokens as usize, started.elapsed()))
}

fn speed(tokens: usize, time: Duration) -> f64 {
    tokens as f64 / time.as_secs_f64()
}

fn print(name: &str, mut samples: Vec<f64>) {
    samples.sort_by(f64::total_cmp);
    let percentile = |percent: usize| samples[samples.len() * percent / 100];
    println!("{name}\t{:.0}\t{:.0}\t{:.0}", percentile(50), percentile(10), percentile(90));
}
