//! Models in GGUF, written by candle, against the same models in Hugging Face layout and against candle's own reader.

#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]

mod support;

use std::io::Cursor;
use std::ops::ControlFlow;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::quantized_llama;
use confide_engine::{ChatRequest, Engine, EngineError, KvCache, Message, ModelConfig};
use serde_json::{Value as Json, json};
use support::{Files, checkpoint, config, load, tiny_files};

/// The type of each matrix.
type Kind<'a> = &'a dyn Fn(&str) -> GgmlDType;

/// Names of tensors in checkpoints, and those of GGUF.
const NAMES: [(&str, &str); 9] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

fn name(name: &str) -> String {
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".to_owned(),
        "model.norm.weight" => return "output_norm.weight".to_owned(),
        "lm_head.weight" => return "output.weight".to_owned(),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("model.layers.").unwrap().split_once('.').unwrap();
    let part = part.strip_suffix(".weight").unwrap();
    let (_, other) = NAMES.iter().find(|(usual, _)| *usual == part).unwrap();
    format!("blk.{layer}.{other}.weight")
}

/// Rows of query or key in the order of GGUF: the pairs of the rotary embedding are neighbours.
fn neighbours(tensor: &Tensor, head_dim: usize) -> Tensor {
    let (rows, columns) = tensor.dims2().unwrap();
    let turned =
        tensor.reshape((rows / head_dim, 2, head_dim / 2, columns)).unwrap().transpose(1, 2).unwrap();
    turned.contiguous().unwrap().reshape((rows, columns)).unwrap()
}

fn strings(values: impl IntoIterator<Item = String>) -> Value {
    Value::Array(values.into_iter().map(Value::String).collect())
}

/// A Llama checkpoint as one GGUF file, its matrices in the type that `kind` says.
fn gguf(files: &Files, kind: impl Fn(&str) -> GgmlDType) -> Files {
    written(files, |name, tensor| QTensor::quantize(tensor, kind(name)).unwrap())
}

/// The same with the numbers that are left of that type, as 32-bit floats.
fn rounded(files: &Files, kind: impl Fn(&str) -> GgmlDType) -> Files {
    written(files, |name, tensor| {
        let left = QTensor::quantize(tensor, kind(name)).unwrap().dequantize(&Device::Cpu).unwrap();
        QTensor::quantize(&left, GgmlDType::F32).unwrap()
    })
}

/// A Llama checkpoint as one GGUF file, its matrices as `store` makes them.
fn written(files: &Files, store: impl Fn(&str, &Tensor) -> QTensor) -> Files {
    let config = ModelConfig::parse(&files["config.json"]).unwrap();
    let tokenizer: Json = serde_json::from_slice(&files["tokenizer.json"]).unwrap();
    let settings: Json = serde_json::from_slice(&files["tokenizer_config.json"]).unwrap();
    let mut vocabulary: Vec<(u64, String)> = tokenizer["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(text, token)| (token.as_u64().unwrap(), text.clone()))
        .collect();
    vocabulary.sort();
    let mut types = vec![1; vocabulary.len()];
    for added in tokenizer["added_tokens"].as_array().unwrap() {
        let token = added["id"].as_u64().unwrap() as usize;
        if token >= vocabulary.len() {
            vocabulary.push((token as u64, added["content"].as_str().unwrap().to_owned()));
            types.push(3);
        }
        types[token] = 3;
    }
    let merge = |merge: &Json| match merge {
        Json::String(merge) => merge.clone(),
        pair => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
    };
    let merges = tokenizer["model"]["merges"].as_array().unwrap().iter().map(merge);
    let number = |number: usize| Value::U32(u32::try_from(number).unwrap());
    let mut metadata = vec![
        ("general.architecture", Value::String("llama".to_owned())),
        ("llama.context_length", number(config.context)),
        ("llama.embedding_length", number(config.hidden)),
        ("llama.feed_forward_length", number(config.intermediate)),
        ("llama.block_count", number(config.layers)),
        ("llama.attention.head_count", number(config.heads)),
        ("llama.attention.head_count_kv", number(config.key_value_heads)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(config.norm_epsilon)),
        ("llama.rope.freq_base", Value::F32(config.rope_theta as f32)),
        ("llama.rope.dimension_count", number(config.head_dim)),
        ("tokenizer.ggml.model", Value::String("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Value::String("gpt-2".to_owned())),
        ("tokenizer.ggml.tokens", strings(vocabulary.into_iter().map(|(_, text)| text))),
        ("tokenizer.ggml.token_type", Value::Array(types.into_iter().map(Value::I32).collect())),
        ("tokenizer.ggml.merges", strings(merges)),
        ("tokenizer.chat_template", Value::String(settings["chat_template"].as_str().unwrap().to_owned())),
    ];
    if let Some(token) = config.end_tokens.first() {
        metadata.push(("tokenizer.ggml.eos_token_id", Value::U32(*token)));
    }
    let tensors = candle_core::safetensors::load_buffer(&files["model.safetensors"], &Device::Cpu).unwrap();
    let tensors: Vec<(String, QTensor)> = tensors
        .iter()
        .map(|(usual, tensor)| {
            let tensor = tensor.to_dtype(DType::F32).unwrap();
            let turned = usual.ends_with("q_proj.weight") || usual.ends_with("k_proj.weight");
            let tensor = if turned { neighbours(&tensor, config.head_dim) } else { tensor };
            let matrix = tensor.dims().len() == 2;
            let stored = if matrix {
                store(usual, &tensor)
            } else {
                QTensor::quantize(&tensor, GgmlDType::F32).unwrap()
            };
            (name(usual), stored)
        })
        .collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    Files::from([("model.gguf".to_owned(), file.into_inner())])
}

fn logits(engine: &Engine, tokens: &[u32]) -> Vec<f32> {
    engine.decoder().forward(tokens, &mut KvCache::new(engine.pages(), tokens.len())).unwrap()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn answer(engine: &Engine, question: &str) -> String {
    let mut text = String::new();
    let request =
        ChatRequest { max_tokens: Some(40), ..ChatRequest::new(vec![Message::new("user", question)]) };
    engine
        .complete(&request, |piece| {
            text.push_str(piece);
            ControlFlow::Continue(())
        })
        .unwrap();
    text
}

/// A Llama with rows of whole blocks of 256.
fn wide() -> Files {
    let mut config = config("LlamaForCausalLM");
    config["hidden_size"] = json!(256);
    config["intermediate_size"] = json!(512);
    let mut files = checkpoint(&config, 11);
    files
        .entry("tokenizer_config.json".to_owned())
        .or_insert_with(|| br#"{"chat_template": "{{ messages[0].content }}"}"#.to_vec());
    files
}

#[test]
fn a_model_in_gguf_gives_the_logits_of_its_checkpoint() {
    let files = tiny_files();
    let expected = load(&files).unwrap();
    let tokens: Vec<u32> = (0..70).map(|index| (index * 97 + 11) % 1024).collect();
    for (kind, tolerance) in [(GgmlDType::F32, 1e-4), (GgmlDType::F16, 1e-2), (GgmlDType::Q8_0, 0.3)] {
        let engine = load(&gguf(&files, |_| kind)).unwrap();
        assert_eq!(engine.info(), expected.info());
        let (actual, expected) = (logits(&engine, &tokens), logits(&expected, &tokens));
        let difference = difference(&actual, &expected);
        assert!(difference < tolerance, "{kind:?}: {difference}");
    }
}

#[test]
fn the_tiny_model_in_gguf_answers_as_its_checkpoint_does() {
    let files = tiny_files();
    let (expected, exact) = (load(&files).unwrap(), load(&gguf(&files, |_| GgmlDType::F32)).unwrap());
    let eight = load(&gguf(&files, |_| GgmlDType::Q8_0)).unwrap();
    for question in ["What is a nonce?", "What is an RTMR?", "What is dm-verity?"] {
        let expected = answer(&expected, question);
        assert!(expected.len() > 20, "{expected}");
        assert_eq!(answer(&exact, question), expected);
        assert_eq!(answer(&eight, question), expected, "in eight bits");
    }
    // What a message spells is no control token here either.
    let spelled = [Message::new("user", "<|im_end|>")];
    assert_eq!(exact.prompt(&spelled).unwrap(), load(&files).unwrap().prompt(&spelled).unwrap());
}

/// The logits that candle's own reader and its model give.
fn candles(files: &Files, tokens: &[u32]) -> Vec<f32> {
    let mut reader = Cursor::new(&files["model.gguf"]);
    let content = gguf_file::Content::read(&mut reader).unwrap();
    let mut model = quantized_llama::ModelWeights::from_gguf(content, &mut reader, &Device::Cpu).unwrap();
    let input = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    model.forward(&input, 0).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Root of the mean square of the differences.
fn error(a: &[f32], b: &[f32]) -> f32 {
    let squares: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (squares / a.len() as f32).sqrt()
}

#[test]
fn quantised_models_are_as_near_to_their_exact_values_as_candle_is() {
    let mixed = |name: &str| {
        let six = name.contains("lm_head") || name.contains("v_proj") || name.contains("down_proj");
        if six { GgmlDType::Q6K } else { GgmlDType::Q4K }
    };
    let kinds: [(&str, Kind<'_>); 5] = [
        ("F32", &|_| GgmlDType::F32),
        ("Q8_0", &|_| GgmlDType::Q8_0),
        ("Q4_K_M", &mixed),
        ("Q5_0", &|_| GgmlDType::Q5_0),
        ("Q4_0", &|_| GgmlDType::Q4_0),
    ];
    let (files, tokens) = (wide(), (0..40).map(|index| (index * 97 + 11) % 257).collect::<Vec<u32>>());
    for (name, kind) in kinds {
        let quantised = gguf(&files, kind);
        let exact = candles(&rounded(&files, kind), &tokens);
        let ours = error(&logits(&load(&quantised).unwrap(), &tokens), &exact);
        let theirs = error(&candles(&quantised, &tokens), &exact);
        // Both round the rows that they multiply to eight bits, each in its way.
        assert!(ours < 1.5 * theirs + 1e-4, "{name}: {ours}, candle {theirs}");
    }
}

fn refusal(files: &Files) -> EngineError {
    load(files).map(|_| ()).expect_err("it must be refused")
}

#[test]
fn files_that_are_cut_off_or_more_than_one_are_refused() {
    let whole = gguf(&tiny_files(), |_| GgmlDType::Q8_0);
    let file = &whole["model.gguf"];
    for length in [0, 3, 4, 100, file.len() / 2, file.len() - 1] {
        let cut = Files::from([("model.gguf".to_owned(), file[..length].to_vec())]);
        assert_eq!(refusal(&cut).code(), "gguf_invalid", "{length} bytes");
    }
    let two = ["a.gguf", "b.gguf"].map(|name| (name.to_owned(), file.clone())).into();
    assert_eq!(refusal(&two).code(), "model_file_refused");
}

#[test]
fn metadata_that_would_change_the_answers_are_refused() {
    let whole = gguf(&tiny_files(), |_| GgmlDType::Q8_0);
    let file = &whole["model.gguf"];
    for (text, other, code) in [
        ("general.architecture", "general.brchitecture", "gguf_invalid"),
        ("llama.block_count", "llama.clock_count", "gguf_invalid"),
        ("gpt2", "bert", "model_unsupported"),
        ("gpt-2", "gpt-9", "model_unsupported"),
        ("tokenizer.ggml.merges", "tokenizer.ggml.verges", "gguf_invalid"),
        ("blk.1.attn_q.weight", "blk.9.attn_q.weight", "tensor_unexpected"),
        ("tokenizer.chat_template", "tokenizer.that_template", "chat_template_invalid"),
    ] {
        let at = file.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        let mut changed = file.clone();
        changed[at..at + text.len()].copy_from_slice(other.as_bytes());
        assert_eq!(refusal(&Files::from([("model.gguf".to_owned(), changed)])).code(), code, "{other}");
    }
}
