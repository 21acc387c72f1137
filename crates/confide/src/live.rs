//! `confide verify URL` and `confide record URL`: the appraisal of a live guest.

use crate::cross_check::CrossCheck;
use crate::endorser::EndorserFlags;
use crate::guest;
use crate::input::{self, Otherwise, PolicyFlags};
use crate::log::LogFlags;
use crate::recorder::Recorder;
use crate::render::{self, Shown};
use crate::status::{Failure, Status};
use crate::verify;
use confide_client::ClientError;
use std::path::PathBuf;

/// A guest, and what it is appraised by.
#[derive(Debug, clap::Args)]
pub(crate) struct LiveGuest {
    /// The guest, https://HOST:PORT
    #[arg(required = true)]
    url: Option<String>,
    #[command(flatten)]
    policy: PolicyFlags,
    #[command(flatten)]
    endorser: EndorserFlags,
    #[command(flatten)]
    cross_check: CrossCheck,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    pub(crate) log: LogFlags,
}

impl LiveGuest {
    /// Asks the guest for evidence, appraises it, records that where a file is named and shows the verdict. The request
    /// for evidence is all that is sent.
    pub(crate) fn run(self, record: Option<PathBuf>) -> Result<Status, Failure> {
        let url = self.url.expect("the command line requires it where no subcommand is given");
        let (now, form) = (input::now(), self.shown.form());
        let told = |failure: &Failure| verify::show_unusable(failure, self.policy.name(), now, form);
        let policy = self.policy.load(Otherwise::Client, now).inspect_err(told)?;
        let recorder = Recorder::new(record);
        recorder.check()?;
        let client = recorder.watch(guest::client(&url, policy, &self.endorser, self.cross_check)?).build();
        guest::block_on(async move {
            let outcome = guest::attested(&client).await;
            recorder.check()?;
            let result = match outcome {
                Ok(verdict) => verdict.result().clone(),
                Err(ClientError::Rejected(appraised)) => appraised.result.clone(),
                Err(error) => return Err(guest::failure(&error)),
            };
            render::verdict(&result, form);
            Ok(Status::from(&result))
        })
    }
}
