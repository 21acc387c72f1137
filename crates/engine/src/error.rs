//! What can go wrong between a model folder and its tokens.

use std::io;

use confide_evidence::manifest::ManifestError;

use crate::codes;
use crate::kernels::MatrixError;
use crate::request::RequestFault;

/// An error of the engine. [`code`](Self::code) is stable; the sentence is not.
///
/// No variant carries text of a prompt or of a completion, so every one may be logged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model folder cannot be listed.
    #[error("the model folder {path} cannot be read")]
    FolderUnreadable {
        /// Path of the model folder, or of a folder inside it.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A model file cannot be read.
    #[error("model file {path} cannot be read")]
    FileUnreadable {
        /// Path inside the model folder.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something in the model folder is not a plain file with a plain name.
    #[error("model file {path} is refused: {reason}")]
    FileRefused {
        /// Path inside the model folder.
        path: String,
        /// Why: a link, a device, a name that is not UTF-8, too many files, read twice.
        reason: &'static str,
    },
    /// A file that every model has is missing.
    #[error("model file {path} is missing")]
    FileMissing {
        /// Path inside the model folder.
        path: String,
    },
    /// A file differs from the manifest that the caller expects.
    #[error("model file {path} differs from the expected manifest ({difference})")]
    ManifestMismatch {
        /// Path inside the model folder.
        path: String,
        /// In what it differs.
        difference: ManifestDifference,
    },
    /// The files of the folder are no model manifest: no files, or a path that is not plain.
    #[error("the model folder cannot be measured")]
    Manifest(#[from] ManifestError),
    /// `config.json` (or another JSON file of the model) does not say what it must.
    #[error("{path} is invalid: {reason}")]
    ConfigInvalid {
        /// File.
        path: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The checkpoint is of an architecture, or uses a feature, that this engine does not run.
    #[error("the model is not supported: {feature}")]
    ModelUnsupported {
        /// The architecture or feature.
        feature: String,
    },
    /// A weight file is not in safetensors format.
    #[error("{path} is not a safetensors file: {reason}")]
    WeightsInvalid {
        /// File.
        path: String,
        /// What the parser said.
        reason: String,
    },
    /// A weight file is not in GGUF format, or its metadata do not say what they must.
    #[error("the GGUF file is invalid: {reason}")]
    GgufInvalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The architecture needs a tensor that no weight file has.
    #[error("tensor {name} is missing")]
    TensorMissing {
        /// Its name.
        name: String,
    },
    /// A weight file has a tensor that the architecture does not use; running without it would give
    /// another model's answers.
    #[error("tensor {name} does not belong to this architecture, or appears twice")]
    TensorUnexpected {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("tensor {name} has shape {actual:?}, expected {expected:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// Shape by `config.json`.
        expected: Vec<usize>,
        /// Shape in the file.
        actual: Vec<usize>,
    },
    /// A tensor is in a format that the engine does not compute with.
    #[error(
        "tensor {name} has type {dtype}; bf16, f16 and f32 are supported, and in GGUF files Q4_0, Q5_0, Q8_0, Q4_K and Q6_K"
    )]
    TensorType {
        /// Its name.
        name: String,
        /// Type in the file.
        dtype: String,
    },
    /// A tensor cannot be laid out for multiplication.
    #[error("tensor {name} cannot be used")]
    TensorUnusable {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: MatrixError,
    },
    /// `tokenizer.json` cannot be used with this model.
    #[error("tokenizer.json is invalid: {reason}")]
    TokenizerInvalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The chat template cannot be compiled.
    #[error("the chat template is invalid: {reason}")]
    TemplateInvalid {
        /// What is wrong with it, with the line.
        reason: String,
    },
    /// The chat template refuses these messages or fails on them.
    #[error("the chat template does not accept these messages (line {line} of the template)")]
    TemplateRefused {
        /// Line of the template, 0 where unknown.
        line: usize,
    },
    /// A message spells a control token that this tokenizer cannot tell from the chat template's own.
    #[error(
        "message {message} spells a control token that this model's tokenizer cannot tell from a real one"
    )]
    ControlToken {
        /// Index of the message.
        message: usize,
    },
    /// A library panicked on a file of the model.
    #[error("loading the model panicked: a file of it is like none of a checkpoint")]
    LoadPanicked,
    /// A request breaks a rule that needs no model to check.
    #[error("the request is invalid: {0}")]
    RequestInvalid(#[from] RequestFault),
    /// Prompt and requested completion do not fit the context.
    #[error(
        "the context holds {context} tokens; the prompt has {prompt} and the completion may take {completion}"
    )]
    ContextTooLong {
        /// Tokens of the rendered prompt.
        prompt: usize,
        /// Tokens that the request allows for the completion.
        completion: usize,
        /// Tokens of the model's context.
        context: usize,
    },
    /// The prompt is so much longer than the context that its tokens were not counted to the end.
    #[error("the context holds {context} tokens; the prompt has more than twice as many")]
    PromptTooLong {
        /// Tokens of the model's context.
        context: usize,
    },
    /// The logits are not numbers: broken weights.
    #[error("the model computed values that are not finite")]
    NotFinite,
    /// A token that the model has no row for.
    #[error("token {token} of a vocabulary of {vocabulary}")]
    TokenUnknown {
        /// The token.
        token: u32,
        /// Rows of the model's embedding.
        vocabulary: usize,
    },
    /// There is no memory for the model or for a sequence.
    #[error("no memory for {bytes} bytes")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
}

/// In what a model file differs from the expected manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestDifference {
    /// The manifest does not list it.
    #[error("not listed")]
    Unlisted,
    /// The manifest lists it and the folder does not have it.
    #[error("missing")]
    Missing,
    /// Another size.
    #[error("size {actual}, expected {expected}")]
    Size {
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes in the folder.
        actual: u64,
    },
    /// Another hash of the chunk with this index.
    #[error("chunk {0}")]
    Chunk(usize),
}

impl EngineError {
    /// Stable code, one of [`codes::CODES`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::FolderUnreadable { .. } | Self::FileUnreadable { .. } => codes::MODEL_UNREADABLE,
            Self::FileRefused { .. } | Self::Manifest(_) => codes::MODEL_FILE_REFUSED,
            Self::FileMissing { .. } => codes::MODEL_FILE_MISSING,
            Self::ManifestMismatch { .. } => codes::MODEL_MANIFEST_MISMATCH,
            Self::ConfigInvalid { .. } => codes::MODEL_CONFIG_INVALID,
            Self::ModelUnsupported { .. } => codes::MODEL_UNSUPPORTED,
            Self::WeightsInvalid { .. } => codes::MODEL_WEIGHTS_INVALID,
            Self::GgufInvalid { .. } => codes::GGUF_INVALID,
            Self::TensorMissing { .. } => codes::TENSOR_MISSING,
            Self::TensorUnexpected { .. } => codes::TENSOR_UNEXPECTED,
            Self::TensorShape { .. } => codes::TENSOR_SHAPE,
            Self::TensorType { .. } | Self::TensorUnusable { .. } => codes::TENSOR_TYPE,
            Self::TokenizerInvalid { .. } => codes::TOKENIZER_INVALID,
            Self::TemplateInvalid { .. } => codes::CHAT_TEMPLATE_INVALID,
            Self::TemplateRefused { .. } => codes::CHAT_TEMPLATE_REFUSED,
            Self::ControlToken { .. } => codes::CONTROL_TOKEN_IN_MESSAGE,
            Self::LoadPanicked => codes::MODEL_LOAD_PANICKED,
            Self::RequestInvalid(_) => codes::REQUEST_INVALID,
            Self::ContextTooLong { .. } | Self::PromptTooLong { .. } => codes::CONTEXT_LENGTH_EXCEEDED,
            Self::NotFinite => codes::MODEL_NOT_FINITE,
            Self::TokenUnknown { .. } => codes::ENGINE_COMPUTE,
            Self::OutOfMemory { .. } => codes::ENGINE_OUT_OF_MEMORY,
        }
    }

    /// Whether another request could have succeeded: the fault lies in this request.
    pub fn blames_request(&self) -> bool {
        matches!(
            self,
            Self::TemplateRefused { .. }
                | Self::ControlToken { .. }
                | Self::RequestInvalid(_)
                | Self::ContextTooLong { .. }
                | Self::PromptTooLong { .. }
        )
    }
}
