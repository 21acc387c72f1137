//! The routes: a closed list.

use http::Method;

use super::fault::Fault;

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v1/models`
    Models,
    /// `/v1/models/{id}`: the identifier, decoded. Those of Hugging Face contain a slash.
    Model(String),
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/healthz`: the program runs.
    Health,
    /// `/readyz`: the program answers prompts.
    Ready,
}

/// Methods of a route, as the field `Allow` lists them (RFC 9110 section 10.2.1).
const READ: &str = "GET, HEAD";
const WRITE: &str = "POST";

impl Route {
    /// Finds the route of `path` and checks the method.
    pub(super) fn new(method: &Method, path: &str) -> Result<Self, Fault> {
        let route = Self::of(path).ok_or(Fault::UnknownRoute)?;
        match (route.allowed(), method) {
            (READ, &Method::GET | &Method::HEAD) | (WRITE, &Method::POST) => Ok(route),
            (allowed, _) => Err(Fault::MethodNotAllowed { allowed }),
        }
    }

    /// The name in logs. A path could carry anything.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Model(_) => "model",
            Self::ChatCompletions => "chat_completions",
            Self::Health => "health",
            Self::Ready => "ready",
        }
    }

    fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/models" => Some(Self::Models),
            "/v1/chat/completions" => Some(Self::ChatCompletions),
            "/healthz" => Some(Self::Health),
            "/readyz" => Some(Self::Ready),
            _ => {
                path.strip_prefix("/v1/models/").filter(|id| !id.is_empty()).and_then(decode).map(Self::Model)
            }
        }
    }

    fn allowed(&self) -> &'static str {
        match self {
            Self::ChatCompletions => WRITE,
            Self::Models | Self::Model(_) | Self::Health | Self::Ready => READ,
        }
    }
}

/// Decodes `%` escapes (RFC 3986 section 2.1), or nothing where they are not those of UTF-8.
fn decode(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(method: Method, path: &str) -> Result<Route, u16> {
        Route::new(&method, path).map_err(|fault| fault.status().as_u16())
    }

    #[test]
    fn routes() {
        let model = |id: &str| Ok(Route::Model(id.to_owned()));
        for (method, path, expected) in [
            (Method::GET, "/v1/models", Ok(Route::Models)),
            (Method::HEAD, "/v1/models", Ok(Route::Models)),
            (Method::GET, "/v1/models/tiny", model("tiny")),
            (Method::GET, "/v1/models/Qwen/Qwen3-8B", model("Qwen/Qwen3-8B")),
            (Method::GET, "/v1/models/Qwen%2fQwen3-8B", model("Qwen/Qwen3-8B")),
            (Method::POST, "/v1/chat/completions", Ok(Route::ChatCompletions)),
            (Method::GET, "/healthz", Ok(Route::Health)),
            (Method::GET, "/readyz", Ok(Route::Ready)),
            (Method::GET, "/v1/chat/completions", Err(405)),
            (Method::OPTIONS, "/v1/chat/completions", Err(405)),
            (Method::POST, "/v1/models", Err(405)),
            (Method::DELETE, "/v1/models/tiny", Err(405)),
            (Method::POST, "/healthz", Err(405)),
            (Method::GET, "/", Err(404)),
            (Method::GET, "/v1", Err(404)),
            (Method::GET, "/v1/models/", Err(404)),
            (Method::POST, "/v1/chat/completions/", Err(404)),
            (Method::POST, "/V1/chat/completions", Err(404)),
            (Method::POST, "//v1/chat/completions", Err(404)),
            (Method::GET, "/v1/models/%", Err(404)),
            (Method::GET, "/v1/models/%f", Err(404)),
            (Method::GET, "/v1/models/%+1", Err(404)),
            (Method::GET, "/v1/models/%ff", Err(404)),
        ] {
            assert_eq!(routed(method.clone(), path), expected, "{method} {path}");
        }
    }
}
