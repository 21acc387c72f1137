//! `confide chat`: ask a model after its guest has been appraised.

use crate::cross_check::CrossCheck;
use crate::endorser::EndorserFlags;
use crate::guest::{self, ReceiptFlags};
use crate::input::{self, Otherwise, PolicyFlags};
use crate::log::LogFlags;
use crate::recorder::Recorder;
use crate::render;
use crate::status::{Failure, Status};
use confide_client::{ApiKey, Appraised, ChatRequest, Client, ClientError, Speaker, Turn, Usage};
use confide_evidence::text::escape_json;
use confide_verifier::AttestationResult;
use serde::Serialize;
use std::fmt;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The longest prompt, in bytes. A million tokens of text take about 4 MiB.
const MAX_PROMPT: usize = 16 * 1024 * 1024;
/// The largest file that holds an API key, in bytes. Keys have under 200; signed tokens under 8 KiB.
const MAX_KEY: usize = 16 * 1024;

/// Ask a model after its guest has been appraised
///
/// The guest's evidence is appraised first; only then is the prompt sent, over the connection that the evidence is bound
/// to. The verdict goes to standard error, the answer to standard output. Refused evidence ends with status 10 and
/// nothing is sent. An answer that is cut short is an error, whatever has been printed of it.
///
/// In a conversation each question is sent with all that was said before. A line that begins with / is a command: /system
/// TEXT, /clear, /verdict, /help, /quit. A question that begins with / is written with two of them. Nothing that is said is
/// written to a file; who wants to edit lines runs the program under rlwrap.
#[derive(Debug, clap::Args)]
pub(crate) struct Chat {
    /// The guest, https://HOST:PORT
    #[arg(long)]
    url: String,
    #[command(flatten)]
    policy: PolicyFlags,
    #[command(flatten)]
    cross_check: CrossCheck,
    #[command(flatten)]
    endorser: EndorserFlags,
    /// Model to ask [default: the one in the guest's appraised claims]
    #[arg(long)]
    model: Option<String>,
    /// What the model is told before the first question
    #[arg(long, value_name = "TEXT")]
    system: Option<Hidden>,
    /// Sampling temperature, 0 to 2 [default: the guest's]
    #[arg(long, value_parser = temperature, allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// The most tokens of an answer [default: the guest's]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// File with the key that the guest's owner asks for
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Print verdict and answer as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    receipts: ReceiptFlags,
    #[command(flatten)]
    pub(crate) log: LogFlags,
    /// Folder to record the appraisal and the receipts of answers to. A folder that is not there yet is named with a slash at
    /// its end; any other path is a file, which gets the appraisal alone and takes at most 256 MiB
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// The question; without it, or with -, it is read from standard input, and a terminal starts a conversation. Other users of
    /// this machine can see a program's arguments
    prompt: Option<Hidden>,
}

/// Text that is not shown.
#[derive(Clone)]
struct Hidden(Zeroizing<String>);

impl FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A line of a conversation.
enum Line {
    Nothing,
    Question(Zeroizing<String>),
    /// What the model is told before the first question; empty for nothing.
    System(Zeroizing<String>),
    Clear,
    Verdict,
    Help,
    Quit,
    /// A command that there is not.
    Unknown,
}

impl Line {
    fn of(line: &str) -> Self {
        let line = line.trim();
        let text = |text: &str| Zeroizing::new(text.trim().to_owned());
        let Some(command) = line.strip_prefix('/') else {
            return if line.is_empty() { Self::Nothing } else { Self::Question(text(line)) };
        };
        if command.starts_with('/') {
            return Self::Question(text(command));
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, rest.trim()) {
            ("system", rest) => Self::System(text(rest)),
            ("clear", "") => Self::Clear,
            ("verdict", "") => Self::Verdict,
            ("help", "") => Self::Help,
            ("quit", "") => Self::Quit,
            _ => Self::Unknown,
        }
    }
}

/// What `/help` says.
const COMMANDS: &str = "/system TEXT  tell the model TEXT before the first question; without TEXT, nothing
                        /clear        forget what was said
                        /verdict      show the verdict that the conversation rests on
                        /quit         end the conversation, as Ctrl-D does
                        //...         ask a question that begins with /
";

/// How answers are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

/// One conversation.
struct Session {
    client: Client,
    recorder: Recorder,
    /// The appraisal that the person knows of.
    shown: Option<Arc<Appraised>>,
    model: Option<String>,
    temperature: Option<f32>,
    max_tokens: Option<u32>,
    key: Option<Zeroizing<String>>,
    said: Vec<(Speaker, Zeroizing<String>)>,
    form: Form,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    verdict: Option<&'a AttestationResult>,
    model: Option<&'a str>,
    content: Option<&'a str>,
    finish_reason: Option<&'a str>,
    usage: Option<Usage>,
    error: Option<PrintedError<'a>>,
}

#[derive(Serialize)]
struct PrintedError<'a> {
    code: &'a str,
    message: &'a str,
    what_to_do: Option<&'a str>,
}

impl Chat {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        if self.prompt.as_ref().is_some_and(|prompt| prompt.0.trim().is_empty()) {
            return Err(no_prompt());
        }
        let policy = self.policy.load(Otherwise::Client, input::now())?;
        let recorder = Recorder::new(self.record);
        recorder.check()?;
        let builder = guest::client(&self.url, policy, &self.endorser, self.cross_check)?;
        let builder = recorder.watch(self.receipts.watch(builder));
        let key = self.api_key_file.as_deref().map(api_key).transpose()?;
        let session = Session {
            client: builder.build(),
            recorder,
            shown: None,
            model: self.model,
            temperature: self.temperature,
            max_tokens: self.max_tokens,
            key,
            said: self.system.into_iter().map(|system| (Speaker::System, system.0)).collect(),
            form: if self.json { Form::Json } else { Form::Text },
        };
        guest::block_on(session.run(self.prompt.map(|prompt| prompt.0)))
    }
}

impl Session {
    /// Attests before the prompt is even read.
    async fn run(mut self, prompt: Option<Zeroizing<String>>) -> Result<Status, Failure> {
        let attested = guest::attested(&self.client).await;
        self.recorder.check()?;
        self.shown = self.client.latest_appraisal();
        let verdict = match attested {
            Ok(verdict) => verdict,
            Err(error) => return self.refused(error),
        };
        if self.form == Form::Text {
            render::verdict_to_stderr(verdict.result());
        }
        self.model.get_or_insert_with(|| verdict.claims().model.name.clone());
        match prompt {
            Some(prompt) if *prompt != "-" => self.ask(prompt).await,
            None if io::stdin().is_terminal() && self.form == Form::Text => self.converse().await,
            _ => {
                let prompt = read_prompt()?;
                self.ask(prompt).await
            }
        }
    }

    async fn converse(&mut self) -> Result<Status, Failure> {
        let _ =
            writeln!(io::stderr(), "(a question a line; /help lists commands; Ctrl-D ends the conversation)");
        loop {
            let _ = write!(io::stderr(), "> ");
            let mut line = Zeroizing::new(String::new());
            let most = u64::try_from(MAX_PROMPT).unwrap_or(u64::MAX);
            match io::stdin().lock().take(most).read_line(&mut line) {
                Ok(0) => return Ok(Status::Accepted),
                Ok(_) => {}
                Err(error) => return Err(unreadable(&error)),
            }
            match Line::of(&line) {
                Line::Nothing => {}
                Line::Question(question) => match self.ask(question).await? {
                    Status::Accepted => {}
                    ended => return Ok(ended),
                },
                Line::System(text) => self.tell(text),
                Line::Clear => self.said.retain(|(speaker, _)| *speaker == Speaker::System),
                Line::Verdict => self.show_verdict(),
                Line::Help => say(COMMANDS),
                Line::Quit => return Ok(Status::Accepted),
                Line::Unknown => say("(no such command: /help lists them)\n"),
            }
        }
    }

    /// Puts a text in the place of what the model was told before the first question.
    fn tell(&mut self, text: Zeroizing<String>) {
        self.said.retain(|(speaker, _)| *speaker != Speaker::System);
        if !text.is_empty() {
            self.said.insert(0, (Speaker::System, text));
        }
    }

    fn show_verdict(&self) {
        if let Some(latest) = self.client.latest_appraisal() {
            render::verdict_to_stderr(&latest.result);
        }
    }

    /// Sends what was said so far and a question, and prints the answer.
    async fn ask(&mut self, question: Zeroizing<String>) -> Result<Status, Failure> {
        self.said.push((Speaker::User, question));
        let request = self.request()?;
        let answered = match self.form {
            Form::Json => self.answer_whole(request).await,
            Form::Text => self.answer_in_pieces(request).await,
        };
        self.recorder.check()?;
        self.tell_of_renewal();
        match answered {
            Ok(answer) => {
                self.said.push((Speaker::Assistant, answer));
                Ok(Status::Accepted)
            }
            Err(error) => self.refused(error),
        }
    }

    /// Says that the guest was attested again, where it was since that was last said.
    fn tell_of_renewal(&mut self) {
        let Some(latest) = self.client.latest_appraisal() else { return };
        if self.shown.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, &latest)) {
            return;
        }
        let result = &latest.result;
        if result.accepted() && self.form == Form::Text {
            let simulated = if result.simulated { "SIMULATED: " } else { "" };
            let _ = writeln!(io::stderr(), "({simulated}attested again at {})", result.time);
        }
        self.shown = Some(latest);
    }

    fn request(&self) -> Result<ChatRequest, Failure> {
        let mut request = ChatRequest::new(self.model.as_deref().unwrap_or_default());
        for (speaker, text) in &self.said {
            request = request.turn(Turn::new(*speaker, text.as_str()));
        }
        if let Some(temperature) = self.temperature {
            request = request.temperature(temperature);
        }
        if let Some(tokens) = self.max_tokens {
            request = request.max_tokens(tokens);
        }
        match &self.key {
            Some(key) => {
                let key = ApiKey::bearer(key)
                    .map_err(|error| Failure::new(Status::Malformed, "api_key_file", error.to_string()))?;
                Ok(request.api_key(key))
            }
            None => Ok(request),
        }
    }

    async fn answer_whole(&self, request: ChatRequest) -> Result<Zeroizing<String>, ClientError> {
        let answer = self.client.chat(request).await?;
        print_json(&Printed {
            verdict: Some(answer.verdict.result()),
            model: Some(&answer.model),
            content: Some(&answer.content),
            finish_reason: answer.finish_reason.as_deref(),
            usage: answer.usage,
            error: None,
        });
        Ok(Zeroizing::new(answer.content))
    }

    async fn answer_in_pieces(&self, request: ChatRequest) -> Result<Zeroizing<String>, ClientError> {
        let mut stream = self.client.chat_stream(request).await?;
        let mut answer = Zeroizing::new(String::new());
        let mut screen = Screen::new();
        let mut finish = None;
        while let Some(piece) = stream.next().await? {
            if let Some(text) = piece.content {
                screen.write(&text);
                answer.push_str(&text);
            }
            finish = piece.finish_reason.or(finish);
        }
        screen.write("\n");
        if finish.as_deref() == Some("length") {
            let _ = writeln!(io::stderr(), "(the answer was cut at the limit of tokens)");
        }
        Ok(answer)
    }

    /// Tells why there is no answer.
    fn refused(&self, error: ClientError) -> Result<Status, Failure> {
        if self.form == Form::Text {
            return guest::report(error);
        }
        let (failure, latest) = (guest::failure(&error), self.client.latest_appraisal());
        let rejected = match &error {
            ClientError::Rejected(appraised) => Some(&appraised.result),
            _ => None,
        };
        // Where the guest was accepted and the request failed, the verdict stands.
        let accepted = latest.as_ref().map(|latest| &latest.result).filter(|result| result.accepted());
        print_json(&Printed {
            verdict: rejected.or(accepted),
            model: None,
            content: None,
            finish_reason: None,
            usage: None,
            error: Some(PrintedError {
                code: failure.code(),
                message: failure.message(),
                what_to_do: failure.what_to_do(),
            }),
        });
        match rejected {
            Some(result) => Ok(Status::from(result)),
            None => Err(failure),
        }
    }
}

/// Tells the person something that is no answer.
fn say(text: &str) {
    let _ = write!(io::stderr(), "{text}");
}

/// Standard output for a model's words. A terminal gets no control characters: a model, or who taught it, must not move
/// the cursor over the verdict.
struct Screen {
    out: io::Stdout,
    obeys: Obeys,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Obeys {
    ControlCharacters,
    Nothing,
}

impl Screen {
    fn new() -> Self {
        let out = io::stdout();
        let obeys = if out.is_terminal() { Obeys::ControlCharacters } else { Obeys::Nothing };
        Self { out, obeys }
    }

    fn write(&mut self, text: &str) {
        let shown = match self.obeys {
            Obeys::Nothing => text.to_owned(),
            Obeys::ControlCharacters => harmless(text),
        };
        render::written(self.out.write_all(shown.as_bytes()).and_then(|()| self.out.flush()));
    }
}

fn harmless(text: &str) -> String {
    text.chars().filter(|one| matches!(one, '\n' | '\t') || !one.is_control()).collect()
}

fn print_json(printed: &Printed<'_>) {
    let json = serde_json::to_string(printed).expect("strings, lists and structs always serialise");
    render::line(&escape_json(json));
}

/// Parses a temperature. OpenAI's API, and so every guest, takes no other.
fn temperature(text: &str) -> Result<f32, String> {
    let parsed = text.parse().ok().filter(|temperature| (0.0..=2.0).contains(temperature));
    parsed.ok_or_else(|| "expected a number from 0 to 2".to_owned())
}

fn read_prompt() -> Result<Zeroizing<String>, Failure> {
    input::claim_stdin()?;
    if io::stdin().is_terminal() {
        let _ = writeln!(io::stderr(), "(the question is read from standard input; Ctrl-D ends it)");
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_PROMPT).unwrap_or(u64::MAX).saturating_add(1);
    io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    let prompt = text(bytes, "prompt_malformed", MAX_PROMPT)?;
    if prompt.trim().is_empty() {
        return Err(no_prompt());
    }
    Ok(prompt)
}

fn no_prompt() -> Failure {
    Failure::new(Status::Usage, "prompt_missing", "the prompt is empty")
}

fn text(bytes: Vec<u8>, code: &'static str, most: usize) -> Result<Zeroizing<String>, Failure> {
    if bytes.len() > most {
        return Err(Failure::new(Status::Malformed, code, format!("larger than {most} bytes")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(Failure::new(Status::Malformed, code, "not UTF-8 text"))
        }
    }
}

/// The key of a file, without the white space around it.
pub(crate) fn api_key(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let named = |failure: Failure| failure.behind(&format!("{}: ", path.display()));
    let none = |why: &str| named(Failure::new(Status::Malformed, "api_key_file", why));
    let key = trimmed(text(input::read(path, MAX_KEY)?, "api_key_file", MAX_KEY).map_err(named)?);
    if key.is_empty() {
        return Err(none("it holds no key"));
    }
    // Before the guest is asked for anything.
    ApiKey::bearer(&key).map_err(|_| none("a key has no control characters"))?;
    Ok(key)
}

fn trimmed(text: Zeroizing<String>) -> Zeroizing<String> {
    Zeroizing::new(text.trim().to_owned())
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new(Status::Internal, "file_unreadable", format!("standard input: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(harmless("a\x1b[2J\r\u{9b}b\tc\né"), "a[2Jb\tc\né");
    }

    #[test]
    fn a_line_that_begins_with_a_slash_is_a_command() {
        let named = |line: &str| match Line::of(line) {
            Line::Nothing => "nothing".to_owned(),
            Line::Question(text) => format!("asks {}", *text),
            Line::System(text) => format!("tells {}", *text),
            Line::Clear => "clear".to_owned(),
            Line::Verdict => "verdict".to_owned(),
            Line::Help => "help".to_owned(),
            Line::Quit => "quit".to_owned(),
            Line::Unknown => "unknown".to_owned(),
        };
        for (line, expected) in [
            (" \n", "nothing"),
            (" a b \n", "asks a b"),
            ("//etc\n", "asks /etc"),
            ("/system  Be brief. \n", "tells Be brief."),
            ("/system\n", "tells "),
            ("/clear\n", "clear"),
            ("/verdict\n", "verdict"),
            ("/help\n", "help"),
            ("/quit\n", "quit"),
            ("/clear all\n", "unknown"),
            ("/systematic\n", "unknown"),
            ("/\n", "unknown"),
        ] {
            assert_eq!(named(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_prompt_is_not_shown() {
        let prompt: Hidden = "secret".parse().unwrap();
        assert_eq!(format!("{prompt:?}"), "(hidden)");
    }

    #[test]
    fn malformed_texts_are_refused() {
        for (bytes, most) in [(vec![0xff], 8), (vec![b'a'; 9], 8)] {
            let failure = text(bytes, "prompt_malformed", most).unwrap_err();
            assert_eq!((failure.status(), failure.code()), (Status::Malformed, "prompt_malformed"));
        }
    }
}
