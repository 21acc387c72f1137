//! `config.json` of a Hugging Face checkpoint.

use serde::Deserialize;

use crate::error::EngineError;

/// Name of the file.
pub(crate) const CONFIG: &str = "config.json";

/// Largest values that a configuration may name. They bound arithmetic, not memory: every tensor is
/// compared with the bytes that the weight files really have. Chosen a factor of four or more above the
/// largest open checkpoints of these families (hidden 16384, 126 layers, 128 heads, vocabulary 152064,
/// context 1048576).
const MAX_HIDDEN: usize = 1 << 16;
/// Width of the feed-forward layers. Published models have under 60,000.
const MAX_INTERMEDIATE: usize = 1 << 19;
/// Layers of a model. Published models have under 130.
const MAX_LAYERS: usize = 1 << 10;
/// Attention heads of a layer. Published models have at most 128.
const MAX_HEADS: usize = 1 << 10;
/// Width of an attention head. Published models have at most 256.
const MAX_HEAD_DIM: usize = 1 << 10;
/// Entries of the vocabulary. Published models have under 300,000.
const MAX_VOCABULARY: usize = 1 << 21;
/// Positions of the context. Published models claim up to a million.
const MAX_CONTEXT: usize = 1 << 22;
/// End-of-sequence tokens that a checkpoint may name. Published ones name at most five.
const MAX_END_TOKENS: usize = 64;

/// Which layout of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// `LlamaForCausalLM`: no biases.
    Llama,
    /// `Qwen2ForCausalLM`: biases on the query, key and value projections.
    Qwen2,
    /// `Qwen3ForCausalLM`: RMS norms on the heads of query and key.
    Qwen3,
}

impl Family {
    /// The name in `config.json`.
    pub(crate) fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// Which numbers of a head the rotary embedding turns together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Each of the first half with its like of the second, as Hugging Face checkpoints have them.
    Halves,
    /// Each with its neighbour, as GGUF files of the Llama family have them.
    Neighbours,
}

/// How the frequencies of the rotary embedding are stretched.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    Unscaled,
    /// The `llama3` type: low frequencies are divided by `factor`, high ones kept, with a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are scaled.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context in tokens of the model before it was stretched.
        original_context: usize,
    },
    /// Each divided by a factor of its own, as GGUF files have it: one for each pair of a head.
    Factors(Vec<f32>),
}

/// The checked configuration of a decoder. Every number is positive, `heads` is a multiple of
/// `key_value_heads`, `head_dim` is even.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// Layout.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / key_value_heads` query heads.
    pub key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Tokens that the model can attend to.
    pub context: usize,
    /// Added to the mean square in RMS norms.
    pub norm_epsilon: f32,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// Stretching of the rotary embedding.
    pub rope_scaling: RopeScaling,
    /// Which numbers of a head it turns together.
    pub rope_pairs: Pairs,
    /// Whether the output projection is the embedding.
    pub tied_embeddings: bool,
    /// Tokens that end a completion. Empty where the file names none.
    pub end_tokens: Vec<u32>,
}

impl ModelConfig {
    /// Parses `config.json`. Fields that do not change the computation are ignored, as the format demands;
    /// fields that would change it and are not supported are refused.
    ///
    /// # Errors
    /// [`EngineError::ConfigInvalid`] or [`EngineError::ModelUnsupported`].
    pub fn parse(json: &[u8]) -> Result<Self, EngineError> {
        let raw: Raw = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        raw.refuse_unsupported()?;
        let family = raw.family()?;
        let rope = raw.rope()?;
        let hidden = bounded("hidden_size", raw.hidden_size, MAX_HIDDEN)?;
        let heads = bounded("num_attention_heads", raw.num_attention_heads, MAX_HEADS)?;
        let key_value_heads = bounded(
            "num_key_value_heads",
            raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            heads,
        )?;
        if !heads.is_multiple_of(key_value_heads) {
            return Err(invalid(format!("{heads} attention heads over {key_value_heads} key-value heads")));
        }
        Ok(Self {
            family,
            hidden,
            intermediate: bounded("intermediate_size", raw.intermediate_size, MAX_INTERMEDIATE)?,
            layers: bounded("num_hidden_layers", raw.num_hidden_layers, MAX_LAYERS)?,
            heads,
            key_value_heads,
            head_dim: raw.head_dim(family, hidden, heads)?,
            vocabulary: bounded("vocab_size", raw.vocab_size, MAX_VOCABULARY)?,
            context: bounded("max_position_embeddings", raw.max_position_embeddings, MAX_CONTEXT)?,
            norm_epsilon: raw.norm_epsilon()?,
            rope_theta: rope.0,
            rope_scaling: rope.1,
            rope_pairs: Pairs::Halves,
            tied_embeddings: raw.tie_word_embeddings.unwrap_or(false),
            end_tokens: end_tokens(raw.eos_token_id)?,
        })
    }
}

/// The end tokens of a `generation_config.json`, which adds to those of `config.json`.
pub(crate) fn generation_end_tokens(json: &[u8]) -> Result<Vec<u32>, EngineError> {
    #[derive(Deserialize)]
    struct Generation {
        #[serde(default)]
        eos_token_id: Option<EndTokens>,
    }
    let raw: Generation = serde_json::from_slice(json).map_err(|error| EngineError::ConfigInvalid {
        path: "generation_config.json",
        reason: error.to_string(),
    })?;
    end_tokens(raw.eos_token_id)
}

/// The fields of `config.json` that the engine reads.
#[derive(Deserialize)]
struct Raw {
    architectures: Vec<String>,
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    vocab_size: u64,
    max_position_embeddings: u64,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRope>,
    tie_word_embeddings: Option<bool>,
    eos_token_id: Option<EndTokens>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    use_sliding_window: Option<bool>,
    quantization_config: Option<serde::de::IgnoredAny>,
}

/// `rope_scaling`, or `rope_parameters` of newer checkpoints.
#[derive(Deserialize)]
struct RawRope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum EndTokens {
    One(u32),
    Many(Vec<u32>),
}

impl Raw {
    fn family(&self) -> Result<Family, EngineError> {
        match self.architectures.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["LlamaForCausalLM"] => Ok(Family::Llama),
            ["Qwen2ForCausalLM"] => Ok(Family::Qwen2),
            ["Qwen3ForCausalLM"] => Ok(Family::Qwen3),
            _ => Err(unsupported(format!("architectures {:?}", self.architectures))),
        }
    }

    fn refuse_unsupported(&self) -> Result<(), EngineError> {
        if self.quantization_config.is_some() {
            return Err(unsupported("quantization_config"));
        }
        if let Some(activation) = self.hidden_act.as_deref().filter(|name| *name != "silu") {
            return Err(unsupported(format!("hidden_act {activation:?}")));
        }
        for (name, value) in [
            ("attention_bias", self.attention_bias),
            ("mlp_bias", self.mlp_bias),
            ("use_sliding_window", self.use_sliding_window),
        ] {
            if value == Some(true) {
                return Err(unsupported(name));
            }
        }
        Ok(())
    }

    fn head_dim(&self, family: Family, hidden: usize, heads: usize) -> Result<usize, EngineError> {
        let head_dim = match (self.head_dim, family) {
            (Some(given), _) => bounded("head_dim", given, MAX_HEAD_DIM)?,
            (None, Family::Qwen3) => 128,
            (None, _) if hidden.is_multiple_of(heads) => hidden.checked_div(heads).unwrap_or_default(),
            (None, _) => return Err(invalid(format!("hidden_size {hidden} over {heads} heads"))),
        };
        if head_dim.is_multiple_of(2) && head_dim <= MAX_HEAD_DIM {
            return Ok(head_dim);
        }
        Err(invalid(format!("head_dim {head_dim} is odd or above {MAX_HEAD_DIM}")))
    }

    fn norm_epsilon(&self) -> Result<f32, EngineError> {
        let value = self.rms_norm_eps.unwrap_or(1e-6);
        if value > 0.0 && value < 1.0 {
            #[expect(
                clippy::as_conversions,
                clippy::cast_possible_truncation,
                reason = "the norm is computed in f32"
            )]
            return Ok(value as f32);
        }
        Err(invalid(format!("rms_norm_eps {value} is not between 0 and 1")))
    }

    fn rope(&self) -> Result<(f64, RopeScaling), EngineError> {
        let rope = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref());
        let theta = rope.and_then(|rope| rope.rope_theta).or(self.rope_theta).unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 1.0) {
            return Err(invalid(format!("rope_theta {theta} is not above 1")));
        }
        let scaling = rope.map_or(Ok(RopeScaling::Unscaled), RawRope::scaling)?;
        Ok((theta, scaling))
    }
}

impl RawRope {
    fn scaling(&self) -> Result<RopeScaling, EngineError> {
        match self.rope_type.as_deref() {
            None | Some("default") => Ok(RopeScaling::Unscaled),
            Some("llama3") => self.llama3(),
            Some(other) => Err(unsupported(format!("rope type {other:?}"))),
        }
    }

    fn llama3(&self) -> Result<RopeScaling, EngineError> {
        let positive = |name: &str, value: Option<f64>| match value {
            Some(value) if value.is_finite() && value > 0.0 => Ok(value),
            _ => Err(invalid(format!("rope {name} is missing or not positive"))),
        };
        let (low_freq_factor, high_freq_factor) = (
            positive("low_freq_factor", self.low_freq_factor)?,
            positive("high_freq_factor", self.high_freq_factor)?,
        );
        if low_freq_factor >= high_freq_factor {
            return Err(invalid("rope low_freq_factor is not below high_freq_factor".to_owned()));
        }
        let original = self.original_max_position_embeddings.unwrap_or(0);
        Ok(RopeScaling::Llama3 {
            factor: positive("factor", self.factor)?,
            low_freq_factor,
            high_freq_factor,
            original_context: bounded("original_max_position_embeddings", original, MAX_CONTEXT)?,
        })
    }
}

fn end_tokens(raw: Option<EndTokens>) -> Result<Vec<u32>, EngineError> {
    let tokens = match raw {
        None => Vec::new(),
        Some(EndTokens::One(token)) => vec![token],
        Some(EndTokens::Many(tokens)) => tokens,
    };
    if tokens.len() > MAX_END_TOKENS {
        return Err(invalid(format!("{} end tokens, at most {MAX_END_TOKENS}", tokens.len())));
    }
    Ok(tokens)
}

fn bounded(name: &str, value: u64, max: usize) -> Result<usize, EngineError> {
    match usize::try_from(value) {
        Ok(value) if (1..=max).contains(&value) => Ok(value),
        _ => Err(invalid(format!("{name} {value} is not between 1 and {max}"))),
    }
}

fn invalid(reason: String) -> EngineError {
    EngineError::ConfigInvalid { path: CONFIG, reason }
}

fn unsupported(feature: impl Into<String>) -> EngineError {
    EngineError::ModelUnsupported { feature: feature.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn llama() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "eos_token_id": [1, 2],
            "torch_dtype": "bfloat16"
        })
    }

    fn with(field: &str, value: Value) -> Result<ModelConfig, EngineError> {
        let mut config = llama();
        config[field] = value;
        ModelConfig::parse(&serde_json::to_vec(&config).unwrap())
    }

    #[test]
    fn a_plain_llama_is_read() {
        let config = with("torch_dtype", json!("bfloat16")).unwrap();
        assert_eq!((config.family, config.head_dim, config.rope_theta), (Family::Llama, 16, 10_000.0));
        assert_eq!(config.end_tokens, [1, 2]);
        assert!(!config.tied_embeddings);
    }

    #[test]
    fn llama3_scaling_is_read_from_both_places() {
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_theta": 500000.0});
        let old = with("rope_scaling", scaling.clone()).unwrap();
        let new = with("rope_parameters", scaling).unwrap();
        assert_eq!(old, new);
        assert_eq!(new.rope_theta, 500_000.0);
        assert!(matches!(new.rope_scaling, RopeScaling::Llama3 { original_context: 8192, .. }));
    }

    #[test]
    fn hostile_numbers_are_refused() {
        for (field, value) in [
            ("num_attention_heads", json!(0)),
            ("num_key_value_heads", json!(0)),
            ("num_key_value_heads", json!(3)),
            ("num_key_value_heads", json!(8)),
            ("hidden_size", json!(0)),
            ("hidden_size", json!(65)),
            ("hidden_size", json!(u64::MAX)),
            ("hidden_size", json!(-1)),
            ("hidden_size", json!(1.5)),
            ("vocab_size", json!(1u64 << 40)),
            ("num_hidden_layers", json!(u64::MAX)),
            ("num_hidden_layers", json!(0)),
            ("max_position_embeddings", json!(0)),
            ("max_position_embeddings", json!(u64::MAX)),
            ("head_dim", json!(15)),
            ("head_dim", json!(1 << 20)),
            ("rms_norm_eps", json!(0)),
            ("rms_norm_eps", json!(1e300)),
            ("rope_theta", json!(-1)),
            ("rope_scaling", json!({"rope_type": "llama3"})),
            ("eos_token_id", json!(vec![0; 65])),
            ("eos_token_id", json!("</s>")),
        ] {
            let error = with(field, value.clone()).unwrap_err();
            assert_eq!(error.code(), "model_config_invalid", "{field} = {value}");
        }
    }

    #[test]
    fn what_would_change_the_answers_is_refused() {
        for (field, value) in [
            ("architectures", json!(["MambaForCausalLM"])),
            ("architectures", json!([])),
            ("architectures", json!(["LlamaForCausalLM", "Qwen2ForCausalLM"])),
            ("hidden_act", json!("gelu")),
            ("attention_bias", json!(true)),
            ("mlp_bias", json!(true)),
            ("use_sliding_window", json!(true)),
            ("quantization_config", json!({"bits": 4})),
            ("rope_scaling", json!({"type": "yarn", "factor": 4.0})),
        ] {
            let error = with(field, value.clone()).unwrap_err();
            assert_eq!(error.code(), "model_unsupported", "{field} = {value}");
        }
    }

    #[test]
    fn text_that_is_not_json_is_refused() {
        for text in [&b""[..], b"[]", b"{", b"\xff\xfe", b"{\"architectures\": 3}"] {
            assert_eq!(ModelConfig::parse(text).unwrap_err().code(), "model_config_invalid");
        }
    }
}
