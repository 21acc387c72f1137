use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use super::*;

/// Runs `part` on a thread of its own that is restricted first; nothing where the kernel has no Landlock, which is said.
fn restricted<T: Send>(openings: &Openings, part: impl FnOnce(Version) -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let work = || restrict(openings).unwrap().map(part);
        let outcome = scope.spawn(work).join().unwrap();
        if outcome.is_none() {
            println!("not run: Landlock: this kernel has none");
        }
        outcome
    })
}

fn kind<T>(outcome: io::Result<T>) -> Result<(), ErrorKind> {
    outcome.map(drop).map_err(|error| error.kind())
}

const DENIED: Result<(), ErrorKind> = Err(ErrorKind::PermissionDenied);

/// Folders `read`, `used`, `changed` and `other`, each with a file `file`.
fn folders() -> (tempfile::TempDir, Openings) {
    let root = tempfile::tempdir().unwrap();
    for folder in ["read", "used", "changed", "other"] {
        fs::create_dir(root.path().join(folder)).unwrap();
        fs::write(root.path().join(folder).join("file"), folder).unwrap();
    }
    let at = |name: &str| root.path().join(name);
    let paths = vec![
        (at("read"), Access::Read),
        (at("used"), Access::Use),
        (at("changed"), Access::Change),
        (at("missing"), Access::Change),
    ];
    (root, Openings { paths, ..Openings::default() })
}

fn write(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(b"new")
}

#[test]
fn files_are_opened_below_what_is_named_and_in_the_way_that_is_named() {
    let (root, openings) = folders();
    let root = root.path();
    restricted(&openings, |_| {
        for (folder, read, written, made) in [
            ("read", Ok(()), DENIED, DENIED),
            ("used", Ok(()), Ok(()), DENIED),
            ("changed", Ok(()), Ok(()), Ok(())),
            ("other", DENIED, DENIED, DENIED),
        ] {
            let folder = root.join(folder);
            assert_eq!(kind(fs::read(folder.join("file"))), read, "{folder:?}");
            assert_eq!(kind(fs::read_dir(&folder)), read, "{folder:?}");
            assert_eq!(kind(write(&folder.join("file"))), written, "{folder:?}");
            assert_eq!(kind(fs::write(folder.join("new"), "")), made, "{folder:?}");
            assert_eq!(kind(fs::remove_file(folder.join("file"))), made, "{folder:?}");
            assert_eq!(kind(std::os::unix::fs::symlink("/", folder.join("link"))), DENIED, "{folder:?}");
            assert_eq!(kind(UnixListener::bind(folder.join("socket"))), DENIED, "{folder:?}");
        }
        assert_eq!(kind(fs::create_dir(root.join("missing"))), DENIED);
        assert_eq!(kind(fs::create_dir(root.join("used/folder"))), Ok(()));
        assert_eq!(kind(fs::read("/etc/passwd")), DENIED);
    });
    assert_eq!(kind(fs::read("/etc/passwd")), Ok(()), "other threads are not restricted");
}

#[test]
fn one_file_is_opened_and_its_neighbour_is_not() {
    let (root, _) = folders();
    let root = root.path();
    fs::write(root.join("other/neighbour"), "").unwrap();
    let openings = Openings { paths: vec![(root.join("other/file"), Access::Change)], ..Openings::default() };
    restricted(&openings, |_| {
        assert_eq!(kind(write(&root.join("other/file"))), Ok(()));
        assert_eq!(kind(fs::read(root.join("other/neighbour"))), DENIED);
        assert_eq!(kind(fs::read_dir(root.join("other"))), DENIED);
    });
}

#[test]
fn what_was_open_before_stays_open() {
    let (root, _) = folders();
    let mut file = fs::File::open(root.path().join("other/file")).unwrap();
    restricted(&Openings::default(), |_| {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "other");
    });
}

#[test]
fn tcp_ports_are_bound_and_connected_to_as_they_are_named() {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [open, closed] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let connect = |address| kind(TcpStream::connect(address));
    let openings = Openings { connect: vec![open.port()], ..Openings::default() };
    restricted(&openings, |version| {
        if version < Version::TCP {
            println!("not run: Landlock: version {} knows no TCP", version.number());
            return;
        }
        assert_eq!((connect(open), connect(closed)), (Ok(()), DENIED));
        assert_eq!(kind(TcpListener::bind("127.0.0.1:0")), DENIED);
    });
    let openings = Openings { bind: vec![0], ..Openings::default() };
    restricted(&openings, |version| {
        if version >= Version::TCP {
            assert_eq!(kind(TcpListener::bind("127.0.0.1:0")), Ok(()));
            assert_eq!(kind(TcpListener::bind(closed)), DENIED);
            assert_eq!(connect(open), DENIED);
        }
    });
}

#[test]
fn abstract_sockets_of_others_are_not_reached() {
    let name = SocketAddr::from_abstract_name(format!("confide-test-{}", std::process::id())).unwrap();
    let _listener = UnixListener::bind_addr(&name).unwrap();
    UnixStream::connect_addr(&name).unwrap();
    restricted(&Openings::default(), |version| {
        if version >= Version(6) {
            assert_eq!(kind(UnixStream::connect_addr(&name)), DENIED);
        }
    });
}

#[test]
fn each_version_is_asked_for_what_it_knows() {
    assert_eq!(Version(1).files(), sys::FIRST);
    assert_eq!(Version(2).files(), sys::FIRST | sys::REFER);
    assert_eq!(Version(4).files(), sys::FIRST | sys::REFER | sys::TRUNCATE);
    assert_eq!(Version(9).files(), (1 << 16) - 1);
    for version in (1..8).map(Version) {
        for access in [Access::Read, Access::Use, Access::Change] {
            assert_eq!(version.rights(access) & !version.files(), 0);
        }
    }
}
