//! `cargo xtask layers`: the layer table of `ARCHITECTURE.md`, checked against what Cargo resolves.
//!
//! Each package is asked for its own graph (`cargo tree -p PACKAGE`), because a graph of the whole workspace
//! unifies features and would show an arrow that only another member turns on. Normal and build dependencies
//! count, those for other platforms than this one too; dev-dependencies are free.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Where a package stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    /// A numbered layer: arrows point to a lower number only.
    Ship(u8),
    /// Tests and tasks: may use everything, may be used by no one but each other.
    Dev,
}

/// Every package of the workspace and its layer, planned ones included.
const LAYERS: &[(&str, Layer)] = &[
    ("confide-evidence", Layer::Ship(1)),
    ("confide-policy", Layer::Ship(2)),
    ("confide-release", Layer::Ship(2)),
    ("confide-verifier", Layer::Ship(3)),
    ("confide-record", Layer::Ship(4)),
    ("confide-channel", Layer::Ship(4)),
    ("confide-channel-guest", Layer::Ship(4)),
    ("confide-service", Layer::Ship(4)),
    ("confide-attester", Layer::Ship(5)),
    ("confide-simulator", Layer::Ship(5)),
    ("confide-endorser", Layer::Ship(5)),
    ("confide-volume", Layer::Ship(5)),
    ("confide-egress", Layer::Ship(5)),
    ("confide-engine", Layer::Ship(5)),
    ("confide-client", Layer::Ship(6)),
    ("confide", Layer::Ship(7)),
    ("confide-guest", Layer::Ship(7)),
    ("confide-broker", Layer::Ship(7)),
    ("confide-testkit", Layer::Dev),
    ("confide-nvidia-emulator", Layer::Dev),
    ("confide-fuzz", Layer::Dev),
    ("xtask", Layer::Dev),
];

/// The arrows that may stay within one layer.
const SAME_LAYER: &[(&str, &str)] = &[("confide-attester", "confide-simulator")];

/// Packages that must not reach another one by any path, and why.
///
/// `confide-guest` is not among them. A guest does not judge itself, but its own GPUs are no part of it: the host gives it
/// them, and nobody else can hold them back before they take work. So `serve` appraises them before the ready state, in the
/// module `gpus` alone ([`ONE_MODULE`]).
const NEVER_REACHES: &[(&str, &str, &str)] = &[
    ("confide-attester", "confide-verifier", "a guest does not judge itself"),
    ("confide-channel-guest", "confide-verifier", "a guest does not judge itself"),
    ("confide-volume", "confide-verifier", "a guest does not judge itself"),
    ("confide-egress", "confide-verifier", "a guest does not judge itself"),
    ("confide-endorser", "confide-verifier", "endorsements are fetched, not judged"),
    ("confide-simulator", "confide-evidence", "one bug must not hide in both the encoder and the parser"),
];

/// A package, the library that only one module of it may name, and that module.
#[cfg(test)]
const ONE_MODULE: (&str, &str, &str) = ("guest", "confide_verifier", "gpus.rs");

/// What only the feature `danger-simulator` may bring into a package that ships.
const BEHIND_DANGER: &str = "confide-simulator";

/// All that a pure crate may name in its manifest.
const PURE: &[(&str, &[&str])] = &[
    (
        "confide-evidence",
        &[
            "cbor4ii",
            "rustls-pki-types",
            "serde",
            "serde_json",
            // Only identifies here: issuers and responders in OCSP answers.
            "sha1",
            "sha2",
            "thiserror",
            "x509-parser",
        ],
    ),
    ("confide-policy", &["confide-evidence", "serde", "thiserror", "toml"]),
    (
        "confide-verifier",
        &[
            "confide-evidence",
            "confide-policy",
            "rustls-pki-types",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
        ],
    ),
];

/// The features a graph was resolved with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Features {
    Default,
    All,
}

/// One package's own resolved graph.
#[derive(Debug)]
struct Graph {
    package: String,
    features: Features,
    /// Direct normal and build dependencies.
    direct: BTreeSet<String>,
    /// Everything reachable through them.
    reachable: BTreeSet<String>,
}

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
enum Violation {
    NotInTable { package: String },
    Upward { from: String, from_layer: u8, to: String, to_layer: u8 },
    SameLayer { from: String, to: String, layer: u8 },
    DevInShipped { from: String, to: String },
    Forbidden { from: String, to: String, reason: &'static str },
    SimulatorByDefault { package: String },
    NotAllowed { package: String, dependency: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInTable { package } => write!(f, "{package}: has no layer; add it to xtask's table"),
            Self::Upward { from, from_layer, to, to_layer } => {
                write!(f, "{from} (layer {from_layer}) -> {to} (layer {to_layer}): an upward arrow")
            }
            Self::SameLayer { from, to, layer } => {
                write!(f, "{from} -> {to}: both are in layer {layer} and the arrow is not a listed one")
            }
            Self::DevInShipped { from, to } => write!(f, "{from} -> {to}: a development crate in what ships"),
            Self::Forbidden { from, to, reason } => write!(f, "{from} reaches {to}: {reason}"),
            Self::SimulatorByDefault { package } => {
                write!(f, "{package} reaches {BEHIND_DANGER} without the feature `danger-simulator`")
            }
            Self::NotAllowed { package, dependency } => {
                write!(f, "{package}: {dependency} is not on this pure crate's allowlist")
            }
        }
    }
}

/// Runs the check over the workspace and prints what it found.
///
/// # Errors
/// When Cargo cannot resolve a package, or when a rule is broken.
pub(crate) fn run() -> Result<()> {
    let graphs = resolve()?;
    let violations = check(&graphs);
    for violation in &violations {
        eprintln!("layers: {violation}");
    }
    if !violations.is_empty() {
        bail!("{} broken layer rules", violations.len());
    }
    let packages = graphs.iter().filter(|graph| graph.features == Features::All).count();
    println!("layers: {packages} packages, with default and with all features: no forbidden arrow");
    Ok(())
}

fn resolve() -> Result<Vec<Graph>> {
    let mut graphs = Vec::new();
    for package in cargo::workspace_packages()? {
        for features in [Features::Default, Features::All] {
            graphs.push(resolve_one(&package, features)?);
        }
    }
    Ok(graphs)
}

fn resolve_one(package: &str, features: Features) -> Result<Graph> {
    let text = cargo::output(&tree_arguments(package, features))?;
    parse_tree(package, features, &text).with_context(|| format!("reading the tree of {package}"))
}

fn tree_arguments(package: &str, features: Features) -> Vec<&str> {
    let mut arguments = vec!["tree", "--quiet", "--package", package, "--edges", "normal,build"];
    arguments.extend(["--target", "all", "--prefix", "depth", "--format", " {p}"]);
    if features == Features::All {
        arguments.push("--all-features");
    }
    arguments
}

/// Reads lines of the form `DEPTH NAME vVERSION …`, as the arguments above print them.
fn parse_tree(package: &str, features: Features, text: &str) -> Result<Graph> {
    let mut graph =
        Graph { package: package.to_owned(), features, direct: BTreeSet::new(), reachable: BTreeSet::new() };
    for line in text.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (Some(depth), Some(name)) = (words.next(), words.next()) else {
            bail!("unexpected line: {line}")
        };
        match depth.parse::<usize>().with_context(|| format!("unexpected line: {line}"))? {
            0 if name == package => continue,
            0 => bail!("asked for {package}, got {name}"),
            1 => {
                graph.direct.insert(name.to_owned());
                graph.reachable.insert(name.to_owned());
            }
            _ => {
                graph.reachable.insert(name.to_owned());
            }
        }
    }
    Ok(graph)
}

fn check(graphs: &[Graph]) -> Vec<Violation> {
    let layers: BTreeMap<&str, Layer> = LAYERS.iter().copied().collect();
    let ours: BTreeSet<&str> = graphs.iter().map(|graph| graph.package.as_str()).collect();
    let mut violations = Vec::new();
    for graph in graphs {
        let mut found = check_arrows(graph, &layers, &ours);
        found.extend(check_forbidden(graph));
        found.extend(check_danger(graph, &layers));
        found.extend(check_pure(graph));
        violations.extend(found.into_iter().filter(|new| !violations.contains(new)).collect::<Vec<_>>());
    }
    violations
}

fn check_arrows(graph: &Graph, layers: &BTreeMap<&str, Layer>, ours: &BTreeSet<&str>) -> Vec<Violation> {
    let package = graph.package.as_str();
    let Some(&from) = layers.get(package) else {
        return vec![Violation::NotInTable { package: package.to_owned() }];
    };
    let targets = graph.direct.iter().map(String::as_str).filter(|name| ours.contains(name));
    targets.filter_map(|to| check_arrow((package, from), (to, *layers.get(to)?))).collect()
}

fn check_arrow((from, from_layer): (&str, Layer), (to, to_layer): (&str, Layer)) -> Option<Violation> {
    let (from_name, to_name) = (from.to_owned(), to.to_owned());
    match (from_layer, to_layer) {
        (Layer::Dev, _) => None,
        (Layer::Ship(_), Layer::Dev) => Some(Violation::DevInShipped { from: from_name, to: to_name }),
        (Layer::Ship(a), Layer::Ship(b)) if b < a => None,
        (Layer::Ship(a), Layer::Ship(b)) if a == b => (!SAME_LAYER.contains(&(from, to)))
            .then_some(Violation::SameLayer { from: from_name, to: to_name, layer: a }),
        (Layer::Ship(a), Layer::Ship(b)) => {
            Some(Violation::Upward { from: from_name, from_layer: a, to: to_name, to_layer: b })
        }
    }
}

fn check_forbidden(graph: &Graph) -> Vec<Violation> {
    let rules =
        NEVER_REACHES.iter().filter(|(from, to, _)| graph.package == *from && graph.reachable.contains(*to));
    rules
        .map(|&(from, to, reason)| Violation::Forbidden { from: from.to_owned(), to: to.to_owned(), reason })
        .collect()
}

fn check_danger(graph: &Graph, layers: &BTreeMap<&str, Layer>) -> Option<Violation> {
    let ships = matches!(layers.get(graph.package.as_str()), Some(Layer::Ship(_)));
    let reached = graph.features == Features::Default && graph.reachable.contains(BEHIND_DANGER);
    (ships && reached).then(|| Violation::SimulatorByDefault { package: graph.package.clone() })
}

fn check_pure(graph: &Graph) -> Vec<Violation> {
    let Some((package, allowed)) = PURE.iter().find(|(package, _)| graph.package == *package) else {
        return Vec::new();
    };
    let strangers = graph.direct.iter().filter(|name| !allowed.contains(&name.as_str()));
    strangers
        .map(|name| Violation::NotAllowed { package: (*package).to_owned(), dependency: name.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running;

    /// A workspace of made-up graphs: each pair is a package and its direct dependencies.
    fn workspace(packages: &[(&str, &[&str])]) -> Vec<Graph> {
        let direct: BTreeMap<&str, &[&str]> = packages.iter().copied().collect();
        let graph = |&(package, names): &(&str, &[&str])| Graph {
            package: package.to_owned(),
            features: Features::Default,
            direct: names.iter().map(|name| (*name).to_owned()).collect(),
            reachable: closure(package, &direct),
        };
        packages.iter().map(graph).collect()
    }

    fn closure(package: &str, direct: &BTreeMap<&str, &[&str]>) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut open = vec![package];
        while let Some(next) = open.pop() {
            for name in direct.get(next).copied().unwrap_or_default() {
                if reached.insert((*name).to_owned()) {
                    open.push(name);
                }
            }
        }
        reached
    }

    fn messages(packages: &[(&str, &[&str])]) -> Vec<String> {
        check(&workspace(packages)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn downward_arrows_are_accepted() {
        let packages: &[(&str, &[&str])] = &[
            ("confide-evidence", &["serde", "sha2"]),
            ("confide-policy", &["confide-evidence", "toml"]),
            ("confide-verifier", &["confide-evidence", "confide-policy"]),
            ("confide-client", &["confide-verifier", "tokio"]),
            ("confide", &["confide-client", "confide-verifier"]),
            ("confide-testkit", &["confide-simulator", "confide"]),
            ("confide-simulator", &["sha2"]),
        ];
        assert_eq!(messages(packages), Vec::<String>::new());
    }

    #[test]
    fn an_upward_arrow_is_rejected() {
        let packages: &[(&str, &[&str])] =
            &[("confide-record", &["confide-client"]), ("confide-client", &[])];
        assert_eq!(
            messages(packages),
            ["confide-record (layer 4) -> confide-client (layer 6): an upward arrow"]
        );
    }

    #[test]
    fn an_arrow_within_a_layer_is_rejected_unless_listed() {
        let packages: &[(&str, &[&str])] = &[
            ("confide-engine", &["confide-volume"]),
            ("confide-volume", &[]),
            ("confide-channel", &["confide-record"]),
            ("confide-record", &[]),
        ];
        assert_eq!(
            messages(packages),
            [
                "confide-engine -> confide-volume: both are in layer 5 and the arrow is not a listed one",
                "confide-channel -> confide-record: both are in layer 4 and the arrow is not a listed one",
            ]
        );
    }

    #[test]
    fn the_listed_arrow_within_a_layer_is_accepted_only_behind_its_feature() {
        let packages: &[(&str, &[&str])] =
            &[("confide-attester", &["confide-simulator"]), ("confide-simulator", &[])];
        let mut graphs = workspace(packages);
        assert_eq!(
            check(&graphs),
            [Violation::SimulatorByDefault { package: "confide-attester".to_owned() }]
        );
        for graph in &mut graphs {
            graph.features = Features::All;
        }
        assert_eq!(check(&graphs), []);
    }

    #[test]
    fn a_development_crate_in_what_ships_is_rejected() {
        let packages: &[(&str, &[&str])] =
            &[("confide-client", &["confide-testkit"]), ("confide-testkit", &[])];
        assert_eq!(
            messages(packages),
            ["confide-client -> confide-testkit: a development crate in what ships"]
        );
    }

    #[test]
    fn a_part_of_the_guest_that_reaches_the_verifier_through_others_is_rejected() {
        let packages: &[(&str, &[&str])] = &[
            ("confide-attester", &["confide-channel"]),
            ("confide-channel", &["confide-verifier"]),
            ("confide-verifier", &[]),
        ];
        assert_eq!(
            messages(packages),
            ["confide-attester reaches confide-verifier: a guest does not judge itself",]
        );
    }

    #[test]
    fn a_guest_may_reach_the_verifier_for_its_own_gpus() {
        let packages: &[(&str, &[&str])] =
            &[("confide-guest", &["confide-verifier"]), ("confide-verifier", &[])];
        assert_eq!(messages(packages), [] as [String; 0]);
    }

    #[test]
    fn one_module_of_the_guest_names_the_verifier() {
        let (package, library, module) = ONE_MODULE;
        let mut open = vec![cargo::root().join("crates").join(package).join("src")];
        let mut named = Vec::new();
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else if std::fs::read_to_string(&path).unwrap().contains(library) {
                named.push(path);
            }
        }
        assert_eq!(named, [cargo::root().join("crates").join(package).join("src").join(module)]);
    }

    #[test]
    fn every_forbidden_reach_is_found() {
        for (from, to, reason) in NEVER_REACHES {
            let found = messages(&[(from, &["through"]), ("through", &[to]), (to, &[])]);
            assert!(found.contains(&format!("{from} reaches {to}: {reason}")), "{from} -> {to}: {found:?}");
        }
    }

    #[test]
    fn a_stranger_in_a_pure_crate_is_rejected() {
        for (package, _) in PURE {
            let found = messages(&[(package, &["tokio"])]);
            assert_eq!(found, [format!("{package}: tokio is not on this pure crate's allowlist")]);
        }
    }

    /// In a workspace of two packages, which Cargo resolves as it does this one.
    #[test]
    fn a_stranger_for_another_platform_is_rejected() {
        let (package, other) = ("confide-evidence", if cfg!(windows) { "unix" } else { "windows" });
        let root = running::folder("layers-of-another-platform").unwrap();
        let member = |name: &str, rest: &str| {
            let manifest =
                format!("[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n{rest}");
            std::fs::create_dir_all(root.join(name).join("src")).unwrap();
            std::fs::write(root.join(name).join("src/lib.rs"), "").unwrap();
            std::fs::write(root.join(name).join("Cargo.toml"), manifest).unwrap();
        };
        member("stranger", "");
        member(package, &format!("[target.'cfg({other})'.dependencies]\nstranger.path = \"../stranger\"\n"));
        let workspace = format!("[workspace]\nresolver = \"3\"\nmembers = [\"stranger\", \"{package}\"]\n");
        std::fs::write(root.join("Cargo.toml"), workspace).unwrap();
        let manifest = root.join("Cargo.toml");
        let mut arguments = tree_arguments(package, Features::Default);
        arguments.extend(["--offline", "--manifest-path", manifest.to_str().unwrap()]);
        let graph = parse_tree(package, Features::Default, &cargo::output(&arguments).unwrap()).unwrap();
        let found: Vec<_> = check(&[graph]).iter().map(ToString::to_string).collect();
        assert_eq!(found, [format!("{package}: stranger is not on this pure crate's allowlist")]);
    }

    #[test]
    fn a_package_without_a_layer_is_rejected() {
        assert_eq!(
            messages(&[("confide-misc", &[])]),
            ["confide-misc: has no layer; add it to xtask's table"]
        );
    }

    #[test]
    fn cargos_tree_is_read_with_its_depths() {
        let text = "0 confide-policy v0.1.0 (/work)\n1 confide-evidence v0.1.0 (/work)\n2 serde v1.0.0\n1 toml v1.0.0\n";
        let graph = parse_tree("confide-policy", Features::All, text).unwrap();
        assert_eq!(Vec::from_iter(graph.direct), ["confide-evidence", "toml"]);
        assert_eq!(Vec::from_iter(graph.reachable), ["confide-evidence", "serde", "toml"]);
        assert!(parse_tree("confide-verifier", Features::All, text).is_err());
        assert!(parse_tree("confide-policy", Features::All, "tree of something\n").is_err());
    }
}
