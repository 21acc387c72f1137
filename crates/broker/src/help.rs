//! What stands behind each command's help: examples, and how the program ends.

use std::fmt::Write as _;

use clap::Command;

/// The further help of one command.
struct Further {
    /// The words that lead to the command, without the program's name.
    command: &'static str,
    /// What each example does, and its command line.
    examples: &'static [(&'static str, &'static str)],
    /// Whether the description says how the command ends.
    described: bool,
}

const fn of(command: &'static str, examples: &'static [(&'static str, &'static str)]) -> Further {
    Further { command, examples, described: false }
}

const fn described(command: &'static str, examples: &'static [(&'static str, &'static str)]) -> Further {
    Further { command, examples, described: true }
}

/// How commands end whose description does not say it.
const STATUSES: &str = "Exit status: 0 done, 2 wrong usage or configuration, 10 refused (a volume that is not there, \
                        a volume or an image that is in the way or was replaced), 20 unsupported by this build, 30 malformed input, 1 anything else.";

const FURTHER: &[Further] = &[
    of(
        "",
        &[
            (
                "An identity key, whose public half guests are configured with",
                "confide-broker identity make --out identity.pem",
            ),
            ("Answer guests", "confide-broker serve --config broker.toml"),
            ("What was decided, and why", "confide-broker audit show --config broker.toml"),
        ],
    ),
    of(
        "serve",
        &[("In the foreground, as a service manager runs it", "confide-broker serve --config broker.toml")],
    ),
    of("check", &[("Before a configuration is installed", "confide-broker check --config broker.toml")]),
    of("volume", &[("What there is", "confide-broker volume list --config broker.toml")]),
    of(
        "volume add",
        &[
            (
                "A writable volume of 1 GiB, which its guest formats",
                "confide-broker volume add state --profile state --size 1073741824 --policy my-image.toml --config broker.toml",
            ),
            (
                "An image that exists",
                "confide-broker volume add model --profile model --size 71307264 --secret secret.bin --header 0000000000000000000000000000000000000000000000000000000000000000 --verity-root 0000000000000000000000000000000000000000000000000000000000000000 --verity-salt 0000000000000000000000000000000000000000000000000000000000000000 --verity-blocks 16384 --policy my-image.toml --config broker.toml",
            ),
        ],
    ),
    of(
        "volume create",
        &[(
            "A model in Hugging Face layout",
            "confide-broker volume create model --from llama --file model.img --address broker.example:8444 --policy my-image.toml --config broker.toml",
        )],
    ),
    of(
        "volume rotate",
        &[
            (
                "Where the image is",
                "confide-broker volume rotate model --file model.img --config broker.toml",
            ),
            (
                "Under a new volume key, into a new image",
                "confide-broker volume rotate model --file model.img --encrypt-to new.img --config broker.toml",
            ),
        ],
    ),
    of("volume list", &[("For a program", "confide-broker volume list --json --config broker.toml")]),
    of(
        "volume policy",
        &[(
            "Reference values of a new image",
            "confide-broker volume policy model --policy my-image.toml --config broker.toml",
        )],
    ),
    of("volume revoke", &[("For good", "confide-broker volume revoke model --config broker.toml")]),
    of("policy", &[("Before a policy is used", "confide-broker policy check my-image.toml")]),
    of("policy check", &[("Waivers and mistakes", "confide-broker policy check my-image.toml")]),
    described(
        "policy test",
        &[(
            "Would guests of last week get their keys by the new policy?",
            "confide-broker policy test --policy my-image.toml --records appraisals.cbor",
        )],
    ),
    of("audit", &[("Does the log hold?", "confide-broker audit verify --config broker.toml")]),
    described(
        "audit verify",
        &[(
            "Against a head that was kept elsewhere",
            "confide-broker audit verify --head head.cbor --config broker.toml",
        )],
    ),
    of(
        "audit show",
        &[
            (
                "For a program, from entry 100 on",
                "confide-broker audit show --from 100 --json --config broker.toml",
            ),
            (
                "The appraisal behind entry 7, for confide replay",
                "confide-broker audit show --record 7 --out appraisal.cbor --config broker.toml",
            ),
        ],
    ),
    of(
        "audit head",
        &[("To be kept elsewhere", "confide-broker audit head --out head.cbor --config broker.toml")],
    ),
    of("identity", &[("The public key", "confide-broker identity show identity.pem")]),
    of("identity make", &[("A new key", "confide-broker identity make --out identity.pem")]),
    of("identity show", &[("As guests are configured with it", "confide-broker identity show identity.pem")]),
    of("completions", &[("For bash", "confide-broker completions bash")]),
    of("man", &[("One page for each command", "confide-broker man --dir share/man/man1")]),
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
    if !further.described {
        let _ = write!(text, "\n{STATUSES}");
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
                let begins = format!("confide-broker {}", further.command);
                assert!(line.starts_with(begins.trim_end()) && !what.is_empty(), "{line}");
                let parsed = crate::command().try_get_matches_from(line.split_whitespace());
                let said = parsed.err().map(|error| error.to_string());
                assert!(said.is_none(), "{line}: {}", said.unwrap_or_default());
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
