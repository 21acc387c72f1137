//! A loaded model, and the completions that it makes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::cache::KvCache;
use crate::config::{self, CONFIG, ModelConfig};
use crate::decoder::Decoder;
use crate::error::EngineError;
use crate::files::ModelFiles;
use crate::request::{ChatRequest, FinishReason, Message, Usage};
use crate::sampling::Sampler;
use crate::shield::Shield;
use crate::stop::{Passed, StopMatcher};
use crate::template::{self, ChatTemplate};
use crate::tokenizer::{self, Detokenizer, TextTokenizer};
use crate::weights::Weights;

const GENERATION_CONFIG: &str = "generation_config.json";

/// Prompt tokens that one [`Generation::step`] runs: long enough for matrix products, short enough that
/// other sequences and cancellations need not wait long.
const PREFILL: usize = 64;

/// What a caller may know of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    /// Tokens of the context, prompt and completion together.
    pub context_tokens: u32,
    /// Tokens that the tokenizer knows.
    pub vocabulary: u32,
    /// Weights, each counted once.
    pub parameters: u64,
}

/// A decoder with its tokenizer and chat template.
pub struct Engine {
    decoder: Decoder,
    tokenizer: TextTokenizer,
    template: ChatTemplate,
    shield: Shield,
    end_tokens: BTreeSet<u32>,
    parameters: u64,
}

impl Engine {
    /// Loads a model in Hugging Face layout: `config.json`, `tokenizer.json`, `tokenizer_config.json` or
    /// `chat_template.jinja`, and `model.safetensors` or shards with their index.
    ///
    /// Each file is read once. To know which bytes run, pass [`MeasuredFiles`](crate::MeasuredFiles).
    ///
    /// # Errors
    /// A file is missing, malformed, or of a model that this engine does not run.
    pub fn load(files: &mut dyn ModelFiles) -> Result<Self, EngineError> {
        let config = ModelConfig::parse(&files.read(CONFIG)?)?;
        let mut tokenizer = TextTokenizer::parse(&files.read(tokenizer::TOKENIZER)?, config.vocabulary)?;
        let settings = optional(files, template::TOKENIZER_CONFIG)?;
        let jinja = optional(files, template::TEMPLATE)?;
        let template = ChatTemplate::parse(settings.as_deref(), jinja.as_deref())?;
        let generation = optional(files, GENERATION_CONFIG)?;
        let mut end_tokens: BTreeSet<u32> = config.end_tokens.iter().copied().collect();
        end_tokens.extend(template.end_token().and_then(|text| tokenizer.token(text)));
        if let Some(json) = generation {
            end_tokens.extend(config::generation_end_tokens(&json)?);
        }
        let shield = tokenizer.shield(&end_tokens)?;
        let weights = Weights::load(files, &config)?;
        let parameters = weights.parameters();
        Ok(Self {
            decoder: Decoder::new(config, weights)?,
            tokenizer,
            template,
            shield,
            end_tokens,
            parameters,
        })
    }

    /// What a caller may know of the model.
    pub fn info(&self) -> ModelInfo {
        let bounded = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        ModelInfo {
            context_tokens: bounded(self.decoder.config().context),
            vocabulary: bounded(self.tokenizer.size()),
            parameters: self.parameters,
        }
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// The tokens of a conversation, ready for the assistant to continue. Control tokens are those that the chat
    /// template wrote, and none that a message spells.
    ///
    /// # Errors
    /// The template does not accept the messages, the tokenizer cannot express them, or they are far beyond the context.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, EngineError> {
        let text = self.template.render(&self.shield.guard(messages)?)?;
        let context = self.decoder.config().context;
        if self.tokenizer.is_far_beyond(context, &text)? {
            return Err(EngineError::PromptTooLong { context });
        }
        self.tokenizer.encode(&text)
    }

    /// Checks and renders `request`. Nothing is computed yet.
    ///
    /// # Errors
    /// The request is invalid, the template does not accept its messages, or the prompt does not fit the
    /// context.
    pub fn start(&self, request: &ChatRequest) -> Result<Generation<'_>, EngineError> {
        request.check()?;
        let prompt = Tokens(self.prompt(&request.messages)?);
        let context = self.decoder.config().context;
        let room = context.saturating_sub(prompt.0.len());
        let limit = request.max_tokens.map_or(room, |tokens| usize::try_from(tokens).unwrap_or(usize::MAX));
        if prompt.0.is_empty() || room == 0 || limit > room {
            let completion = limit.max(1);
            return Err(EngineError::ContextTooLong { prompt: prompt.0.len(), completion, context });
        }
        Ok(Generation {
            engine: self,
            cache: KvCache::new(self.decoder.config(), prompt.0.len().saturating_add(limit)),
            usage: Usage { prompt_tokens: count(prompt.0.len()), completion_tokens: 0 },
            pending: prompt,
            sampler: Sampler::new(request.sampling),
            text: Detokenizer::new(&self.tokenizer),
            stop: StopMatcher::new(request.stop.clone()),
            limit: count(limit),
            finished: None,
        })
    }

    /// Runs `request` to its end, or until `on_text` breaks off, and gives out the text as it comes. A broken
    /// off completion counts as finished by [`FinishReason::Length`].
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`Generation::step`].
    pub fn complete(
        &self,
        request: &ChatRequest,
        mut on_text: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(FinishReason, Usage), EngineError> {
        let mut generation = self.start(request)?;
        loop {
            match generation.step()? {
                Step::Text(text) if !text.is_empty() && on_text(&text).is_break() => {
                    return Ok((FinishReason::Length, generation.usage()));
                }
                Step::Text(_) => {}
                Step::Finished { text, reason } => {
                    let _ = on_text(&text);
                    return Ok((reason, generation.usage()));
                }
            }
        }
    }
}

/// What one step of a completion brought.
pub enum Step {
    /// Text, possibly empty: the prompt is still being read, or a character or a stop string is incomplete.
    Text(String),
    /// The last text, and why it is the last.
    Finished {
        /// The rest of the text, possibly empty.
        text: String,
        /// Why the completion ended.
        reason: FinishReason,
    },
}

/// One completion in progress.
///
/// Sequences share nothing: what one request computes does not depend on the others, and its memory is
/// overwritten when it is dropped.
pub struct Generation<'a> {
    engine: &'a Engine,
    cache: KvCache,
    /// Tokens that the decoder has not seen: the rest of the prompt, or the last one drawn.
    pending: Tokens,
    sampler: Sampler,
    text: Detokenizer<'a>,
    stop: StopMatcher,
    limit: u32,
    usage: Usage,
    finished: Option<FinishReason>,
}

impl Generation<'_> {
    /// Tokens used so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Runs a part of the prompt, or draws one token.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`], [`EngineError::Compute`] or [`EngineError::OutOfMemory`]: the completion is
    /// over.
    pub fn step(&mut self) -> Result<Step, EngineError> {
        if let Some(reason) = self.finished {
            return Ok(Step::Finished { text: String::new(), reason });
        }
        let part = self.pending.0.len().min(PREFILL);
        let logits = self.engine.decoder.forward(self.pending.first(part), &mut self.cache)?;
        self.pending.consume(part);
        if !self.pending.0.is_empty() {
            return Ok(Step::Text(String::new()));
        }
        let token = self.sampler.draw(logits);
        self.usage.completion_tokens = self.usage.completion_tokens.saturating_add(1);
        self.accept(token)
    }

    /// Adds a drawn token to the text.
    fn accept(&mut self, token: u32) -> Result<Step, EngineError> {
        if self.engine.end_tokens.contains(&token) {
            return self.finish(String::new(), FinishReason::Stop);
        }
        let text = match self.stop.push(&self.text.push(token)?) {
            Passed::Text(text) => text,
            Passed::Stopped(text) => return Ok(self.finished(text, FinishReason::Stop)),
        };
        if self.usage.completion_tokens >= self.limit {
            return self.finish(text, FinishReason::Length);
        }
        self.pending.0.push(token);
        Ok(Step::Text(text))
    }

    /// Ends the completion with what was held back.
    fn finish(&mut self, mut text: String, reason: FinishReason) -> Result<Step, EngineError> {
        let rest = self.text.finish()?;
        match self.stop.push(&rest) {
            Passed::Text(passed) => {
                text.push_str(&passed);
                text.push_str(&self.stop.finish());
                Ok(self.finished(text, reason))
            }
            Passed::Stopped(passed) => Ok(self.finished(text + &passed, FinishReason::Stop)),
        }
    }

    fn finished(&mut self, text: String, reason: FinishReason) -> Step {
        self.finished = Some(reason);
        Step::Finished { text, reason }
    }
}

/// Tokens that are overwritten with zeros when they are dropped.
struct Tokens(Vec<u32>);

impl Tokens {
    fn first(&self, tokens: usize) -> &[u32] {
        self.0.get(..tokens).unwrap_or(&self.0)
    }

    fn consume(&mut self, tokens: usize) {
        let tokens = tokens.min(self.0.len());
        self.0.get_mut(..tokens).unwrap_or_default().zeroize();
        self.0.drain(..tokens);
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Reads a file that a model may lack.
fn optional(files: &mut dyn ModelFiles, name: &str) -> Result<Option<Vec<u8>>, EngineError> {
    if files.names().iter().any(|file| file == name) { files.read(name).map(Some) } else { Ok(None) }
}

/// A number of tokens of a context, which [`ModelConfig`] bounds far below 2³².
fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).expect("a context has fewer than 2^32 tokens")
}
