//! What every command that talks to a guest needs: a client, and its verdicts on screen.

use crate::cross_check::CrossCheck;
use crate::endorser::EndorserFlags;
use crate::input::LoadedPolicy;
use crate::render;
use crate::status::{Failure, Status};
use confide_client::{Client, ClientBuilder, ClientError, Endorsing, PolicyText, Receipts, Verdict};
use confide_evidence::record::RecordedReferences;
use std::future::Future;
use std::sync::Arc;

/// Begins a client of the guest at `url`, which fetches collateral where the guest staples none that is valid.
pub(crate) fn client(
    url: &str,
    policy: LoadedPolicy,
    endorser: &EndorserFlags,
    cross_check: CrossCheck,
) -> Result<ClientBuilder, Failure> {
    Clients::new(policy, endorser, cross_check)?.begin(url).map_err(|error| failure(&error))
}

/// What the clients of all guests of one command have in common.
pub(crate) struct Clients {
    policy: PolicyText,
    references: Option<RecordedReferences>,
    endorsing: Endorsing,
    cross_check: CrossCheck,
}

impl Clients {
    pub(crate) fn new(
        policy: LoadedPolicy,
        endorser: &EndorserFlags,
        cross_check: CrossCheck,
    ) -> Result<Self, Failure> {
        let LoadedPolicy { policy, text, references } = policy;
        let references = references.map(|given| given.recorded);
        let policy = PolicyText::new(text, policy);
        Ok(Self { policy, references, endorsing: endorser.endorsing()?, cross_check })
    }

    /// Begins a client of the guest at `url`.
    pub(crate) fn begin(&self, url: &str) -> Result<ClientBuilder, ClientError> {
        let builder = Client::builder(url, self.policy.clone())?.endorsing(self.endorsing.clone());
        let builder = match &self.references {
            Some(given) => builder.references(given.clone()),
            None => builder,
        };
        Ok(self.cross_check.watch(builder))
    }
}

/// What is asked of answers.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ReceiptFlags {
    /// What to do about receipts that guests sign, each of which is verified: take answers without, refuse them, or ask for none of
    /// streamed answers
    #[arg(long, value_name = "MODE", value_enum, default_value_t)]
    receipts: ReceiptMode,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum ReceiptMode {
    #[default]
    WherePresent,
    Required,
    NotAsked,
}

impl ReceiptFlags {
    pub(crate) fn watch(self, builder: ClientBuilder) -> ClientBuilder {
        builder.receipts(match self.receipts {
            ReceiptMode::WherePresent => Receipts::WherePresent,
            ReceiptMode::Required => Receipts::Required,
            ReceiptMode::NotAsked => Receipts::NotAsked,
        })
    }
}

/// Runs a command that needs the network.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new(Status::Internal, "runtime_failed", error.to_string()))?;
    let done = runtime.block_on(work);
    // A peer that is slow to close must not hold the program.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    done
}

/// The verdict on a guest, which is attested first where none holds. On a terminal it says so where that takes long.
pub(crate) async fn attested(client: &Client) -> Result<Arc<Verdict>, ClientError> {
    let waiting = format!("asking {} for its evidence and appraising it", client.endpoint());
    render::with_progress(&waiting, client.verdict()).await
}

/// Tells a client's error. A rejected verdict is shown as the tree that it is.
pub(crate) fn report(error: ClientError) -> Result<Status, Failure> {
    match error {
        ClientError::Rejected(appraised) => {
            render::verdict_to_stderr(&appraised.result);
            Ok(Status::from(&appraised.result))
        }
        error => Err(failure(&error)),
    }
}

/// A client's error as a failure of the program.
pub(crate) fn failure(error: &ClientError) -> Failure {
    let status = match error.exit_status() {
        2 => Status::Usage,
        10 => Status::Rejected,
        20 => Status::Unsupported,
        30 => Status::Malformed,
        _ => Status::Internal,
    };
    let failure = Failure::new(status, error.code(), error.to_string());
    match error.what_to_do() {
        Some(what_to_do) => failure.hint(what_to_do),
        None => failure,
    }
}
