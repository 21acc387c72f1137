//! Chat completions.

use crate::client::Client;
use crate::error::ClientError;
use crate::openai;
use crate::response::{Response, ResponseBody};
use crate::sse::Decoder;
use confide_channel::{ApiKey, Prompt, Request, Verdict};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Path of chat completions.
pub(crate) const CHAT_PATH: &str = "/v1/chat/completions";
const MODELS_PATH: &str = "/v1/models";

/// A chat to be completed. Neither `Debug` nor `Clone`: it holds the prompt.
pub struct ChatRequest {
    model: String,
    turns: Vec<Turn>,
    temperature: Option<f32>,
    max_tokens: Option<u32>,
    key: Option<ApiKey>,
}

/// What one speaker said. Neither `Debug` nor `Clone`; zeroed when dropped.
pub struct Turn {
    speaker: Speaker,
    text: Zeroizing<String>,
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// Who set the rules.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// A whole answer. Not `Debug`: completions are not logged.
pub struct ChatAnswer {
    /// The model that answered, by its own word.
    pub model: String,
    /// The text.
    pub content: String,
    /// Why it ends: `stop`, `length` or another of the API's words.
    pub finish_reason: Option<String>,
    /// Tokens.
    pub usage: Option<Usage>,
    /// The verdict that the channel rests on.
    pub verdict: Arc<Verdict>,
}

/// An answer as it is being made. Not `Debug`.
pub struct ChatStream {
    body: ResponseBody,
    decoder: Decoder,
    events: VecDeque<Vec<u8>>,
    verdict: Arc<Verdict>,
}

/// A piece of an answer. Not `Debug`.
pub struct Delta {
    /// Text to be appended.
    pub content: Option<String>,
    /// Why the answer ends here.
    pub finish_reason: Option<String>,
    /// Tokens, with the last piece.
    pub usage: Option<Usage>,
}

/// Tokens of a completion, by the guest's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
    /// Of both.
    pub total_tokens: u64,
}

impl Turn {
    /// What the user says.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Speaker::User, text)
    }

    /// What `speaker` says.
    #[must_use]
    pub fn new(speaker: Speaker, text: impl Into<String>) -> Self {
        Self { speaker, text: Zeroizing::new(text.into()) }
    }
}

impl ChatRequest {
    /// A chat with a model, nothing said yet.
    #[must_use]
    pub fn new(model: &str) -> Self {
        Self { model: model.to_owned(), turns: Vec::new(), temperature: None, max_tokens: None, key: None }
    }

    /// Appends a turn.
    #[must_use]
    pub fn turn(mut self, turn: Turn) -> Self {
        self.turns.push(turn);
        self
    }

    /// Sampling temperature; 0 takes the likeliest token each time.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// The most tokens of the answer.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// The key that the guest asks for.
    #[must_use]
    pub fn api_key(mut self, key: ApiKey) -> Self {
        self.key = Some(key);
        self
    }

    fn into_request(self, stream: Option<StreamOptions>) -> Result<Request, ClientError> {
        let prompt = self.to_json(stream);
        let request =
            Request::post(CHAT_PATH, Prompt::new(prompt))?.header("content-type", b"application/json")?;
        Ok(match self.key {
            Some(key) => request.authorize(key),
            None => request,
        })
    }

    fn to_json(&self, stream_options: Option<StreamOptions>) -> Zeroizing<Vec<u8>> {
        let messages = self.turns.iter().map(|turn| Message { role: turn.speaker, content: &turn.text });
        let wire = Wire {
            model: &self.model,
            messages: messages.collect(),
            temperature: self.temperature,
            max_tokens: self.max_tokens,
            stream: stream_options.is_some(),
            stream_options,
        };
        // A buffer that grows leaves unzeroed copies behind: JSON makes at most six bytes of one.
        let escaped = |text: &str| text.len().saturating_mul(6);
        let turns = self.turns.iter().map(|turn| escaped(&turn.text).saturating_add(64));
        let most = turns.fold(escaped(&self.model).saturating_add(256), usize::saturating_add);
        let mut json = Zeroizing::new(Vec::with_capacity(most));
        serde_json::to_writer(&mut *json, &wire)
            .expect("strings and finite lists always serialise to memory");
        json
    }
}

#[derive(Serialize)]
struct Wire<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: Speaker,
    content: &'a str,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Deserialize)]
struct Completion {
    model: String,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Chunk {
    choices: Vec<ChunkChoice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct ChunkChoice {
    delta: Said,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

impl Client {
    /// Completes a chat.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn chat(&self, request: ChatRequest) -> Result<ChatAnswer, ClientError> {
        let lease = self.lease().await?;
        let response = lease.send(request.into_request(None)?).await?.accepted().await?;
        let verdict = Arc::clone(&response.verdict);
        let completion: Completion = read_json(response).await?;
        let choice = completion.choices.into_iter().next().ok_or(ClientError::Answer("no choice"))?;
        Ok(ChatAnswer {
            model: completion.model,
            content: choice.message.content.unwrap_or_default(),
            finish_reason: choice.finish_reason,
            usage: completion.usage,
            verdict,
        })
    }

    /// Completes a chat in pieces, as the guest makes them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn chat_stream(&self, request: ChatRequest) -> Result<ChatStream, ClientError> {
        let lease = self.lease().await?;
        let request = request.into_request(Some(StreamOptions { include_usage: true }))?;
        let Response { body, verdict, .. } = lease.send(request).await?.accepted().await?;
        Ok(ChatStream { body, decoder: Decoder::default(), events: VecDeque::new(), verdict })
    }

    /// The names of the guest's models.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn models(&self) -> Result<Vec<String>, ClientError> {
        let response = self.send(Request::get(MODELS_PATH)?).await?.accepted().await?;
        let models: Models = read_json(response).await?;
        Ok(models.data.into_iter().map(|model| model.id).collect())
    }
}

async fn read_json<T: serde::de::DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let body = response.whole().await?;
    serde_json::from_slice(&body).map_err(|_| ClientError::Answer("not the JSON that the API describes"))
}

impl ChatStream {
    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// [`ClientError`], among others when the stream ends before its end is announced, or its receipt does not hold.
    pub async fn next(&mut self) -> Result<Option<Delta>, ClientError> {
        let event = self.next_event().await?;
        if event == b"[DONE]" {
            while !self.body.is_settled() {
                self.body.frame().await.transpose()?;
            }
            return Ok(None);
        }
        if let Some(error) = openai::stream_error(&event) {
            return Err(error);
        }
        let chunk = serde_json::from_slice::<Chunk>(&event);
        let chunk =
            chunk.map_err(|_| ClientError::Answer("a piece is not the JSON that the API describes"))?;
        let choice = chunk.choices.into_iter().next();
        let (content, finish_reason) =
            choice.map_or((None, None), |one| (one.delta.content, one.finish_reason));
        Ok(Some(Delta { content, finish_reason, usage: chunk.usage }))
    }

    /// The verdict that the channel rests on.
    #[must_use]
    pub fn verdict(&self) -> &Arc<Verdict> {
        &self.verdict
    }

    async fn next_event(&mut self) -> Result<Vec<u8>, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let frame = self.body.frame().await.ok_or(ClientError::Answer("the stream ends early"))??;
            if let Ok(bytes) = frame.into_data() {
                let events = self.decoder.push(&bytes);
                self.events.extend(events.map_err(|_| ClientError::Answer("an event is too long"))?);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_the_apis_json_in_one_buffer() {
        let request = ChatRequest::new("tiny")
            .turn(Turn::new(Speaker::System, "Be brief."))
            .turn(Turn::user("\u{1}\"é\""))
            .temperature(0.0)
            .max_tokens(8);
        let json = request.to_json(None);
        let expected = concat!(
            r#"{"model":"tiny","messages":[{"role":"system","content":"Be brief."},"#,
            r#"{"role":"user","content":"\u0001\"é\""}],"temperature":0.0,"max_tokens":8,"stream":false}"#
        );
        assert_eq!(std::str::from_utf8(&json).unwrap(), expected);
    }

    /// Does not compile where the type implements a trait: the call would then have two candidates.
    macro_rules! assert_not {
        ($trait:path: $($kind:ty),+) => {
            $({
                trait Ambiguous<A> {
                    fn call() {}
                }
                struct Implements;
                impl<T: ?Sized> Ambiguous<()> for T {}
                impl<T: ?Sized + $trait> Ambiguous<Implements> for T {}
                <$kind as Ambiguous<_>>::call();
            })+
        };
    }

    #[test]
    fn nothing_that_holds_content_can_be_shown() {
        assert_not!(std::fmt::Debug: ChatRequest, Turn, ChatAnswer, ChatStream, Delta, Response);
        assert_not!(std::fmt::Display: ChatRequest, Turn, ChatAnswer, ChatStream, Delta, Response);
    }

    #[test]
    fn the_buffer_never_grows() {
        let request = ChatRequest::new("\u{2}").turn(Turn::user("\u{1}".repeat(10_000)));
        let json = request.to_json(Some(StreamOptions { include_usage: true }));
        let bound = 10_000 * 6 + 64 + 6 + 256;
        assert!(json.len() > 60_000 && json.capacity() == bound, "{} of {}", json.len(), json.capacity());
    }
}
