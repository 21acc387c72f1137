//! The test vectors of `docs/protocol/egress-vectors.json`, with the inputs from which anyone can recompute every output.

use std::net::{Ipv4Addr, SocketAddr};

use confide_egress::plan::{GuestNetwork, LISTENERS, Ruleset, guest, workload};
use confide_evidence::hex;
use confide_policy::egress::{EgressPolicy, Phase};
use serde_json::{Value, json};

/// The policy that shows every field.
const EXAMPLE: &str = include_str!("../../../../policies/egress/example.toml");
/// One that lets nothing out.
const NOTHING: &str = "format = \"confide-egress-policy/1\"\nname = \"nothing\"\nlog = \"none\"\n";

/// The whole file, as committed.
pub fn file() -> String {
    let (example, nothing) = (policy(EXAMPLE), policy(NOTHING));
    let key_broker = Some(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 9), 8443)));
    let network = GuestNetwork { serving_port: 443, key_broker };
    let rules = |policy: &EgressPolicy, phase| guest(policy, phase, network).expect("no rule is over UDP");
    let vectors = [
        digest("egress policy: every field", &of_example(), &example),
        digest("egress policy: nothing", &of_nothing(), &nothing),
        text("rules of the guest's network: bootstrap", &rules(&example, Phase::Bootstrap)),
        text("rules of the guest's network: serving", &rules(&example, Phase::Serving)),
        text("rules of the guest's network: nothing", &rules(&nothing, Phase::Serving)),
        text("rules of the workload's network", &workload(Some(LISTENERS))),
        text("rules of the workload's network: nothing", &workload(None)),
    ];
    let file = json!({ "format": "confide test vectors", "version": 1, "vectors": vectors });
    let mut text = serde_json::to_string_pretty(&file).expect("JSON values have a text form");
    text.push('\n');
    text
}

fn policy(text: &str) -> EgressPolicy {
    EgressPolicy::parse(text).expect("samples are policies")
}

/// `value` is written by hand: whether its encoding has this digest is for somebody else to compute.
fn digest(name: &str, value: &Value, policy: &EgressPolicy) -> Value {
    let inputs = json!({ "rule": "egress-policy", "value": value });
    json!({ "kind": "digest", "name": name, "inputs": inputs, "output": hex::encode(&policy.digest().0) })
}

fn text(name: &str, rules: &Ruleset) -> Value {
    let inputs = json!({ "text": rules.text() });
    json!({ "kind": "ruleset-digest", "name": name, "inputs": inputs, "output": hex::encode(&rules.digest().0) })
}

fn rule(to: &str, how: &str, ports: &[u16], caps: [u64; 3]) -> Value {
    let [connections, bytes_per_second, total_bytes] = caps;
    json!({
        "to": to, "how": how, "ports": ports, "connections": connections,
        "bytes_per_second": bytes_per_second, "total_bytes": total_bytes,
    })
}

fn of_example() -> Value {
    const DEFAULT: [u64; 3] = [64, 16_777_216, 1_073_741_824];
    json!({
        "format": "confide-egress-policy/1",
        "name": "example",
        "log": "drops",
        "dns": [
            { "protocol": "tls", "name": "dns.example.net", "addresses": ["192.0.2.53", "2001:db8::53"], "port": 853, "path": null },
            { "protocol": "https", "name": "doh.example.net", "addresses": ["192.0.2.54"], "port": 443, "path": "/dns-query" },
        ],
        "bootstrap": [
            rule("mirror.example.org", "passthrough", &[443], DEFAULT),
            rule("models.example.com", "terminate", &[443], [16, 125_000_000, 1_099_511_627_776]),
            rule("packages.example.org", "plain", &[80], DEFAULT),
            rule("*.tools.example.com", "terminate", &[443], DEFAULT),
            rule("198.51.100.0/24", "tcp", &[8080, 8443], DEFAULT),
        ],
        "serving": [rule("search.tools.example.com", "terminate", &[443], [8, 1_048_576, 104_857_600])],
    })
}

fn of_nothing() -> Value {
    json!({
        "format": "confide-egress-policy/1", "name": "nothing", "log": "none", "dns": [], "bootstrap": [], "serving": [],
    })
}
