//! Logits equal those of candle-transformers, for every family, in one go, in parts and token by token.

#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]

mod support;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, qwen2, qwen3};
use confide_engine::{Engine, KvCache};
use serde_json::json;
use support::{Files, checkpoint, config, load, random, tiny_files};

const TOLERANCE: f32 = 1e-3;

/// A model of candle-transformers: logits after more tokens at a position.
type Oracle = Box<dyn FnMut(&Tensor, usize) -> candle_core::Result<Tensor>>;

fn weights(files: &Files) -> VarBuilder<'static> {
    let bytes = files["model.safetensors"].clone();
    VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap()
}

fn llama_oracle(files: &Files) -> Oracle {
    let config: llama::LlamaConfig = serde_json::from_slice(&files["config.json"]).unwrap();
    let config = config.into_config(false);
    let model = llama::Llama::load(weights(files), &config).unwrap();
    let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu).unwrap();
    Box::new(move |tokens, position| model.forward(tokens, position, &mut cache))
}

fn qwen2_oracle(files: &Files) -> Oracle {
    let config: qwen2::Config = serde_json::from_slice(&files["config.json"]).unwrap();
    let mut model = qwen2::ModelForCausalLM::new(&config, weights(files)).unwrap();
    Box::new(move |tokens, position| model.forward(tokens, position))
}

fn qwen3_oracle(files: &Files) -> Oracle {
    let config: qwen3::Config = serde_json::from_slice(&files["config.json"]).unwrap();
    let mut model = qwen3::ModelForCausalLM::new(&config, weights(files)).unwrap();
    Box::new(move |tokens, position| model.forward(tokens, position))
}

/// Tokens that look random and are all in the vocabulary.
fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|index| (index * 97 + 11) % 257).collect()
}

/// Compares a prompt of 70 tokens and 12 more, one at a time.
fn compare(name: &str, files: &Files, mut oracle: Oracle) {
    let engine = load(files).unwrap();
    let mut cache = KvCache::new(engine.pages(), 96);
    let tokens = tokens(82);
    let mut position = 0;
    for part in std::iter::once(&tokens[..70]).chain(tokens[70..].chunks(1)) {
        let input = Tensor::new(part, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let expected: Vec<f32> = oracle(&input, position).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let actual = engine.decoder().forward(part, &mut cache).unwrap();
        position += part.len();
        assert_eq!(actual.len(), expected.len());
        let spread = expected.iter().fold(0f32, |most, logit| most.max(logit.abs()));
        assert!(spread > 0.1, "{name}: the logits are all about zero, which proves nothing");
        assert!(difference(&actual, &expected) < TOLERANCE, "{name}: position {position}");
    }
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn the_committed_model_agrees_with_candle_transformers() {
    let files = tiny_files();
    compare("tiny", &files, llama_oracle(&files));
}

#[test]
fn a_random_llama_agrees_with_candle_transformers() {
    let files = random("LlamaForCausalLM");
    compare("llama", &files, llama_oracle(&files));
}

#[test]
fn a_random_llama_with_stretched_positions_agrees_with_candle_transformers() {
    let mut config = config("LlamaForCausalLM");
    config["tie_word_embeddings"] = json!(true);
    config["rope_theta"] = json!(500.0);
    config["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
    let files = checkpoint(&config, 3);
    compare("llama3", &files, llama_oracle(&files));
}

#[test]
fn a_random_qwen2_agrees_with_candle_transformers() {
    let files = random("Qwen2ForCausalLM");
    compare("qwen2", &files, qwen2_oracle(&files));
}

#[test]
fn a_random_qwen3_agrees_with_candle_transformers() {
    let files = random("Qwen3ForCausalLM");
    compare("qwen3", &files, qwen3_oracle(&files));
}

#[test]
fn parts_of_a_prompt_give_the_logits_of_the_whole() {
    let engine = load(&random("Qwen3ForCausalLM")).unwrap();
    let (prompt, whole) = (tokens(64), run(&engine, &[64]));
    for parts in [&[1, 63][..], &[32, 32], &[63, 1], &[5, 20, 39]] {
        assert_eq!(parts.iter().sum::<usize>(), prompt.len());
        assert!(difference(&run(&engine, parts), &whole) < 1e-4, "{parts:?}");
    }
}

/// Logits after 64 tokens that are run in `parts`.
fn run(engine: &Engine, parts: &[usize]) -> Vec<f32> {
    let mut cache = KvCache::new(engine.pages(), 64);
    let (tokens, mut logits) = (tokens(64), Vec::new());
    for part in parts {
        let start = cache.len();
        logits = engine.decoder().forward(&tokens[start..start + part], &mut cache).unwrap();
    }
    logits
}

#[test]
fn a_full_cache_and_an_unknown_token_are_errors() {
    let engine = load(&random("LlamaForCausalLM")).unwrap();
    let mut cache = KvCache::new(engine.pages(), 4);
    assert_eq!(engine.decoder().forward(&[257], &mut cache).unwrap_err().code(), "engine_compute");
    assert_eq!(engine.decoder().forward(&[], &mut cache).unwrap_err().code(), "context_length_exceeded");
    engine.decoder().forward(&[1, 2, 3], &mut cache).unwrap();
    assert_eq!(engine.decoder().forward(&[1, 2], &mut cache).unwrap_err().code(), "context_length_exceeded");
    assert_eq!(cache.len(), 3);
}
