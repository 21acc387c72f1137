//! What answers look like: OpenAI's objects.

use confide_engine::{FinishReason, Usage};
use serde::Serialize;

use super::ModelFacts;
use super::fault::Fault;

/// Bytes of the random part of an identifier.
const ID_BYTES: usize = 16;

/// What all pieces of one answer repeat.
#[derive(Clone, Serialize)]
pub(super) struct Head {
    id: String,
    created: u64,
    model: String,
    system_fingerprint: String,
}

impl Head {
    /// A head with a random identifier.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    pub(super) fn new(model: &ModelFacts, created: u64) -> Result<Self, Fault> {
        let mut random = [0; ID_BYTES];
        getrandom::fill(&mut random).map_err(|_| Fault::Internal)?;
        Ok(Self {
            id: format!("chatcmpl-{}", hex(&random)),
            created,
            model: model.name.clone(),
            system_fingerprint: model.fingerprint(),
        })
    }

    /// The random identifier.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A whole completion. Not `Debug`: it holds content.
#[derive(Serialize)]
pub(super) struct Completion<'a> {
    #[serde(flatten)]
    head: &'a Head,
    object: &'static str,
    choices: [Choice<'a>; 1],
    usage: TokenCounts,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Said<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

impl<'a> Completion<'a> {
    pub(super) fn new(head: &'a Head, content: &'a str, reason: FinishReason, usage: Usage) -> Self {
        let message = Said { role: "assistant", content, refusal: None };
        let choice = Choice { index: 0, message, logprobs: None, finish_reason: reason.as_str() };
        Self { head, object: "chat.completion", choices: [choice], usage: usage.into() }
    }
}

/// A piece of a streamed completion. Not `Debug`: it holds content.
#[derive(Serialize)]
pub(super) struct Chunk<'a> {
    #[serde(flatten)]
    head: &'a Head,
    object: &'static str,
    choices: Vec<ChunkChoice<'a>>,
    /// Present, and `null` but in the last chunk, where the client asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<TokenCounts>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

/// What a chunk adds to the message.
#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

/// Whether chunks have the member `usage`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UsageMember {
    /// They have.
    Present,
    /// They have not.
    Absent,
}

impl<'a> Chunk<'a> {
    /// The first chunk: who speaks.
    pub(super) fn first(head: &'a Head, usage: UsageMember) -> Self {
        Self::new(head, Delta { role: Some("assistant"), content: Some("") }, None, usage)
    }

    /// Text.
    pub(super) fn text(head: &'a Head, text: &'a str, usage: UsageMember) -> Self {
        Self::new(head, Delta { role: None, content: Some(text) }, None, usage)
    }

    /// The end of the text.
    pub(super) fn end(head: &'a Head, reason: FinishReason, usage: UsageMember) -> Self {
        Self::new(head, Delta::default(), Some(reason.as_str()), usage)
    }

    /// The count of tokens.
    pub(super) fn usage(head: &'a Head, usage: Usage) -> Self {
        Self { head, object: CHUNK, choices: Vec::new(), usage: Some(Some(usage.into())) }
    }

    fn new(
        head: &'a Head,
        delta: Delta<'a>,
        finish_reason: Option<&'static str>,
        usage: UsageMember,
    ) -> Self {
        let choice = ChunkChoice { index: 0, delta, logprobs: None, finish_reason };
        let usage = (usage == UsageMember::Present).then_some(None);
        Self { head, object: CHUNK, choices: vec![choice], usage }
    }
}

const CHUNK: &str = "chat.completion.chunk";

#[derive(Serialize)]
struct TokenCounts {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptTokens,
}

/// Where the tokens of a prompt came from.
#[derive(Serialize)]
struct PromptTokens {
    cached_tokens: u32,
}

impl From<Usage> for TokenCounts {
    fn from(usage: Usage) -> Self {
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = usage;
        let total_tokens = prompt_tokens.saturating_add(completion_tokens);
        let prompt_tokens_details = PromptTokens { cached_tokens };
        Self { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details }
    }
}

/// A model as `/v1/models` shows it.
#[derive(Serialize)]
pub(super) struct ModelObject<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    /// Tokens of the context, under the name that other servers of open models use.
    max_model_len: u32,
}

impl<'a> ModelObject<'a> {
    pub(super) fn new(model: &'a ModelFacts) -> Self {
        let ModelFacts { name, created, context_tokens, .. } = model;
        Self {
            id: name,
            object: "model",
            created: *created,
            owned_by: "confide",
            max_model_len: *context_tokens,
        }
    }
}

/// The list of models.
#[derive(Serialize)]
pub(super) struct ModelList<'a> {
    object: &'static str,
    data: [ModelObject<'a>; 1],
}

impl<'a> ModelList<'a> {
    pub(super) fn new(model: &'a ModelFacts) -> Self {
        Self { object: "list", data: [ModelObject::new(model)] }
    }
}

/// The answer of a health route.
#[derive(Serialize)]
pub(super) struct Health {
    pub(super) status: &'static str,
}
