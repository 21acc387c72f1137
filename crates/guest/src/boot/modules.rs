//! The kernel modules of the image, loaded in the order of a list.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::system::finit_module;

use super::error::BootError;

/// One absolute path a line, each after those that it depends on; blank lines and those that begin with `#` say nothing.
const LIST: &str = "/etc/confide/modules";

/// Loads every module of the image's list. An image without a list has all that it needs in its kernel.
pub(crate) fn load() -> Result<(), BootError> {
    let list = Path::new(LIST);
    let text = match fs::read_to_string(list) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(BootError::System { action: "read", path: list.to_owned(), source }),
    };
    for path in paths(&text, list)? {
        let file = File::open(&path).map_err(|source| BootError::Module { path: path.clone(), source })?;
        match finit_module(file, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(BootError::Module { path, source: error.into() }),
        }
    }
    Ok(())
}

fn paths(text: &str, list: &Path) -> Result<Vec<PathBuf>, BootError> {
    let lines = text.lines().map(str::trim).zip(1..);
    let named = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let path = |(line, number)| {
        let path = PathBuf::from(line);
        if path.is_absolute() && path.extension().is_some_and(|extension| extension == "ko") {
            Ok(path)
        } else {
            Err(BootError::ModuleList { path: list.to_owned(), line: number })
        }
    };
    named.map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_modules_in_order() {
        let list = "# first\n/usr/lib/modules/dm-mod.ko\n\n  /usr/lib/modules/dm-crypt.ko \n";
        let expected = ["/usr/lib/modules/dm-mod.ko", "/usr/lib/modules/dm-crypt.ko"].map(PathBuf::from);
        assert_eq!(paths(list, Path::new(LIST)).unwrap(), expected);
        assert!(paths("", Path::new(LIST)).unwrap().is_empty());
    }

    #[test]
    fn a_line_that_is_no_path_of_a_module_is_named() {
        for line in ["dm-mod", "modules/dm-mod.ko", "/usr/lib/modules/dm-mod.ko.xz"] {
            let refused = paths(&format!("\n{line}\n"), Path::new(LIST)).unwrap_err();
            assert!(matches!(refused, BootError::ModuleList { line: 2, .. }), "{refused:?}");
            assert_eq!(refused.code(), "module_failed");
        }
    }
}
