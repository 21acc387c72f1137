//! Asks a guest's model one question: `ask URL POLICY QUESTION`. It takes the place of an HTTP client that trusts whoever
//! holds a certificate.
#![expect(clippy::print_stdout, reason = "a program that answers on a terminal")]

use confide_client::{ChatRequest, Client, ClientError, PolicyText, Turn};
use confide_policy::Loaded;

/// The ten lines: nothing of the question is sent before the guest's evidence has been accepted.
pub(crate) async fn ask(url: &str, policy: PolicyText, question: &str) -> Result<String, ClientError> {
    let client = Client::builder(url, policy)?.build();
    let model = client.verdict().await?.claims().model.name.clone();
    let answer = client.chat(ChatRequest::new(&model).turn(Turn::user(question))).await?;
    Ok(answer.content)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, policy, question] = &words[..] else { return Err("usage: ask URL POLICY QUESTION".into()) };
    // A program for simulated guests says so here: Loaded::AsDanger, and a build with the feature danger-simulator.
    let policy = PolicyText::parse(std::fs::read_to_string(policy)?, Loaded::Normally)?;
    println!("{}", ask(url, policy, question).await?);
    Ok(())
}
