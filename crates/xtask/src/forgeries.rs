//! `compile_fail` is content with any error, a misspelt name among them: stable Rust does not look at the code behind it. So
//! each such snippet stands beside a twin that compiles and differs from it in one line.

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use crate::cargo;

    /// One block of code of a documentation comment.
    #[derive(Debug, PartialEq, Eq)]
    struct Snippet {
        /// What stands behind the opening fence.
        kind: String,
        /// Its lines, hidden ones without their mark.
        lines: Vec<String>,
    }

    fn snippets(text: &str) -> Vec<Snippet> {
        let (mut found, mut open): (Vec<Snippet>, Option<Snippet>) = (Vec::new(), None);
        let comments = text.lines().map(str::trim_start);
        let comments =
            comments.filter_map(|line| line.strip_prefix("//!").or_else(|| line.strip_prefix("///")));
        for line in comments.map(|line| line.strip_prefix(' ').unwrap_or(line)) {
            match (line.strip_prefix("```"), open.take()) {
                (Some(kind), None) => open = Some(Snippet { kind: kind.to_owned(), lines: Vec::new() }),
                (Some(_), Some(closed)) => found.push(closed),
                (None, Some(mut snippet)) => {
                    snippet.lines.push(line.strip_prefix("# ").unwrap_or(line).to_owned());
                    open = Some(snippet);
                }
                (None, None) => {}
            }
        }
        found
    }

    /// Whether the second is the first without one line, or with another line in its place.
    fn is_twin(forgery: &Snippet, twin: &Snippet) -> bool {
        let same = forgery.lines.iter().zip(&twin.lines).take_while(|(one, other)| one == other).count();
        let rest = |lines: &[String], skipped: usize| lines.get(same + skipped..).map(<[String]>::to_vec);
        let behind = rest(&forgery.lines, 1);
        twin.kind.is_empty()
            && behind.is_some()
            && (behind == rest(&twin.lines, 0) || behind == rest(&twin.lines, 1))
    }

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        let rust = files.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
        folders.iter().flat_map(|folder| sources(folder)).chain(rust).collect()
    }

    #[test]
    fn every_snippet_that_must_not_compile_has_a_twin_that_does() {
        let (mut forgeries, mut alone) = (0, Vec::new());
        for path in sources(&cargo::root().join("crates")) {
            let snippets = snippets(&std::fs::read_to_string(&path).unwrap());
            for (at, forgery) in snippets.iter().enumerate() {
                if !forgery.kind.starts_with("compile_fail") {
                    continue;
                }
                forgeries += 1;
                if !snippets.get(at + 1).is_some_and(|twin| is_twin(forgery, twin)) {
                    alone.push(format!("{}: {:?}", path.display(), forgery.lines));
                }
            }
        }
        assert!(forgeries >= 20, "only {forgeries} were found");
        assert!(alone.is_empty(), "{alone:#?}");
    }

    #[test]
    fn a_snippet_that_differs_in_more_than_one_line_is_no_twin() {
        let text = "/// ```compile_fail\n/// # use a::B;\n/// b.c();\n/// ```\n\
                    /// ```\n/// # use a::B;\n/// ```\n\
                    /// ```\n/// # use a::B;\n/// drop(b);\n/// ```\n\
                    /// ```\n/// # use a::C;\n/// drop(b);\n/// ```\n\
                    /// ```compile_fail\n/// # use a::B;\n/// drop(b);\n/// ```\n";
        let [forgery, without, with, other, failing] = &snippets(text)[..] else {
            panic!("{:?}", snippets(text))
        };
        assert!(is_twin(forgery, without) && is_twin(forgery, with));
        assert!(!is_twin(forgery, other) && !is_twin(forgery, failing) && !is_twin(forgery, forgery));
    }
}
