//! Weight files: safetensors in one file or in shards, converted to `f32` in private memory.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::config::{Family, ModelConfig};
use crate::error::EngineError;
use crate::files::ModelFiles;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A tensor that an architecture needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the weight files.
    pub name: String,
    /// Shape, outermost dimension first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Every tensor of a decoder with this configuration, in no particular order.
    pub fn all(config: &ModelConfig) -> Vec<Self> {
        let mut specs = vec![
            spec("model.embed_tokens.weight", &[config.vocabulary, config.hidden]),
            spec("model.norm.weight", &[config.hidden]),
        ];
        if !config.tied_embeddings {
            specs.push(spec("lm_head.weight", &[config.vocabulary, config.hidden]));
        }
        for layer in 0..config.layers {
            specs.extend(layer_specs(config, layer));
        }
        specs
    }
}

fn layer_specs(config: &ModelConfig, layer: usize) -> Vec<TensorSpec> {
    let (hidden, middle) = (config.hidden, config.intermediate);
    let width = |heads: usize| heads.saturating_mul(config.head_dim);
    let (query, pair) = (width(config.heads), width(config.key_value_heads));
    let mut tensors = vec![
        ("input_layernorm.weight", vec![hidden]),
        ("post_attention_layernorm.weight", vec![hidden]),
        ("self_attn.q_proj.weight", vec![query, hidden]),
        ("self_attn.k_proj.weight", vec![pair, hidden]),
        ("self_attn.v_proj.weight", vec![pair, hidden]),
        ("self_attn.o_proj.weight", vec![hidden, query]),
        ("mlp.gate_proj.weight", vec![middle, hidden]),
        ("mlp.up_proj.weight", vec![middle, hidden]),
        ("mlp.down_proj.weight", vec![hidden, middle]),
    ];
    match config.family {
        Family::Llama => {}
        Family::Qwen2 => tensors.extend([
            ("self_attn.q_proj.bias", vec![query]),
            ("self_attn.k_proj.bias", vec![pair]),
            ("self_attn.v_proj.bias", vec![pair]),
        ]),
        Family::Qwen3 => tensors.extend([
            ("self_attn.q_norm.weight", vec![config.head_dim]),
            ("self_attn.k_norm.weight", vec![config.head_dim]),
        ]),
    }
    tensors.into_iter().map(|(name, shape)| spec(&format!("model.layers.{layer}.{name}"), &shape)).collect()
}

fn spec(name: &str, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), shape: shape.to_vec() }
}

/// The tensors of a decoder: exactly those of [`TensorSpec::all`], in `f32`.
pub struct Weights(BTreeMap<String, Tensor>);

impl Weights {
    /// Reads the weight files, one at a time.
    ///
    /// # Errors
    /// A file is missing or malformed; a tensor is missing, unexpected, or of another shape or type than
    /// `config` says.
    pub fn load(files: &mut dyn ModelFiles, config: &ModelConfig) -> Result<Self, EngineError> {
        let mut expected: BTreeMap<String, Vec<usize>> =
            TensorSpec::all(config).into_iter().map(|spec| (spec.name, spec.shape)).collect();
        let mut tensors = BTreeMap::new();
        for name in weight_files(files)? {
            let content = files.read(&name)?;
            load_file(&name, &content, config, &mut expected, &mut tensors)?;
        }
        match expected.into_keys().next() {
            Some(name) => Err(EngineError::TensorMissing { name }),
            None => Ok(Self(tensors)),
        }
    }

    /// Number of weights.
    pub(crate) fn parameters(&self) -> u64 {
        let counts = self.0.values().map(|tensor| u64::try_from(tensor.elem_count()).unwrap_or(u64::MAX));
        counts.fold(0, u64::saturating_add)
    }

    /// Takes a tensor out.
    pub(crate) fn take(&mut self, name: &str) -> Result<Tensor, EngineError> {
        self.0.remove(name).ok_or_else(|| EngineError::TensorMissing { name: name.to_owned() })
    }
}

/// The weight files, sorted: those of the index where there is one, else the single file.
fn weight_files(files: &mut dyn ModelFiles) -> Result<Vec<String>, EngineError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    if !files.names().iter().any(|name| name == INDEX) {
        return Ok(vec![SINGLE.to_owned()]);
    }
    let index: Index = serde_json::from_slice(&files.read(INDEX)?)
        .map_err(|error| EngineError::ConfigInvalid { path: INDEX, reason: error.to_string() })?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Converts the tensors of one file and strikes them off `expected`.
fn load_file(
    path: &str,
    content: &[u8],
    config: &ModelConfig,
    expected: &mut BTreeMap<String, Vec<usize>>,
    tensors: &mut BTreeMap<String, Tensor>,
) -> Result<(), EngineError> {
    let file = SafeTensors::deserialize(content)
        .map_err(|error| EngineError::WeightsInvalid { path: path.to_owned(), reason: error.to_string() })?;
    for (name, view) in file.iter() {
        if is_redundant(name, config) {
            continue;
        }
        let Some(shape) = expected.remove(name) else {
            return Err(EngineError::TensorUnexpected { name: name.to_owned() });
        };
        if view.shape() != shape {
            let (name, actual) = (name.to_owned(), view.shape().to_vec());
            return Err(EngineError::TensorShape { name, expected: shape, actual });
        }
        let dtype = match view.dtype() {
            Dtype::BF16 => DType::BF16,
            Dtype::F16 => DType::F16,
            Dtype::F32 => DType::F32,
            other => {
                return Err(EngineError::TensorType { name: name.to_owned(), dtype: format!("{other:?}") });
            }
        };
        let tensor =
            Tensor::from_raw_buffer(view.data(), dtype, &shape, &Device::Cpu)?.to_dtype(DType::F32)?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(())
}

/// Tensors that some checkpoints carry although they follow from the configuration.
fn is_redundant(name: &str, config: &ModelConfig) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (config.tied_embeddings && name == "lm_head.weight")
}
