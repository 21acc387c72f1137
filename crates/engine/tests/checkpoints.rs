//! Checkpoints that must load, and those that must not, each with its code.

#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]

mod support;

use confide_engine::{ChatRequest, EngineError, Message, ModelConfig};
use serde_json::{Value, json};
use support::{Files, Tensors, checkpoint, config, load, random, refusal, tensors, weights};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A random Llama whose tensors were changed.
fn changed(change: impl FnOnce(&mut Tensors)) -> Files {
    let config = config("LlamaForCausalLM");
    let parsed = ModelConfig::parse(&serde_json::to_vec(&config).unwrap()).unwrap();
    let mut tensors = tensors(&parsed, 7);
    change(&mut tensors);
    let mut files = checkpoint(&config, 7);
    files.insert(WEIGHTS.to_owned(), weights(&tensors));
    files
}

/// A random Llama in two shards.
fn sharded() -> Files {
    let config = config("LlamaForCausalLM");
    let parsed = ModelConfig::parse(&serde_json::to_vec(&config).unwrap()).unwrap();
    let mut files = checkpoint(&config, 7);
    files.remove(WEIGHTS);
    let mut map = serde_json::Map::new();
    let (first, second): (Tensors, Tensors) =
        tensors(&parsed, 7).into_iter().partition(|(name, _)| name.contains("layers.1"));
    for (path, part) in
        [("model-00001-of-00002.safetensors", first), ("model-00002-of-00002.safetensors", second)]
    {
        map.extend(part.keys().map(|name: &String| (name.clone(), Value::from(path))));
        files.insert(path.to_owned(), weights(&part));
    }
    files.insert(INDEX.to_owned(), serde_json::to_vec(&json!({"metadata": {}, "weight_map": map})).unwrap());
    files
}

fn answer(files: &Files) -> Vec<u8> {
    let engine = load(files).unwrap();
    let mut text = String::new();
    let request = ChatRequest { max_tokens: Some(20), ..ChatRequest::new(vec![Message::new("user", "abc")]) };
    engine
        .complete(&request, |delta| {
            text.push_str(delta);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    text.into_bytes()
}

#[test]
fn every_family_loads_and_says_its_size() {
    for architecture in ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"] {
        let info = load(&random(architecture)).unwrap().info();
        assert_eq!((info.context_tokens, info.vocabulary), (256, 257), "{architecture}");
        assert!(info.parameters > 50_000, "{architecture}");
    }
}

#[test]
fn shards_are_the_same_model() {
    assert_eq!(answer(&sharded()), answer(&random("LlamaForCausalLM")));
}

#[test]
fn missing_files_are_refused() {
    for name in ["config.json", WEIGHTS, "tokenizer.json"] {
        let mut files = random("LlamaForCausalLM");
        files.remove(name);
        assert!(matches!(refusal(&files), EngineError::FileMissing { path } if path == name));
    }
    let mut files = random("LlamaForCausalLM");
    files.remove("chat_template.jinja");
    assert_eq!(refusal(&files).code(), "chat_template_invalid");
    let mut files = sharded();
    files.remove("model-00002-of-00002.safetensors");
    assert_eq!(refusal(&files).code(), "model_file_missing");
}

#[test]
fn a_missing_tensor_is_named() {
    let name = "model.layers.2.mlp.up_proj.weight";
    let files = changed(|tensors| drop(tensors.remove(name)));
    assert!(matches!(refusal(&files), EngineError::TensorMissing { name: missing } if missing == name));
}

#[test]
fn an_unexpected_tensor_is_refused() {
    let name = "model.layers.0.self_attn.q_proj.bias";
    let files = changed(|tensors| drop(tensors.insert(name.to_owned(), (vec![48], vec![0.0; 48]))));
    assert!(matches!(refusal(&files), EngineError::TensorUnexpected { name: found } if found == name));
}

#[test]
fn another_shape_is_refused_with_both() {
    let files = changed(|tensors| {
        let norm = tensors.get_mut("model.norm.weight").unwrap();
        *norm = (vec![47], vec![1.0; 47]);
    });
    let error = refusal(&files);
    assert_eq!(error.to_string(), "tensor model.norm.weight has shape [47], expected [48]");
    assert_eq!(error.code(), "tensor_shape");
}

#[test]
fn sizes_beyond_the_file_are_refused_without_allocating_them() {
    for (field, value) in [
        ("vocab_size", 1 << 21),
        ("num_hidden_layers", 1 << 10),
        ("intermediate_size", 1 << 19),
        ("hidden_size", 1 << 12),
    ] {
        let mut files = random("LlamaForCausalLM");
        let mut config = config("LlamaForCausalLM");
        config[field] = json!(value);
        files.insert("config.json".to_owned(), serde_json::to_vec(&config).unwrap());
        assert!(matches!(refusal(&files).code(), "tensor_shape" | "tensor_missing"), "{field}");
    }
}

#[test]
fn a_tensor_of_another_type_is_refused() {
    let mut files = random("LlamaForCausalLM");
    let content = files.get_mut(WEIGHTS).unwrap();
    // Renames the type of every tensor in the header: four bytes each, as before.
    let header = String::from_utf8_lossy(&content[8..4096]).replace("\"F32\"", "\"I32\"");
    content.splice(8..8 + 3000, header.into_bytes()[..3000].iter().copied());
    assert_eq!(refusal(&files).code(), "tensor_type");
}

#[test]
fn every_truncated_weight_file_is_refused() {
    let files = random("LlamaForCausalLM");
    let length = files[WEIGHTS].len();
    for length in [0, 7, 8, 100, length / 2, length - 1] {
        let mut files = files.clone();
        files.get_mut(WEIGHTS).unwrap().truncate(length);
        assert_eq!(refusal(&files).code(), "model_weights_invalid", "{length} bytes");
    }
}

#[test]
fn trailing_bytes_and_hostile_headers_are_refused() {
    let mut longer = random("LlamaForCausalLM");
    longer.get_mut(WEIGHTS).unwrap().push(0);
    assert_eq!(refusal(&longer).code(), "model_weights_invalid");
    for header in [
        &b"{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551615,2],\"data_offsets\":[0,4]}}"[..],
        b"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}",
        b"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,99]}}",
        b"[]",
        b"\xff\xff",
    ] {
        let mut content = (header.len() as u64).to_le_bytes().to_vec();
        content.extend_from_slice(header);
        content.extend_from_slice(&[0; 4]);
        let mut files = random("LlamaForCausalLM");
        files.insert(WEIGHTS.to_owned(), content);
        assert_eq!(refusal(&files).code(), "model_weights_invalid");
    }
    let mut files = random("LlamaForCausalLM");
    files.insert(WEIGHTS.to_owned(), u64::MAX.to_le_bytes().to_vec());
    assert_eq!(refusal(&files).code(), "model_weights_invalid");
}

#[test]
fn an_index_cannot_name_files_outside_the_model() {
    let mut files = sharded();
    let index = json!({"weight_map": {"model.norm.weight": "../../etc/passwd"}});
    files.insert(INDEX.to_owned(), serde_json::to_vec(&index).unwrap());
    assert_eq!(refusal(&files).code(), "model_file_missing");
    files.insert(INDEX.to_owned(), b"{}".to_vec());
    assert_eq!(refusal(&files).code(), "model_config_invalid");
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_model_is_refused() {
    let mut config = config("LlamaForCausalLM");
    config["vocab_size"] = json!(256);
    let error = refusal(&checkpoint(&config, 7));
    assert_eq!(error.to_string(), "tokenizer.json is invalid: token 256 of a vocabulary of 256");
}

#[test]
fn weights_that_are_not_numbers_fail_the_request() {
    let files = changed(|tensors| tensors.get_mut("model.norm.weight").unwrap().1[3] = f32::NAN);
    let request = ChatRequest::new(vec![Message::new("user", "abc")]);
    let error =
        load(&files).unwrap().complete(&request, |_| std::ops::ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.code(), "model_not_finite");
    assert!(!error.blames_request());
}

#[test]
fn end_tokens_come_from_every_file_that_names_them() {
    // Greedy, this random model answers with the same first token each time; naming it as an end token in
    // generation_config.json ends the answer there.
    let files = random("LlamaForCausalLM");
    let engine = load(&files).unwrap();
    let mut cache = confide_engine::KvCache::new(engine.pages(), 8);
    let prompt = engine.tokenizer().encode("abc\n").unwrap();
    let logits = engine.decoder().forward(&prompt, &mut cache).unwrap();
    let first = confide_engine::Sampler::new(confide_engine::Sampling::greedy()).draw(logits);
    let mut ending = files.clone();
    let generation = json!({"eos_token_id": [256, first], "temperature": 0.6});
    ending.insert("generation_config.json".to_owned(), serde_json::to_vec(&generation).unwrap());
    assert_ne!(answer(&files), b"");
    assert_eq!(answer(&ending), b"");
}
