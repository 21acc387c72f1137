//! `cargo xtask dist`: the programs as they ship, with manual pages and completions, as packages install them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{cargo, process};

/// The programs.
const PROGRAMS: [&str; 3] = ["confide", "confide-guest", "confide-broker"];
/// Each shell's own folder for completions of packages, and what a program's file is called there: `{}` stands for the
/// program.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/{}"),
    ("zsh", "share/zsh/site-functions/_{}"),
    ("fish", "share/fish/vendor_completions.d/{}.fish"),
];
/// What lies beside the programs, and where.
const FILES: [(&str, &str); 5] = [
    ("LICENSE", "share/doc/confide/LICENSE"),
    ("README.md", "share/doc/confide/README.md"),
    ("docs/configuration.md", "share/doc/confide/configuration.md"),
    ("docs/exit-statuses.md", "share/doc/confide/exit-statuses.md"),
    ("docs/errors.md", "share/doc/confide/errors.md"),
];

/// Builds the programs without the feature `danger-simulator` and lays them out below `prefix`: a package's root, or
/// /usr/local.
///
/// # Errors
/// When something does not compile, or a file cannot be written.
pub(crate) fn run(prefix: &Path) -> Result<()> {
    let mut build = cargo::command();
    build.args(["build", "--release", "--locked"]);
    process::run(build.args(PROGRAMS.iter().flat_map(|program| ["--package", program])))?;
    lay_out(&cargo::root().join("target/release"), prefix)
}

/// Lays the programs of a folder out below a prefix, with what they say of themselves.
///
/// # Errors
/// When a program does not, or a file cannot be written.
pub(crate) fn lay_out(programs: &Path, prefix: &Path) -> Result<()> {
    for program in PROGRAMS {
        let built = programs.join(program);
        copy(&built, &prefix.join("bin").join(program))?;
        process::run(Command::new(&built).args(["man", "--dir"]).arg(prefix.join("share/man/man1")))?;
        for (shell, place) in COMPLETIONS {
            let script = process::output(Command::new(&built).args(["completions", shell]))?;
            write(&prefix.join(place.replace("{}", program)), &script)?;
        }
    }
    FILES.iter().try_for_each(|(file, place)| copy(&cargo::root().join(file), &prefix.join(place)))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    parent(to)?;
    std::fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    parent(path)?;
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

fn parent(path: &Path) -> Result<()> {
    let folder = path.parent().context("a file in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A program that says of itself what the real ones do.
    const STAND_IN: &str = "#!/bin/sh\n\
        case $1 in\n\
        man) mkdir -p \"$3\" && echo page > \"$3/$(basename \"$0\").1\" ;;\n\
        completions) echo \"completions of $(basename \"$0\") for $2\" ;;\n\
        *) exit 2 ;;\n\
        esac\n";

    #[test]
    fn programs_pages_and_completions_lie_where_packages_have_them() {
        let folder = std::env::temp_dir().join(format!("confide-dist-{}", std::process::id()));
        let (programs, prefix) = (folder.join("built"), folder.join("usr"));
        for program in PROGRAMS {
            let path = programs.join(program);
            write(&path, STAND_IN).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        lay_out(&programs, &prefix).unwrap();
        let text = |place: &str| std::fs::read_to_string(prefix.join(place)).unwrap();
        for program in PROGRAMS {
            assert_eq!(text(&format!("share/man/man1/{program}.1")), "page\n");
            let mode = std::fs::metadata(prefix.join("bin").join(program)).unwrap().permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{program} can be run");
        }
        for (shell, place) in [
            ("bash", "share/bash-completion/completions/confide"),
            ("zsh", "share/zsh/site-functions/_confide"),
            ("fish", "share/fish/vendor_completions.d/confide.fish"),
        ] {
            assert_eq!(text(place), format!("completions of confide for {shell}\n"));
        }
        assert!(text("share/doc/confide/configuration.md").starts_with("# Configuration"));
        std::fs::remove_file(programs.join("confide")).unwrap();
        assert!(lay_out(&programs, &prefix).is_err(), "a program that is not there");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
