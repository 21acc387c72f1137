//! What the process that serves gives up: swap, files, ports and calls of the kernel that it does not need.
//!
//! Each of these is refused by the kernel, whoever controls the process. A guest that `boot` brings up serves with all of it or not
//! at all; that it claims a locked egress says so. `serve` also runs where something of it is missing, and logs what.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use confide_attester::WRITTEN;
use confide_egress::landlock::{Access, Openings, Version, restrict};
use confide_egress::seccomp::{Quotes, confine_guest};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use crate::boot::{THIS_PROGRAM, Way};
use crate::config::{Config, EndorsementSource, Endorsements, Platform};
use crate::error::GuestError;

/// What programs read: libraries, and what the kernel says of the machine and of the process.
const READ: &[&str] =
    &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/proc", "/sys", "/dev/urandom"];
/// What looking up names and verifying certificates of the web reads: resolvers, hosts, authorities.
const READ_FOR_SERVICES: &[&str] = &["/etc", "/usr/share/ca-certificates", "/run/systemd/resolve"];
/// The port of Intel's service.
const HTTPS: u16 = 443;

/// Keeps all memory of this process from swap, from now on.
///
/// It is all memory, because keys lie in buffers of the cryptographic library and of TLS, and prompts wherever they are read: a list
/// of buffers would leave most of them out. Pages are locked when they are first touched.
///
/// # Errors
/// The kernel's. A process that may lock only so much does not lock at all: it would run out of memory.
pub(crate) fn lock_memory() -> io::Result<()> {
    let unlimited = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    if let Err(error) = unlimited {
        // No limit holds for who has this capability, which is kept.
        let exempt = capabilities(None)?.effective.contains(CapabilitySet::IPC_LOCK);
        if !exempt {
            return Err(error.into());
        }
    }
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}

/// Restricts this thread, and all that it starts from now on, to the files and TCP ports that the configuration asks for.
///
/// # Errors
/// [`GuestError::NotConfined`]. That the kernel has no Landlock, or one that knows no ports, is an error under `boot` alone.
pub(crate) fn enter(config: &Config, way: Way) -> Result<(), GuestError> {
    let not_confined = |source| GuestError::NotConfined { what: "files and ports", source };
    if let Some(cache) = config.endorsements.as_ref().and_then(|endorsements| endorsements.cache.as_ref()) {
        // What does not exist cannot be allowed. Where it cannot be made, nothing is kept, as without this.
        let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(cache);
    }
    let version = restrict(&openings(config)).map_err(not_confined)?;
    match (version, way) {
        (Some(version), _) if version >= Version::TCP => {
            tracing::info!(
                landlock = version.number(),
                "confined to the files and ports of the configuration"
            );
            Ok(())
        }
        (_, Way::Boot) => {
            let source =
                io::Error::new(io::ErrorKind::Unsupported, "the kernel has no Landlock of version 4");
            Err(not_confined(source))
        }
        (version, Way::Serve) => {
            let landlock = version.map_or(0, Version::number);
            tracing::warn!(
                landlock,
                "NOT confined to the files and ports of the configuration: the kernel's Landlock is missing or older than version 4"
            );
            Ok(())
        }
    }
}

/// Gives up the calls of the kernel that a guest needs no more once it serves, for all threads: it starts no program and no process,
/// and listens on nothing new.
///
/// # Errors
/// [`GuestError::NotConfined`].
pub(crate) fn close_calls(config: &Config) -> Result<(), GuestError> {
    let quotes = if config.quoting.is_some() { Quotes::Vsock } else { Quotes::Kernel };
    confine_guest(quotes).map_err(|source| GuestError::NotConfined { what: "system calls", source })
}

/// Everything that is opened from the model's loading on.
fn openings(config: &Config) -> Openings {
    let mut paths: Vec<(PathBuf, Access)> = Vec::new();
    let mut add = |access, path: &Path| paths.push((path.to_owned(), access));
    for path in READ.iter().chain(&[THIS_PROGRAM]) {
        add(Access::Read, path.as_ref());
    }
    add(Access::Read, &config.model.directory);
    add(Access::Use, "/dev/null".as_ref());
    // Seeds of RDSEED are put into the kernel's pool before keys are drawn.
    add(Access::Use, "/dev/random".as_ref());
    if config.platform == Platform::Tdx {
        WRITTEN.iter().for_each(|path| add(Access::Use, path.as_ref()));
    }
    if let Some(endorsements) = &config.endorsements {
        match &endorsements.source {
            // Whoever replaces the file puts another one in its place.
            EndorsementSource::File(path) => add(Access::Read, folder_of(path)),
            EndorsementSource::Intel | EndorsementSource::Pccs { .. } => {
                READ_FOR_SERVICES.iter().for_each(|path| add(Access::Read, path.as_ref()));
            }
        }
        if let Some(cache) = &endorsements.cache {
            add(Access::Change, cache);
        }
    }
    if let Some(gpus) = &config.gpus {
        // The driver's devices, among them those that its library makes out while it runs.
        add(Access::Use, "/dev".as_ref());
        if let Some(folder) = &gpus.endorsements {
            add(Access::Read, folder);
        }
    }
    #[cfg(feature = "danger-simulator")]
    if config.simulated.as_ref().and_then(crate::config::Simulated::libraries).is_some() {
        // Emulated libraries read a test's recordings wherever they are, and keep a journal beside a test's files.
        add(Access::Read, "/".as_ref());
        add(Access::Change, &std::env::temp_dir());
    }
    let broker = config.broker.as_ref().map(|broker| broker.address.port());
    let service = config.endorsements.as_ref().and_then(service_port);
    Openings {
        paths,
        bind: vec![config.listen.port()],
        // A broker is told, too, why a guest ends.
        connect: broker.into_iter().chain(service).collect(),
    }
}

/// A path of one component is in the folder where the guest runs.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn service_port(endorsements: &Endorsements) -> Option<u16> {
    match &endorsements.source {
        EndorsementSource::File(_) => None,
        EndorsementSource::Intel => Some(HTTPS),
        EndorsementSource::Pccs { url, .. } => Some(url.dial_address().1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::process::Command;
    use std::sync::mpsc;

    fn config(tables: &str) -> Config {
        let text = format!(
            "listen = \"127.0.0.1:0\"\nplatform = \"tdx\"\n[model]\nname = \"m\"\ndirectory = \"/models/m\"\n{tables}"
        );
        Config::parse(text.as_bytes(), Path::new("guest.toml")).unwrap()
    }

    fn access(openings: &Openings, path: &str) -> Option<Access> {
        openings.paths.iter().find(|(listed, _)| listed == Path::new(path)).map(|(_, access)| *access)
    }

    #[test]
    fn what_is_opened_follows_from_the_configuration() {
        let plain = openings(&config(""));
        assert_eq!((plain.bind.as_slice(), plain.connect.as_slice()), (&[0][..], &[][..]));
        assert_eq!(access(&plain, "/models/m"), Some(Access::Read));
        assert_eq!(access(&plain, "/sys/kernel/config/tsm/report"), Some(Access::Use));
        for path in ["/", "/etc", "/dev", "/usr", "/tmp", "/volumes"] {
            assert_eq!(access(&plain, path), None, "{path}");
        }
        assert!(plain.paths.iter().all(|(_, access)| *access != Access::Change));
        let file =
            openings(&config("[endorsements]\nsource = \"file\"\nfile = \"/run/tdx/collateral.json\"\n"));
        assert_eq!((access(&file, "/run/tdx"), file.connect.len()), (Some(Access::Read), 0));
        assert_eq!(access(&file, "/etc"), None);
        let pccs =
            "[endorsements]\nsource = \"pccs\"\npccs = \"https://pccs.example:8081\"\ncache = \"/var/c\"\n";
        let service = openings(&config(pccs));
        assert_eq!((service.connect.as_slice(), access(&service, "/etc")), (&[8081][..], Some(Access::Read)));
        assert_eq!(access(&service, "/var/c"), Some(Access::Change));
        let intel = openings(&config("[endorsements]\nsource = \"intel\"\n"));
        assert_eq!(intel.connect, [HTTPS]);
        let gpus = "[gpus]\npolicy = \"/etc/p.toml\"\nendorsements = \"/etc/gpus\"\n";
        let gpus = openings(&config(gpus));
        assert_eq!(access(&gpus, "/dev"), Some(Access::Use));
        assert_eq!(access(&gpus, "/etc/gpus"), Some(Access::Read));
        assert_eq!(
            (folder_of(Path::new("a")), folder_of(Path::new("b/a"))),
            (Path::new("."), Path::new("b"))
        );
    }

    fn denied<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// What somebody would try who controls a thread of the guest. Says what succeeded.
    fn attempts(folder: &Path, elsewhere: std::net::SocketAddr) -> Vec<&'static str> {
        let outcomes = [
            ("read a file of the machine's", denied(std::fs::read(folder.join("secret")))),
            ("list the root", denied(std::fs::read_dir("/"))),
            ("read accounts", denied(std::fs::read("/etc/passwd"))),
            ("write a file", denied(std::fs::write(folder.join("new"), "prompt"))),
            ("write to the model", denied(std::fs::write(folder.join("model/new"), ""))),
            ("listen", denied(TcpListener::bind("127.0.0.1:0"))),
            ("connect", denied(TcpStream::connect(elsewhere))),
            ("start a program", denied(Command::new("/proc/self/exe").arg("--list").output())),
        ];
        outcomes.into_iter().filter(|(_, denied)| !denied).map(|(what, _)| what).collect()
    }

    /// In a process of its own: the calls are given up for all threads.
    #[test]
    fn a_confined_process_opens_what_it_needs_and_nothing_else() {
        const NAME: &str = "confinement::tests::a_confined_process_opens_what_it_needs_and_nothing_else";
        const FOLDER: &str = "CONFIDE_TEST_FOLDER";
        if !matches!(Version::of_kernel(), Ok(Some(version)) if version >= Version::TCP) {
            println!("not run: a confined process: this kernel has no Landlock of version 4");
            return;
        }
        let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("model")).unwrap();
            std::fs::write(folder.path().join("model/config.json"), "{}").unwrap();
            std::fs::write(folder.path().join("secret"), "").unwrap();
            let mut process = Command::new(std::env::current_exe().unwrap());
            let process = process.args(["--exact", NAME, "--nocapture"]).env(FOLDER, folder.path());
            let output = process.output().unwrap();
            let (said, wrong) = (output.stdout, output.stderr);
            let said = String::from_utf8_lossy(&said) + String::from_utf8_lossy(&wrong);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        };
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = elsewhere.local_addr().unwrap();
        assert_eq!(attempts(&folder, address).len(), 8, "unconfined they succeed");
        std::fs::remove_file(folder.join("new")).unwrap();
        std::fs::remove_file(folder.join("model/new")).unwrap();
        let text = format!("[model]\nname = \"m\"\ndirectory = \"{}\"\n", folder.join("model").display());
        let text = format!("listen = \"127.0.0.1:0\"\nplatform = \"tdx\"\n{text}");
        let config = Config::parse(text.as_bytes(), Path::new("guest.toml")).unwrap();
        enter(&config, Way::Boot).unwrap();
        // Its one listener is there before the calls are given up.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (begin, begun) = mpsc::channel();
        let of_another = folder.clone();
        let earlier = std::thread::spawn(move || {
            begun.recv().unwrap();
            attempts(&of_another, address)
        });
        close_calls(&config).unwrap();
        begin.send(()).unwrap();
        assert_eq!(attempts(&folder, address), Vec::<&str>::new());
        assert_eq!(earlier.join().unwrap(), Vec::<&str>::new());
        std::fs::read(folder.join("model/config.json")).unwrap();
        std::fs::read("/proc/self/status").unwrap();
        std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap();
        drop(listener);
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let value = |name: &str| own.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), (Some("1"), Some("2")));
    }
}
