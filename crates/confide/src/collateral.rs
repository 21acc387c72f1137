//! `confide collateral`: what the vendor says of a platform, fetched, shown and kept.

mod snp;

use crate::endorser::{self, CacheFlag, EndorserFlags};
use crate::status::{Failure, Status};
use crate::{guest, input, render};
use clap::Subcommand;
use confide_endorser::{PckCa, Prune, TdxPlatform, now};
use confide_evidence::document::TdxCollateral;
use confide_evidence::tdx::{
    CollateralError, CollateralWindow, MAX_QUOTE, QeIdentity, TcbInfo, collateral_to_json, collateral_windows,
};
use confide_evidence::time::{format_seconds, seconds};
use confide_evidence::{hex, tdx};
use rustls_pki_types::UnixTime;
use serde::Serialize;
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Fetch, show and keep what the vendor says of a platform
///
/// Services are asked through the proxy that HTTPS_PROXY names (http://, asked with CONNECT), but for the hosts in
/// NO_PROXY. Their TLS certificates must come from the web authorities of this machine, or of the files that
/// SSL_CERT_FILE and SSL_CERT_DIR name. What is fetched is signed by the vendor and verified whenever it is used.
// A variant's own comment would hide that of its arguments, whose further paragraphs are for `--help`.
#[derive(Debug, Subcommand)]
pub(crate) enum CollateralCommand {
    Fetch(Box<Fetch>),
    Show(Show),
    Prune(PruneCommand),
}

/// Fetch the collateral of an Intel TDX platform or of an AMD SEV-SNP report, and say when its parts are valid
///
/// A TDX platform is that of a quote, or is given by its FMSPC and its CA. For an SEV-SNP report these are the certificate
/// of its VCEK, AMD's certificates above it, and the revocation list of AMD's root; the certificate of a VLEK is the cloud
/// provider's to give. What the cache has is used for a day; then the service is asked again, and where it does not answer,
/// what is kept is used to the end of its validity.
#[derive(Debug, clap::Args)]
#[group(id = "platform", required = true, multiple = false)]
#[command(
    override_usage = "confide collateral fetch [OPTIONS] (--quote FILE | --fmspc HEX --ca CA | --report FILE)"
)]
pub(crate) struct Fetch {
    /// A quote of the platform
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ca", "kds", "product"], group = "platform")]
    quote: Option<PathBuf>,
    /// FMSPC of the platform, 6 bytes in hexadecimal digits
    #[arg(
        long,
        value_name = "HEX",
        value_parser = fmspc,
        requires = "ca",
        conflicts_with_all = ["kds", "product"],
        group = "platform"
    )]
    fmspc: Option<[u8; 6]>,
    /// CA that certified the platform: processor or platform
    #[arg(long, requires = "fmspc")]
    ca: Option<PckCa>,
    #[command(flatten)]
    snp: snp::ReportFlags,
    /// Time at which the collateral has to be valid, RFC 3339; without it, now
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<UnixTime>,
    #[command(flatten)]
    endorser: EndorserFlags,
    /// File to write the collateral to: QuoteCollateralV3 JSON; of an SEV-SNP report the certificates, PEM
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Say when the parts of a collateral file are valid; without a file, list the cache
///
/// Nothing is verified.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Collateral, QuoteCollateralV3 JSON
    file: Option<PathBuf>,
    /// Time to say it for, RFC 3339; without it, now
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<UnixTime>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: CacheFlag,
}

/// Remove what is over from the cache
#[derive(Debug, clap::Args)]
pub(crate) struct PruneCommand {
    /// Remove everything
    #[arg(long)]
    all: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cache: CacheFlag,
}

impl CollateralCommand {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        match self {
            Self::Fetch(command) => command.run(),
            Self::Show(command) => command.run(),
            Self::Prune(command) => command.run(),
        }
    }
}

impl Fetch {
    fn run(self) -> Result<Status, Failure> {
        let at = self.at.unwrap_or_else(now);
        if let Some(asked) = self.snp.asked()? {
            return asked.fetch(&self, at);
        }
        let platform = self.platform()?;
        let collateral = guest::block_on(self.endorser.collateral(platform, at))?;
        if let Some(out) = &self.out {
            write(out, collateral_to_json(&collateral).as_bytes())?;
        }
        show(&collateral, at, self.json)
    }

    fn platform(&self) -> Result<TdxPlatform, Failure> {
        match (&self.quote, self.fmspc, self.ca) {
            (Some(path), ..) => {
                let quote = input::read(path, MAX_QUOTE)?;
                endorser::platform(&quote)?.ok_or_else(|| no_quote(path, &quote))
            }
            (None, Some(fmspc), Some(ca)) => Ok(TdxPlatform { fmspc, ca }),
            (None, ..) => unreachable!("clap asks for --quote, for --fmspc with --ca, or for --report"),
        }
    }
}

impl Show {
    fn run(self) -> Result<Status, Failure> {
        let at = self.at.unwrap_or_else(now);
        let Some(path) = &self.file else { return self.list(at) };
        let collateral = input::collateral(path)?.map_err(|error| malformed(path, &error))?;
        show(&collateral, at, self.json)
    }

    fn list(&self, at: UnixTime) -> Result<Status, Failure> {
        let cache = self.cache.required()?;
        let entries = cache.entries().map_err(|error| cache_fault(cache.folder(), &error))?;
        let kept: Vec<Kept> = entries
            .iter()
            .map(|entry| Kept {
                service: &entry.service,
                part: Part::of(&entry.window, at),
                fetched: format_seconds(entry.fetched),
            })
            .collect();
        if self.json {
            render::line(&json(&Listed { cache: cache.folder(), objects: kept }));
            return Ok(Status::Accepted);
        }
        render::line(&format!("{}: {} objects", cache.folder().display(), kept.len()));
        for Kept { service, part, fetched } in kept {
            render::line(&format!("{service}: {}, fetched {fetched}", part.sentence()));
        }
        Ok(Status::Accepted)
    }
}

impl PruneCommand {
    fn run(self) -> Result<Status, Failure> {
        let cache = self.cache.required()?;
        let which = if self.all { Prune::All } else { Prune::Expired(seconds(now())) };
        let pruned = cache.prune(which).map_err(|error| cache_fault(cache.folder(), &error))?;
        if self.json {
            let removed = json!({ "objects": pruned.objects, "bytes": pruned.bytes });
            render::line(&json(&json!({ "cache": cache.folder(), "removed": removed })));
            return Ok(Status::Accepted);
        }
        let folder = cache.folder().display();
        let objects = render::counted(pruned.objects, "object");
        render::line(&format!("{folder}: {objects} of {} bytes removed", pruned.bytes));
        Ok(Status::Accepted)
    }
}

/// What is said of collateral.
#[derive(Serialize)]
struct Shown {
    fmspc: String,
    tcb_evaluation_data_number: u32,
    qe_tcb_evaluation_data_number: u32,
    /// That of the next TCB recovery, where the collateral holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    early_tcb_evaluation_data_number: Option<u32>,
    at: String,
    parts: Vec<Part>,
    expires_first: String,
    valid_until: String,
}

#[derive(Serialize)]
struct Part {
    part: String,
    from: String,
    until: String,
    /// `valid`, `over` or `not yet valid`.
    state: &'static str,
}

#[derive(Serialize)]
struct Listed<'a> {
    cache: &'a Path,
    objects: Vec<Kept<'a>>,
}

#[derive(Serialize)]
struct Kept<'a> {
    service: &'a str,
    #[serde(flatten)]
    part: Part,
    fetched: String,
}

impl Part {
    fn of(window: &CollateralWindow, at: UnixTime) -> Self {
        let at = seconds(at);
        let state = match () {
            () if at > window.until => "over",
            () if at < window.from => "not yet valid",
            () => "valid",
        };
        let (from, until) = (format_seconds(window.from), format_seconds(window.until));
        Self { part: window.part.clone(), from, until, state }
    }

    fn sentence(&self) -> String {
        let Self { part, from, until, state } = self;
        format!("{}: {state}, from {from} to {until}", render::harmless(part))
    }
}

impl Shown {
    fn of(collateral: &TdxCollateral, at: UnixTime) -> Result<Self, CollateralError> {
        let tcb_info = TcbInfo::parse(&collateral.tcb_info)?;
        let windows = collateral_windows(collateral)?;
        let early = collateral.early.as_ref().map(|early| TcbInfo::parse(&early.tcb_info)).transpose()?;
        let first = windows.iter().min_by_key(|window| window.until);
        Ok(Self {
            fmspc: hex::encode(&tcb_info.fmspc),
            tcb_evaluation_data_number: tcb_info.tcb_evaluation_data_number,
            qe_tcb_evaluation_data_number: QeIdentity::parse(&collateral.qe_identity)?
                .tcb_evaluation_data_number,
            early_tcb_evaluation_data_number: early.map(|early| early.tcb_evaluation_data_number),
            at: format_seconds(seconds(at)),
            expires_first: first.map(|window| window.part.clone()).unwrap_or_default(),
            valid_until: first.map(|window| format_seconds(window.until)).unwrap_or_default(),
            parts: windows.iter().map(|window| Part::of(window, at)).collect(),
        })
    }
}

fn show(collateral: &TdxCollateral, at: UnixTime, as_json: bool) -> Result<Status, Failure> {
    let shown = Shown::of(collateral, at)
        .map_err(|error| Failure::new(Status::Malformed, "collateral_file", error.to_string()))?;
    if as_json {
        render::line(&json(&shown));
        return Ok(Status::Accepted);
    }
    let (tcb, qe) = (shown.tcb_evaluation_data_number, shown.qe_tcb_evaluation_data_number);
    render::line(&format!("FMSPC: {}", shown.fmspc));
    render::line(&format!("tcbEvaluationDataNumber: {tcb} of the TCB info, {qe} of the QE identity"));
    if let Some(early) = shown.early_tcb_evaluation_data_number {
        render::line(&format!("tcbEvaluationDataNumber of the next TCB recovery: {early}"));
    }
    shown.parts.iter().for_each(|part| render::line(&part.sentence()));
    render::line(&format!(
        "expires first: {}, {}",
        render::harmless(&shown.expires_first),
        shown.valid_until
    ));
    Ok(Status::Accepted)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and UTF-8 paths always serialise")
}

fn fmspc(text: &str) -> Result<[u8; 6], String> {
    hex::decode_array(text).ok_or_else(|| "expected 12 hexadecimal digits".to_owned())
}

fn no_quote(path: &Path, quote: &[u8]) -> Failure {
    let (status, reason) = match tdx::Quote::parse(quote, tdx::Padding::Zeros) {
        Err(error) if error.is_unsupported() => (Status::Unsupported, error.to_string()),
        Err(error) => (Status::Malformed, error.to_string()),
        Ok(_) => (Status::Malformed, "no TDX quote".to_owned()),
    };
    Failure::new(status, "quote_format", format!("{}: {reason}", path.display()))
}

fn malformed(path: &Path, error: &CollateralError) -> Failure {
    Failure::new(Status::Malformed, "collateral_file", format!("{}: {error}", path.display()))
}

fn cache_fault(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Status::Internal, "cache_failed", format!("{}: {error}", folder.display()))
}

/// Writes a file that others never see half of.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let fault = |error: std::io::Error| {
        Failure::new(Status::Internal, "file_unwritable", format!("{}: {error}", path.display()))
    };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = std::fs::File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(fault)
}
