//! An attacker's endpoint as a program, for the demo.
//!
//! It prints its address, serves until standard input ends, then prints what it saw as one JSON object.
#![expect(clippy::print_stdout, reason = "a program that reports to its caller")]

use std::io::Read;
use std::net::SocketAddr;

use anyhow::Result;
use clap::Parser;
use confide_testkit::attacker::{Attack, Attacker, Connection};
use serde_json::{Value, json};

/// Ends TLS with a key of its own in front of an honest guest, and counts what its victims send.
#[derive(Parser)]
#[command(name = "confide-attacker")]
struct Arguments {
    /// Where to listen, with port 0 on any free port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0", value_parser = address)]
    listen: SocketAddr,
    /// The honest guest whose evidence is used
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    honest: SocketAddr,
    /// What to do with that evidence
    #[arg(long)]
    attack: Attack,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected IP:PORT, such as 127.0.0.1:8443 or [::1]:8443".to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments { listen, honest, attack } = Arguments::parse();
    let attacker = Attacker::start(listen, honest, attack).await?;
    println!("{}", attacker.address());
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    let connections: Vec<Value> = attacker.seen().iter().map(summary).collect();
    println!("{}", json!({ "connections": connections }));
    Ok(())
}

/// `plaintext` is what was decrypted, `beyond_attestation` the part of it that belongs to no attestation request.
fn summary(connection: &Connection) -> Value {
    let requests: Vec<Value> = connection
        .requests
        .iter()
        .map(|request| json!({"line": request.line, "body": String::from_utf8_lossy(&request.body)}))
        .collect();
    json!({
        "plaintext": connection.plaintext.len(),
        "beyond_attestation": connection.bytes_beyond_attestation(),
        "requests": requests,
    })
}
