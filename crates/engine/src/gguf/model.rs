//! A model out of a GGUF file: configuration, weights, tokenizer and chat template.

use std::borrow::Cow;

use serde_json::json;

use super::file::{Gguf, Tensor, TensorType, Value, invalid};
use super::tokens;
use crate::config::{Family, ModelConfig, Pairs, RopeScaling};
use crate::error::EngineError;
use crate::kernels::{Format, Threads};
use crate::template::ChatTemplate;
use crate::tokenizer::TextTokenizer;
use crate::weights::{Loading, Weights};

/// Factors by which the frequencies of the rotary embedding are divided, one for each pair.
const FACTORS: &str = "rope_freqs.weight";

/// The parts of a model.
pub(crate) struct Parts {
    pub(crate) config: ModelConfig,
    pub(crate) tokenizer: TextTokenizer,
    pub(crate) template: ChatTemplate,
    pub(crate) weights: Weights,
}

/// Reads a model out of the bytes of a file.
///
/// # Errors
/// The file is malformed, or of a model that this engine does not run.
pub(crate) fn load(bytes: &[u8], threads: &Threads) -> Result<Parts, EngineError> {
    let file = Gguf::parse(bytes)?;
    let config = configuration(&file)?;
    let tokenizer = TextTokenizer::parse(&tokens::tokenizer(&file)?, config.vocabulary)?;
    let template = template(&file)?;
    let mut loading = Loading::new(&config, threads);
    for (name, tensor) in file.tensors() {
        if *name == FACTORS || (config.tied_embeddings && *name == "output.weight") {
            continue;
        }
        let (format, bytes) = stored(tensor);
        loading.add(&usual_name(name)?, &tensor.shape, format, &bytes)?;
    }
    Ok(Parts { tokenizer, template, weights: loading.finish()?, config })
}

/// The configuration, by way of the fields of a `config.json`, which are bounded and checked there.
fn configuration(file: &Gguf<'_>) -> Result<ModelConfig, EngineError> {
    let architecture = file.text("general.architecture").ok_or_else(|| missing("general.architecture"))?;
    let (family, pairs) = match architecture {
        // The converter turns rows of query and key so that neighbours form the pairs of the rotary embedding.
        "llama" => (Family::Llama, Pairs::Neighbours),
        "qwen2" => (Family::Qwen2, Pairs::Halves),
        "qwen3" => (Family::Qwen3, Pairs::Halves),
        other => return Err(EngineError::ModelUnsupported { feature: format!("architecture {other:?}") }),
    };
    let named = |key: &str| format!("{architecture}.{key}");
    let number = |key: &str| file.unsigned(&named(key)).ok_or_else(|| missing(&named(key)));
    if let Some(scaling) = file.text(&named("rope.scaling.type")).filter(|scaling| *scaling != "none") {
        return Err(EngineError::ModelUnsupported { feature: format!("rope.scaling.type {scaling:?}") });
    }
    if let Some(experts) = file.unsigned(&named("expert_count")).filter(|experts| *experts > 0) {
        return Err(EngineError::ModelUnsupported { feature: format!("{experts} experts") });
    }
    let embedding = file.tensors().get("token_embd.weight").map(|tensor| tensor.shape.as_slice());
    let vocabulary = embedding.and_then(|shape| shape.first()).copied().unwrap_or_default();
    let context = number("context_length")?;
    let window = file.unsigned(&named("attention.sliding_window")).filter(|window| *window > 0);
    let head_dim = file.unsigned(&named("attention.key_length"));
    if let Some(values) = file.unsigned(&named("attention.value_length"))
        && Some(values) != head_dim
    {
        return Err(EngineError::ModelUnsupported {
            feature: "values of another width than keys".to_owned(),
        });
    }
    let fields = json!({
        "architectures": [family.architecture()],
        "hidden_size": number("embedding_length")?,
        "intermediate_size": number("feed_forward_length")?,
        "num_hidden_layers": number("block_count")?,
        "num_attention_heads": number("attention.head_count")?,
        "num_key_value_heads": file.unsigned(&named("attention.head_count_kv")),
        "head_dim": head_dim,
        "vocab_size": vocabulary,
        // Within its window a model that slides it computes what one does that does not.
        "max_position_embeddings": window.map_or(context, |window| window.min(context)),
        "rms_norm_eps": file.float(&named("attention.layer_norm_rms_epsilon")),
        "rope_theta": file.float(&named("rope.freq_base")),
        "tie_word_embeddings": !file.tensors().contains_key("output.weight"),
        "eos_token_id": end_tokens(file),
    });
    let mut config = ModelConfig::parse(fields.to_string().as_bytes())?;
    if file
        .unsigned(&named("rope.dimension_count"))
        .is_some_and(|width| usize::try_from(width) != Ok(config.head_dim))
    {
        return Err(EngineError::ModelUnsupported {
            feature: "a rotary embedding of a part of each head".to_owned(),
        });
    }
    config.rope_pairs = pairs;
    if let Some(factors) = file.tensors().get(FACTORS) {
        config.rope_scaling = RopeScaling::Factors(self::factors(factors, config.head_dim)?);
    }
    Ok(config)
}

/// The factors of the tensor of that name.
fn factors(tensor: &Tensor<'_>, head_dim: usize) -> Result<Vec<f32>, EngineError> {
    let (floats, _) = tensor.bytes.as_chunks::<4>();
    let factors: Vec<f32> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let sane = factors.iter().all(|factor| factor.is_finite() && *factor > 0.0);
    if tensor.kind == TensorType::F32 && factors.len() == head_dim.div_ceil(2) && sane {
        return Ok(factors);
    }
    Err(invalid(format!("{FACTORS} is not a positive number for each pair of a head")))
}

/// The tokens that end a completion, as far as they are named.
fn end_tokens(file: &Gguf<'_>) -> Vec<u64> {
    let keys = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
    let mut tokens: Vec<u64> = keys.iter().filter_map(|key| file.unsigned(key)).collect();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// The chat template, by way of the fields of a `tokenizer_config.json`.
fn template(file: &Gguf<'_>) -> Result<ChatTemplate, EngineError> {
    let token = |key: &str| -> Option<&str> {
        let index = usize::try_from(file.unsigned(key)?).ok()?;
        match file.array("tokenizer.ggml.tokens")?.iter().nth(index)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    };
    let fields = json!({
        "chat_template": file.text("tokenizer.chat_template"),
        "bos_token": token("tokenizer.ggml.bos_token_id"),
        "eos_token": token("tokenizer.ggml.eos_token_id"),
    });
    ChatTemplate::parse(Some(fields.to_string().as_bytes()), None)
}

/// A tensor in a format to compute with. Formats of fewer bits than eight, but for the K quants, become Q8_0 of the same values.
fn stored<'a>(tensor: &Tensor<'a>) -> (Format, Cow<'a, [u8]>) {
    let bytes = tensor.bytes;
    match tensor.kind {
        TensorType::F32 => (Format::F32, bytes.into()),
        TensorType::F16 => (Format::F16, bytes.into()),
        TensorType::Bf16 => (Format::Bf16, bytes.into()),
        TensorType::Q8_0 => (Format::Q8_0, bytes.into()),
        TensorType::Q4K => (Format::Q4K, bytes.into()),
        TensorType::Q6K => (Format::Q6K, bytes.into()),
        TensorType::Q4_0 => (Format::Q8_0, widened(bytes, q4_0).into()),
        TensorType::Q5_0 => (Format::Q8_0, widened(bytes, q5_0).into()),
    }
}

/// Blocks of a scale and 32 packed numbers as blocks of Q8_0, whose scale and numbers are the same.
fn widened<const N: usize>(bytes: &[u8], unpack: impl Fn(&[u8; N], usize) -> i8) -> Vec<u8> {
    let mut wide = Vec::with_capacity(bytes.len().saturating_mul(2));
    for block in bytes.chunks_exact(N.saturating_add(2)) {
        if let Some((scale, packed)) = block.split_first_chunk::<2>()
            && let Some(packed) = packed.first_chunk::<N>()
        {
            wide.extend_from_slice(scale);
            wide.extend((0..32).map(|index| unpack(packed, index).cast_unsigned()));
        }
    }
    wide
}

/// The first half of the numbers is in the low halves of the bytes, the second in the high ones.
fn nibble(packed: &[u8], index: usize) -> u8 {
    let byte = packed.get(index % 16).copied().unwrap_or_default();
    if index < 16 { byte & 15 } else { byte >> 4 }
}

fn q4_0(packed: &[u8; 16], index: usize) -> i8 {
    nibble(packed, index).cast_signed().wrapping_sub(8)
}

/// The fifth bits come first, 32 of them.
fn q5_0(packed: &[u8; 20], index: usize) -> i8 {
    let (bits, nibbles) = packed
        .split_first_chunk::<4>()
        .map_or((0, &[][..]), |(bits, rest)| (u32::from_le_bytes(*bits), rest));
    let fifth = if bits.unbounded_shr(u32::try_from(index).unwrap_or(u32::MAX)) & 1 == 1 { 16 } else { 0 };
    (nibble(nibbles, index) | fifth).cast_signed().wrapping_sub(16)
}

/// The name of a tensor in Hugging Face checkpoints.
fn usual_name(name: &str) -> Result<String, EngineError> {
    let unexpected = || EngineError::TensorUnexpected { name: name.to_owned() };
    let (place, kind) = name.rsplit_once('.').ok_or_else(unexpected)?;
    let usual = match place {
        "token_embd" => "model.embed_tokens",
        "output_norm" => "model.norm",
        "output" => "lm_head",
        _ => {
            let (layer, part) =
                place.strip_prefix("blk.").and_then(|rest| rest.split_once('.')).ok_or_else(unexpected)?;
            let part = match part {
                "attn_norm" => "input_layernorm",
                "ffn_norm" => "post_attention_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "attn_q_norm" => "self_attn.q_norm",
                "attn_k_norm" => "self_attn.k_norm",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                _ => return Err(unexpected()),
            };
            return Ok(format!("model.layers.{layer}.{part}.{kind}"));
        }
    };
    Ok(format!("{usual}.{kind}"))
}

fn missing(key: &str) -> EngineError {
    invalid(format!("{key} is missing, or not of its type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_get_the_names_of_checkpoints() {
        for (name, usual) in [
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("blk.12.attn_q.bias", "model.layers.12.self_attn.q_proj.bias"),
            ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
        ] {
            assert_eq!(usual_name(name).unwrap(), usual);
        }
        for name in ["", "x", "blk.weight", "blk.0.ssm_a", "blk.0.weight"] {
            assert_eq!(usual_name(name).unwrap_err().code(), "tensor_unexpected", "{name}");
        }
    }

    #[test]
    fn fewer_bits_become_eight_without_loss() {
        let mut four = vec![0x00, 0x3c];
        four.extend((0..16u8).map(|index| index | (15 - index) << 4));
        let wide = widened(&four, q4_0);
        assert_eq!(wide[..2], [0x00, 0x3c]);
        let numbers: Vec<i8> = wide[2..].iter().map(|byte| byte.cast_signed()).collect();
        assert_eq!(numbers, (-8..8).chain((-8..8).rev()).collect::<Vec<i8>>());
        let mut five = vec![0x00, 0x3c, 0xff, 0xff, 0, 0];
        five.extend([0x21; 16]);
        let numbers: Vec<i8> = widened(&five, q5_0)[2..].iter().map(|byte| byte.cast_signed()).collect();
        assert_eq!(numbers, [[1; 16], [2 - 16; 16]].concat());
    }
}
