//! `confide inspect`: fields without a verdict.

use crate::input;
use crate::render;
use crate::status::{Failure, Status};
use confide_evidence::document::{DocumentError, EvidenceDocument};
use confide_evidence::text::escape_json;
use confide_record::MAX_FILE;
use std::path::PathBuf;

/// Show an evidence document or record file as JSON, without appraising it
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// An evidence document or a record file, canonical CBOR
    file: PathBuf,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let bytes = input::read(&self.file, MAX_FILE)?;
        match (EvidenceDocument::decode(&bytes), confide_record::read(&bytes)) {
            (Ok(document), _) => render::line(&escape_json(format!("{:#}", document.to_json()))),
            (Err(_), Ok(records)) => {
                for record in records {
                    let shown = serde_json::json!({ "hash": record.hash(), "record": record });
                    render::line(&escape_json(format!("{shown:#}")));
                }
            }
            (Err(error), Err(_)) => return Err(neither(&error)),
        }
        Ok(Status::Accepted)
    }
}

fn neither(error: &DocumentError) -> Failure {
    let message = format!("neither an evidence document ({error}) nor a record file");
    Failure::new(Status::Malformed, "document_format", message)
}
