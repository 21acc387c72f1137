//! Prints the speed of a model, as one JSON object on one line:
//! `cargo run -p confide-engine --example decode_rate [-- MODEL_FOLDER [TOKENS]]`.
//!
//! `prefill_tokens_per_second` is for a prompt of half the context, `decode_tokens_per_second` for the tokens
//! after it, one request at a time; the medians of five runs.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use confide_engine::{Engine, KvCache, ModelDirectory, Sampler, Sampling};

const RUNS: usize = 5;
const PREFILL: usize = 64;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/tiny");
    let folder = arguments.next().map_or(tiny, PathBuf::from);
    let engine = Engine::load(&mut ModelDirectory::open(&folder)?)?;
    let context = engine.decoder().config().context;
    let prompt = context / 2;
    let tokens =
        arguments.next().map_or(Ok(context / 4), |tokens| tokens.parse()).context("TOKENS is a number")?;
    ensure!(
        tokens > 0 && tokens <= context - prompt,
        "1 to {} tokens fit behind the prompt",
        context - prompt
    );

    let mut runs = (0..RUNS).map(|_| measure(&engine, prompt, tokens)).collect::<Result<Vec<_>>>()?;
    let median = |runs: &mut Vec<(Duration, Duration)>, key: fn(&(Duration, Duration)) -> Duration| {
        runs.sort_by_key(key);
        key(&runs[RUNS / 2]).as_secs_f64()
    };
    let rates = serde_json::json!({
        "parameters": engine.info().parameters,
        "prompt_tokens": prompt,
        "completion_tokens": tokens,
        "prefill_tokens_per_second": (prompt as f64 / median(&mut runs, |run| run.0)).round(),
        "decode_tokens_per_second": (tokens as f64 / median(&mut runs, |run| run.1)).round(),
    });
    println!("{rates}");
    Ok(())
}

/// Times of a prompt and of the tokens after it. The prompt is arbitrary: the work does not depend on it.
fn measure(engine: &Engine, prompt: usize, tokens: usize) -> Result<(Duration, Duration)> {
    let vocabulary = u32::try_from(engine.decoder().config().vocabulary)?;
    let prompt: Vec<u32> = (0..vocabulary).cycle().step_by(7).take(prompt).collect();
    let mut cache = KvCache::new(engine.decoder().config(), prompt.len() + tokens)?;
    let start = Instant::now();
    let mut logits = Vec::new();
    for part in prompt.chunks(PREFILL) {
        logits = engine.decoder().forward(part, &mut cache)?;
    }
    let (prefill, start) = (start.elapsed(), Instant::now());
    let mut sampler = Sampler::new(Sampling::greedy());
    for _ in 0..tokens {
        let token = sampler.draw(logits);
        logits = engine.decoder().forward(&[token], &mut cache)?;
    }
    Ok((prefill, start.elapsed()))
}
