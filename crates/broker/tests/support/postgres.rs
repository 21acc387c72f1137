//! A PostgreSQL server of Debian's package `postgresql`, on a socket in a temporary folder.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::authority::Authority;
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// The user under whom the server runs where the tests run as root: PostgreSQL refuses root. `nobody` in Debian.
const NOBODY: u32 = 65534;

/// A server, which ends when dropped.
pub struct Postgres {
    folder: tempfile::TempDir,
    server: Child,
    port: u16,
}

/// What a server over TLS has beside its data.
struct Tls {
    port: u16,
    certificate: PathBuf,
    key: PathBuf,
}

impl Tls {
    fn write(folder: &Path, authority: &Authority) -> Self {
        // Free now; nobody else on this machine asks for a port by its number.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
        std::fs::write(&certificate, &authority.certificate).unwrap();
        std::fs::write(&key, authority.key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        if geteuid().is_root() {
            chown(&key, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self { port, certificate, key }
    }

    fn settings(&self) -> Vec<String> {
        let Self { port, certificate, key } = self;
        vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
        ]
    }
}

impl Postgres {
    /// Starts a server. Without the package it prints why the test does not run.
    pub fn start(what: &str) -> Option<Self> {
        Self::start_with(what, None)
    }

    /// The same, over TLS at 127.0.0.1 alone.
    pub fn start_tls(what: &str, authority: &Authority) -> Option<Self> {
        Self::start_with(what, Some(authority))
    }

    fn start_with(what: &str, authority: Option<&Authority>) -> Option<Self> {
        let Some(programs) = programs() else {
            println!("not run: {what}: no initdb below /usr/lib/postgresql (Debian's package postgresql)");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        if geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = folder.path().join("data");
        let made = command(&programs.join("initdb"))
            .args([
                "--auth=trust",
                "--username=broker",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "--pgdata",
            ])
            .arg(&data)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let tls = authority.map(|authority| Tls::write(folder.path(), authority));
        let settings = tls.as_ref().map_or_else(|| vec!["listen_addresses=".to_owned()], Tls::settings);
        let server = command(&programs.join("postgres"))
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .args(["-c", "fsync=off", "-c", "max_connections=60", "-k"])
            .arg(folder.path())
            .arg("-D")
            .arg(&data)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { folder, server, port: tls.map_or(5432, |tls| tls.port) };
        let begun = Instant::now();
        let socket = server.folder.path().join(format!(".s.PGSQL.{}", server.port));
        while !(socket.exists() && server.answers(&programs)) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(server)
    }

    /// The address of a database of its own.
    pub fn url(&self) -> String {
        format!("postgres:///postgres?host={}&user=broker&sslmode=disable", self.folder.path().display())
    }

    /// The address over TLS, for who knows this authority by a file.
    pub fn tls_url(&self, host: &str, ca: &Path) -> String {
        let (port, ca) = (self.port, ca.display());
        format!("postgres://broker@{host}:{port}/postgres?sslmode=verify-full&sslrootcert={ca}")
    }

    fn answers(&self, programs: &Path) -> bool {
        let status = Command::new(programs.join("pg_isready"))
            .arg("-h")
            .arg(self.folder.path())
            .args(["-p", &self.port.to_string()])
            .stdout(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: at once, without a checkpoint.
        if let Some(pid) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::QUIT);
        }
        let _ = self.server.wait();
    }
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    folders.filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists()).max()
}

/// As another user than root.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}
