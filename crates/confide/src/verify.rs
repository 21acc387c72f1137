//! `confide verify`: a live guest, or evidence from files.

use crate::cli::Appraising;
use crate::cross_check::CrossCheck;
use crate::endorser::{self, EndorserFlags};
use crate::guest::block_on;
use crate::input::{self, ALGORITHMS, LoadedPolicy, Otherwise};
use crate::live::LiveGuest;
use crate::log::LogFlags;
use crate::render::{self, Form};
use crate::status::{Failure, Status};
use crate::{gpu, snp};
use clap::Subcommand;
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{Endorsements, MAX_DOCUMENT, TdxCollateral};
use confide_evidence::record::RecordedChallenge;
use confide_evidence::tdx::MAX_QUOTE;
use confide_evidence::time::format_rfc3339;
use confide_evidence::transcript::Role;
use confide_policy::AppraisalPolicy;
use confide_verifier::{
    self as verifier, AttestationResult, Check, Inputs, Outcome, Subject, evaluate, malformed_collateral,
};
use rustls_pki_types::UnixTime;
use std::path::PathBuf;

/// Appraise a guest, or evidence from files
///
/// A guest is asked for its evidence over a connection of its own, and the verdict is shown with every check, also where
/// it refuses. The request for evidence is all that is sent: nothing of a prompt, and no API key. The verdict is data: it
/// opens no channel. The subcommands appraise files, at a time that is given.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Verify {
    #[command(subcommand)]
    files: Option<FromFiles>,
    #[command(flatten)]
    guest: LiveGuest,
}

#[derive(Debug, Subcommand)]
enum FromFiles {
    Quote(Quote),
    Snp(snp::Snp),
    Gpu(gpu::Gpu),
    Document(Document),
}

impl Verify {
    /// What is logged.
    pub(crate) fn log(&self) -> &LogFlags {
        &self.guest.log
    }

    pub(crate) fn run(self) -> Result<Status, Failure> {
        match self.files {
            None => self.guest.run(None),
            Some(FromFiles::Quote(command)) => command.run(),
            Some(FromFiles::Snp(command)) => command.run(),
            Some(FromFiles::Gpu(command)) => command.run(),
            Some(FromFiles::Document(command)) => command.run(),
        }
    }
}

/// Appraise a bare Intel TDX quote (versions 4 and 5) against DCAP collateral up to the Intel SGX Root CA
///
/// The collateral comes from the file, else from the cache, else from Intel's service or the PCCS.
///
/// Without a policy, the built-in policies/inspect.toml is used: it accepts TCB status UpToDate, refuses debug TDs, and
/// waives measurements, report data and owner fields, for which no reference values are given. A boot event log, where one
/// is given, must replay to the quote's registers.
#[derive(Debug, clap::Args)]
pub(crate) struct Quote {
    /// The quote, binary; zero padding behind it is accepted
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// DCAP collateral, QuoteCollateralV3 JSON; without it, it is fetched
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pccs", "update"])]
    collateral: Option<PathBuf>,
    /// Collateral that was fetched with update=early: the verdict shows what the next TCB recovery brings
    #[arg(long, value_name = "FILE", requires = "collateral")]
    early_collateral: Option<PathBuf>,
    /// Boot event log of the TD, as /sys/firmware/acpi/tables/data/CCEL shows it: held against RTMR0 to RTMR2
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    #[command(flatten)]
    endorser: EndorserFlags,
    #[command(flatten)]
    appraising: Appraising,
    #[command(flatten)]
    cross_check: CrossCheck,
}

impl Quote {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let policy = policy(&self.appraising, Otherwise::Inspect)?;
        let quote = input::read(&self.quote, MAX_QUOTE)?;
        if let Some(words) = mistaken(&quote) {
            render::note(words);
        }
        let log = input::event_log(self.event_log.as_deref())?;
        let subject = match &log {
            Some(boot_log) => Subject::QuoteWithLog { quote: &quote, boot_log },
            None => Subject::Quote(&quote),
        };
        let early = self.early_collateral.as_deref();
        let tdx = match &self.collateral {
            Some(path) => input::collateral_and_early(path, early)?.map(Some),
            None => Ok(self.fetched(&quote, &policy.policy)?),
        };
        let result = match tdx {
            Ok(tdx) => {
                let now = self.appraising.at;
                let second_opinion =
                    tdx.as_ref().and_then(|tdx| self.cross_check.on_quote(&quote, tdx, &policy.policy, now));
                let endorsements = Endorsements { tdx, ..Endorsements::default() };
                evaluated(&Inputs {
                    subject,
                    endorsements: &endorsements,
                    prepared: None,
                    prepared_devices: None,
                    memo: None,
                    second_opinion: second_opinion.as_ref(),
                    references: policy.prepared(),
                    policy: &policy.policy,
                    challenge: None,
                    now,
                    algorithms: &ALGORITHMS,
                })
            }
            Err(error) => malformed_collateral(&error, &policy.policy, self.appraising.at),
        };
        Ok(show(&result, &self.appraising))
    }
}

impl Quote {
    /// The collateral of the quote's platform; `None` for bytes that are no quote, or one that no platform has signed.
    fn fetched(&self, quote: &[u8], policy: &AppraisalPolicy) -> Result<Option<TdxCollateral>, Failure> {
        let Some(platform) = endorser::signed_platform(quote, policy)? else { return Ok(None) };
        block_on(self.endorser.collateral(platform, self.appraising.at)).map(Some)
    }
}

/// Appraise an evidence document for a challenge given by its values
///
/// The values are those of the connection that the document was asked on. The verdict is data: it opens no channel.
#[derive(Debug, clap::Args)]
pub(crate) struct Document {
    /// The evidence document, canonical CBOR
    #[arg(long, value_name = "FILE")]
    document: PathBuf,
    /// DCAP collateral, QuoteCollateralV3 JSON; without it, what is stapled to the document is used, and where that is
    /// missing or not valid at the time of the appraisal, it is fetched
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pccs", "update"])]
    collateral: Option<PathBuf>,
    /// Collateral that was fetched with update=early: the verdict shows what the next TCB recovery brings
    #[arg(long, value_name = "FILE", requires = "collateral")]
    early_collateral: Option<PathBuf>,
    #[command(flatten)]
    endorser: EndorserFlags,
    #[command(flatten)]
    challenge: ChallengeFlags,
    #[command(flatten)]
    appraising: Appraising,
    #[command(flatten)]
    cross_check: CrossCheck,
}

/// The values of a challenge.
#[derive(Debug, Clone, clap::Args)]
struct ChallengeFlags {
    /// Role: serve, batch or key-release
    #[arg(long, default_value = "serve", value_parser = role)]
    role: Role,
    /// Nonce, 32 bytes in hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = input::bytes32)]
    nonce: [u8; 32],
    /// TLS exporter of the connection, 32 bytes in hexadecimal digits; none for key-release
    #[arg(long, value_name = "HEX", value_parser = input::bytes32)]
    exporter: Option<[u8; 32]>,
    /// SHA-256 of the guest's TLS key (SubjectPublicKeyInfo), 32 bytes in hexadecimal digits; none for key-release
    #[arg(long, value_name = "HEX", value_parser = input::bytes32)]
    spki: Option<[u8; 32]>,
}

impl Document {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let policy = policy(&self.appraising, Otherwise::Client)?;
        let document = input::read(&self.document, MAX_DOCUMENT)?;
        let early = self.early_collateral.as_deref();
        let tdx = match &self.collateral {
            Some(path) => input::collateral_and_early(path, early)?.map(Some),
            None => Ok(self.fetched(&document, &policy.policy)?),
        };
        let result = match tdx {
            Ok(tdx) => {
                let now = self.appraising.at;
                let endorsements = Endorsements { tdx, ..Endorsements::default() };
                let second_opinion =
                    self.cross_check.on_document(&document, &endorsements, &policy.policy, now);
                evaluated(&Inputs {
                    subject: Subject::Document(&document),
                    endorsements: &endorsements,
                    prepared: None,
                    prepared_devices: None,
                    memo: None,
                    second_opinion: second_opinion.as_ref(),
                    references: policy.prepared(),
                    policy: &policy.policy,
                    challenge: Some(&self.challenge.recorded()),
                    now,
                    algorithms: &ALGORITHMS,
                })
            }
            Err(error) => malformed_collateral(&error, &policy.policy, self.appraising.at),
        };
        Ok(show(&result, &self.appraising))
    }
}

impl Document {
    /// Collateral, where what is stapled will not do.
    fn fetched(&self, document: &[u8], policy: &AppraisalPolicy) -> Result<Option<TdxCollateral>, Failure> {
        let endorsing = self.endorser.endorsing()?;
        let fetching = endorsing.for_document(document, policy, self.appraising.at);
        block_on(async {
            let fetched = render::with_progress(endorser::COLLATERAL, fetching).await;
            fetched.map_err(|error| endorser::failure(&error))
        })
    }
}

impl ChallengeFlags {
    fn recorded(&self) -> RecordedChallenge {
        let bytes = |field: Option<[u8; 32]>| ByteString(field.map(Vec::from).unwrap_or_default());
        RecordedChallenge {
            role: self.role,
            spki: bytes(self.spki),
            nonce: Bytes(self.nonce),
            exporter: bytes(self.exporter),
        }
    }
}

/// Loads the policy. In a machine's format, one that cannot be used is told as an object of a verdict's form, too.
pub(crate) fn policy(appraising: &Appraising, otherwise: Otherwise) -> Result<LoadedPolicy, Failure> {
    let Appraising { policy, at, shown } = appraising;
    policy
        .load(otherwise, *at)
        .inspect_err(|failure| show_unusable(failure, policy.name(), *at, shown.form()))
}

/// In a machine's format, shows a policy that cannot be used as an object of a verdict's form.
pub(crate) fn show_unusable(failure: &Failure, name: Option<String>, at: UnixTime, form: Form) {
    let outcome = match failure.status() {
        Status::Malformed => Outcome::Malformed,
        Status::Unsupported => Outcome::Unsupported,
        _ => return,
    };
    if form != Form::Text {
        render::verdict(&nothing_appraised(outcome, failure, name, at), form);
    }
}

/// The result of an appraisal that a failure kept from beginning. Where the policy lay is not part of it.
fn nothing_appraised(
    outcome: Outcome,
    failure: &Failure,
    name: Option<String>,
    at: UnixTime,
) -> AttestationResult {
    let message = failure.message();
    let why = name.and_then(|name| message.strip_prefix(&format!("{name}: ")));
    let check = Check {
        code: failure.code(),
        status: verifier::Status::Fail,
        expected: "an appraisal policy that this build reads".into(),
        actual: why.unwrap_or(message).to_owned().into(),
        reference: "appraisal policy",
        remedy: failure.what_to_do().map(|hint| hint.to_owned().into()),
    };
    AttestationResult {
        outcome,
        code: Some(failure.code()),
        simulated: false,
        platform: None,
        policy: String::new(),
        time: format_rfc3339(at),
        rim_time: None,
        tcb_status: None,
        tcb_date: None,
        advisory_ids: Vec::new(),
        early_tcb_status: None,
        reference_set: None,
        pck: None,
        measurements: None,
        report_data: None,
        valid_until: None,
        platform_binding: None,
        devices: Vec::new(),
        checks: vec![check],
        assumptions: Vec::new(),
    }
}

/// What a file is that is often taken for a TDX quote. The header begins with version and tee_type: 0 is SGX (Intel TDX DCAP
/// Quoting Library API, appendix A.3).
fn mistaken(quote: &[u8]) -> Option<&'static str> {
    match quote {
        [3, 0, ..] | [4 | 5, 0, _, _, 0, 0, 0, 0, ..] => {
            Some("this is an SGX quote; confide appraises TDX quotes")
        }
        _ if !quote.is_empty()
            && quote
                .strip_prefix(b"0x")
                .unwrap_or(quote)
                .iter()
                .all(|byte| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace()) =>
        {
            Some(
                "the quote is taken as binary, and these are hexadecimal digits: xxd -r -p turns them into bytes",
            )
        }
        _ => None,
    }
}

fn role(text: &str) -> Result<Role, String> {
    [Role::Serve, Role::Batch, Role::KeyRelease]
        .into_iter()
        .find(|role| role.name() == text)
        .ok_or_else(|| "expected serve, batch or key-release".to_owned())
}

pub(crate) fn evaluated(inputs: &Inputs<'_>) -> AttestationResult {
    evaluate(inputs).unwrap_or_else(|rejection| *rejection.result)
}

pub(crate) fn show(result: &AttestationResult, appraising: &Appraising) -> Status {
    render::verdict(result, appraising.shown.form());
    Status::from(result)
}
