use super::*;
use proptest::prelude::*;
use std::net::IpAddr;

const EXAMPLE: &str = include_str!("../../../../policies/egress/example.toml");
const HEAD: &str = "format = \"confide-egress-policy/1\"\nname = \"test\"\nlog = \"drops\"\n";
const DNS: &str =
    "[dns]\nupstreams = [{ protocol = \"tls\", name = \"dns.example.net\", addresses = [\"192.0.2.53\"] }]\n";

fn policy(tables: &str) -> EgressPolicy {
    EgressPolicy::parse(&format!("{HEAD}{tables}")).unwrap()
}

fn refusal(tables: &str) -> PolicyError {
    EgressPolicy::parse(&format!("{HEAD}{tables}")).unwrap_err()
}

fn named(name: &str, port: u16) -> Destination {
    Destination { host: Host::Name(HostName::parse(name).unwrap()), port, transport: Transport::Tcp }
}

fn addressed(address: &str, port: u16, transport: Transport) -> Destination {
    Destination { host: Host::Ip(address.parse().unwrap()), port, transport }
}

fn decided(policy: &EgressPolicy, destination: &Destination) -> String {
    match policy.decide(Phase::Bootstrap, destination) {
        Decision::Allowed(rule) => rule.to_string(),
        Decision::Denied(denial) => denial.code().to_owned(),
    }
}

#[test]
fn the_policies_that_we_ship_are_read() {
    let nothing = EgressPolicy::deny_all();
    assert_eq!((nothing.name(), nothing.log(), nothing.dns().len()), ("deny-all", LogLevel::Drops, 0));
    let example = EgressPolicy::parse(EXAMPLE).unwrap();
    assert_eq!((example.name(), example.dns().len()), ("example", 2));
    for phase in [Phase::Bootstrap, Phase::Serving] {
        assert!(nothing.allows_nothing(phase) && nothing.host_visible(phase).is_empty());
        assert!(!example.allows_nothing(phase));
    }
    let visible = [
        "passthrough mirror.example.org:443",
        "plain packages.example.org:80",
        "tcp 198.51.100.0/24:8080,8443",
    ];
    assert_eq!(example.host_visible(Phase::Bootstrap), visible);
    assert!(example.host_visible(Phase::Serving).is_empty());
    assert_eq!(example.allowed(Phase::Serving), ["terminate search.tools.example.com:443"]);
    assert!(visible.iter().all(|rule| example.allowed(Phase::Bootstrap).iter().any(|other| other == rule)));
    assert!(EgressPolicy::is_meant_by(EXAMPLE) && !EgressPolicy::is_meant_by(crate::CLIENT));
    assert!(EgressPolicy::is_meant_by(&EXAMPLE.replace("policy/1", "policy/2")));
}

#[test]
fn what_no_rule_allows_is_denied_and_the_most_specific_rule_decides() {
    let rules = format!(
        "{DNS}
        [[bootstrap]]\nname = \"*.example.com\"\nports = [443, 80]\nmode = \"plain\"
        [[bootstrap]]\nname = \"a.example.com\"\nports = [443]
        [[bootstrap]]\ncidr = \"10.0.0.0/8\"\nports = [53]\nprotocol = \"udp\"
        [[bootstrap]]\ncidr = \"10.1.0.0/16\"\nports = [53, 80]\nprotocol = \"tcp\"
        [[bootstrap]]\ncidr = \"10.1.2.0/24\"\nports = [80]\nprotocol = \"tcp\"\n"
    );
    let policy = policy(&rules);
    for (destination, expected) in [
        (named("a.example.com", 443), "terminate a.example.com:443"),
        (named("a.example.com", 80), "plain *.example.com:80,443"),
        (named("b.example.com", 443), "plain *.example.com:80,443"),
        (named("b.example.com", 22), "port_not_listed"),
        (named("example.com", 443), "host_not_listed"),
        (named("a.b.example.com", 443), "host_not_listed"),
        (Destination { transport: Transport::Udp, ..named("a.example.com", 443) }, "protocol_not_listed"),
        (addressed("10.1.2.3", 80, Transport::Tcp), "tcp 10.1.2.0/24:80"),
        (addressed("::ffff:10.1.2.3", 80, Transport::Tcp), "tcp 10.1.2.0/24:80"),
        (addressed("10.1.2.3", 53, Transport::Tcp), "tcp 10.1.0.0/16:53,80"),
        (addressed("10.1.2.3", 53, Transport::Udp), "udp 10.0.0.0/8:53"),
        (addressed("10.2.0.1", 53, Transport::Tcp), "protocol_not_listed"),
        (addressed("10.1.2.3", 0, Transport::Tcp), "port_not_listed"),
        (addressed("192.0.2.1", 80, Transport::Tcp), "host_not_listed"),
        (addressed("2001:db8::1", 80, Transport::Tcp), "host_not_listed"),
    ] {
        assert_eq!(decided(&policy, &destination), expected, "{destination}");
        let serving = policy.decide(Phase::Serving, &destination);
        assert_eq!(serving, Decision::Denied(Denial::Host), "{destination}");
    }
}

#[test]
fn a_rule_says_its_caps_or_has_the_defaults() {
    let example = EgressPolicy::parse(EXAMPLE).unwrap();
    let Decision::Allowed(rule) = example.decide(Phase::Bootstrap, &named("models.example.com", 443)) else {
        panic!("models.example.com is listed");
    };
    assert_eq!(rule.caps, Caps { connections: 16, bytes_per_second: 125_000_000, total_bytes: 1 << 40 });
    let Decision::Allowed(rule) = example.decide(Phase::Bootstrap, &named("x.tools.example.com", 443)) else {
        panic!("*.tools.example.com is listed");
    };
    let defaults = Caps {
        connections: DEFAULT_CONNECTIONS,
        bytes_per_second: DEFAULT_BYTES_PER_SECOND,
        total_bytes: DEFAULT_TOTAL_BYTES,
    };
    assert_eq!(rule.caps, defaults);
}

#[test]
fn what_is_no_rule_is_refused_with_its_line() {
    let name = "name = \"a.example\"\n";
    let cidr = "cidr = \"192.0.2.0/24\"\n";
    for (rule, expected) in [
        ("ports = [443]\n".to_owned(), "expected exactly one of name, cidr"),
        (format!("{name}{cidr}ports = [443]\n"), "expected exactly one of name, cidr"),
        (name.to_owned(), "missing field `ports`"),
        (format!("{name}ports = []\n"), "expected 1 to 16 ports"),
        (format!("{name}ports = [0]\n"), "expected 1 to 16 ports"),
        (format!("{name}ports = {:?}\n", (1..=17).collect::<Vec<u16>>()), "expected 1 to 16 ports"),
        (format!("{name}ports = [443, 443]\n"), "ports: one stands there twice"),
        (format!("{name}ports = [65536]\n"), "invalid value"),
        (format!("{name}ports = [443]\nprotocol = \"tcp\"\n"), "protocol goes with cidr alone"),
        (format!("{name}ports = [443]\nmode = \"open\"\n"), "unknown variant `open`"),
        (format!("{name}ports = [443]\nallow = true\n"), "unknown field `allow`"),
        (format!("{name}ports = [443]\nconnections = 0\n"), "connections is 0, expected 1 to 65535"),
        (format!("{name}ports = [443]\nbytes_per_second = 0\n"), "bytes_per_second is 0"),
        (format!("{name}ports = [443]\ntotal_bytes = 1125899906842625\n"), "total_bytes is 1125899906842625"),
        (format!("{name}ports = [443]\ntotal_bytes = -1\n"), "invalid value"),
        (format!("{cidr}ports = [443]\n"), "a rule with cidr needs protocol"),
        (format!("{cidr}ports = [443]\nprotocol = \"icmp\"\n"), "unknown variant `icmp`"),
        (format!("{cidr}ports = [443]\nprotocol = \"tcp\"\nmode = \"plain\"\n"), "mode goes with name alone"),
        ("cidr = \"127.0.0.0/8\"\nports = [1]\nprotocol = \"tcp\"\n".to_owned(), "loopback"),
        ("name = \"*.com\"\nports = [1]\n".to_owned(), "at least two labels"),
        ("name = \"192.0.2.1\"\nports = [1]\n".to_owned(), "is no name of a host"),
    ] {
        for phase in [Phase::Bootstrap, Phase::Serving] {
            let error = refusal(&format!("[[{}]]\n{rule}", phase.name())).to_string();
            assert!(error.contains(expected) && error.contains("line "), "{error}\nexpected {expected}");
        }
    }
}

#[test]
fn what_is_no_policy_is_refused() {
    assert_eq!(
        EgressPolicy::parse(&HEAD.replace("policy/1", "policy/2")),
        Err(PolicyError::EgressFormat("confide-egress-policy/2".into()))
    );
    for (text, expected) in [
        (String::new(), "missing field `format`"),
        (HEAD.replace("log = \"drops\"", ""), "missing field `log`"),
        (HEAD.replace("\"drops\"", "\"some\""), "unknown variant `some`"),
        (HEAD.replace("\"test\"", "\"a b\""), "is not made of"),
        (format!("{HEAD}allow = []\n"), "unknown field `allow`"),
        (format!("{HEAD}[default]\npolicy = \"accept\"\n"), "unknown field `default`"),
    ] {
        let error = EgressPolicy::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
    let long = format!("{HEAD}#{}", "x".repeat(MAX_EGRESS_POLICY));
    assert_eq!(EgressPolicy::parse(&long), Err(PolicyError::EgressTooLarge(long.len())));
    let rule = |number: usize| {
        format!("[[bootstrap]]\ncidr = \"192.0.2.{number}/32\"\nports = [1]\nprotocol = \"tcp\"\n")
    };
    let rules = |count: usize| (0..count).map(rule).collect::<String>();
    assert_eq!(policy(&rules(MAX_EGRESS_RULES)).rules(Phase::Bootstrap).len(), MAX_EGRESS_RULES);
    assert!(matches!(refusal(&rules(MAX_EGRESS_RULES + 1)), PolicyError::Range { found: 129, .. }));
}

#[test]
fn two_rules_for_the_same_destination_are_refused() {
    let rule = |ports: &str| format!("[[bootstrap]]\nname = \"a.example\"\nports = {ports}\n");
    assert!(EgressPolicy::parse(&format!("{HEAD}{DNS}{}{}", rule("[80]"), rule("[443]"))).is_ok());
    let error = refusal(&format!("{DNS}{}{}", rule("[80, 443]"), rule("[443, 8443]")));
    assert!(matches!(error, PolicyError::EgressAmbiguous { phase: "bootstrap", .. }), "{error}");
}

#[test]
fn names_need_a_resolver_and_nobody_else_does() {
    let name = "[[bootstrap]]\nname = \"a.example\"\nports = [443]\n";
    let cidr = "[[bootstrap]]\ncidr = \"192.0.2.0/24\"\nports = [443]\nprotocol = \"tcp\"\n";
    assert_eq!(refusal(name), PolicyError::EgressNoDns);
    assert_eq!(refusal(&format!("{DNS}{cidr}")), PolicyError::EgressIdleDns);
    assert_eq!(policy(&format!("{DNS}{name}")).dns()[0].port, 853);
    let https = DNS.replace("\"tls\"", "\"https\"");
    let found = policy(&format!("{https}{name}")).dns()[0].clone();
    assert_eq!((found.port, found.protocol), (443, DnsProtocol::Https { path: "/dns-query".into() }));
    let with = |rest: &str| DNS.replace(" }]", &format!(", {rest} }}]"));
    for (table, expected) in [
        ("[dns]\nupstreams = []\n".to_owned(), "the number of dns.upstreams is 0, expected 1 to 4"),
        (with("path = \"/q\""), "path goes with protocol = \"https\" alone"),
        (with("path = \"q\"").replace("\"tls\"", "\"https\""), "path: expected /"),
        (with("path = \"/q\\r\\n\"").replace("\"tls\"", "\"https\""), "path: expected /"),
        (with("port = 0"), "port is 0"),
        (DNS.replace("\"192.0.2.53\"", ""), "expected 1 to 8 addresses"),
        (DNS.replace("192.0.2.53", "0.0.0.0"), "expected 1 to 8 addresses"),
        (DNS.replace("192.0.2.53", "dns.example.net"), "invalid"),
        (DNS.replace("dns.example.net", "192.0.2.53"), "is no name of a host"),
        (DNS.replace("\"tls\"", "\"udp\""), "unknown variant `udp`"),
    ] {
        let error = refusal(&format!("{table}{name}")).to_string();
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
}

#[test]
fn the_digest_is_of_what_the_policy_says() {
    let rule = "[[bootstrap]]\nname = \"a.example\"\nports = [80, 443]\n";
    let other = "[[bootstrap]]\nname = \"b.example\"\nports = [443]\n";
    let base = policy(&format!("{DNS}{rule}{other}"));
    let same = [
        format!("{DNS}{other}{rule}"),
        format!("# comment\n{rule}{other}{DNS}"),
        format!("{DNS}{other}{}", rule.replace("80, 443", "443, 80")),
        format!("{DNS}{rule}mode = \"terminate\"\nconnections = 64\ntotal_bytes = 1073741824\n{other}"),
        format!("{}{rule}{other}", DNS.replace("\"tls\"", "\"tls\", port = 853")),
    ];
    for text in same {
        assert_eq!(policy(&text).digest(), base.digest(), "{text}");
    }
    let different = [
        format!("{DNS}{rule}"),
        format!("{DNS}{rule}{}", other.replace("443", "444")),
        format!("{DNS}{rule}{}", other.replace("b.example", "*.b.example")),
        format!("{DNS}{rule}{other}mode = \"plain\"\n"),
        format!("{DNS}{rule}{other}connections = 63\n"),
        format!("{DNS}{rule}{other}bytes_per_second = 1\n"),
        format!("{DNS}{rule}{other}total_bytes = 1\n"),
        format!("{DNS}{rule}{other}{}", rule.replace("bootstrap", "serving")),
        format!("{}{rule}{other}", DNS.replace("\"tls\"", "\"https\"")),
        format!("{}{rule}{other}", DNS.replace("\"tls\"", "\"https\", path = \"/q\"")),
        format!("{}{rule}{other}", DNS.replace("dns.", "dot.")),
        format!("{}{rule}{other}", DNS.replace("2.53", "2.54")),
        format!("{}{rule}{other}", DNS.replace("\"tls\"", "\"tls\", port = 854")),
    ];
    let mut digests = vec![base.digest(), EgressPolicy::deny_all().digest()];
    for text in different {
        let digest = policy(&text).digest();
        assert!(!digests.contains(&digest), "{text}");
        digests.push(digest);
    }
    for (from, to) in [("\"test\"", "\"other\""), ("\"drops\"", "\"all\"")] {
        let text = format!("{HEAD}{DNS}{rule}{other}").replace(from, to);
        assert!(!digests.contains(&EgressPolicy::parse(&text).unwrap().digest()), "{to}");
    }
}

/// The digest that the documents name: the bytes are written here by hand.
#[test]
fn the_canonical_form_of_the_policy_that_denies_all_is_fixed() {
    let expected =
        b"\xa6\x63dns\x80\x63log\x65drops\x64name\x68deny-all\x66format\x77confide-egress-policy/1\
        \x67serving\x80\x69bootstrap\x80";
    assert_eq!(EgressPolicy::deny_all().digest(), confide_evidence::hash::sha256(expected));
}

#[test]
fn serving_that_is_wider_than_bootstrap_is_refused() {
    let rule = |phase: &str, rest: &str| format!("[[{phase}]]\nports = [443]\n{rest}\n");
    let cases = [
        ("name = \"a.example\"", "name = \"b.example\""),
        ("name = \"a.b.example\"", "name = \"*.b.example\""),
        ("name = \"*.b.example\"", "name = \"b.example\""),
        ("name = \"a.example\"", "name = \"a.example\"\nmode = \"passthrough\""),
        ("name = \"a.example\"\nmode = \"passthrough\"", "name = \"a.example\"\nmode = \"plain\""),
        ("name = \"a.example\"", "name = \"a.example\"\nconnections = 65"),
        ("name = \"a.example\"", "name = \"a.example\"\nbytes_per_second = 16777217"),
        ("name = \"a.example\"", "name = \"a.example\"\ntotal_bytes = 1073741825"),
        ("cidr = \"10.0.0.0/9\"\nprotocol = \"tcp\"", "cidr = \"10.0.0.0/8\"\nprotocol = \"tcp\""),
        ("cidr = \"10.0.0.0/8\"\nprotocol = \"tcp\"", "cidr = \"10.0.0.0/8\"\nprotocol = \"udp\""),
    ];
    for (bootstrap, serving) in cases {
        let text = format!("{DNS}{}{}", rule("bootstrap", bootstrap), rule("serving", serving));
        let text = if bootstrap.starts_with("cidr") { text.replace(DNS, "") } else { text };
        let error = refusal(&text);
        assert!(matches!(error, PolicyError::EgressServingWider(_)), "{bootstrap} / {serving}: {error}");
    }
    // A port that bootstrap has for another rule of the same name, and an exact name of fewer caps below a wildcard.
    let wildcard = "name = \"*.b.example\"";
    let low = "name = \"a.b.example\"\nconnections = 1";
    let text = format!(
        "{DNS}{}{}{}",
        rule("bootstrap", wildcard),
        rule("bootstrap", low),
        rule("serving", wildcard)
    );
    assert!(matches!(refusal(&text), PolicyError::EgressServingWider(_)));
    let both = format!("{text}{}", rule("serving", low));
    assert_eq!(policy(&both).rules(Phase::Serving).len(), 2);
    let ports = format!("{DNS}{}", rule("bootstrap", "name = \"a.example\"").replace("443", "80"));
    let text = format!("{ports}{}", rule("serving", "name = \"a.example\""));
    assert!(matches!(refusal(&text), PolicyError::EgressServingWider(_)));
}

/// Names of which patterns and destinations are made: the last label is one that no rule names.
const LABELS: [&str; 3] = ["a", "b", "zz"];
const PORTS: [u16; 2] = [80, 443];
const NETWORKS: [&str; 5] = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.3.0/24", "192.0.2.0/24"];
const ADDRESSES: [&str; 6] = ["10.0.0.1", "10.1.0.1", "10.1.2.1", "10.1.3.1", "192.0.2.1", "192.0.3.1"];

fn rules() -> impl Strategy<Value = Vec<String>> {
    let name = (0..2_usize, prop::bool::ANY, 0..3_usize).prop_map(|(label, wildcard, mode)| {
        let name = if wildcard { "*" } else { LABELS[label] };
        let mode = ["terminate", "passthrough", "plain"][mode];
        format!("name = \"{name}.p.example\"\nmode = \"{mode}\"\n")
    });
    let cidr = (0..NETWORKS.len(), prop::bool::ANY).prop_map(|(network, udp)| {
        format!("cidr = \"{}\"\nprotocol = \"{}\"\n", NETWORKS[network], if udp { "udp" } else { "tcp" })
    });
    let ports = prop::sample::subsequence(PORTS.to_vec(), 1..=2);
    let rule =
        (prop_oneof![name, cidr], ports, 1..3_u32, 1..3_u64).prop_map(|(to, ports, connections, bytes)| {
            format!("{to}ports = {ports:?}\nconnections = {connections}\ntotal_bytes = {bytes}\n")
        });
    prop::collection::vec(rule, 0..5)
}

fn destinations() -> Vec<Destination> {
    let names = LABELS.map(|label| Host::Name(HostName::parse(&format!("{label}.p.example")).unwrap()));
    let addresses = ADDRESSES.map(|address| Host::Ip(address.parse::<IpAddr>().unwrap()));
    let hosts = names.into_iter().chain(addresses);
    let each = hosts.flat_map(|host| {
        [Transport::Tcp, Transport::Udp].into_iter().flat_map(move |transport| {
            let host = host.clone();
            PORTS.into_iter().map(move |port| Destination { host: host.clone(), port, transport })
        })
    });
    each.collect()
}

/// Whether something is allowed by the serving rules that is not, or less of it, by those of bootstrap.
fn is_wider(bootstrap: &EgressPolicy, serving: &EgressPolicy) -> bool {
    destinations().iter().any(|destination| {
        let Decision::Allowed(rule) = serving.decide(Phase::Bootstrap, destination) else { return false };
        let Decision::Allowed(allowed) = bootstrap.decide(Phase::Bootstrap, destination) else { return true };
        let weaker = match (&rule.to, &allowed.to) {
            (To::Name { mode, .. }, To::Name { mode: allowed, .. }) => mode > allowed,
            _ => false,
        };
        weaker
            || rule.caps.connections > allowed.caps.connections
            || rule.caps.bytes_per_second > allowed.caps.bytes_per_second
            || rule.caps.total_bytes > allowed.caps.total_bytes
    })
}

fn text(phase: Phase, rules: &[String]) -> String {
    rules.iter().map(|rule| format!("[[{}]]\n{rule}", phase.name())).collect()
}

fn parsed(rules: &str) -> Option<EgressPolicy> {
    let dns = if rules.contains("name =") { DNS } else { "" };
    match EgressPolicy::parse(&format!("{HEAD}{dns}{rules}")) {
        Ok(policy) => Some(policy),
        Err(PolicyError::EgressAmbiguous { .. } | PolicyError::EgressServingWider(_)) => None,
        Err(error) => panic!("{error}\n{rules}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// Exactly the policies are read whose serving phase allows nothing that the other does not, by what each phase decides.
    #[test]
    fn serving_is_never_wider_than_bootstrap(bootstrap in rules(), serving in rules()) {
        // Each phase as a policy of its own decides what is expected of the two together.
        let alone = |rules: &[String]| parsed(&text(Phase::Bootstrap, rules));
        let (Some(first), Some(second)) = (alone(&bootstrap), alone(&serving)) else { return Ok(()) };
        let rules = text(Phase::Bootstrap, &bootstrap) + &text(Phase::Serving, &serving);
        // Serving rules with names alone would leave the other phase without a resolver.
        let error = EgressPolicy::parse(&format!("{HEAD}{DNS}{rules}")).err();
        let refused = matches!(error, Some(PolicyError::EgressServingWider(_)));
        prop_assert_eq!(refused, is_wider(&first, &second), "{}", rules);
    }

    #[test]
    fn rules_in_another_order_are_the_same_policy(rules in rules(), turn in 0..5_usize) {
        let Some(policy) = parsed(&text(Phase::Bootstrap, &rules)) else { return Ok(()) };
        let mut turned = rules.clone();
        turned.rotate_left(turn % rules.len().max(1));
        let other = parsed(&text(Phase::Bootstrap, &turned)).unwrap();
        prop_assert_eq!(&other, &policy);
        prop_assert_eq!(other.digest(), policy.digest());
    }

    #[test]
    fn what_is_made_of_labels_is_a_name(labels in prop::collection::vec("[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", 1..8), last in "[a-z][a-z0-9]{0,10}") {
        let name = format!("{}.{last}", labels.join("."));
        prop_assert_eq!(HostName::parse(&name).map(|name| name.to_string()), Ok(name.clone()));
        let pattern = NamePattern::parse(&format!("*.{name}")).unwrap();
        let below = HostName::parse(&format!("x.{name}"));
        prop_assert_eq!(below.map(|below| pattern.matches(&below)), Ok(name.len() < 252));
    }

    /// Whatever is taken for a name is one: written anew from its characters.
    #[test]
    fn what_is_taken_for_a_name_is_one(text in "[a-zA-Z0-9.*_\\-: ]{0,12}|[a-z.-]{0,8}|\\PC{0,6}") {
        let Ok(name) = HostName::parse(&text) else { return Ok(()) };
        prop_assert_eq!(name.as_str(), &text);
        prop_assert!(text.bytes().all(|byte| b"abcdefghijklmnopqrstuvwxyz0123456789-.".contains(&byte)), "{}", text);
        prop_assert!(text.contains('.') && !text.contains("..") && !text.contains("-.") && !text.contains(".-"), "{}", text);
        prop_assert!(!text.starts_with(['.', '-']) && !text.ends_with(['.', '-']), "{}", text);
        prop_assert!(text.parse::<IpAddr>().is_err(), "{}", text);
    }

    #[test]
    fn a_network_holds_the_addresses_with_its_first_bits(bits: u32, prefix in 8..=32_u8, other: u32) {
        let mask = u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
        let text = format!("{}/{prefix}", std::net::Ipv4Addr::from_bits(bits & mask));
        let Ok(network) = Network::parse(&text) else {
            // Loopback, this network, multicast and reserved ones.
            prop_assert!(matches!((bits & mask) >> 24, 0 | 127 | 224..), "{}", text);
            return Ok(());
        };
        for address in [bits, other, bits ^ (1 << (32 - prefix).min(31))] {
            let found = network.matches(IpAddr::V4(std::net::Ipv4Addr::from_bits(address)));
            prop_assert_eq!(found, address & mask == bits & mask, "{} {}", text, address);
        }
    }
}
