//! The egress policy: read from a file or from the configuration, and told to people before it is in force.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use confide_egress::needs_broker;
use confide_egress::plan::{self, GuestNetwork, LISTENERS, PlanError, Ruleset};
use confide_policy::PolicyError;
use confide_policy::egress::{
    Decision, Destination, EgressPolicy, Host, HostName, MAX_EGRESS_POLICY, Phase, Transport,
};

use crate::config::Config;
use crate::error::GuestError;
use crate::status::{self, Form};

/// Exit status of `egress test` for what is denied.
const DENIED: u8 = 10;
/// The port of clients where no configuration says another one.
const SERVING_PORT: u16 = 8443;

/// The policy of a file, which has rules that are carried out, and its text.
pub(crate) fn read(path: &Path) -> Result<(EgressPolicy, String), GuestError> {
    let unreadable = |source| GuestError::EgressPolicyUnreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_EGRESS_POLICY).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(unreadable)?;
    let invalid = |source| GuestError::EgressPolicy { path: path.to_owned(), source };
    let text =
        String::from_utf8(bytes).map_err(|_| invalid(PolicyError::Toml("not UTF-8 text".to_owned())))?;
    let policy = EgressPolicy::parse(&text).map_err(invalid)?;
    check(&policy)?;
    Ok((policy, text))
}

/// Refuses a policy of which a rule would not be carried out, before anything relies on it.
pub(crate) fn check(policy: &EgressPolicy) -> Result<(), PlanError> {
    let network = GuestNetwork { serving_port: SERVING_PORT, key_broker: None };
    for phase in [Phase::Bootstrap, Phase::Serving] {
        plan::guest(policy, phase, network)?;
    }
    Ok(())
}

/// The rules that `boot` puts into force in the guest's own network.
pub(crate) fn rules(config: &Config, phase: Phase) -> Result<Ruleset, PlanError> {
    let key_broker = config.broker.as_ref().map(|broker| broker.address);
    let network = GuestNetwork { serving_port: config.listen.port(), key_broker };
    plan::guest(config.egress_policy(), phase, network)
}

/// Say what an egress policy lets through before it is in force, and what it let through
#[derive(Debug, Subcommand)]
pub(crate) enum EgressCommand {
    /// Print the rules of the guest's own network, or of the workload's, as `nft -f -` takes them
    ///
    /// With --config they are those that `boot` puts into force. With --policy the port of clients is 8443, and there is no broker
    /// that releases keys. Comments before them say by which digests policies know the policy, and claims the rules of the
    /// guest's own network.
    #[command(
        override_usage = "confide-guest egress plan <--policy <FILE>|--config <FILE>> [--phase <PHASE>] [--network <NETWORK>]"
    )]
    Plan {
        #[command(flatten)]
        source: Source,
        /// Whose rules
        #[arg(long, value_enum, default_value = "serving")]
        phase: PhaseName,
        /// Of which network
        #[arg(long, value_enum, default_value = "guest")]
        network: NetworkName,
    },
    /// Say whether a destination is allowed, and by which rule
    ///
    /// Nothing is looked up or connected to. A name is held against the rules with names, an address against those with cidr.
    ///
    /// Exit status: 0 allowed, 10 denied.
    #[command(
        override_usage = "confide-guest egress test <--policy <FILE>|--config <FILE>> [--phase <PHASE>] [--protocol <PROTOCOL>] <NAME> <PORT>"
    )]
    Test {
        #[command(flatten)]
        source: Source,
        /// By whose rules
        #[arg(long, value_enum, default_value = "serving")]
        phase: PhaseName,
        /// Over what
        #[arg(long, value_enum, default_value = "tcp")]
        protocol: ProtocolName,
        /// Name in lower case without a dot at its end, or an IP address
        #[arg(value_parser = host)]
        name: Host,
        /// Port
        #[arg(value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
    },
    /// Tell what left the guest that runs on this machine, and what was dropped
    ///
    /// The mode, the digests, connections and bytes by rule, drops by code, and the latest of them with their destinations. The guest
    /// answers root and its own user, where its configuration has the table [status].
    Status(StatusArgs),
}

/// Arguments of `egress status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Socket of the guest, status.socket of its configuration
    #[arg(long, value_name = "PATH", default_value = status::SOCKET)]
    socket: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Where the policy is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Source {
    /// Egress policy, TOML
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Configuration file of a guest, TOML: the policy is the one that it names, or else the one that denies everything
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A phase of the policy.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PhaseName {
    /// Until the guest locks
    Bootstrap,
    /// From then on
    Serving,
}

/// One of the networks that have rules.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum NetworkName {
    /// The guest's own, with the device to the outside
    Guest,
    /// The workload's: its rules are the same in both phases
    Workload,
}

/// What carries the connection.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProtocolName {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl From<PhaseName> for Phase {
    fn from(name: PhaseName) -> Self {
        match name {
            PhaseName::Bootstrap => Self::Bootstrap,
            PhaseName::Serving => Self::Serving,
        }
    }
}

impl From<ProtocolName> for Transport {
    fn from(name: ProtocolName) -> Self {
        match name {
            ProtocolName::Tcp => Self::Tcp,
            ProtocolName::Udp => Self::Udp,
        }
    }
}

fn host(text: &str) -> Result<Host, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(Host::Ip(address)),
        Err(_) => HostName::parse(text).map(Host::Name),
    }
}

impl Source {
    /// The policy, and the configuration where that names it.
    fn read(&self) -> Result<(EgressPolicy, Option<Config>), GuestError> {
        match (&self.policy, &self.config) {
            (Some(path), _) => Ok((read(path)?.0, None)),
            (None, Some(path)) => {
                let config = Config::load(path)?;
                Ok((config.egress_policy().clone(), Some(config)))
            }
            (None, None) => unreachable!("one of the two is required"),
        }
    }
}

impl EgressCommand {
    pub(crate) fn run(self) -> Result<ExitCode, GuestError> {
        let (text, status) = match self {
            Self::Plan { source, phase, network } => {
                (plan_text(&source, phase.into(), network)?, ExitCode::SUCCESS)
            }
            Self::Test { source, phase, protocol, name, port } => {
                let destination = Destination { host: name, port, transport: protocol.into() };
                test_text(&source, phase.into(), &destination)?
            }
            Self::Status(StatusArgs { socket, json }) => {
                let form = if json { Form::Json } else { Form::Text };
                (status::ask(&socket, form)?, ExitCode::SUCCESS)
            }
        };
        io::stdout().write_all(text.as_bytes()).map_err(GuestError::Output)?;
        Ok(status)
    }
}

fn plan_text(source: &Source, phase: Phase, network: NetworkName) -> Result<String, GuestError> {
    let (policy, config) = source.read()?;
    let rules = match (network, &config) {
        (NetworkName::Workload, _) => plan::workload(needs_broker(&policy).then_some(LISTENERS)),
        (NetworkName::Guest, Some(config)) => rules(config, phase)?,
        (NetworkName::Guest, None) => {
            plan::guest(&policy, phase, GuestNetwork { serving_port: SERVING_PORT, key_broker: None })?
        }
    };
    let (name, digest) = (policy.name(), policy.digest());
    let phase = phase.name();
    Ok(format!("# egress policy {name}, {phase}: {digest}\n# rules: {}\n{}", rules.digest(), rules.text()))
}

fn test_text(
    source: &Source,
    phase: Phase,
    destination: &Destination,
) -> Result<(String, ExitCode), GuestError> {
    let (policy, _) = source.read()?;
    let phase_name = phase.name();
    Ok(match policy.decide(phase, destination) {
        Decision::Allowed(rule) => {
            let caps = rule.caps;
            let (connections, second, total) = (caps.connections, caps.bytes_per_second, caps.total_bytes);
            let visible = if rule.is_host_visible() { "the host sees or may answer it\n" } else { "" };
            let text = format!(
                "allowed: {destination} while {phase_name}, by the rule {rule}\n\
                 at most {connections} connections at a time, {second} bytes a second, {total} bytes in all\n{visible}"
            );
            (text, ExitCode::SUCCESS)
        }
        Decision::Denied(denial) => {
            let text = format!("denied: {destination} while {phase_name}: {denial} [{}]\n", denial.code());
            (text, ExitCode::from(DENIED))
        }
    })
}
