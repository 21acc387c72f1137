//! What was dropped, and why: counters, the latest records, and the log.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use confide_policy::egress::{Denial, LogLevel};
use serde::{Deserialize, Serialize};
use tokio::time::{Duration, Instant};

use crate::pace::Pace;

/// The most records that are kept to be shown. The latest of them are of use, the numbers of all are counted.
pub(crate) const MAX_KEPT: usize = 256;
/// The most bytes of a destination in a record. What a workload asks for is its own choice, and logs leave the guest: a record
/// tells who was meant and carries little else. Of a longer one the end is kept, which names the owner.
pub(crate) const MAX_DESTINATION: usize = 64;
/// How many records may be logged at once.
pub(crate) const LOG_BURST: u32 = 32;
/// How long until another one may be: with `MAX_DESTINATION` this bounds what a workload can write into the log.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// Declares each reason once: its variant, code, meaning and what to do.
macro_rules! reasons {
    ($($name:ident = $code:literal, $meaning:literal, $action:literal;)*) => {
        /// Why something was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $(
                #[doc = $meaning]
                $name,
            )*
        }

        /// Every code: that of each [`Reason`], in their order, and that of [`EgressError`](crate::EgressError). The code, what it
        /// means, what to do.
        pub const CODES: &[(&str, &str, &str)] = &[
            $(($code, $meaning, $action),)*
            (
                "egress_authorities",
                "the web authorities that the egress broker is configured with cannot be read",
                "give certificates in PEM, of authorities and not of servers",
            ),
            (
                "egress_not_enforced",
                "the kernel or the program nft refused what keeps egress to its policy",
                "put nft and the kernel's modules nf_tables, nft_ct, nft_log, nft_redir, nft_chain_nat and nfnetlink_log into the image, and start the guest as root",
            ),
            (
                "egress_rules_differ",
                "the rules that are in force are not those that were put into force",
                "boot again; report it where it happens twice: nobody but the guest should write rules",
            ),
            (
                "egress_rules_changed",
                "somebody has changed the rules after the lock, or a message that may have told of it was lost",
                "boot again, and look what ran in the guest: nobody should have the privilege any more",
            ),
            (
                "egress_broker_lost",
                "the egress broker ended, does not answer, or answers what it should not",
                "boot again, and look in the guest's log for what the egress broker said last",
            ),
        ];

        impl Reason {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

reasons! {
    HostNotListed = "host_not_listed", "no rule of this phase is for this host",
        "add a rule to the egress policy, or look who asks for it";
    TransportNotListed = "protocol_not_listed", "the rules for this host are over another protocol",
        "correct the rule's protocol, or look who asks for it";
    PortNotListed = "port_not_listed", "the rules for this host are for other ports",
        "add the port to the rule, or look who asks for it";
    RecordTypeRefused = "dns_type_refused", "the workload asked for another DNS record than addresses",
        "nothing: names are resolved to addresses alone, and other records could carry data";
    QuestionMalformed = "dns_question_malformed", "the workload sent what is no DNS question about a host",
        "look who sends it";
    NamesExhausted = "dns_names_exhausted", "the workload has asked for as many names as one wildcard and another may have",
        "list names in the place of wildcards, or look who asks for so many";
    RequestMalformed = "proxy_request_malformed", "the request is not HTTP/1.1, or its head is too large or too slow",
        "send it with an HTTP library; HTTP/2 is not spoken here";
    RequestForm = "proxy_request_form", "the request names its destination in a way that is not taken",
        "send CONNECT host:port, or an absolute target without user information; within a tunnel, a path";
    RequestBody = "proxy_request_body", "a CONNECT with a body, or a request whose length is said twice",
        "send CONNECT without a body and other requests with one field that says their length";
    AuthorityMismatch = "proxy_host_mismatch", "the field Host, or the name in TLS, is not the destination's",
        "send requests for another host over a connection to it: this is how domain fronting looks";
    TlsInTerminate = "proxy_tls_inside", "the workload speaks TLS where the broker does",
        "let the workload speak plain HTTP to this destination: the broker originates TLS itself";
    NoServerName = "proxy_no_server_name", "the connection does not begin with a TLS ClientHello that names the host",
        "speak TLS with SNI to a destination of the mode passthrough, and within 10 seconds";
    SchemeNotServed = "proxy_scheme", "the scheme does not fit the mode of the rule",
        "use CONNECT for a rule of the mode passthrough, and http for one of the mode plain";
    ConnectionsReached = "cap_connections", "as many connections are open as may be, for this rule or in all",
        "raise the rule's cap, or look who opens so many";
    BytesReached = "cap_total_bytes", "the bytes that the rule allows in all are used up",
        "raise the rule's cap, or look where they went";
    NotResolved = "dns_not_resolved", "no DNS upstream of the policy gave an address",
        "look after the upstreams of the policy, and whether the name exists";
    AnswerRefused = "dns_answer_refused", "the answer for the name cannot be read, or has records that do not belong to it",
        "look after the DNS upstream and the name's records: this is how forged answers look";
    ChainNotListed = "dns_chain_not_listed", "the name is an alias of one that no rule allows, in a mode without the broker's TLS",
        "list the alias's target too, or use the mode terminate, in which the certificate decides";
    AddressRefused = "dns_address_refused", "the name leads to an address that is not of the public internet",
        "look after the name's records: this is how DNS rebinding looks; allow a private address by its range (cidr)";
    Unreachable = "destination_unreachable", "nobody takes a connection at the destination's addresses",
        "look after the destination and the network";
    CertificateRefused = "certificate_refused", "the server did not prove that it is the host of this name",
        "look after the server's certificate: this is how a network that answers in the place of others looks";
    AnswerMalformed = "destination_answer", "the destination's answer is not HTTP/1.1, or it did not come in time",
        "look after the destination";
    PhaseOver = "phase_over", "the connection was opened before the guest locked",
        "open it again: it is decided by the rules of the serving phase";
    Idle = "connection_idle", "nothing was sent over the connection for 15 minutes",
        "open it again";
    DestinationUnknown = "destination_unknown", "the kernel does not tell where the connection was meant to go",
        "look after the ruleset of the workload's network: nothing but it should lead connections to the broker";
    NotOfOurs = "transport_not_carried", "the rule is over UDP, which this broker does not carry",
        "use TCP";
    PacketDropped = "packet_dropped", "a packet that no rule of its network lets through: the kernel dropped it",
        "look who sends it: TCP and questions for names reach the egress broker, and nothing else leads anywhere";
}

impl Reason {
    /// The stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.row().0
    }

    /// The reason with this code.
    pub(crate) fn of(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// What it means, in a sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.row().1
    }

    #[expect(clippy::as_conversions, reason = "its number in the enumeration, which has no fields")]
    const fn place(self) -> usize {
        self as usize
    }

    #[expect(clippy::indexing_slicing, reason = "the enumeration and the table are made of the same rows")]
    fn row(self) -> (&'static str, &'static str, &'static str) {
        CODES[self.place()]
    }
}

impl From<Denial> for Reason {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Host => Self::HostNotListed,
            Denial::Transport => Self::TransportNotListed,
            Denial::Port => Self::PortNotListed,
        }
    }
}

/// By what way the workload came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A request to the proxy.
    Proxy,
    /// A connection to an address, led here by the kernel.
    Transparent,
    /// A DNS question.
    Names,
    /// A packet in the workload's network.
    Packet,
    /// A packet in the guest's own network.
    GuestPacket,
}

impl Way {
    /// The way with this word.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let all = [Self::Proxy, Self::Transparent, Self::Names, Self::Packet, Self::GuestPacket];
        all.into_iter().find(|way| way.name() == name)
    }

    /// The word in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Transparent => "transparent",
            Self::Names => "dns",
            Self::Packet => "packet",
            Self::GuestPacket => "guest-packet",
        }
    }
}

/// Who asked, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) way: Way,
    /// The user whose process asked, where the kernel tells.
    pub(crate) uid: Option<u32>,
}

/// Something that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropRecord {
    /// When.
    pub at: SystemTime,
    /// Why.
    pub reason: Reason,
    /// Where to, as far as it is known: at most [`MAX_DESTINATION`] bytes of printable ASCII.
    pub destination: String,
    /// The rule that allows the destination, where one does.
    pub rule: Option<String>,
    /// By what way.
    pub way: Way,
    /// The user whose process asked, where the kernel tells: not of a connection that was closed before anybody looked, and not of
    /// every packet.
    pub uid: Option<u32>,
}

/// What a broker has dropped and let through, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// By code, of every reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Connections to the outside that carried the workload's bytes.
    pub connections: u64,
    /// Records that were not logged because there were too many.
    pub unlogged: u64,
    /// The latest records, oldest first: at most [`MAX_KEPT`].
    pub latest: Vec<DropRecord>,
    /// What each rule of the phase was used for, in the order of the policy.
    pub rules: Vec<RuleUse>,
}

/// What a rule was used for since the phase began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleUse {
    /// The rule as claims state it.
    pub rule: String,
    /// Connections that are open.
    pub open: u32,
    /// Bytes sent and received, TLS and heads included.
    pub bytes: u64,
    /// Drops whose record names the rule, in all phases.
    pub dropped: u64,
}

/// Where drops are noted.
#[derive(Debug)]
pub(crate) struct Records {
    level: LogLevel,
    counts: [AtomicU64; Reason::ALL.len()],
    /// By rule: no more than the policy has.
    by_rule: Mutex<BTreeMap<String, u64>>,
    connections: AtomicU64,
    unlogged: AtomicU64,
    latest: Mutex<VecDeque<DropRecord>>,
    pace: Mutex<Pace>,
}

impl Records {
    pub(crate) fn new(level: LogLevel) -> Self {
        Self {
            level,
            counts: [const { AtomicU64::new(0) }; Reason::ALL.len()],
            by_rule: Mutex::default(),
            connections: AtomicU64::new(0),
            unlogged: AtomicU64::new(0),
            latest: Mutex::default(),
            pace: Mutex::new(Pace::new(LOG_BURST, LOG_PAUSE)),
        }
    }

    /// Notes a drop.
    pub(crate) fn dropped(
        &self,
        reason: Reason,
        destination: &dyn fmt::Display,
        rule: Option<String>,
        asker: Asker,
    ) {
        if let Some(count) = self.counts.get(reason.place()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(rule) = &rule {
            let mut by_rule = self.by_rule.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_rule.entry(rule.clone()).or_default();
            *count = count.saturating_add(1);
        }
        if self.level == LogLevel::None {
            return;
        }
        let destination = shown(destination);
        if self.may_log() {
            tracing::warn!(
                target: "confide_egress::drops",
                code = reason.code(),
                destination,
                rule,
                way = asker.way.name(),
                uid = asker.uid,
                "dropped"
            );
        }
        let record =
            DropRecord { at: SystemTime::now(), reason, destination, rule, way: asker.way, uid: asker.uid };
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.len() == MAX_KEPT {
            latest.pop_front();
        }
        latest.push_back(record);
    }

    /// Notes a connection to the outside.
    pub(crate) fn connected(&self, destination: &dyn fmt::Display, rule: &str, asker: Asker) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if self.level == LogLevel::All && self.may_log() {
            let destination = shown(destination);
            tracing::info!(target: "confide_egress::connections", destination, rule, way = asker.way.name(), "connected");
        }
    }

    /// All but the rules.
    pub(crate) fn status(&self) -> Status {
        let count = |reason: &Reason| {
            let count = self.counts.get(reason.place()).map_or(0, |count| count.load(Ordering::Relaxed));
            (reason.code(), count)
        };
        Status {
            dropped: Reason::ALL.iter().map(count).collect(),
            connections: self.connections.load(Ordering::Relaxed),
            unlogged: self.unlogged.load(Ordering::Relaxed),
            latest: self.latest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect(),
            rules: Vec::new(),
        }
    }

    /// What was dropped of the destinations of a rule.
    pub(crate) fn of_rule(&self, rule: &str) -> u64 {
        let by_rule = self.by_rule.lock().unwrap_or_else(PoisonError::into_inner);
        by_rule.get(rule).copied().unwrap_or_default()
    }

    fn may_log(&self) -> bool {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let may = pace.admits(Instant::now());
        if !may {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
        }
        may
    }
}

/// The end of a destination, in printable ASCII.
pub(crate) fn shown(destination: &dyn fmt::Display) -> String {
    let text = destination.to_string();
    let printable: Vec<char> =
        text.chars().map(|character| if character.is_ascii_graphic() { character } else { '?' }).collect();
    match printable.len().checked_sub(MAX_DESTINATION) {
        None | Some(0) => printable.into_iter().collect(),
        Some(over) => printable.into_iter().skip(over).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EgressError;
    use crate::watch::Side;

    const ASKER: Asker = Asker { way: Way::Proxy, uid: None };

    #[test]
    fn each_reason_has_a_code_of_its_own() {
        let mut codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        let system = EgressError::system("x")(std::io::ErrorKind::Other.into());
        let changed = EgressError::RulesChanged { side: Side::Guest };
        let differ = EgressError::RulesDiffer { side: Side::Guest };
        let lost = EgressError::BrokerLost(String::new());
        let errors = [EgressError::Roots(String::new()), system, differ, changed, lost];
        codes.extend(errors.iter().map(EgressError::code));
        assert_eq!(codes, CODES.iter().map(|(code, ..)| *code).collect::<Vec<_>>());
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CODES.len());
        for denial in [Denial::Host, Denial::Transport, Denial::Port] {
            assert_eq!(Reason::from(denial).code(), denial.code());
        }
    }

    #[test]
    fn a_record_carries_little_of_what_the_workload_chose() {
        let records = Records::new(LogLevel::Drops);
        let tunnel = format!("{}.evil.example:443\n\u{1b}[2J", "c2VjcmV0".repeat(20));
        records.dropped(Reason::HostNotListed, &tunnel, None, ASKER);
        let record = records.status().latest.remove(0);
        assert_eq!(record.destination.len(), MAX_DESTINATION);
        assert!(record.destination.ends_with(".evil.example:443??[2J"), "{}", record.destination);
        assert!(record.destination.chars().all(|character| character.is_ascii_graphic()));
    }

    #[test]
    fn where_the_policy_wants_no_records_drops_are_counted_alone() {
        let records = Records::new(LogLevel::None);
        records.dropped(Reason::HostNotListed, &"secret.evil.example", None, ASKER);
        let status = records.status();
        assert_eq!((status.latest, status.dropped[0]), (vec![], ("host_not_listed", 1)));
    }

    #[test]
    fn drops_are_counted_by_rule() {
        let records = Records::new(LogLevel::None);
        for rule in [Some("terminate a.example:443"), Some("terminate b.example:443"), None] {
            records.dropped(Reason::Unreachable, &"a.example:443", rule.map(str::to_owned), ASKER);
            records.dropped(Reason::BytesReached, &"a.example:443", rule.map(str::to_owned), ASKER);
        }
        let counts = ["a", "b", "c"].map(|name| records.of_rule(&format!("terminate {name}.example:443")));
        assert_eq!(counts, [2, 2, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn records_are_counted_all_kept_in_part_and_logged_at_a_pace() {
        let records = Records::new(LogLevel::Drops);
        let all = u64::try_from(2 * MAX_KEPT).unwrap();
        for number in 0..all {
            records.dropped(Reason::PortNotListed, &number, None, ASKER);
        }
        let status = records.status();
        assert_eq!(status.latest.len(), MAX_KEPT);
        assert_eq!(status.latest.last().unwrap().destination, (all - 1).to_string());
        let counted: Vec<_> = status.dropped.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("port_not_listed", all)]);
        assert_eq!(status.unlogged, all - u64::from(LOG_BURST));
        tokio::time::advance(3 * LOG_PAUSE).await;
        for _ in 0..4 {
            records.dropped(Reason::PortNotListed, &0, None, ASKER);
        }
        assert_eq!(records.status().unlogged, all - u64::from(LOG_BURST) + 1);
    }
}
