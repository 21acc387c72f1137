//! `confide record guest`: the appraisal of a live guest in a file.

use crate::cross_check::CrossCheck;
use crate::endorser::EndorserFlags;
use crate::guest;
use crate::input::LoadedPolicy;
use crate::recorder::Recorder;
use crate::render::{self, Form};
use crate::status::{Failure, Status};
use confide_client::ClientError;
use std::path::Path;

/// Asks a guest for evidence, appraises it, records that and shows the verdict. No prompt is sent.
pub(crate) fn run(
    url: &str,
    policy: LoadedPolicy,
    endorser: &EndorserFlags,
    cross_check: CrossCheck,
    form: Form,
    out: &Path,
) -> Result<Status, Failure> {
    let recorder = Recorder::new(Some(out.to_owned()));
    recorder.check()?;
    let client = recorder.watch(guest::client(url, policy, endorser, cross_check)?).build();
    guest::block_on(async move {
        let outcome = client.verdict().await;
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
