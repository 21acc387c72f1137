//! The chat template of a model: a conversation as one text.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::EngineError;
use crate::guard::catch;
use crate::request::Message;

/// Name of the file with settings of the tokenizer, which usually holds the template.
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Name of the file that holds the template in newer checkpoints.
pub(crate) const TEMPLATE: &str = "chat_template.jinja";
/// Bytes of a template. Those of large public models have about 10 KB.
const MAX_TEMPLATE: usize = 1 << 17;
/// Stack of the thread that compiles a template: the compiler goes down one level for each operator that stands before
/// another one, and a template has room for as many as bytes.
const STACK: usize = 256 << 20;
/// Instructions that rendering may take, and as many more for each message: an endless loop in a template
/// ends. Templates of public models take a few hundred for each message.
const FUEL: u64 = 1_000_000;
const FUEL_PER_MESSAGE: u64 = 20_000;
const NAME: &str = "chat_template";

/// A compiled chat template.
///
/// Templates are written for Jinja2 in Python; the whitespace rules of `transformers` and the string methods
/// that templates call are provided. There is no clock: a template that asks for the date gets its own
/// default.
pub struct ChatTemplate {
    environment: Environment<'static>,
    begin: Option<String>,
    end: Option<String>,
}

impl ChatTemplate {
    /// Compiles the template in `jinja`, else that in `tokenizer_config.json`.
    ///
    /// # Errors
    /// There is no template, or it does not compile; `tokenizer_config.json` is malformed.
    pub fn parse(tokenizer_config: Option<&[u8]>, jinja: Option<&[u8]>) -> Result<Self, EngineError> {
        let settings = match tokenizer_config {
            Some(json) => serde_json::from_slice(json).map_err(|error| EngineError::ConfigInvalid {
                path: TOKENIZER_CONFIG,
                reason: error.to_string(),
            })?,
            None => Settings::default(),
        };
        let source = match jinja {
            Some(bytes) => String::from_utf8(bytes.to_vec()).map_err(|_| invalid("it is not UTF-8"))?,
            None => settings.template()?,
        };
        if source.len() > MAX_TEMPLATE {
            return Err(invalid(format!("{} bytes, at most {MAX_TEMPLATE}", source.len())));
        }
        let (begin, end) = (settings.bos_token.map(Token::text), settings.eos_token.map(Token::text));
        let compiling = std::thread::Builder::new().stack_size(STACK).spawn(move || environment(source));
        let compiling = compiling.map_err(|_| EngineError::OutOfMemory { bytes: STACK })?;
        let environment = compiling.join().unwrap_or_else(|_| Err(invalid("it cannot be compiled")))?;
        Ok(Self { environment, begin, end })
    }

    /// The text of the end token, where the checkpoint names one.
    pub fn end_token(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// Renders a conversation, ready for the assistant to continue.
    ///
    /// # Errors
    /// [`EngineError::TemplateRefused`]: the template raised an exception, failed or did not end.
    pub fn render(&self, messages: &[Message]) -> Result<Zeroizing<String>, EngineError> {
        let values: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role(), content => message.content() })
            .collect();
        let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        let fuel = FUEL.saturating_add(FUEL_PER_MESSAGE.saturating_mul(count));
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let refused = |error: Error| EngineError::TemplateRefused { line: error.line().unwrap_or(0) };
        let template = environment.get_template(NAME).map_err(refused)?;
        let context = context! {
            messages => values,
            add_generation_prompt => true,
            bos_token => self.begin.as_deref().unwrap_or_default(),
            eos_token => self.end.as_deref().unwrap_or_default(),
        };
        let text = catch(|| template.render(context)).ok_or(EngineError::TemplateRefused { line: 0 })?;
        Ok(Zeroizing::new(text.map_err(refused)?))
    }
}

/// The part of `tokenizer_config.json` that the engine reads.
#[derive(Default, Deserialize)]
struct Settings {
    chat_template: Option<Templates>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
}

/// One template, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// A special token, alone or with settings.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Full { content: String },
}

impl Settings {
    fn template(&self) -> Result<String, EngineError> {
        let named = |templates: &[NamedTemplate]| {
            templates.iter().find(|named| named.name == "default").map(|named| named.template.clone())
        };
        let template = match &self.chat_template {
            Some(Templates::One(template)) => Some(template.clone()),
            Some(Templates::Named(templates)) => named(templates),
            None => None,
        };
        template.ok_or_else(|| invalid(format!("neither {TEMPLATE} nor {TOKENIZER_CONFIG} has one")))
    }
}

impl Token {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Full { content: text } => text,
        }
    }
}

/// An environment that renders `source` as `transformers` does.
fn environment(source: String) -> Result<Environment<'static>, EngineError> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| invalid(error.to_string()))?);
    environment
        .set_unknown_method_callback(|_, value, method, arguments| python_method(value, method, arguments));
    environment.add_function("raise_exception", |_: Rest<Value>| {
        Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, "raised by the template"))
    });
    environment
        .add_template_owned(NAME, source)
        .map_err(|error| invalid(format!("{} in line {}", error.kind(), error.line().unwrap_or(0))))?;
    Ok(environment)
}

/// The methods of Python's strings and dictionaries that chat templates call.
fn python_method(value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) => string_method(text, method, arguments),
        None if value.kind() == ValueKind::Map => map_method(value, method, arguments),
        None => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn string_method(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match method {
        "strip" | "lstrip" | "rstrip" => strip(text, method, arguments),
        "split" => split(text, arguments),
        "startswith" | "endswith" => {
            let (part,): (&str,) = from_args(arguments)?;
            let found = if method == "startswith" { text.starts_with(part) } else { text.ends_with(part) };
            Ok(Value::from(found))
        }
        "replace" => {
            let (from, to): (&str, &str) = from_args(arguments)?;
            Ok(Value::from(text.replace(from, to)))
        }
        "upper" => from_args::<()>(arguments).map(|()| Value::from(text.to_uppercase())),
        "lower" => from_args::<()>(arguments).map(|()| Value::from(text.to_lowercase())),
        "capitalize" => from_args::<()>(arguments).map(|()| Value::from(capitalize(text))),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn strip(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (set,): (Option<&str>,) = from_args(arguments)?;
    let stripped = |c: char| set.map_or(c.is_whitespace(), |set| set.contains(c));
    Ok(Value::from(match method {
        "lstrip" => text.trim_start_matches(stripped),
        "rstrip" => text.trim_end_matches(stripped),
        _ => text.trim_matches(stripped),
    }))
}

fn split(text: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (separator,): (Option<&str>,) = from_args(arguments)?;
    match separator {
        Some("") => Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => Ok(text.split(separator).map(Value::from).collect()),
        None => Ok(text.split_whitespace().map(Value::from).collect()),
    }
}

fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    first + &characters.as_str().to_lowercase()
}

fn map_method(value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match method {
        "get" => {
            let (key, default): (&Value, Option<Value>) = from_args(arguments)?;
            let found = value.get_item(key)?;
            Ok(if found.is_undefined() { default.unwrap_or(Value::from(())) } else { found })
        }
        "keys" => from_args::<()>(arguments).and_then(|()| Ok(value.try_iter()?.collect())),
        "items" => {
            from_args::<()>(arguments)?;
            let pair = |key: Value| Ok(Value::from(vec![key.clone(), value.get_item(&key)?]));
            Ok(value.try_iter()?.map(pair).collect::<Result<Vec<_>, Error>>()?.into())
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn invalid(reason: impl Into<String>) -> EngineError {
    EngineError::TemplateInvalid { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, messages: &[(&str, &str)]) -> Result<String, EngineError> {
        let messages: Vec<_> = messages.iter().map(|(role, content)| Message::new(*role, *content)).collect();
        let config = br#"{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}}"#;
        let template = ChatTemplate::parse(Some(config), Some(template.as_bytes()))?;
        template.render(&messages).map(|text| text.to_string())
    }

    #[test]
    fn blocks_leave_no_whitespace() {
        let template = "{{ bos_token }}\n{%- for message in messages %}\n    {% if loop.first %}\n{{ message.role }}: \
            {{ message['content'] | trim }}{{ eos_token }}\n    {% endif %}\n{%- endfor %}\n\
            {%- if add_generation_prompt %}[go]{% endif %}";
        assert_eq!(render(template, &[("user", " hi ")]).unwrap(), "<s>user: hi</s>\n[go]");
    }

    #[test]
    fn python_methods_work() {
        let template = "{% set ns = namespace(last='') %}{% for m in messages[::-1] %}\
            {% if m.content is string and m.content.startswith('<t>') and not m.extra is defined %}\
            {% set ns.last = m.content.split('</t>')[-1].lstrip('\\n').replace('x', 'y').upper() %}\
            {% endif %}{% endfor %}{{ ns.last }}|{{ messages[0].get('role', 'none') }}|{{ messages[0].get('a', 'b') }}";
        assert_eq!(render(template, &[("user", "<t>a</t>\n\nxb")]).unwrap(), "YB|user|b");
    }

    #[test]
    fn conversations_are_not_templates() {
        assert_eq!(
            render("{{ messages[0].content }}", &[("user", "{{ 1 + 1 }}<&>")]).unwrap(),
            "{{ 1 + 1 }}<&>"
        );
    }

    #[test]
    fn exceptions_and_endless_loops_are_refusals_with_a_line() {
        let raised = render("\n{{ raise_exception('no system role') }}", &[("user", "hi")]).unwrap_err();
        assert!(matches!(raised, EngineError::TemplateRefused { line: 2 }));
        let nested = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        let endless = render(nested, &[("user", "hi")]).unwrap_err();
        assert_eq!(endless.code(), "chat_template_refused");
    }

    #[test]
    fn broken_templates_are_refused() {
        assert_eq!(render("{% for %}", &[]).unwrap_err().code(), "chat_template_invalid");
        let parse =
            |config: &[u8], jinja| ChatTemplate::parse(Some(config), jinja).map(|_| ()).unwrap_err().code();
        assert_eq!(parse(b"{}", None), "chat_template_invalid");
        assert_eq!(parse(b"{", None), "model_config_invalid");
        assert_eq!(parse(b"{}", Some(b"\xff")), "chat_template_invalid");
    }

    #[test]
    fn the_default_of_named_templates_is_used() {
        let config = br#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
        let template = ChatTemplate::parse(Some(config), None).unwrap();
        assert_eq!(*template.render(&[]).unwrap(), "d");
    }
}
