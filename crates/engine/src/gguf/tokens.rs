//! The tokenizer of a GGUF file as a `tokenizer.json`.
//!
//! Two kinds are in use: byte-level pairs (`gpt2`), and the pairs of SentencePiece (`llama`), whose merges follow from the
//! scores of the tokens.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::file::{Gguf, Value, invalid};
use crate::error::EngineError;

/// Tokens of a vocabulary. The bound of `config.json`.
const MAX_TOKENS: usize = 1 << 21;
/// Bytes of a token of SentencePiece. The longest of published models has 64; each byte is a place to cut it.
const MAX_PIECE: usize = 1 << 9;

/// Types of tokens, as SentencePiece numbers them.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

/// How Llama 3 and its kin cut text before pairs are merged: numbers in groups of three digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As [`LLAMA3`], each digit by itself.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The `tokenizer.json` that says what the metadata of `file` says.
///
/// # Errors
/// The metadata are incomplete, contradict themselves, or are of a tokenizer that is not supported: another one would give
/// the model other tokens, and its users other answers.
pub(super) fn tokenizer(file: &Gguf<'_>) -> Result<Vec<u8>, EngineError> {
    let vocabulary = Vocabulary::read(file)?;
    let json = match file.text("tokenizer.ggml.model") {
        Some("gpt2") => byte_level(file, &vocabulary)?,
        Some("llama") => sentence_pieces(file, &vocabulary)?,
        other => return Err(unsupported(format!("tokenizer.ggml.model {:?}", other.unwrap_or("")))),
    };
    Ok(json.to_string().into_bytes())
}

/// The tokens of a file.
struct Vocabulary<'a> {
    texts: Vec<&'a str>,
    /// As many as texts, or none.
    types: Vec<u64>,
}

impl<'a> Vocabulary<'a> {
    fn read(file: &Gguf<'a>) -> Result<Self, EngineError> {
        let texts = texts(file, "tokenizer.ggml.tokens")?;
        if texts.is_empty() || texts.len() > MAX_TOKENS {
            return Err(invalid(format!("{} tokens, at least one and at most {MAX_TOKENS}", texts.len())));
        }
        let types = file.array("tokenizer.ggml.token_type").map(|types| types.iter().collect::<Vec<_>>());
        let types: Vec<u64> = types.unwrap_or_default().into_iter().map(number).collect();
        if !types.is_empty() && types.len() != texts.len() {
            return Err(invalid(format!("{} types of {} tokens", types.len(), texts.len())));
        }
        Ok(Self { texts, types })
    }

    fn kind(&self, token: usize) -> u64 {
        self.types.get(token).copied().unwrap_or_default()
    }

    /// Text to number.
    fn map(&self) -> Json {
        self.texts
            .iter()
            .enumerate()
            .map(|(token, text)| ((*text).to_owned(), json!(token)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// Tokens that text is searched for before all else: control tokens, which do not appear in the text of an answer, and those
    /// that the model's makers defined.
    fn added(&self) -> Json {
        let added = |(token, text): (usize, &&str)| {
            let kind = self.kind(token);
            matches!(kind, CONTROL | USER_DEFINED | UNKNOWN).then(|| {
                json!({"id": token, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": kind != USER_DEFINED})
            })
        };
        self.texts.iter().enumerate().filter_map(added).collect()
    }
}

/// Byte-level pairs: merges are given.
fn byte_level(file: &Gguf<'_>, vocabulary: &Vocabulary<'_>) -> Result<Json, EngineError> {
    let merges = texts(file, "tokenizer.ggml.merges")?;
    let split = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]})
    };
    let plain =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    let (cut, normalizer, ignore_merges) = match file.text("tokenizer.ggml.pre") {
        Some("llama-bpe" | "llama3" | "llama-v3") => (split(LLAMA3), Json::Null, true),
        Some("qwen2") => (split(QWEN2), json!({"type": "NFC"}), false),
        Some("gpt-2") => (plain, Json::Null, false),
        other => return Err(unsupported(format!("tokenizer.ggml.pre {:?}", other.unwrap_or("")))),
    };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": vocabulary.added(),
        "normalizer": normalizer, "pre_tokenizer": cut, "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": ignore_merges, "vocab": vocabulary.map(), "merges": merges}
    }))
}

/// Pairs of SentencePiece: a pair is merged before another where what it makes has the higher score.
fn sentence_pieces(file: &Gguf<'_>, vocabulary: &Vocabulary<'_>) -> Result<Json, EngineError> {
    let scores = file.array("tokenizer.ggml.scores").ok_or_else(|| missing("tokenizer.ggml.scores"))?;
    let scores: Vec<f64> =
        scores.iter().map(|score| if let Value::Float(score) = score { score } else { f64::NAN }).collect();
    if scores.len() != vocabulary.texts.len() || scores.iter().any(|score| score.is_nan()) {
        return Err(invalid("tokenizer.ggml.scores is not a number for each token"));
    }
    let unknown = (0..vocabulary.texts.len()).find(|token| vocabulary.kind(*token) == UNKNOWN);
    let unknown = unknown.and_then(|token| vocabulary.texts.get(token));
    let prefix = file.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true);
    let underline = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
    let mut normalizers = vec![underline];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "\u{2581}"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": vocabulary.added(),
        "normalizer": {"type": "Sequence", "normalizers": normalizers}, "pre_tokenizer": null,
        "post_processor": null, "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary.map(), "merges": merges(&vocabulary.texts, &scores)?}
    }))
}

/// Every way to make a token out of two others, the highest score first.
fn merges(texts: &[&str], scores: &[f64]) -> Result<Vec<[String; 2]>, EngineError> {
    let known: HashMap<&str, usize> = texts.iter().enumerate().map(|(token, text)| (*text, token)).collect();
    let mut merges: Vec<(f64, [String; 2])> = Vec::new();
    for (text, score) in texts.iter().zip(scores) {
        if text.len() > MAX_PIECE {
            return Err(invalid(format!("a token has {} bytes, at most {MAX_PIECE}", text.len())));
        }
        let cuts = text.char_indices().skip(1).filter_map(|(cut, _)| text.split_at_checked(cut));
        let mut ways: Vec<_> = cuts
            .filter_map(|(left, right)| Some((*known.get(left)?, *known.get(right)?, [left, right])))
            .collect();
        ways.sort_unstable();
        merges.extend(ways.into_iter().map(|(.., way)| (*score, way.map(str::to_owned))));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0));
    Ok(merges.into_iter().map(|(_, merge)| merge).collect())
}

fn texts<'a>(file: &Gguf<'a>, key: &str) -> Result<Vec<&'a str>, EngineError> {
    let array = file.array(key).ok_or_else(|| missing(key))?;
    let text = |value| if let Value::Text(text) = value { Some(text) } else { None };
    array.iter().map(text).collect::<Option<_>>().ok_or_else(|| missing(key))
}

fn number(value: Value<'_>) -> u64 {
    match value {
        Value::Unsigned(number) => number,
        Value::Signed(number) => u64::try_from(number).unwrap_or_default(),
        _ => 0,
    }
}

fn missing(key: &str) -> EngineError {
    invalid(format!("{key} is missing, or not of its type"))
}

fn unsupported(feature: String) -> EngineError {
    EngineError::ModelUnsupported { feature }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_come_in_the_order_of_the_scores_of_what_they_make() {
        let texts = ["a", "b", "c", "ab", "bc", "abc"];
        let scores = [0.0, 0.0, 0.0, -2.0, -1.0, -3.0];
        let merges = merges(&texts, &scores).unwrap();
        let pairs: Vec<_> = merges.iter().map(|[a, b]| (a.as_str(), b.as_str())).collect();
        assert_eq!(pairs, [("b", "c"), ("a", "b"), ("a", "bc"), ("ab", "c")]);
    }

    #[test]
    fn an_endless_token_is_refused() {
        let endless = "x".repeat(MAX_PIECE + 1);
        assert_eq!(merges(&[&endless], &[0.0]).unwrap_err().code(), "gguf_invalid");
    }
}
