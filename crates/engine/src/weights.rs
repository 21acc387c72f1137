//! Weight files: safetensors in one file or in shards.

use std::collections::BTreeMap;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::config::{Family, ModelConfig};
use crate::error::EngineError;
use crate::files::ModelFiles;
use crate::kernels::{Format, Matrix, Threads};

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

/// The tensors of a decoder: exactly those of [`TensorSpec::all`]. Matrices in the format of their file, vectors in `f32`.
#[derive(Default)]
pub struct Weights {
    matrices: BTreeMap<String, Arc<Matrix>>,
    vectors: BTreeMap<String, Vec<f32>>,
    parameters: u64,
}

impl Weights {
    /// Reads the weight files, one at a time, and lays matrices out for `threads` to multiply with.
    ///
    /// # Errors
    /// A file is missing or malformed; a tensor is missing, unexpected, or of another shape or type than
    /// `config` says.
    pub fn load(
        files: &mut dyn ModelFiles,
        config: &ModelConfig,
        threads: &Threads,
    ) -> Result<Self, EngineError> {
        let mut loading = Loading::new(config, threads);
        for name in weight_files(files)? {
            let content = files.read(&name)?;
            load_file(&name, &content, config, &mut loading)?;
        }
        loading.finish()
    }

    /// Number of weights.
    pub(crate) fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Bytes of memory that the matrices take.
    pub(crate) fn bytes(&self) -> usize {
        self.matrices.values().map(|matrix| matrix.bytes()).fold(0, usize::saturating_add)
    }

    /// Takes a tensor of two dimensions out.
    pub(crate) fn matrix(&mut self, name: &str) -> Result<Arc<Matrix>, EngineError> {
        self.matrices.remove(name).ok_or_else(|| EngineError::TensorMissing { name: name.to_owned() })
    }

    /// Takes a tensor of one dimension out.
    pub(crate) fn vector(&mut self, name: &str) -> Result<Vec<f32>, EngineError> {
        self.vectors.remove(name).ok_or_else(|| EngineError::TensorMissing { name: name.to_owned() })
    }
}

/// Weights that are being read, and what is still expected.
pub(crate) struct Loading<'a> {
    expected: BTreeMap<String, Vec<usize>>,
    weights: Weights,
    threads: &'a Threads,
}

impl<'a> Loading<'a> {
    pub(crate) fn new(config: &ModelConfig, threads: &'a Threads) -> Self {
        let expected = TensorSpec::all(config).into_iter().map(|spec| (spec.name, spec.shape)).collect();
        Self { expected, weights: Weights::default(), threads }
    }

    /// Takes a tensor of a file, `bytes` in little endian, outermost dimension first, and strikes it off what is expected.
    ///
    /// # Errors
    /// It is not expected, or of another shape.
    pub(crate) fn add(
        &mut self,
        name: &str,
        actual: &[usize],
        format: Format,
        bytes: &[u8],
    ) -> Result<(), EngineError> {
        let named = || name.to_owned();
        let expected =
            self.expected.remove(name).ok_or_else(|| EngineError::TensorUnexpected { name: named() })?;
        let wrong = || EngineError::TensorShape {
            name: named(),
            expected: expected.clone(),
            actual: actual.to_vec(),
        };
        if actual != expected {
            return Err(wrong());
        }
        let matrix = |outputs, inputs| {
            Matrix::new(format, outputs, inputs, bytes, self.threads)
                .map_err(|source| EngineError::TensorUnusable { name: named(), source })
        };
        let elements = actual.iter().fold(1, |product: usize, length| product.saturating_mul(*length));
        match *actual {
            [outputs, inputs] => {
                let matrix = matrix(outputs, inputs)?;
                self.weights.matrices.insert(named(), Arc::new(matrix));
            }
            [length] => {
                let mut vector = vec![0.0; length];
                matrix(1, length)?.row(0, &mut vector);
                self.weights.vectors.insert(named(), vector);
            }
            _ => return Err(wrong()),
        }
        let elements = u64::try_from(elements).unwrap_or(u64::MAX);
        self.weights.parameters = self.weights.parameters.saturating_add(elements);
        Ok(())
    }

    /// # Errors
    /// A tensor is missing.
    pub(crate) fn finish(self) -> Result<Weights, EngineError> {
        match self.expected.into_keys().next() {
            Some(name) => Err(EngineError::TensorMissing { name }),
            None => Ok(self.weights),
        }
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

/// Takes the tensors of one file.
fn load_file(
    path: &str,
    content: &[u8],
    config: &ModelConfig,
    loading: &mut Loading<'_>,
) -> Result<(), EngineError> {
    let file = SafeTensors::deserialize(content)
        .map_err(|error| EngineError::WeightsInvalid { path: path.to_owned(), reason: error.to_string() })?;
    for (name, view) in file.iter() {
        if is_redundant(name, config) {
            continue;
        }
        let format = match view.dtype() {
            Dtype::BF16 => Format::Bf16,
            Dtype::F16 => Format::F16,
            Dtype::F32 => Format::F32,
            other => {
                return Err(EngineError::TensorType { name: name.to_owned(), dtype: format!("{other:?}") });
            }
        };
        loading.add(name, view.shape(), format, view.data())?;
    }
    Ok(())
}

/// Tensors that some checkpoints carry although they follow from the configuration.
fn is_redundant(name: &str, config: &ModelConfig) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (config.tied_embeddings && name == "lm_head.weight")
}
