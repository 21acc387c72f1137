//! The section of `cargo xtask bench` about the egress broker: what it costs beside squid.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::bench::{Target, cargo_bench, held};
use crate::traffic::{Listening, number, numbers, unpacked};
use crate::{cargo, process, running};

/// What squid needs beside what every Debian has.
const SQUID: &[&str] = &[
    "squid",
    "squid-common",
    "squid-langpack",
    "libecap3",
    "libltdl7",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libtdb1",
];
/// The user `nobody`: squid does not work as root.
const NOBODY: u32 = 65_534;

/// What a connection through the egress broker costs.
pub(crate) fn egress() -> Result<String> {
    if process::line(Command::new("id").arg("-u"))? != "0" {
        return Ok(not_run("it makes a network namespace, which takes root"));
    }
    let squid = Squid::start()?;
    let mut command = cargo_bench("egress")?;
    command.arg(format!("squid={}={}", squid.server.address, squid.server.id()));
    let lines = process::output(&mut command)?;
    let lines: Vec<Vec<String>> =
        lines.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    let ways = [("direct", "directly"), ("broker", "through the egress broker"), ("squid", "through squid")];
    let mut text = format!(
        "## The egress broker beside squid\n\n\
         A server in a network namespace of its own, reached over a pair of virtual devices: directly, and by CONNECT through \
         either program. The broker holds its policy's caps, and squid {} caches and logs nothing. Neither touches what it carries. \
         Server, programs and generator share the machine's cores and take turns.\n\n\
         | a new connection, to the first byte | median µs | 10 % | 90 % |\n|---|---:|---:|---:|\n",
        squid.version
    );
    for (name, shown) in ways {
        let [median, p10, p90] = numbers(&lines, &["latency", name])?[..] else {
            bail!("unexpected figures")
        };
        writeln!(text, "| {shown} | {median:.0} | {p10:.0} | {p90:.0} |")?;
    }
    for (kind, title) in [("one", "one download"), ("eight", "eight downloads at once")] {
        write!(
            text,
            "\n| {title} | MiB a second, median | 10 % | 90 % | processor µs a MiB |\n|---|---:|---:|---:|---:|\n"
        )?;
        for (name, shown) in ways {
            let [median, p10, p90, each] = numbers(&lines, &[kind, name])?[..] else {
                bail!("unexpected figures")
            };
            let each = if name == "direct" { "".to_owned() } else { format!("{each:.0}") };
            writeln!(text, "| {shown} | {median:.0} | {p10:.0} | {p90:.0} | {each} |")?;
        }
    }
    let time = |kind| -> Result<f64> {
        Ok(100.0 * number(&lines, &[kind, "squid"], 0)? / number(&lines, &[kind, "broker"], 0)?)
    };
    text += &held(&[
        Target {
            what: "time of one download, of squid's: at least its throughput",
            unit: "%",
            most: 100.0,
            found: time("one")?,
        },
        Target {
            what: "time of eight downloads, of squid's: at least its throughput",
            unit: "%",
            most: 100.0,
            found: time("eight")?,
        },
    ])?;
    Ok(text)
}

fn not_run(why: &str) -> String {
    format!("## The egress broker beside squid\n\nNot run: {why}.\n")
}

/// squid in front of everything.
struct Squid {
    // Fields are dropped in this order.
    server: Listening,
    _segments: Segments,
    version: String,
}

impl Squid {
    fn start() -> Result<Self> {
        let files = unpacked(SQUID)?;
        let program = files.join("usr/sbin/squid");
        let libraries = files.join("usr/lib/x86_64-linux-gnu");
        let folder = running::folder("bench-egress")?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let configuration = folder.join("squid.conf");
        let (shown, shared) = (folder.display(), files.display());
        std::fs::write(
            &configuration,
            format!(
                "http_port {address}\nacl here src 127.0.0.1\nhttp_access allow here\nhttp_access deny all\n\
                 cache deny all\naccess_log none\ncache_log /dev/null\ncache_store_log none\npid_filename none\n\
                 coredump_dir {shown}\nnetdb_filename none\npinger_enable off\nshutdown_lifetime 0 seconds\n\
                 visible_hostname localhost\nunlinkd_program /bin/true\nlogfile_daemon /bin/true\n\
                 mime_table {shared}/usr/share/squid/mime.conf\nicon_directory {shared}/usr/share/squid/icons\n\
                 error_directory {shared}/usr/share/squid-langpack/en\n"
            ),
        )?;
        let version = process::output(Command::new(&program).arg("-v").env("LD_LIBRARY_PATH", &libraries))?;
        let version = version.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
        let mut command = Command::new(&program);
        command.args(["-N", "-f"]).arg(&configuration).env("LD_LIBRARY_PATH", &libraries);
        command.uid(NOBODY).gid(NOBODY).current_dir(cargo::root());
        let server = Listening::start(&mut command, address).context("squid")?;
        Ok(Self { server, _segments: Segments, version: version.to_owned() })
    }
}

/// Segments of shared memory that squid leaves where it was killed. They are gone when the value is dropped.
struct Segments;

impl Drop for Segments {
    fn drop(&mut self) {
        for name in ["metadata", "queues", "readers"] {
            let _ = std::fs::remove_file(format!("/dev/shm/squid-cf__{name}.shm"));
        }
    }
}
