//! Requests to a proxy on the loopback interface, as a local program would send them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// How long an answer may keep a caller waiting.
const PATIENCE: Duration = Duration::from_secs(60);

/// How an answer is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// In one piece.
    Whole,
    /// As server-sent events.
    Stream,
}

/// The whole answer to one question.
///
/// # Errors
/// When there is none.
pub(crate) fn ask(address: SocketAddr, question: &str) -> Result<String> {
    let (status, body) = post(address, &request(question, Delivery::Whole))?;
    ensure!(status == 200, "status {status} for {question:?}: {body}");
    let answer: Value = serde_json::from_str(&body)?;
    Ok(answer["choices"][0]["message"]["content"].as_str().context("an answer without content")?.to_owned())
}

/// A request's body.
pub(crate) fn request(question: &str, delivery: Delivery) -> String {
    json!({
        "model": "tiny",
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 48,
        "stream": delivery == Delivery::Stream,
    })
    .to_string()
}

/// Status and body of the answer to any body.
///
/// # Errors
/// When there is none.
pub(crate) fn post(address: SocketAddr, body: &str) -> Result<(u16, String)> {
    receive(send(address, body)?)
}

/// Status and body of the answer that follows.
///
/// # Errors
/// When none does.
pub(crate) fn receive(mut stream: TcpStream) -> Result<(u16, String)> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    let status = head.split(' ').nth(1).context("an answer without a status")?;
    Ok((status.parse()?, body.to_owned()))
}

/// Sends a request and leaves the answer to be read. HTTP 1.0, so that the connection's end is the answer's.
///
/// # Errors
/// When nobody listens.
pub(crate) fn send(address: SocketAddr, body: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    Ok(stream)
}
