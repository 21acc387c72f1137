//! Asks a guest's model one question: `ask URL POLICY QUESTION`. It takes the place of an HTTP client that trusts whoever
//! holds a certificate.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that answers on a terminal")]

use std::process::ExitCode;

use confide_client::{ChatRequest, Client, ClientError, PolicyText, Turn};
use confide_policy::Loaded;

/// The ten lines: nothing of the question is sent before the guest's evidence has been accepted.
pub(crate) async fn ask(url: &str, policy: PolicyText, question: &str) -> Result<String, ClientError> {
    let client = Client::builder(url, policy)?.build();
    let model = client.verdict().await?.claims().model.name.clone();
    let answer = client.chat(ChatRequest::new(&model).turn(Turn::user(question))).await?;
    Ok(answer.content)
}

/// What a program tells a person: what went wrong, and what to do.
pub(crate) fn told(error: &ClientError) -> String {
    let what_to_do = error.what_to_do().map(|what| format!("\n  {what}")).unwrap_or_default();
    format!("error: {error} [{}]{what_to_do}", error.code())
}

fn policy(path: &str) -> Result<PolicyText, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("error: {path}: {error}"))?;
    // A program for simulated guests says so here: Loaded::AsDanger, and a build with the feature danger-simulator.
    PolicyText::parse(text, Loaded::Normally).map_err(|error| format!("error: {path}: {error}"))
}

async fn run(words: &[String]) -> Result<String, String> {
    let [url, path, question] = words else { return Err("usage: ask URL POLICY QUESTION".to_owned()) };
    ask(url, policy(path)?, question).await.map_err(|error| told(&error))
}

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words).await {
        Ok(answer) => println!("{answer}"),
        Err(said) => {
            eprintln!("{said}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
