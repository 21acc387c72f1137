//! The routes: a closed list.

use confide_evidence::document::ATTESTATION_PATH;
use http::Method;

use super::fault::Fault;

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The attestation endpoint, which is the listener's: it knows the connection.
    Attestation,
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
    /// `/metrics`: what left the guest, in numbers; the listener's, like attestation.
    Metrics,
}

/// Where something is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The path. One that ends in a slash stands for all that follows it, and for nothing by itself.
    pub path: &'static str,
    /// Its methods, as the field `Allow` lists them (RFC 9110 section 10.2.1).
    pub methods: &'static str,
    /// What a request for it is about, by what follows the path.
    route: fn(&str) -> Option<Route>,
}

/// Every path that a guest answers at, with whatever features it is built. At any other there is nothing (404).
pub const ROUTES: &[Place] = &[
    Place { path: ATTESTATION_PATH, methods: WRITE, route: |_| Some(Route::Attestation) },
    Place { path: "/v1/models", methods: READ, route: |_| Some(Route::Models) },
    Place { path: "/v1/models/", methods: READ, route: |id| decode(id).map(Route::Model) },
    Place { path: "/v1/chat/completions", methods: WRITE, route: |_| Some(Route::ChatCompletions) },
    Place { path: "/healthz", methods: READ, route: |_| Some(Route::Health) },
    Place { path: "/readyz", methods: READ, route: |_| Some(Route::Ready) },
    Place { path: "/metrics", methods: READ, route: |_| Some(Route::Metrics) },
];

const READ: &str = "GET, HEAD";
const WRITE: &str = "POST";

impl Place {
    /// What follows its path in this one; `None` where that is elsewhere.
    fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.path).filter(|rest| rest.is_empty() != self.path.ends_with('/'))
    }
}

impl Route {
    /// Finds the route of `path` and checks the method.
    pub(crate) fn new(method: &Method, path: &str) -> Result<Self, Fault> {
        let found = ROUTES.iter().find_map(|place| Some((place, place.rest(path)?)));
        let (place, rest) = found.ok_or(Fault::UnknownRoute)?;
        let route = (place.route)(rest).ok_or(Fault::UnknownRoute)?;
        match (place.methods, method) {
            (READ, &Method::GET | &Method::HEAD) | (WRITE, &Method::POST) => Ok(route),
            (allowed, _) => Err(Fault::MethodNotAllowed { allowed }),
        }
    }

    /// The name in logs. A path could carry anything.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Attestation => "attestation",
            Self::Models => "models",
            Self::Model(_) => "model",
            Self::ChatCompletions => "chat_completions",
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Metrics => "metrics",
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
            (Method::POST, ATTESTATION_PATH, Ok(Route::Attestation)),
            (Method::GET, "/healthz", Ok(Route::Health)),
            (Method::GET, "/readyz", Ok(Route::Ready)),
            (Method::GET, "/metrics", Ok(Route::Metrics)),
            (Method::GET, "/v1/chat/completions", Err(405)),
            (Method::OPTIONS, "/v1/chat/completions", Err(405)),
            (Method::POST, "/v1/models", Err(405)),
            (Method::DELETE, "/v1/models/tiny", Err(405)),
            (Method::POST, "/healthz", Err(405)),
            (Method::GET, ATTESTATION_PATH, Err(405)),
            (Method::GET, "/", Err(404)),
            (Method::GET, "/v1", Err(404)),
            (Method::GET, "/v1/models/", Err(404)),
            (Method::GET, "/v1/modelstiny", Err(404)),
            (Method::POST, "/v1/chat/completions2", Err(404)),
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
