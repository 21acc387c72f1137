//! What this crate reads that the workload or the network wrote, as functions of bytes: what fuzzers run.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use confide_policy::egress::EgressPolicy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::broker::Broker;
use crate::dns::{self, Family, MAX_ANSWER, Outcome, Question};
use crate::tls::Roots;
use crate::{authority, tunnel};

/// What an address is said to be for so many seconds, where a question is answered.
const MADE_UP: Outcome = Outcome::Address(Ipv4Addr::new(198, 18, 0, 1), 60);
/// What the pipe to the proxy holds, in bytes.
const PIPE: usize = 16 * 1024;

/// A resolver's answer about `name`, to whichever number and kind of address it is for: the addresses, and the names that lead
/// to them.
#[must_use]
pub fn dns_answer(message: &[u8], name: &str) -> Option<(Vec<IpAddr>, Vec<String>)> {
    let message = message.get(..MAX_ANSWER).unwrap_or(message);
    let id = u16::from_be_bytes(*message.first_chunk()?);
    let families = [Family::V4, Family::V6].into_iter();
    let mut answers = families.filter_map(|family| dns::answer(message, id, name, family).ok());
    answers.next().map(|found| (found.addresses, found.chain))
}

/// The name that a question of the workload's is about, and every reply that there is to it: an address, none, a failure, a
/// refusal.
#[must_use]
pub fn dns_question(message: &[u8]) -> Option<(String, [Vec<u8>; 4])> {
    let question = Question::read(message)?;
    let replies = [MADE_UP, Outcome::NoData, Outcome::Failed, Outcome::Refused];
    let replies = replies.map(|outcome| question.reply(outcome));
    Some((question.name, replies))
}

/// Host and port that an authority (RFC 3986 section 3.2) names, if it names them in the one way that is taken.
#[must_use]
pub fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    authority::parse(text).map(|(host, port)| (host.to_string(), port))
}

/// The name in the TLS ClientHello that these bytes begin with.
#[must_use]
pub fn server_name(mut bytes: &[u8]) -> Option<String> {
    run(tunnel::client_hello(&mut bytes)).map(|(_, name)| name)
}

/// What the proxy says to a workload that sends these bytes and ends, under a policy that lets nothing through.
#[must_use]
pub fn proxied(bytes: &[u8]) -> Vec<u8> {
    static BROKER: LazyLock<Broker> =
        LazyLock::new(|| Broker::new(Arc::new(EgressPolicy::deny_all()), &Roots::web()));
    run(async {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let (mut from_proxy, mut to_proxy) = tokio::io::split(ours);
        let asked = async {
            // Who is refused may be hung up on.
            let _ = to_proxy.write_all(bytes).await;
            let _ = to_proxy.shutdown().await;
        };
        let mut said = Vec::new();
        let (_, (), _) = tokio::join!(BROKER.proxied(theirs), asked, from_proxy.read_to_end(&mut said));
        said
    })
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime without input and output opens nothing").block_on(work)
}
