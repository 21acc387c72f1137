//! The files of the tiny model but its weights: the same bytes each time, from the committed text.

use std::collections::BTreeMap;

use anyhow::{Context as _, Error, Result};
use serde_json::{Value, json};
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, PostProcessorWrapper, Tokenizer, TokenizerBuilder};

use crate::text::{SYSTEM, Text};

/// Begins a message.
pub(crate) const START: &str = "<|im_start|>";
/// Ends a message.
pub(crate) const END: &str = "<|im_end|>";
/// Fills what is not used.
pub(crate) const PAD: &str = "<|endoftext|>";

/// Base of the rotary embedding.
pub(crate) const ROPE_THETA: f32 = 10_000.0;
/// Added to the mean square in norms.
pub(crate) const EPSILON: f64 = 1e-5;

/// Tokens of the context that the files name. Rows in training are shorter; rotary positions stretch.
const CONTEXT: usize = 512;
const VOCABULARY: usize = 1024;
const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}\
    <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Shape of the tiny model.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) vocabulary: usize,
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) shared_heads: usize,
    /// Tokens of a row in training.
    pub(crate) row: usize,
}

impl Shape {
    /// The shape with as many rows of the embedding as `tokenizer` has tokens.
    pub(crate) fn of(tokenizer: &Tokenizer) -> Self {
        Self {
            vocabulary: tokenizer.get_vocab_size(true),
            hidden: 160,
            intermediate: 448,
            layers: 3,
            heads: 4,
            shared_heads: 2,
            row: 96,
        }
    }
}

/// Trains a byte-level BPE tokenizer on every question and answer once.
pub(crate) fn train_tokenizer(text: &Text) -> Result<Tokenizer> {
    let special = [PAD, START, END].map(|token| AddedToken::from(token, true));
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(VOCABULARY)
        .min_frequency(2)
        .special_tokens(special.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        ByteLevel,
        PostProcessorWrapper,
        ByteLevelDecoder,
    >::default()
    .with_model(BPE::default())
    .with_normalizer(None)
    .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
    .with_post_processor(None)
    .with_decoder(Some(ByteLevelDecoder::default()))
    .build()
    .map_err(Error::msg)?;
    let mut lines: Vec<String> =
        text.pairs().into_iter().map(|(question, answer)| format!("{question}\n{answer}")).collect();
    lines.extend(text.pairs().into_iter().map(|(question, _)| question.to_lowercase()));
    lines.extend(text.frames());
    lines.extend(SYSTEM.map(str::to_owned));
    lines.extend(["system", "user", "assistant"].map(str::to_owned));
    tokenizer.train(&mut trainer, lines.into_iter()).map_err(Error::msg)?;
    let json = tokenizer.to_string(false).map_err(Error::msg)?;
    json.parse().map_err(Error::msg)
}

/// What is written beside the weights, by name.
pub(crate) fn files(tokenizer: &Tokenizer, shape: Shape) -> Result<BTreeMap<&'static str, String>> {
    let end = tokenizer.token_to_id(END).context("no end token")?;
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "hidden_size": shape.hidden, "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.shared_heads, "vocab_size": shape.vocabulary,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": EPSILON, "rope_theta": ROPE_THETA,
        "tie_word_embeddings": true, "bos_token_id": null, "eos_token_id": end, "torch_dtype": "bfloat16",
    });
    let settings = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT,
        "eos_token": END, "pad_token": PAD, "chat_template": TEMPLATE,
    });
    Ok(BTreeMap::from([
        ("config.json", sorted(&config)?),
        ("tokenizer.json", tokenizer.to_string(false).map_err(Error::msg)?),
        ("tokenizer_config.json", sorted(&settings)?),
    ]))
}

/// An object with its names in order. A feature of serde_json, which any other package may turn on, would else decide
/// the order, and with it the digest of the model's manifest.
fn sorted(object: &Value) -> Result<String> {
    let members: BTreeMap<&String, &Value> = object.as_object().context("not an object")?.iter().collect();
    Ok(serde_json::to_string_pretty(&members)? + "\n")
}
