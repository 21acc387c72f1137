//! Model folders that somebody made to do harm: each is refused, or does no more than answer badly. None ends the process,
//! takes memory without end, or puts what clients say into an error.

#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]

mod support;

use std::time::{Duration, Instant};

use confide_engine::{Engine, EngineError, Message};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Files, byte_tokenizer, checkpoint, config, load, random, refusal, weights};

/// What a client said.
const SAID: &str = "zq7-said";

/// A random Llama with this chat template.
fn with_template(template: &str) -> Files {
    let mut files = random("LlamaForCausalLM");
    files.insert("chat_template.jinja".to_owned(), template.as_bytes().to_vec());
    files
}

/// A random Llama whose tokenizer was changed.
fn with_tokenizer(change: impl FnOnce(&mut Value)) -> Files {
    let mut tokenizer = serde_json::from_slice(&byte_tokenizer()).unwrap();
    change(&mut tokenizer);
    let mut files = random("LlamaForCausalLM");
    files.insert("tokenizer.json".to_owned(), serde_json::to_vec(&tokenizer).unwrap());
    files
}

fn said(engine: &Engine) -> Result<Vec<u32>, EngineError> {
    engine.prompt(&[Message::new("user", SAID)])
}

#[test]
fn templates_that_never_end_or_call_themselves_are_refused_in_time() {
    for template in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
        "{% macro again(x) %}{{ again(x) }}{% endmacro %}{{ again(1) }}",
        "{% macro a(x) %}{{ b(x) }}{% endmacro %}{% macro b(x) %}{{ a(x) }}{% endmacro %}{{ a(1) }}",
        "{%- for x in [[[[1]]]] recursive %}{{ loop([x]) }}{% endfor %}",
        "{{ 'x' * 99999999999999 }}",
        "{{ [1] * 99999999999999 }}",
        "{% include 'chat_template' %}",
        "{% extends 'chat_template' %}",
        "{% import 'chat_template' as t %}{{ t }}",
        "{% include '/etc/passwd' %}",
        "{{ messages[0].content.__class__.__mro__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{{ undefined.attribute }}",
    ] {
        let begun = Instant::now();
        let outcome = load(&with_template(template)).and_then(|engine| said(&engine));
        let error = outcome.expect_err(template);
        assert!(
            matches!(error.code(), "chat_template_refused" | "chat_template_invalid"),
            "{template}: {error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(30), "{template}: {:?}", begun.elapsed());
    }
}

#[test]
fn templates_nested_without_end_are_refused() {
    for (open, close) in
        [("(", ")"), ("[", "]"), ("{% if x %}", "{% endif %}"), ("not ", ""), ("-", ""), ("{'a': ", "}")]
    {
        let nested = if open.starts_with("{%") {
            format!("{}{}", open.repeat(4_000), close.repeat(4_000))
        } else {
            let levels = 130_000 / (open.len() + close.len());
            format!("{{{{ {}1{} }}}}", open.repeat(levels), close.repeat(levels))
        };
        match load(&with_template(&nested)).and_then(|engine| said(&engine)) {
            Ok(_) => {}
            Err(error) => assert!(error.code().starts_with("chat_template_"), "{open}: {error}"),
        }
    }
    let long = "x".repeat((1 << 17) + 1);
    assert_eq!(refusal(&with_template(&long)).code(), "chat_template_invalid");
}

#[test]
fn what_a_template_raises_is_not_repeated() {
    for template in [
        "{{ raise_exception(messages[0].content) }}",
        "{{ messages[0].content.nothing() }}",
        "{{ messages[0].content | nothing }}",
        "{{ messages[0].content + 1 }}",
        "{{ messages[messages[0].content].x.y }}",
    ] {
        let error = load(&with_template(template)).and_then(|engine| said(&engine)).expect_err(template);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(SAID), "{template}: {shown}");
    }
}

#[test]
fn tokenizers_nested_without_end_are_refused() {
    for part in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
        let name = if part == "normalizer" { "normalizers" } else { "pretokenizers" };
        let open = format!("{{\"type\":\"Sequence\",\"{name}\":[");
        let nested = format!("{}{}", open.repeat(10_000), "]}".repeat(10_000));
        let json = String::from_utf8(byte_tokenizer()).unwrap();
        let mut files = random("LlamaForCausalLM");
        let json = format!("{{\"{part}\":{nested},{}", &json[1..]);
        files.insert("tokenizer.json".to_owned(), json.into_bytes());
        assert_eq!(refusal(&files).code(), "tokenizer_invalid", "{part}");
    }
}

#[test]
fn tokenizers_with_absurd_parts_are_refused_or_answer() {
    let vast = "a".repeat(1 << 20);
    let added = |id: u64, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": true,
        "rstrip": true, "normalized": true, "special": true})
    };
    let replace = |pattern: &str, content: &str| json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": content});
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let cases: Vec<(&str, Value)> = vec![
        ("added_tokens", json!([added(u64::from(u32::MAX), "x")])),
        ("added_tokens", json!([added(256, ""), added(256, "a"), added(256, "b")])),
        ("added_tokens", json!([added(256, &vast)])),
        ("added_tokens", json!([added(256, &"a".repeat(256))])),
        ("added_tokens", (256..9000).map(|id| added(id, &format!("{id}{}", "a".repeat(200)))).collect()),
        ("added_tokens", json!([added(97, "a")])),
        ("normalizer", replace("(a*)*b", "c")),
        ("normalizer", replace("", "x")),
        ("normalizer", json!({"type": "Prepend", "prepend": vast})),
        ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        ("pre_tokenizer", split("(?=(a+)+$)")),
        ("pre_tokenizer", split("")),
        ("pre_tokenizer", split("(")),
        (
            "pre_tokenizer",
            json!({"type": "Split", "pattern": {"String": ""}, "behavior": "Removed", "invert": true}),
        ),
        ("decoder", json!({"type": "Strip", "content": "a", "start": u64::MAX, "stop": u64::MAX})),
        ("decoder", json!({"type": "ByteFallback"})),
        (
            "post_processor",
            json!({"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}),
        ),
        (
            "truncation",
            json!({"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 9}),
        ),
        (
            "padding",
            json!({"strategy": {"Fixed": u64::MAX}, "direction": "Left", "pad_to_multiple_of": 0,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "x"}),
        ),
        ("model", json!({"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []})),
        ("model", json!({"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]})),
        ("model", json!({"type": "BPE", "vocab": {}, "merges": []})),
        ("model", json!({"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 2.0})),
        ("model", json!({"type": "Unigram", "unk_id": 7, "vocab": [["a", 0.0]]})),
        ("model", json!({"type": "Unigram", "unk_id": null, "vocab": []})),
        (
            "model",
            json!({"type": "WordPiece", "unk_token": "x", "continuing_subword_prefix": "", "vocab": {},
            "max_input_chars_per_word": 0}),
        ),
        ("model", json!({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "u"})),
    ];
    for (part, value) in cases {
        let shown: String = value.to_string().chars().take(100).collect();
        let begun = Instant::now();
        let outcome = load(&with_tokenizer(|tokenizer| tokenizer[part] = value)).and_then(|engine| {
            said(&engine)?;
            engine.prompt(&[Message::new("user", "a".repeat(300))])?;
            engine.tokenizer().decode(&[0, 97, 256])
        });
        if let Err(error) = outcome {
            assert!(
                matches!(error.code(), "tokenizer_invalid" | "control_token_in_message"),
                "{part}: {shown}: {error}"
            );
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{part}: {shown}: {:?}", begun.elapsed());
    }
}

/// A safetensors file with this header in front of the data.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut content = (header.len() as u64).to_le_bytes().to_vec();
    content.extend_from_slice(header.as_bytes());
    content.resize(content.len() + data, 0);
    content
}

#[test]
fn tensors_that_overlap_leave_gaps_or_repeat_are_refused() {
    let tensor = |name: &str, from: usize, to: usize| {
        format!(
            "\"{name}\":{{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[{from},{to}]}}",
            (to - from) / 4
        )
    };
    for (what, header, data) in [
        ("overlap", format!("{{{},{}}}", tensor("a", 0, 8), tensor("b", 4, 12)), 12),
        ("the same bytes", format!("{{{},{}}}", tensor("a", 0, 8), tensor("b", 0, 8)), 8),
        ("a gap", format!("{{{},{}}}", tensor("a", 0, 4), tensor("b", 8, 12)), 12),
        ("the same name", format!("{{{},{}}}", tensor("a", 0, 4), tensor("a", 4, 8)), 8),
        ("a gap at the start", format!("{{{}}}", tensor("a", 4, 8)), 8),
        ("no tensor", "{}".to_owned(), 4),
        ("a shape of another size", format!("{{{}}}", tensor("a", 0, 4).replace("[1]", "[2]")), 4),
        ("deep", format!("{{\"__metadata__\":{}}}", "[".repeat(100_000)), 0),
    ] {
        let mut files = random("LlamaForCausalLM");
        files.insert("model.safetensors".to_owned(), safetensors(&header, data));
        assert_eq!(refusal(&files).code(), "model_weights_invalid", "{what}");
    }
}

#[test]
fn an_index_with_a_million_shards_or_files_of_other_kinds_is_refused() {
    let index = |map: Value| {
        let mut files = random("LlamaForCausalLM");
        let json = serde_json::to_vec(&json!({"weight_map": map})).unwrap();
        files.insert("model.safetensors.index.json".to_owned(), json);
        refusal(&files).code()
    };
    let shards: serde_json::Map<_, _> =
        (0..100_000).map(|index| (index.to_string(), json!(format!("{index}")))).collect();
    assert_eq!(index(json!(shards)), "model_file_missing");
    for other in [
        "config.json",
        "tokenizer.json",
        "model.safetensors.index.json",
        "/dev/zero",
        "./model.safetensors",
        "",
    ] {
        assert_eq!(index(json!({"a": other})), "model_file_missing", "{other}");
    }
    assert_eq!(index(json!({})), "tensor_missing");
}

#[test]
fn a_vocabulary_with_rows_that_no_token_names_answers() {
    // The end of the vocabulary is padding in many checkpoints; a model may draw it all the same.
    let mut config = config("LlamaForCausalLM");
    config["vocab_size"] = json!(300);
    let engine = load(&checkpoint(&config, 7)).unwrap();
    assert_eq!(engine.tokenizer().decode(&[97, 299, 98]).unwrap(), "ab");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_changed_byte_of_any_small_file_is_refused_or_answers(
        file in prop::sample::select(vec!["config.json", "tokenizer.json", "chat_template.jinja"]),
        place: prop::sample::Index,
        byte: u8,
    ) {
        let mut files = random("LlamaForCausalLM");
        let content = files.get_mut(file).unwrap();
        let place = place.index(content.len());
        content[place] = byte;
        if let Err(error) = load(&files).and_then(|engine| said(&engine)) {
            prop_assert!(!error.to_string().contains(SAID));
        }
    }

    #[test]
    fn a_changed_byte_of_the_weights_header_is_refused_or_answers(place in 0usize..6000, byte: u8) {
        let mut files = random("LlamaForCausalLM");
        files.get_mut("model.safetensors").unwrap()[place] = byte;
        let _ = load(&files).and_then(|engine| said(&engine));
    }
}

#[test]
fn the_files_that_these_tests_change_load_unchanged() {
    said(&load(&random("LlamaForCausalLM")).unwrap()).unwrap();
    said(&load(&with_template("{{ messages[0].content }}")).unwrap()).unwrap();
    said(&load(&with_tokenizer(|_| {})).unwrap()).unwrap();
    assert!(safetensors("{}", 0).len() < weights(&support::Tensors::new()).len() + 16);
}
