//! `POST /v1/chat/completions`: the body, checked.

use confide_engine::{ChatRequest, MAX_MESSAGES, Message, RequestFault, Sampling, StopStrings};
use zeroize::Zeroizing;

use super::fault::Fault;
use super::json::{self, Kind, Value};

/// Content parts of one message. OpenAI's clients send one for each text or picture.
const MAX_PARTS: usize = 1024;
/// Stop strings, as in OpenAI's API. More are refused there, too.
const MAX_STOPS: usize = 4;
/// The temperature where the request names none, as in OpenAI's API.
const TEMPERATURE: f32 = 1.0;
/// What joins the text parts of a message, as in other servers of chat templates that take plain strings.
const JOIN: &str = "\n";

/// A checked request. Implements neither `Debug` nor `Display`:
///
/// ```compile_fail,E0277
/// fn log(request: &confide_guest::api::CompletionRequest) {
///     println!("{request:?}");
/// }
/// ```
///
/// ```
/// fn log(request: &confide_guest::api::CompletionRequest) {
/// }
/// ```
///
/// ```compile_fail,E0277
/// fn log(request: &confide_guest::api::CompletionRequest) {
///     println!("{request}");
/// }
/// ```
///
/// ```
/// fn log(request: &confide_guest::api::CompletionRequest) {
/// }
/// ```
pub struct CompletionRequest {
    /// The name of the model that must answer.
    pub model: String,
    /// What goes to the engine.
    pub chat: ChatRequest,
    /// How the answer goes out.
    pub delivery: Delivery,
}

/// How an answer goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In one piece.
    Whole,
    /// As server-sent events.
    Stream,
    /// As server-sent events, the last of which counts tokens.
    StreamWithUsage,
}

impl CompletionRequest {
    /// Reads a body.
    ///
    /// Parameters that only concern OpenAI's own platform (`user`, `metadata`, `store` and so on) are checked and
    /// ignored. Those that would change the answer are refused, unless their value asks for nothing. Unknown ones
    /// are refused. `null` counts as absent.
    ///
    /// # Errors
    /// A [`Fault`] that names the parameter.
    pub fn parse(body: &[u8]) -> Result<Self, Fault> {
        let mut parameters = Parameters::default();
        for (name, value) in json::read(body)?.object()? {
            if value.kind() != Kind::Null {
                parameters.read(&name, &value)?;
            }
        }
        parameters.finish()
    }
}

/// What has been read of a request.
#[derive(Default)]
struct Parameters {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    stream: bool,
    include_usage: Option<bool>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    seed: Option<u64>,
    stop: StopStrings,
}

impl Parameters {
    fn read(&mut self, name: &str, value: &Value<'_>) -> Result<(), Fault> {
        match name {
            "model" => self.model = Some(value.string()?.to_string()),
            "messages" => self.messages = Some(messages(value)?),
            "stream" => self.stream = value.boolean()?,
            "stream_options" => self.include_usage = Some(stream_options(value)?),
            "max_tokens" => self.max_tokens = Some(tokens(value)?),
            "max_completion_tokens" => self.max_completion_tokens = Some(tokens(value)?),
            "temperature" => self.temperature = Some(narrowed(value.number()?)),
            "top_p" => self.top_p = Some(narrowed(value.number()?)),
            "seed" => self.seed = Some(seed(value)?),
            "stop" => self.stop = stop(value)?,
            _ => return check_unused(name, value),
        }
        Ok(())
    }

    fn finish(self) -> Result<CompletionRequest, Fault> {
        let missing = |param: &str| Fault::Missing { param: param.to_owned() };
        let delivery = match (self.stream, self.include_usage) {
            (true, Some(true)) => Delivery::StreamWithUsage,
            (true, _) => Delivery::Stream,
            (false, None) => Delivery::Whole,
            (false, Some(_)) => return Err(refused("stream_options", "allowed with stream = true only")),
        };
        let max_tokens = match (self.max_tokens, self.max_completion_tokens) {
            (Some(old), Some(new)) if old != new => {
                return Err(refused("max_tokens", "differs from max_completion_tokens, which replaces it"));
            }
            (old, new) => new.or(old),
        };
        let (temperature, top_p) = (self.temperature.unwrap_or(TEMPERATURE), self.top_p.unwrap_or(1.0));
        let sampling = Sampling::new(temperature, top_p, self.seed).map_err(|fault| match fault {
            RequestFault::TopP { .. } => refused("top_p", "must be above 0 and at most 1"),
            _ => refused("temperature", "must be between 0 and 2"),
        })?;
        let messages = self.messages.ok_or_else(|| missing("messages"))?;
        Ok(CompletionRequest {
            model: self.model.ok_or_else(|| missing("model"))?,
            chat: ChatRequest { messages, sampling, max_tokens, stop: self.stop },
            delivery,
        })
    }
}

fn refused(param: &str, reason: &str) -> Fault {
    Fault::Value { param: param.to_owned(), reason: reason.to_owned() }
}

/// The nearest `f32`; where there is none, an infinity, which no range allows.
#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "rounding is wanted")]
fn narrowed(number: f64) -> f32 {
    number as f32
}

/// A number of tokens. Above 2³² it is more than every context, which the engine says with its counts.
fn tokens(value: &Value<'_>) -> Result<u32, Fault> {
    match value.integer()? {
        ..1 => Err(value.invalid("must be at least 1")),
        tokens => Ok(u32::try_from(tokens).unwrap_or(u32::MAX)),
    }
}

/// Any 64-bit integer, signed or not.
fn seed(value: &Value<'_>) -> Result<u64, Fault> {
    let seed = value.integer()?;
    let signed = i64::try_from(seed).map(i64::cast_unsigned);
    signed.or_else(|_| u64::try_from(seed)).map_err(|_| value.invalid("must be a 64-bit integer"))
}

/// A string, or an array of strings.
fn stop(value: &Value<'_>) -> Result<StopStrings, Fault> {
    let stops = match value.kind() {
        Kind::String => vec![value.string()?.to_string()],
        Kind::Array => value
            .array(MAX_STOPS)?
            .iter()
            .map(|stop| Ok(stop.string()?.to_string()))
            .collect::<Result<_, Fault>>()?,
        _ => return Err(value.mistyped("a string or an array of strings")),
    };
    StopStrings::new(stops).map_err(|fault| value.invalid(fault.to_string()))
}

/// Whether the stream ends with a count of tokens.
fn stream_options(value: &Value<'_>) -> Result<bool, Fault> {
    let mut include_usage = false;
    for (name, option) in value.object()? {
        match name.as_str() {
            _ if option.kind() == Kind::Null => {}
            "include_usage" => include_usage = option.boolean()?,
            // Padding against an observer of sizes, which clients strip: allowed to be absent.
            "include_obfuscation" => option.expect(Kind::Boolean, "a boolean")?,
            _ => return Err(Fault::UnknownParameter { param: option.path() }),
        }
    }
    Ok(include_usage)
}

fn messages(value: &Value<'_>) -> Result<Vec<Message>, Fault> {
    let messages = value.array(MAX_MESSAGES)?;
    if messages.is_empty() {
        return Err(value.invalid("must have at least one message"));
    }
    messages.iter().map(message).collect()
}

fn message(value: &Value<'_>) -> Result<Message, Fault> {
    let (mut role, mut content) = (None, None);
    for (name, member) in value.object()? {
        match (name.as_str(), member.kind()) {
            ("role", _) => role = Some(self::role(&member)?),
            ("content", _) => content = Some(self::content(&member)?),
            (_, Kind::Null) => {}
            // Templates of the supported families do not show names and annotations to the model.
            ("name", _) => member.expect(Kind::String, "a string")?,
            ("annotations", _) => member.expect(Kind::Array, "an array")?,
            ("tool_calls", Kind::Array) if member.array(0).is_ok() => {}
            ("refusal" | "audio" | "function_call" | "tool_calls" | "tool_call_id", _) => {
                return Err(member.unsupported("messages have a role and text"));
            }
            _ => return Err(Fault::UnknownParameter { param: member.path() }),
        }
    }
    let missing = |name: &str| Fault::Missing { param: format!("{}.{name}", value.path()) };
    let role = role.ok_or_else(|| missing("role"))?;
    let mut content = content.ok_or_else(|| missing("content"))?;
    Ok(Message::new(role, std::mem::take(&mut *content)))
}

/// A role as chat templates know it.
fn role(value: &Value<'_>) -> Result<&'static str, Fault> {
    match value.string()?.as_str() {
        // The newer name of the same thing in OpenAI's API.
        "system" | "developer" => Ok("system"),
        "user" => Ok("user"),
        "assistant" => Ok("assistant"),
        "tool" | "function" => Err(value.unsupported("tools are not")),
        _ => Err(value.invalid("must be one of system, developer, user, assistant")),
    }
}

/// A string, or an array of text parts.
fn content(value: &Value<'_>) -> Result<Zeroizing<String>, Fault> {
    match value.kind() {
        Kind::String => value.string(),
        Kind::Array => {
            let parts = value.array(MAX_PARTS)?;
            let texts = parts.iter().map(text_part).collect::<Result<Vec<_>, Fault>>()?;
            Ok(joined(&texts))
        }
        _ => Err(value.mistyped("a string or an array of text parts")),
    }
}

/// Joins texts without leaving copies behind.
fn joined(texts: &[Zeroizing<String>]) -> Zeroizing<String> {
    let length =
        texts.iter().map(|text| text.len().saturating_add(JOIN.len())).fold(0, usize::saturating_add);
    let mut whole = Zeroizing::new(String::with_capacity(length));
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            whole.push_str(JOIN);
        }
        whole.push_str(text);
    }
    whole
}

/// The text of one content part.
fn text_part(value: &Value<'_>) -> Result<Zeroizing<String>, Fault> {
    let members = value.object()?;
    let member = |name: &str| {
        let found = members.iter().find(|(other, _)| other == name).map(|(_, member)| member);
        found.ok_or_else(|| Fault::Missing { param: format!("{}.{name}", value.path()) })
    };
    let kind = member("type")?;
    match kind.string()?.as_str() {
        "text" => {}
        "image_url" | "input_audio" | "file" | "refusal" => return Err(kind.unsupported("text parts are")),
        _ => return Err(kind.invalid("must be text")),
    }
    match members.iter().find(|(name, _)| !matches!(name.as_str(), "type" | "text")) {
        Some((_, unknown)) => Err(Fault::UnknownParameter { param: unknown.path() }),
        None => member("text")?.string(),
    }
}

/// A parameter of OpenAI's API that this server does not use: what it may be.
enum Unused {
    /// It concerns OpenAI's own platform, not the answer.
    Ignored(Kind, &'static str),
    /// It would change the answer: allowed where it asks for nothing.
    Neutral(fn(&Value<'_>) -> Result<bool, Fault>, &'static str),
}

impl Unused {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "user" | "safety_identifier" | "service_tier" | "prompt_cache_key" | "prompt_cache_retention" => {
                Self::Ignored(Kind::String, "a string")
            }
            "metadata" => Self::Ignored(Kind::Object, "an object"),
            // Text that the answer probably repeats: only makes it faster.
            "prediction" => Self::Ignored(Kind::Object, "an object"),
            // Without tools there are no calls to be made side by side. Nothing is ever stored.
            "store" | "parallel_tool_calls" => Self::Ignored(Kind::Boolean, "a boolean"),
            "n" => Self::Neutral(|value| Ok(value.integer()? == 1), "one answer to a request is"),
            "logprobs" => Self::Neutral(|value| Ok(!value.boolean()?), "only false is"),
            "top_logprobs" => Self::Neutral(|value| Ok(value.integer()? == 0), "only 0 is"),
            "presence_penalty" | "frequency_penalty" => {
                Self::Neutral(|value| Ok(value.number()? == 0.0), "only 0 is")
            }
            "logit_bias" => Self::Neutral(|value| Ok(value.object()?.is_empty()), "only {} is"),
            "tools" | "functions" => Self::Neutral(empty_array, "only [] is"),
            "tool_choice" | "function_call" => Self::Neutral(
                |value| is_one_of(value, &["none", "auto"]),
                "there are no tools to choose from",
            ),
            "response_format" => Self::Neutral(plain_text, "only text is"),
            "modalities" => Self::Neutral(only_text, "only text is"),
            "reasoning_effort" => Self::Neutral(|value| is_one_of(value, &["none"]), "only none is"),
            "verbosity" => Self::Neutral(|value| is_one_of(value, &["medium"]), "only medium is"),
            "audio" | "web_search_options" => Self::Neutral(|_| Ok(false), "only null is"),
            _ => return None,
        })
    }
}

fn check_unused(name: &str, value: &Value<'_>) -> Result<(), Fault> {
    match Unused::of(name) {
        Some(Unused::Ignored(kind, expected)) => value.expect(kind, expected),
        Some(Unused::Neutral(is_neutral, supported)) => {
            if is_neutral(value)? {
                Ok(())
            } else {
                Err(value.unsupported(supported))
            }
        }
        None => Err(Fault::UnknownParameter { param: value.path() }),
    }
}

fn empty_array(value: &Value<'_>) -> Result<bool, Fault> {
    value.expect(Kind::Array, "an array")?;
    Ok(value.array(0).is_ok())
}

/// A choice between names, or an object that is none of them.
fn is_one_of(value: &Value<'_>, names: &[&str]) -> Result<bool, Fault> {
    match value.kind() {
        Kind::String => Ok(names.contains(&value.string()?.as_str())),
        Kind::Object => Ok(false),
        _ => Err(value.mistyped("a string or an object")),
    }
}

fn plain_text(value: &Value<'_>) -> Result<bool, Fault> {
    let members = value.object()?;
    match members.iter().find(|(name, _)| name == "type") {
        Some((_, kind)) => Ok(kind.string()?.as_str() == "text"),
        None => Err(Fault::Missing { param: format!("{}.type", value.path()) }),
    }
}

fn only_text(value: &Value<'_>) -> Result<bool, Fault> {
    for modality in value.array(MAX_PARTS)? {
        if modality.string()?.as_str() != "text" {
            return Ok(false);
        }
    }
    Ok(true)
}
