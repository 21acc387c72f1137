//! Checkpoints for tests: the committed tiny model, and small random ones made at test time.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use confide_engine::{Engine, EngineError, MemoryFiles, ModelConfig, Resources, TensorSpec};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// Shapes and values by tensor name.
pub(crate) type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Files of a model by path.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The folder of the committed model.
pub(crate) fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/tiny")
}

/// The model files of the committed model.
pub(crate) fn tiny_files() -> Files {
    ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
        .map(|name| (name.to_owned(), std::fs::read(tiny().join(name)).unwrap()))
        .into()
}

/// Loads a model from memory.
pub(crate) fn load(files: &Files) -> Result<Engine, EngineError> {
    Engine::load(&mut MemoryFiles::new(files.clone()), &Resources { threads: 2, cache_bytes: Some(64 << 20) })
}

/// The error of loading a model that must not load.
pub(crate) fn refusal(files: &Files) -> EngineError {
    load(files).map(|_| ()).expect_err("the checkpoint must be refused")
}

/// `config.json` of a small model of an architecture: grouped heads, three layers, 257 tokens.
pub(crate) fn config(architecture: &str) -> Value {
    let mut config = json!({
        "architectures": [architecture], "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 257, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false, "eos_token_id": 256,
        "hidden_act": "silu", "max_window_layers": 3, "use_sliding_window": false, "sliding_window": 256,
        "attention_bias": false
    });
    if architecture == "Qwen3ForCausalLM" {
        config["head_dim"] = json!(20);
    }
    config
}

/// A random model with this configuration.
pub(crate) fn checkpoint(config: &Value, seed: u64) -> Files {
    let json = serde_json::to_vec(config).unwrap();
    let parsed = ModelConfig::parse(&json).unwrap();
    Files::from([
        ("config.json".to_owned(), json),
        ("model.safetensors".to_owned(), weights(&tensors(&parsed, seed))),
        ("tokenizer.json".to_owned(), byte_tokenizer()),
        ("chat_template.jinja".to_owned(), b"{% for m in messages %}{{ m.content }}\n{% endfor %}".to_vec()),
    ])
}

/// A random checkpoint of an architecture.
pub(crate) fn random(architecture: &str) -> Files {
    checkpoint(&config(architecture), 7)
}

/// Random values for every tensor of a configuration.
pub(crate) fn tensors(config: &ModelConfig, seed: u64) -> Tensors {
    let mut random = StdRng::seed_from_u64(seed);
    let mut tensors = BTreeMap::new();
    for TensorSpec { name, shape } in TensorSpec::all(config) {
        let offset = if name.contains("norm") { 1.0 } else { 0.0 };
        let values = (0..shape.iter().product()).map(|_| offset + random.random_range(-0.3..0.3)).collect();
        tensors.insert(name, (shape, values));
    }
    tensors
}

/// A safetensors file.
pub(crate) fn weights(tensors: &Tensors) -> Vec<u8> {
    let bytes: BTreeMap<_, Vec<u8>> = tensors
        .iter()
        .map(|(name, (_, values))| (name, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let views = tensors.iter().map(|(name, (shape, _))| {
        (name.clone(), TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// A tokenizer whose tokens 0 to 255 are the bytes and whose end token is 256.
pub(crate) fn byte_tokenizer() -> Vec<u8> {
    let vocabulary: serde_json::Map<String, Value> =
        (0..=255u8).map(|byte| (stand_in(byte).to_string(), json!(byte))).collect();
    let level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let end = json!({"id": 256, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [end], "normalizer": null,
        "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
            "merges": []}
    });
    serde_json::to_vec(&tokenizer).unwrap()
}

/// The character that byte-level tokenizers write for a byte: itself where it is printable in Latin-1, else
/// the next unused one from U+0100 on.
fn stand_in(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    if printable(byte) {
        return char::from(byte);
    }
    let earlier = (0..byte).filter(|other| !printable(*other)).count();
    char::from_u32(0x100 + u32::try_from(earlier).unwrap()).unwrap()
}
