//! Command line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use confide_evidence::hex;
use confide_evidence::pem::base64_text;
use confide_evidence::text::{escape_json, steers};
use confide_evidence::time::format_seconds;
use confide_policy::AppraisalPolicy;
use confide_service::close_to_debuggers;
use confide_verifier::Outcome;
use serde_json::{Value, json};

use crate::audit::{self, Entry, MAX_SIGNED_HEAD, SignedHead};
use crate::broker::{DangerPolicies, now};
use crate::config::Config;
use crate::error::BrokerError;
use crate::help;
use crate::identity::Identity;
use crate::policy::{self, PolicyFlags};
use crate::serve;
use crate::store::Store;
use crate::volumes::VolumeCommand;

/// Release the keys of volumes to attested guests alone
#[derive(Debug, Parser)]
#[command(name = "confide-broker", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Configured {
    /// Configuration file, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

// A variant's own comment would hide that of its arguments, whose further paragraphs are for `--help`.
#[derive(Debug, Subcommand)]
enum Command {
    /// Answer guests until SIGTERM or SIGINT
    ///
    /// One line of JSON on standard output says when it does, where, and with which identity key.
    Serve {
        #[command(flatten)]
        configured: Configured,
        /// Release volumes with danger policies, too: to guests without hardware behind them
        #[arg(long)]
        danger_simulator: bool,
    },
    /// Read a configuration file and say whether `serve` would take it
    ///
    /// Nothing but the file is looked at: whether keys, database and address are there shows when the broker starts.
    Check {
        #[command(flatten)]
        configured: Configured,
    },
    /// Add, rotate and revoke volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Work with the appraisal policies of volumes
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Verify and show the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Draw and show the broker's identity key
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Print a shell completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print the manual pages, or write them to a folder
    Man {
        /// Folder to write one page per command to; it is made where it is missing
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Read policy files and say what they waive
    ///
    /// Files named danger-*.toml are read as danger policies.
    Check {
        /// Policy files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Appraise recorded evidence by a policy, without releasing anything
    ///
    /// Every evidence document of a record file, or of a folder of records, is appraised again by the policy, at its recorded
    /// time and for its recorded challenge. Exit status: 0 where all are accepted, 10 where one is rejected; where none is, 20
    /// where one is of a format that this version does not appraise, and 30 where one is malformed.
    Test {
        #[command(flatten)]
        policy: PolicyFlags,
        /// Record file, or folder of records
        #[arg(long, value_name = "PATH")]
        records: PathBuf,
        /// Print one JSON object a line for each record: the whole verdict
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Follow the log from its first entry, and appraise every record again
    ///
    /// Edits, gaps and exchanged entries show in the log itself; that it was truncated or written anew shows against a signed
    /// head that was kept elsewhere. Exit status: 0 where it holds, 10 where it does not.
    Verify {
        #[command(flatten)]
        configured: Configured,
        /// Signed head, kept elsewhere
        #[arg(long, value_name = "FILE")]
        head: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print entries, or write the record of one to a file
    ///
    /// The file is one that `confide replay` and `confide inspect` read.
    Show {
        #[command(flatten)]
        configured: Configured,
        /// First entry, from 0
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        from: u64,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
        /// Entry whose first record is written
        #[arg(long, value_name = "NUMBER", requires = "out")]
        record: Option<u64>,
        /// New file for the record
        #[arg(long, value_name = "FILE", requires = "record")]
        out: Option<PathBuf>,
    },
    /// Sign how far the log goes, to be kept elsewhere
    ///
    /// The log is verified first; where it does not hold, nothing is signed.
    Head {
        #[command(flatten)]
        configured: Configured,
        /// New file for the signed head
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum IdentityCommand {
    /// Draw an identity key into a new file, which only its user may read
    ///
    /// Printed is the public key, as guests are configured with it.
    Make {
        /// New file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print the public key: base64 of the DER SubjectPublicKeyInfo
    Show {
        /// Private key, PKCS#8 in PEM or DER
        file: PathBuf,
    },
}

/// The command-line interface, for completions, manual pages and tests.
#[must_use]
pub fn command() -> clap::Command {
    help::with_examples(Cli::command())
}

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    let parsed = Cli::from_arg_matches(&command().get_matches());
    let command = parsed.unwrap_or_else(|error| error.exit()).command;
    // Before any key is read.
    let closed = close_to_debuggers().map_err(BrokerError::Closing);
    match closed.and_then(|()| command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ BrokerError::Refused(_)) => error.exit_code(),
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "error: {} [{}]", error.sentence(), error.code());
            if let Some(action) = error.action() {
                let _ = writeln!(io::stderr(), "  {action}");
            }
            error.exit_code()
        }
    }
}

impl Command {
    fn run(self) -> Result<(), BrokerError> {
        match self {
            Self::Serve { configured, danger_simulator } => {
                let danger = match danger_simulator {
                    true if cfg!(feature = "danger-simulator") => DangerPolicies::Taken,
                    true => {
                        let source = confide_policy::PolicyError::DangerNotBuilt;
                        return Err(BrokerError::Policy { name: "--danger-simulator".to_owned(), source });
                    }
                    false => DangerPolicies::Refused,
                };
                serve::run(&Config::load(&configured.config)?, danger)
            }
            Self::Check { configured } => {
                Config::load(&configured.config)?;
                print(&format!("{}: valid", configured.config.display()))
            }
            Self::Volume(command) => command.run(),
            Self::Policy(command) => command.run(),
            Self::Audit(command) => command.run(),
            Self::Identity(IdentityCommand::Make { out }) => show_identity(&Identity::make(&out)?),
            Self::Identity(IdentityCommand::Show { file }) => show_identity(&Identity::read(&file)?),
            Self::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command(), "confide-broker", &mut script);
                io::stdout().write_all(&script).map_err(BrokerError::Output)
            }
            Self::Man { dir: Some(dir) } => {
                let fault = |source| BrokerError::Unwritable { path: dir.clone(), source };
                std::fs::create_dir_all(&dir).map_err(fault)?;
                clap_mangen::generate_to(command(), &dir).map_err(fault)
            }
            Self::Man { dir: None } => {
                clap_mangen::Man::new(command()).render(&mut io::stdout()).map_err(BrokerError::Output)
            }
        }
    }
}

impl PolicyCommand {
    fn run(self) -> Result<(), BrokerError> {
        match self {
            Self::Check { files } => files.iter().try_for_each(|file| check_policy(file)),
            Self::Test { policy, records, json } => {
                let policy = policy.load()?.policy;
                let mut outcomes = Vec::new();
                for tried in policy::try_out(&policy, &records)? {
                    let result = &tried.result;
                    outcomes.push(result.outcome);
                    if json {
                        print(&escape_json(result.to_json()))?;
                        continue;
                    }
                    let code = result.code.map_or(String::new(), |code| format!(" [{code}]"));
                    let simulated = if result.simulated { "SIMULATED " } else { "" };
                    let verdict = match result.outcome {
                        Outcome::Accepted => "accepted",
                        Outcome::Rejected => "rejected",
                        Outcome::Unsupported => "unsupported",
                        Outcome::Malformed => "malformed",
                    };
                    print(&format!("record {}, {}: {simulated}{verdict}{code}", tried.index, result.time))?;
                }
                let worst = [Outcome::Rejected, Outcome::Unsupported, Outcome::Malformed];
                let found = worst.into_iter().find(|outcome| outcomes.contains(outcome));
                found.map_or(Ok(()), |outcome| Err(BrokerError::Refused(outcome)))
            }
        }
    }
}

fn check_policy(file: &Path) -> Result<(), BrokerError> {
    let policy = policy::load_by_name(file)?.policy;
    let waivers = policy.waivers();
    print(&format!("{}: policy {:?}, {} waivers", file.display(), policy.name, waivers.len()))?;
    for (field, reason) in &waivers {
        print(&format!("  {field}: {reason}"))?;
    }
    print_warnings(&policy)
}

/// What the owner of a volume surely does not mean.
pub(crate) fn print_warnings(policy: &AppraisalPolicy) -> Result<(), BrokerError> {
    policy::warnings(policy).iter().try_for_each(|warning| print(&format!("  warning: {warning}")))
}

impl AuditCommand {
    fn run(self) -> Result<(), BrokerError> {
        let (Self::Verify { configured, .. } | Self::Show { configured, .. } | Self::Head { configured, .. }) =
            &self;
        let config = Config::load(&configured.config)?;
        runtime()?.block_on(async {
            let store =
                Store::open_existing(&config.storage.url()?, config.storage.connections.get()).await?;
            let done = self.work(&config, &store).await;
            store.close().await;
            done
        })
    }

    async fn work(self, config: &Config, store: &Store) -> Result<(), BrokerError> {
        match self {
            Self::Verify { head, json, .. } => {
                let head = head.map(|path| read_head(config, &path)).transpose()?;
                let found = audit::verify(store, head.as_ref()).await??;
                let until = head.map(|head| format_seconds(i64::try_from(head.time).unwrap_or(i64::MAX)));
                if json {
                    tell_of_empty(found.count);
                    return print(&escape_json(
                        json!({
                            "entries": found.count, "records": found.records, "last": found.last.to_string(),
                            "head": until,
                        })
                        .to_string(),
                    ));
                }
                let against = until.map_or_else(
                    || "; without a head, a truncated log looks whole".to_owned(),
                    |time| format!(", and goes on from the head of {time}"),
                );
                print(&format!(
                    "the log holds: {} entries, {} records appraised again, last {}{against}",
                    found.count, found.records, found.last
                ))?;
                tell_of_empty(found.count);
                Ok(())
            }
            Self::Show { record: Some(seq), out: Some(out), .. } => {
                let entry = entries(store, seq).await?.into_iter().next().filter(|entry| entry.seq == seq);
                let entry = entry.ok_or(BrokerError::Entry(seq))?;
                let none = || BrokerError::NoRecord { seq, what: entry.what.name() };
                let digest = entry.records.first().ok_or_else(none)?;
                let record = store.record(digest).await?.ok_or(audit::Fault::Record(seq, *digest))?;
                write_new(&out, &record)
            }
            Self::Show { from, json, .. } => {
                let mut next = from;
                loop {
                    let page = entries(store, next).await?;
                    let Some(last) = page.last() else {
                        if next == from {
                            note(&format!("the audit log has no entry from {from} on"));
                        }
                        return Ok(());
                    };
                    next = last.seq.saturating_add(1);
                    for entry in &page {
                        print(&if json { escape_json(shown(entry).to_string()) } else { line(entry) })?;
                    }
                }
            }
            Self::Head { out, .. } => {
                let identity = Identity::read(&config.identity.path()?)?;
                let found = audit::verify(store, None).await??;
                let (last, time, count) = (found.last, now(), found.count);
                let signature = identity.sign(&SignedHead::signing_input(&last, time, count));
                write_new(&out, &SignedHead { last, time, count, signature }.encode())?;
                print(&format!("{}: {count} entries, last {last}", out.display()))?;
                tell_of_empty(count);
                Ok(())
            }
        }
    }
}

async fn entries(store: &Store, from: u64) -> Result<Vec<Entry>, BrokerError> {
    let mut entries = Vec::new();
    for (seq, _, bytes) in store.entries(from).await? {
        entries.push(Entry::decode(&bytes).map_err(|error| audit::Fault::Format(seq, error))?);
    }
    Ok(entries)
}

/// A log without entries holds whatever is asked of it: who looks at the wrong database must see that.
fn tell_of_empty(entries: u64) {
    if entries == 0 {
        note("WARNING: the audit log is empty, 0 entries: no broker has decided anything in this database");
    }
}

/// Tells a person something beside what is printed.
pub(crate) fn note(text: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// An entry for a person.
fn line(entry: &Entry) -> String {
    let time = format_seconds(i64::try_from(entry.time).unwrap_or(i64::MAX));
    let mut text = format!("{} {time} {}", entry.seq, entry.what.name());
    for (volume, generations) in &entry.volumes {
        let generations: Vec<String> = generations.iter().map(u64::to_string).collect();
        text.push_str(&format!(" {volume}"));
        if !generations.is_empty() {
            text.push_str(&format!("@{}", generations.join("+")));
        }
    }
    let peer = entry.peer.as_ref().map(|peer| format!(" from {peer}"));
    let boot = entry.boot_id.map(|boot| format!(" boot {boot}"));
    let code = entry.code.as_ref().map(|code| format!(" [{code}]"));
    let sentence = entry.sentence.as_ref().map(|sentence| format!(" {sentence}"));
    for part in [peer, boot, code, sentence].into_iter().flatten() {
        text.push_str(&part);
    }
    text
}

/// An entry for a program.
fn shown(entry: &Entry) -> Value {
    let text = |bytes: Option<String>| bytes.map_or(Value::Null, Value::from);
    let volumes: Vec<Value> = entry
        .volumes
        .iter()
        .map(|(name, generations)| json!({ "name": name, "generations": generations }))
        .collect();
    json!({
        "seq": entry.seq,
        "time": format_seconds(i64::try_from(entry.time).unwrap_or(i64::MAX)),
        "what": entry.what.name(),
        "code": entry.code,
        "sentence": entry.sentence,
        "peer": entry.peer,
        "nonce": text(entry.nonce.map(|nonce| nonce.to_string())),
        "boot_id": text(entry.boot_id.map(|boot| boot.to_string())),
        "volumes": volumes,
        "document": text(entry.document.map(|digest| digest.to_string())),
        "records": entry.records.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "prev": entry.prev.to_string(),
        "hash": entry.hash().to_string(),
    })
}

/// A head that the broker's key has signed.
fn read_head(config: &Config, path: &Path) -> Result<SignedHead, BrokerError> {
    let most = u64::try_from(MAX_SIGNED_HEAD).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|source| BrokerError::Unreadable { path: path.to_owned(), source })?;
    let unusable = |reason: String| BrokerError::Head { path: path.to_owned(), reason };
    let head = SignedHead::decode(&bytes).map_err(|error| unusable(error.to_string()))?;
    let identity = Identity::read(&config.identity.path()?)?;
    head.signed_by(identity.public())
        .ok_or_else(|| unusable("the head is not signed by the broker's identity key".to_owned()))
}

fn show_identity(identity: &Identity) -> Result<(), BrokerError> {
    print(&base64_text(identity.public().to_der().as_bytes()))
}

/// A runtime for a command that ends by itself.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, BrokerError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(BrokerError::Runtime)
}

/// Prints one line to standard output: what a terminal would obey in it is shown as a space.
pub(crate) fn print(text: &str) -> Result<(), BrokerError> {
    let harmless: String = text.chars().map(|one| if steers(one) { ' ' } else { one }).collect();
    let mut out = io::stdout().lock();
    match writeln!(out, "{harmless}").and_then(|()| out.flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(BrokerError::Output),
    }
}

/// Writes a new file that only its user may read.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), BrokerError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(|source| BrokerError::Unwritable { path: path.to_owned(), source })
}

/// Parses 32 bytes in hexadecimal digits.
pub(crate) fn bytes32(text: &str) -> Result<[u8; 32], String> {
    hex::decode_array(text).ok_or_else(|| "expected 64 hexadecimal digits".to_owned())
}
