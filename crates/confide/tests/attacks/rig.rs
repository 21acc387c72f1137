//! The victim's side: the built program, its policy, and what it gave away.

use confide_testkit::attacker::{Attacker, Connection};
use confide_testkit::guest::{self, Guest};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const SECRET: &str = "the secret question";
pub(crate) const KEY: &str = "sk-secret-key";
/// How long one step may take that nobody slows down on purpose.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which versions of HTTP a victim speaks: its policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Http1,
    Http2,
}

pub(crate) const BOTH: [Over; 2] = [Over::Http1, Over::Http2];

/// A victim's folder, with a policy that accepts the testkit's guest.
pub(crate) struct Victim {
    folder: TempDir,
}

/// What came of a question.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    /// Standard output and standard error.
    pub(crate) told: String,
    printed: Value,
}

impl Victim {
    pub(crate) fn new() -> Self {
        Self::over(Over::Http1)
    }

    pub(crate) fn over(over: Over) -> Self {
        Self::under(&match over {
            Over::Http1 => guest::policy("per-key", 300),
            Over::Http2 => guest::policy("every-connection", 300),
        })
    }

    pub(crate) fn under(policy: &str) -> Self {
        let victim = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(victim.path("danger-test.toml"), policy).unwrap();
        std::fs::write(victim.path("key"), KEY).unwrap();
        victim
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command with the peer's address behind `flag`.
    pub(crate) fn command(&self, word: &str, flag: &str, url: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        command.args([word, flag, url, "--danger-policy"]).arg(self.path("danger-test.toml"));
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// `confide chat --json`, asked the secret question.
    pub(crate) fn chat(&self, url: &str) -> Outcome {
        Outcome::of(&mut self.question(url))
    }

    pub(crate) fn question(&self, url: &str) -> Command {
        let mut command = self.command("chat", "--url", url);
        command.arg("--api-key-file").arg(self.path("key")).args(["--json", SECRET]);
        command
    }

    pub(crate) fn proxy(&self, url: &str) -> Proxy {
        Proxy::start(&mut self.command("proxy", "--upstream", url))
    }
}

impl Outcome {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        let printed = serde_json::from_str(&out).unwrap_or_default();
        Self { status: output.status.code().unwrap(), told: format!("{out}{err}"), printed }
    }

    /// Holds that nothing was answered, and why.
    pub(crate) fn refused(&self, status: i32, code: &str) {
        assert_eq!(self.status, status, "{}", self.told);
        let named = names(&self.printed, code) || self.told.contains(&format!("[{code}]"));
        assert!(named, "no {code} in {}", self.told);
        assert!(!self.printed["content"].is_string(), "{}", self.told);
    }

    pub(crate) fn answered(&self) -> &str {
        assert_eq!(self.status, 0, "{}", self.told);
        self.printed["content"].as_str().unwrap()
    }
}

/// Whether a code stands anywhere in a JSON value: the check that failed is named in more than one place.
pub(crate) fn names(value: &Value, code: &str) -> bool {
    match value {
        Value::String(text) => text == code,
        Value::Array(items) => items.iter().any(|item| names(item, code)),
        Value::Object(fields) => fields.values().any(|field| names(field, code)),
        _ => false,
    }
}

/// `confide proxy`; it ends when dropped.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The model that is asked.
    pub(crate) model: &'static str,
}

/// An answer of the local endpoint.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub(crate) whole: bool,
}

impl Proxy {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.args(["--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let address = ready["listen"].as_str().unwrap().parse().unwrap();
        Self { child, address, model: guest::MODEL }
    }

    /// The secret question, streamed.
    pub(crate) fn ask(&self) -> Answer {
        self.send("POST", &[("content-type", "application/json")])
    }

    /// The secret question with these fields beside its length; `host` is that of the endpoint where none is given.
    pub(crate) fn send(&self, method: &str, fields: &[(&str, &str)]) -> Answer {
        let body = json!({
            "model": self.model, "stream": true, "max_tokens": 8,
            "messages": [{ "role": "user", "content": SECRET }],
        });
        let (body, mut head) = (body.to_string(), format!("{method} /v1/chat/completions HTTP/1.1\r\n"));
        if !fields.iter().any(|(name, _)| *name == "host") {
            head += &format!("host: {}\r\n", self.address);
        }
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!(
            "authorization: Bearer {KEY}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        Answer::read(&answer)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            // The endpoint has closed the connection without a word.
            return Self { status: 0, head: String::new(), body: bytes.to_vec(), whole: false };
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let rest = &bytes[end + 4..];
        let (body, whole) = if head.contains("\r\ntransfer-encoding: chunked") {
            unchunked(rest)
        } else {
            let length = head.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            (rest.to_vec(), length.is_some_and(|length| length.parse() == Ok(rest.len())))
        };
        Self { status, head, body, whole }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Holds that the request was refused for its peer, and why.
    pub(crate) fn refused(&self, code: &str) {
        assert!(self.is_refused(code), "no {code} in {} {}", self.status, self.text());
    }

    pub(crate) fn is_refused(&self, code: &str) -> bool {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        (500..600).contains(&self.status) && names(&body["error"], code)
    }

    /// Whether a program would take this for a whole answer.
    pub(crate) fn is_answer(&self) -> bool {
        self.whole && self.status == 200
    }

    /// Whether a program would take this for a finished stream.
    pub(crate) fn looks_finished(&self) -> bool {
        self.whole && self.text().contains("data: [DONE]") && !self.text().contains("\"error\"")
    }
}

/// The bytes of chunks (RFC 9112 section 7.1), and whether the last one has come.
fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|two| two == b"\r\n") else { return (body, false) };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = rest.get(line + 2..line + 2 + size) else { return (body, false) };
        body.extend_from_slice(chunk);
        rest = rest.get(line + 4 + size..).unwrap_or_default();
    }
}

/// Holds that a guest got attestation requests alone.
pub(crate) fn got_nothing(guest: &Guest) {
    let requests = guest.requests();
    assert_eq!(requests.len(), guest.attestations(), "{requests:?}");
    assert!(!guest.saw(SECRET.as_bytes()) && !guest.saw(KEY.as_bytes()));
    for connection in guest.seen() {
        // Over HTTP/1.1 a request for evidence has some 200 bytes. Over HTTP/2 there are settings, and 13 bytes each time that
        // more is read of what the guest sends.
        let http2 = connection.requests.iter().any(|request| request.authority.is_some());
        let most = 300 * connection.requests.len() + if http2 { 1000 } else { 0 };
        assert!(connection.plaintext.len() <= most, "{} bytes", connection.plaintext.len());
    }
}

/// Holds that an attacker's endpoint got attestation requests alone, and one at least.
pub(crate) fn decrypted_nothing(attacker: &Attacker) {
    let seen = attacker.seen();
    assert!(seen.iter().any(|connection| !connection.requests.is_empty()), "nobody came");
    assert!(seen.iter().flat_map(|connection| &connection.requests).all(|request| request.is_attestation()));
    assert_eq!(seen.iter().map(Connection::bytes_beyond_attestation).sum::<usize>(), 0);
}

/// A place to which nobody should come; it answers nothing, and keeps what it is sent.
pub(crate) struct Trap {
    pub(crate) address: SocketAddr,
    caught: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Trap {
    pub(crate) fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let trap = Self { address: listener.local_addr().unwrap(), caught: Arc::default() };
        let caught = Arc::clone(&trap.caught);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).unwrap_or_default();
                caught.lock().unwrap().push(bytes[..read].to_vec());
            }
        });
        trap
    }

    /// What each connection brought first.
    pub(crate) fn caught(&self) -> Vec<Vec<u8>> {
        self.caught.lock().unwrap().clone()
    }
}

/// Waits until `done`.
pub(crate) fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
