//! A loaded model, and the completions that it makes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::config::{self, CONFIG, ModelConfig};
use crate::decoder::{Decoder, Run};
use crate::error::EngineError;
use crate::files::ModelFiles;
use crate::gguf::{self, Parts};
use crate::kernels::Threads;
use crate::pages::{KvCache, PagePool};
use crate::plan::Demand;
use crate::prefix::{KeyHolder, PrefixCache};
use crate::request::{ChatRequest, FinishReason, Message, Usage};
use crate::sampling::Sampler;
use crate::shield::Shield;
use crate::stop::{Passed, StopMatcher};
use crate::template::{self, ChatTemplate};
use crate::tokenizer::{self, Detokenizer, TextTokenizer};
use crate::weights::Weights;

const GENERATION_CONFIG: &str = "generation_config.json";

/// Prompt tokens that one [`Generation::step`] runs.
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
    pages: PagePool,
    tokenizer: TextTokenizer,
    template: ChatTemplate,
    shield: Shield,
    end_tokens: BTreeSet<u32>,
    parameters: u64,
}

impl Engine {
    /// Loads a model in Hugging Face layout: `config.json`, `tokenizer.json`, `tokenizer_config.json` or
    /// `chat_template.jinja`, and `model.safetensors` or shards with their index. Or, in a folder without `config.json`, one GGUF
    /// file that holds all of that.
    ///
    /// Each file is read once. To know which bytes run, pass [`MeasuredFiles`](crate::MeasuredFiles).
    ///
    /// # Errors
    /// A file is missing, malformed, or of a model that this engine does not run.
    pub fn load(files: &mut dyn ModelFiles, resources: &Resources) -> Result<Self, EngineError> {
        let threads = Threads::new(resources.threads);
        if let Some(name) = gguf_file(files)? {
            return Self::of_gguf(files.read(&name)?, threads, resources);
        }
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
        let weights = Weights::load(files, &config, &threads)?;
        Self::of_parts(Parts { config, tokenizer, template, weights }, shield, end_tokens, threads, resources)
    }

    /// Loads a model out of the bytes of a GGUF file.
    fn of_gguf(bytes: Vec<u8>, threads: Threads, resources: &Resources) -> Result<Self, EngineError> {
        let mut parts = gguf::load(&bytes, &threads)?;
        drop(bytes);
        let mut end_tokens: BTreeSet<u32> = parts.config.end_tokens.iter().copied().collect();
        end_tokens.extend(parts.template.end_token().and_then(|text| parts.tokenizer.token(text)));
        let shield = parts.tokenizer.shield(&end_tokens)?;
        Self::of_parts(parts, shield, end_tokens, threads, resources)
    }

    fn of_parts(
        parts: Parts,
        shield: Shield,
        end_tokens: BTreeSet<u32>,
        threads: Threads,
        resources: &Resources,
    ) -> Result<Self, EngineError> {
        let Parts { config, tokenizer, template, weights } = parts;
        let parameters = weights.parameters();
        let cache_bytes = resources.cache_bytes.unwrap_or_else(|| half_of_the_rest(weights.bytes()));
        Ok(Self {
            pages: PagePool::new(&config, cache_bytes),
            decoder: Decoder::new(config, weights, threads)?,
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

    /// The memory of keys and values.
    pub fn pages(&self) -> &PagePool {
        &self.pages
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
        let tokens = Tokens(self.prompt(&request.messages)?);
        let context = self.decoder.config().context;
        let prompt = tokens.0.len();
        let room = context.saturating_sub(prompt);
        let limit = request.max_tokens.map_or(room, |tokens| usize::try_from(tokens).unwrap_or(usize::MAX));
        if prompt == 0 || room == 0 || limit > room {
            return Err(EngineError::ContextTooLong { prompt, completion: limit.max(1), context });
        }
        Ok(Generation {
            engine: self,
            cache: KvCache::new(&self.pages, prompt.saturating_add(limit)),
            usage: Usage { prompt_tokens: count(prompt), cached_tokens: 0, completion_tokens: 0 },
            tokens,
            sampler: Sampler::new(request.sampling),
            text: Detokenizer::new(&self.tokenizer),
            stop: StopMatcher::new(request.stop.clone()),
            limit: count(limit),
            finished: None,
        })
    }

    /// Runs the next tokens of several completions together: of each as many as its turn says.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`]: there are not enough pages for all. No completion has then gone on. What goes wrong with one
    /// alone is in its result.
    pub(crate) fn advance(
        &self,
        turns: &mut [Turn<'_, '_>],
    ) -> Result<Vec<Result<Step, EngineError>>, EngineError> {
        let mut runs: Vec<Run<'_>> = turns.iter_mut().map(Turn::run).collect();
        let logits = self.decoder.step(&mut runs)?;
        drop(runs);
        Ok(turns.iter_mut().zip(logits).map(|(turn, logits)| turn.generation.took(logits)).collect())
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

/// What an engine may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Threads that compute, the calling one included; at least one.
    pub threads: usize,
    /// Bytes for keys and values of all sequences together; half of the memory that the weights leave where there is no number. A
    /// sequence that needs more than all of it fails.
    pub cache_bytes: Option<usize>,
}

impl Resources {
    /// All processors but one, which is left to TLS and HTTP, and half of the memory that the weights leave.
    pub fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: processors.saturating_sub(1).max(1), cache_bytes: None }
    }
}

/// Half of the machine's memory beside `weights` bytes.
fn half_of_the_rest(weights: usize) -> usize {
    let system = rustix::system::sysinfo();
    let all = u64::from(system.mem_unit).saturating_mul(system.totalram);
    usize::try_from(all).unwrap_or(usize::MAX).saturating_sub(weights).div_ceil(2)
}

/// The part of a completion that one step runs.
pub(crate) struct Turn<'a, 'e> {
    pub(crate) generation: &'a mut Generation<'e>,
    /// At least one, and at most [`Generation::pending`].
    pub(crate) tokens: usize,
}

impl Turn<'_, '_> {
    fn run(&mut self) -> Run<'_> {
        let Generation { cache, tokens, .. } = &mut *self.generation;
        let pending = tokens.0.get(cache.len()..).unwrap_or_default();
        let part = pending.get(..self.tokens).unwrap_or(pending);
        Run { logits: part.len() == pending.len(), cache, tokens: part }
    }
}

/// One completion in progress.
///
/// Sequences share nothing but pages of one key-holder's prompts: what one request computes does not depend on the
/// others, and its memory is overwritten when it is dropped.
pub struct Generation<'a> {
    engine: &'a Engine,
    /// Of the first tokens.
    cache: KvCache,
    /// The prompt, and what was drawn. The decoder has not seen those behind the cache's: a part of the prompt, or the last
    /// one drawn; after [`Self::give_back`] more.
    tokens: Tokens,
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

    /// Tokens that the decoder has not seen. Each step takes at least one of them.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.0.len().saturating_sub(self.cache.len())
    }

    /// What it could do in a step.
    pub(crate) fn demand(&self) -> Demand {
        Demand { pending: self.pending(), room: self.cache.room() }
    }

    /// Pages that it must take for `tokens` more.
    pub(crate) fn pages_for(&self, tokens: usize) -> usize {
        self.cache.pages_for(tokens)
    }

    /// Begins with what an earlier request of `holder` computed.
    pub(crate) fn begin_from(&mut self, prefixes: &mut PrefixCache, holder: KeyHolder) {
        if self.cache.is_empty() {
            self.cache.begin_with(prefixes.find(holder, &self.tokens.0));
            if self.usage.completion_tokens == 0 {
                self.usage.cached_tokens = count(self.cache.len());
            }
        }
    }

    /// Leaves what it computed to the next request of `holder`.
    pub(crate) fn leave_to(&self, prefixes: &mut PrefixCache, holder: KeyHolder) {
        prefixes.keep(holder, &self.tokens.0, self.cache.full_pages());
    }

    /// Gives its pages back. It goes on by computing again what it had: the same numbers, as sequences do not depend on what
    /// runs beside them.
    pub(crate) fn give_back(&mut self) {
        self.cache.clear();
    }

    /// Runs a part of the prompt, or draws one token.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] or [`EngineError::OutOfMemory`]: the completion is over.
    pub fn step(&mut self) -> Result<Step, EngineError> {
        if let Some(reason) = self.finished {
            return Ok(Step::Finished { text: String::new(), reason });
        }
        let (engine, tokens) = (self.engine, self.pending().min(PREFILL));
        engine.advance(&mut [Turn { generation: self, tokens }])?.pop().expect("one turn has one result")
    }

    /// Takes what a step computed.
    fn took(&mut self, logits: Option<Vec<f32>>) -> Result<Step, EngineError> {
        if self.pending() > 0 {
            return Ok(Step::Text(String::new()));
        }
        let token = self.sampler.draw(logits.ok_or(EngineError::NotFinite)?);
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
        self.tokens.push(token);
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
    /// Adds a token, and leaves no copy behind where the others must move.
    fn push(&mut self, token: u32) {
        if self.0.len() == self.0.capacity() {
            let mut larger = Vec::with_capacity(self.0.len().saturating_mul(2).max(1));
            larger.extend_from_slice(&self.0);
            self.0.zeroize();
            self.0 = larger;
        }
        self.0.push(token);
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The GGUF file of a folder that is no checkpoint in Hugging Face layout.
fn gguf_file(files: &dyn ModelFiles) -> Result<Option<String>, EngineError> {
    let names = files.names();
    let mut found = names.iter().filter(|name| name.ends_with(".gguf"));
    match (names.iter().any(|name| name == CONFIG), found.next(), found.next()) {
        (true, ..) | (_, None, _) => Ok(None),
        (false, Some(name), None) => Ok(Some(name.clone())),
        (false, Some(_), Some(second)) => {
            Err(EngineError::FileRefused { path: second.clone(), reason: "a model is one GGUF file" })
        }
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
