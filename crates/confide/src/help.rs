//! What stands behind each command's help: examples, and how the program ends.

use crate::status::{Status, VERDICT_STATUSES, WORK_STATUSES};
use clap::Command;
use std::fmt::Write as _;

/// The further help of one command.
struct Further {
    /// The words that lead to the command, without the program's name.
    command: &'static str,
    /// What each example does, and its command line.
    examples: &'static [(&'static str, &'static str)],
    /// The statuses that it ends with, where its description does not say them.
    statuses: Option<&'static [(&'static str, Status)]>,
}

const fn of(command: &'static str, examples: &'static [(&'static str, &'static str)]) -> Further {
    Further { command, examples, statuses: Some(WORK_STATUSES) }
}

/// What the statuses mean of `proxy`, which reads the file or folder that it records to before it listens.
const PROXY_STATUSES: &[(&str, Status)] = &[
    ("done", Status::Accepted),
    ("a chain of records that does not hold", Status::Rejected),
    ("unsupported format", Status::Unsupported),
    ("malformed input", Status::Malformed),
    ("wrong usage or configuration", Status::Usage),
    ("internal error (unreadable file, network fault)", Status::Internal),
];

const fn serving(command: &'static str, examples: &'static [(&'static str, &'static str)]) -> Further {
    Further { command, examples, statuses: Some(PROXY_STATUSES) }
}

const fn appraising(command: &'static str, examples: &'static [(&'static str, &'static str)]) -> Further {
    Further { command, examples, statuses: Some(VERDICT_STATUSES) }
}

/// Of a command whose description says how it ends.
const fn described(command: &'static str, examples: &'static [(&'static str, &'static str)]) -> Further {
    Further { command, examples, statuses: None }
}

const FURTHER: &[Further] = &[
    appraising(
        "",
        &[
            (
                "Look at a guest before anything is sent to it",
                "confide verify https://guest.example:8443 --policy my-guest.toml",
            ),
            (
                "Ask its model, once it has been appraised",
                "confide chat --url https://guest.example:8443 --policy my-guest.toml \"What is an RTMR?\"",
            ),
            (
                "Serve it to any OpenAI client on this machine",
                "confide proxy --upstream https://guest.example:8443 --policy my-guest.toml",
            ),
        ],
    ),
    appraising(
        "verify",
        &[
            (
                "The verdict on a guest, for a person",
                "confide verify https://guest.example:8443 --policy my-guest.toml",
            ),
            (
                "The same for a program, with a second verifier",
                "confide verify https://guest.example:8443 --policy my-guest.toml --cross-check --json",
            ),
            ("A quote from a file", "confide verify quote --quote quote.bin --at 2026-06-08T00:00:00Z"),
        ],
    ),
    appraising(
        "verify quote",
        &[
            (
                "With collateral from a file and the firmware's event log",
                "confide verify quote --quote quote.bin --collateral collateral.json --event-log ccel.bin --at 2026-06-08T00:00:00Z",
            ),
            (
                "With collateral that is fetched, as EAR claims",
                "confide verify quote --quote quote.bin --at 2026-06-08T00:00:00Z --format ear",
            ),
        ],
    ),
    appraising(
        "verify snp",
        &[(
            "With certificates and list from files",
            "confide verify snp --report report.bin --cert vcek.der ask.der --crl list.der --at 2026-06-08T00:00:00Z",
        )],
    ),
    appraising(
        "verify gpu",
        &[(
            "The devices of a list, against manifests and answers",
            "confide verify gpu --evidence gpus.json --rim driver.xml vbios.xml --ocsp leaf.der --at 2026-06-08T00:00:00Z",
        )],
    ),
    appraising(
        "verify document",
        &[(
            "A document that was taken from a connection",
            "confide verify document --document document.cbor --policy my-guest.toml --at 2026-06-08T00:00:00Z --nonce 0000000000000000000000000000000000000000000000000000000000000000",
        )],
    ),
    appraising(
        "chat",
        &[
            (
                "One question",
                "confide chat --url https://guest.example:8443 --policy my-guest.toml \"What is an RTMR?\"",
            ),
            (
                "A conversation, where standard input is a terminal",
                "confide chat --url https://guest.example:8443 --policy my-guest.toml",
            ),
            (
                "Verdict and answer for a program",
                "confide chat --url https://guest.example:8443 --policy my-guest.toml --json \"What is an RTMR?\"",
            ),
        ],
    ),
    serving(
        "proxy",
        &[
            (
                "An endpoint at http://127.0.0.1:8787/v1",
                "confide proxy --upstream https://guest.example:8443 --policy my-guest.toml",
            ),
            (
                "Before several guests, for programs that have a token",
                "confide proxy --upstreams fleet.toml --token-file token --policy my-guest.toml",
            ),
            (
                "On a free port, with every appraisal recorded",
                "confide proxy --upstream https://guest.example:8443 --policy my-guest.toml --listen 127.0.0.1:0 --record appraisals.cbor",
            ),
        ],
    ),
    appraising(
        "record",
        &[
            (
                "The appraisal of a guest",
                "confide record https://guest.example:8443 --policy my-guest.toml --out appraisals.cbor",
            ),
            (
                "That of a quote",
                "confide record quote --quote quote.bin --collateral collateral.json --at 2026-06-08T00:00:00Z --out appraisals.cbor",
            ),
        ],
    ),
    appraising(
        "record quote",
        &[(
            "A quote with its collateral",
            "confide record quote --quote quote.bin --collateral collateral.json --at 2026-06-08T00:00:00Z --out appraisals.cbor",
        )],
    ),
    appraising(
        "record snp",
        &[(
            "A report with its certificates",
            "confide record snp --report report.bin --cert vcek.der ask.der --at 2026-06-08T00:00:00Z --out appraisals.cbor",
        )],
    ),
    appraising(
        "record gpu",
        &[(
            "The devices of a list",
            "confide record gpu --evidence gpus.json --at 2026-06-08T00:00:00Z --out appraisals.cbor",
        )],
    ),
    appraising(
        "replay",
        &[
            ("The recorded verdicts, again", "confide replay appraisals.cbor"),
            ("What a new policy would change", "confide replay appraisals.cbor --policy stricter.toml"),
            ("What is over by then", "confide replay appraisals.cbor --at 2027-01-01T00:00:00Z --json"),
        ],
    ),
    described(
        "audit",
        &[
            ("A folder by itself", "confide audit records"),
            (
                "Against a head that was kept elsewhere",
                "confide audit records --head head.cbor --head-key auditor.pub --json",
            ),
        ],
    ),
    of(
        "inspect",
        &[
            ("The fields of a quote", "confide inspect quote.bin"),
            ("A record file for a program", "confide inspect appraisals.cbor --json"),
        ],
    ),
    of(
        "collateral",
        &[("Keep the collateral of a quote's platform", "confide collateral fetch --quote quote.bin")],
    ),
    of(
        "collateral fetch",
        &[
            ("Into a file", "confide collateral fetch --quote quote.bin --out collateral.json"),
            ("From a PCCS", "confide collateral fetch --quote quote.bin --pccs https://pccs.example:8081"),
        ],
    ),
    of(
        "collateral show",
        &[("When the parts of a file are over", "confide collateral show collateral.json")],
    ),
    of("collateral prune", &[("Remove what is over", "confide collateral prune")]),
    of(
        "rim",
        &[("Fetch the manifests of these devices", "confide rim fetch --evidence gpus.json --store rims")],
    ),
    of(
        "rim fetch",
        &[(
            "With OCSP answers and revocation lists",
            "confide rim fetch --evidence gpus.json --ocsp --crl --store rims",
        )],
    ),
    of("rim import", &[("Manifests from a folder", "confide rim import downloads --store rims")]),
    of("rim export", &[("For a machine without a network", "confide rim export --to carried --store rims")]),
    of("rim list", &[("What a store holds", "confide rim list --store rims")]),
    of("rim prune", &[("Remove what is over", "confide rim prune --store rims")]),
    of("policy", &[("Before a policy is used", "confide policy check my-guest.toml")]),
    of("policy check", &[("Waivers, graces and mistakes", "confide policy check my-guest.toml")]),
    described("policy diff", &[("Before a policy is replaced", "confide policy diff old.toml new.toml")]),
    of("policy explain", &[("In sentences", "confide policy explain my-guest.toml")]),
    of("policy sign", &[("With an Ed25519 key", "confide policy sign --key key.pem releases.toml")]),
    described(
        "conformance",
        &[(
            "The cases of a folder",
            "cat fixtures/tdx/*/case.json | confide conformance --danger --base fixtures/tdx",
        )],
    ),
    described("doctor", &[("On a guest or on its host, as root", "confide doctor")]),
    of("config", &[("What the settings are, and from where", "confide config show")]),
    of("config check", &[("Before a file is installed", "confide config check confide.toml")]),
    of("config show", &[("For a program", "confide config show --json")]),
    of("completions", &[("For bash", "confide completions bash"), ("For zsh", "confide completions zsh")]),
    of("man", &[("One page for each command", "confide man --dir share/man/man1")]),
];

/// Puts examples and exit statuses behind the help of each command.
pub(crate) fn with_examples(command: Command) -> Command {
    FURTHER.iter().fold(command, |command, further| {
        let words: Vec<&str> = further.command.split_whitespace().collect();
        put(command, &words, further)
    })
}

fn put(command: Command, words: &[&str], further: &Further) -> Command {
    match words {
        [] => command.after_long_help(text(further)),
        [first, rest @ ..] => command.mut_subcommand(first, |inner| put(inner, rest, further)),
    }
}

fn text(further: &Further) -> String {
    let mut text = "Examples:\n".to_owned();
    for (what, line) in further.examples {
        let _ = write!(text, "\n  {what}:\n    {line}\n");
    }
    if let Some(statuses) = further.statuses {
        let each: Vec<String> =
            statuses.iter().map(|(meaning, status)| format!("{} {meaning}", status.number())).collect();
        let _ = write!(text, "\nExit status: {}.", each.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The words that lead to every command.
    fn commands(command: &Command, words: &str, found: &mut BTreeSet<String>) {
        found.insert(words.to_owned());
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            commands(inner, format!("{words} {}", inner.get_name()).trim(), found);
        }
    }

    /// The words of a line, as a shell that knows double quotes has them.
    fn words(line: &str) -> Vec<String> {
        let pieces = line.split('"').enumerate();
        pieces
            .flat_map(|(place, piece)| match place % 2 {
                0 => piece.split_whitespace().map(str::to_owned).collect(),
                _ => vec![piece.to_owned()],
            })
            .collect()
    }

    #[test]
    fn every_command_has_an_example_and_every_example_parses() {
        let mut expected = BTreeSet::new();
        commands(&<crate::cli::Cli as clap::CommandFactory>::command(), "", &mut expected);
        let given: BTreeSet<String> = FURTHER.iter().map(|further| further.command.to_owned()).collect();
        assert_eq!(given, expected);
        assert_eq!(FURTHER.len(), expected.len(), "none twice");
        for further in FURTHER {
            assert!(!further.examples.is_empty(), "{}", further.command);
            for (what, line) in further.examples {
                let begins = format!("confide {}", further.command);
                // What another program writes to standard input stands before it.
                let line = line.rsplit(" | ").next().unwrap();
                assert!(line.starts_with(begins.trim_end()), "{line}");
                assert!(!what.is_empty(), "{line}");
                let parsed = crate::command().try_get_matches_from(words(line));
                assert!(
                    parsed.is_ok(),
                    "{line}: {}",
                    parsed.err().map(|error| error.to_string()).unwrap_or_default()
                );
            }
        }
    }

    #[test]
    fn how_a_command_ends_stands_in_its_help_once() {
        for further in FURTHER {
            let mut command = crate::command();
            for word in further.command.split_whitespace() {
                command = command.find_subcommand(word).unwrap().clone();
            }
            let help = command.render_long_help().to_string();
            assert_eq!(help.matches("Exit status").count(), 1, "{}: {help}", further.command);
        }
    }
}
