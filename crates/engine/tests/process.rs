//! The engine process: both halves over a socket, and a real child.

#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]
#![allow(clippy::print_stderr, reason = "the child half says why it ended")]

mod support;

use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use confide_engine::process::{
    ChatStream, ChildError, EngineClient, EngineCommand, EngineProcess, ProcessError, run_child, serve,
};
use confide_engine::protocol::{self, Blame, Event, Failure, Frame, FromEngine, RequestId, ToEngine};
use confide_engine::{
    ChatRequest, EngineError, FinishReason, MAX_ACTIVE, MAX_WAITING, MeasuredFiles, MemoryFiles, Message,
    ModelDirectory, ModelFiles, Usage,
};
use support::{Files, random};

/// How long a child may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

type Child = JoinHandle<Result<(), ChildError>>;

/// Runs the child half in a thread.
fn child(files: &Files) -> (UnixStream, Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let files = MemoryFiles::new(files.clone());
    (ours, std::thread::spawn(move || serve(theirs, files)))
}

async fn client(files: &Files) -> (EngineClient, Child) {
    let (socket, child) = child(files);
    (EngineClient::connect(socket, PATIENCE).await.unwrap(), child)
}

/// A request that runs for `tokens` tokens: the random model draws no end token.
fn request(tokens: u32) -> ChatRequest {
    ChatRequest { max_tokens: Some(tokens), ..ChatRequest::new(vec![Message::new("user", "abc")]) }
}

/// Text and end of a stream.
async fn drain(stream: &mut ChatStream) -> (String, Result<(FinishReason, Usage), Failure>) {
    let mut text = String::new();
    loop {
        match stream.next().await.expect("a stream ends with an event that says so") {
            Event::Text(delta) => text.push_str(&delta),
            Event::Finished { reason, usage } => return (text, Ok((reason, usage))),
            Event::Failed(failure) => return (text, Err(failure)),
        }
    }
}

/// A model without an end token, so that requests run to their limit.
fn endless() -> Files {
    let mut config = support::config("LlamaForCausalLM");
    config["eos_token_id"] = serde_json::Value::Null;
    config["max_position_embeddings"] = serde_json::json!(4096);
    support::checkpoint(&config, 7)
}

#[tokio::test]
async fn a_request_is_answered_and_the_child_ends_with_its_socket() {
    let files = endless();
    let (client, child) = client(&files).await;
    let manifest = MeasuredFiles::new(MemoryFiles::new(files)).into_manifest().unwrap();
    assert_eq!(client.manifest(), &manifest);
    assert_eq!(client.info().context_tokens, 4096);
    let mut stream = client.chat(None, request(9)).unwrap();
    let (text, end) = drain(&mut stream).await;
    assert!(!text.is_empty());
    let usage = Usage { prompt_tokens: 4, cached_tokens: 0, completion_tokens: 9 };
    assert_eq!(end, Ok((FinishReason::Length, usage)));
    assert!(stream.next().await.is_none());
    drop((stream, client));
    // The tasks of the client close the socket, so that this thread must not wait itself.
    tokio::task::spawn_blocking(|| child.join().unwrap()).await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_side_by_side_get_the_answers_they_get_alone() {
    let (client, _child) = client(&endless()).await;
    let mut alone = Vec::new();
    for tokens in [5, 40, 17] {
        alone.push(drain(&mut client.chat(None, request(tokens)).unwrap()).await.0);
    }
    let mut streams: Vec<_> = [5, 40, 17]
        .iter()
        .cycle()
        .take(MAX_ACTIVE + 40)
        .map(|tokens| client.chat(None, request(*tokens)).unwrap())
        .collect();
    for (index, stream) in streams.iter_mut().enumerate() {
        assert_eq!(drain(stream).await.0, alone[index % 3]);
    }
}

#[tokio::test]
async fn a_short_request_overtakes_a_long_one() {
    let (client, _child) = client(&endless()).await;
    let mut long = client.chat(None, request(4000)).unwrap();
    let mut short = client.chat(None, request(3)).unwrap();
    assert!(drain(&mut short).await.1.is_ok());
    drop(short);
    let mut seen = 0;
    while let Ok(Some(Event::Text(_))) = tokio::time::timeout(Duration::ZERO, long.next()).await {
        seen += 1;
    }
    assert!(seen < 3000, "the long request had {seen} tokens when the short one ended");
}

#[tokio::test]
async fn a_dropped_stream_stops_its_request() {
    let (socket, child) = child(&endless());
    let mut reader = socket.try_clone().unwrap();
    let Some(FromEngine::Ready(_)) = protocol::read(&mut reader).unwrap() else { panic!("not ready") };
    let send = |message: &ToEngine| Frame::encode(message).unwrap().write(&mut &socket).unwrap();
    send(&ToEngine::Chat { id: RequestId(1), holder: None, request: request(4000) });
    while let FromEngine::Working = protocol::read(&mut reader).unwrap().expect("an event") {}
    send(&ToEngine::Cancel { id: RequestId(1) });
    send(&ToEngine::Chat { id: RequestId(2), holder: None, request: request(1) });
    let mut late = 0;
    loop {
        match protocol::read(&mut reader).unwrap() {
            Some(FromEngine::Event { id: RequestId(1), event: Event::Text(_) }) => late += 1,
            Some(FromEngine::Event { id: RequestId(2), event: Event::Finished { .. } }) => break,
            Some(FromEngine::Event { id: RequestId(2), event: Event::Text(_) } | FromEngine::Working) => {}
            _ => panic!("the cancelled request ended in an event"),
        }
    }
    assert!(late < 1000, "{late} tokens after the cancellation");
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(protocol::read::<FromEngine>(&mut reader).is_err(), "the cancelled request goes on");
    socket.shutdown(std::net::Shutdown::Both).unwrap();
    child.join().unwrap().unwrap();
}

#[tokio::test]
async fn dropping_streams_frees_the_engine() {
    let (client, _child) = client(&endless()).await;
    let streams: Vec<_> = (0..3 * MAX_ACTIVE).map(|_| client.chat(None, request(4000)).unwrap()).collect();
    drop(streams);
    let answer = async { drain(&mut client.chat(None, request(5)).unwrap()).await.1.unwrap() };
    tokio::time::timeout(Duration::from_secs(5), answer)
        .await
        .expect("cancelled requests still hold the engine");
}

#[tokio::test]
async fn faults_of_a_request_blame_it() {
    let (client, _child) = client(&random("LlamaForCausalLM")).await;
    let fails = async |request: ChatRequest| match client.chat(None, request) {
        Ok(mut stream) => drain(&mut stream).await.1.unwrap_err(),
        Err(failure) => failure,
    };
    let long = fails(request(10_000)).await;
    assert_eq!((long.code.as_str(), long.blame), ("context_length_exceeded", Blame::Request));
    assert_eq!(
        long.message,
        "the context holds 256 tokens; the prompt has 4 and the completion may take 10000"
    );
    assert_eq!(fails(ChatRequest::new(vec![])).await.code, "request_invalid");
    assert_eq!(fails(request(0)).await.code, "request_invalid");
    let huge = ChatRequest::new(vec![Message::new("user", "x".repeat(protocol::MAX_FRAME))]);
    assert_eq!(fails(huge).await.code, "request_too_large");
    assert!(
        drain(&mut client.chat(None, request(3)).unwrap()).await.1.is_ok(),
        "the engine survives all of them"
    );
}

#[tokio::test]
async fn too_many_requests_are_refused_and_the_rest_run() {
    let (client, _child) = client(&endless()).await;
    let long: Vec<_> = (0..MAX_ACTIVE).map(|_| client.chat(None, request(4000)).unwrap()).collect();
    let mut short: Vec<_> = (0..MAX_WAITING + 10).map(|_| client.chat(None, request(2)).unwrap()).collect();
    for stream in short.drain(MAX_WAITING..) {
        let failure = drain(&mut { stream }).await.1.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.blame), ("engine_busy", Blame::Engine));
    }
    drop(long);
    for stream in &mut short {
        assert!(drain(stream).await.1.is_ok());
    }
}

#[tokio::test]
async fn a_model_that_does_not_load_is_said_to_the_guest() {
    let mut files = random("LlamaForCausalLM");
    files.remove("tokenizer.json");
    let (socket, child) = child(&files);
    match EngineClient::connect(socket, PATIENCE).await.map(|_| ()) {
        Err(ProcessError::Refused(failure)) => assert_eq!(failure.code, "model_file_missing"),
        _ => panic!("a model without tokenizer must be refused"),
    }
    assert!(matches!(child.join().unwrap(), Err(ChildError::Model(_))));
}

/// Files on which a library panics.
struct Panicking;

impl ModelFiles for Panicking {
    fn names(&self) -> Vec<String> {
        vec!["config.json".to_owned()]
    }

    fn read(&mut self, _: &str) -> Result<Vec<u8>, EngineError> {
        panic!("a library")
    }
}

#[tokio::test]
async fn a_panic_while_the_model_is_loaded_is_said_to_the_guest() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = std::thread::spawn(move || serve(theirs, Panicking));
    match EngineClient::connect(ours, PATIENCE).await.map(|_| ()) {
        Err(ProcessError::Refused(failure)) => assert_eq!(failure.code, "model_load_panicked"),
        _ => panic!("files on which a library panics must be refused"),
    }
    assert!(matches!(child.join().unwrap(), Err(ChildError::Model(EngineError::LoadPanicked))));
}

#[tokio::test]
async fn a_guest_that_breaks_the_protocol_ends_the_child() {
    let twice = || {
        let chat = ToEngine::Chat { id: RequestId(1), holder: None, request: request(100) };
        [Frame::encode(&chat).unwrap().as_bytes(), Frame::encode(&chat).unwrap().as_bytes()].concat()
    };
    let oversized = (u32::try_from(protocol::MAX_FRAME).unwrap() + 1).to_be_bytes().to_vec();
    for bytes in [b"\0\0\0\x03abc".to_vec(), oversized, twice()] {
        let (mut socket, child) = child(&endless());
        std::io::Write::write_all(&mut socket, &bytes).unwrap();
        let mut reader = socket.try_clone().unwrap();
        while let Ok(Some(_)) = protocol::read::<FromEngine>(&mut reader) {}
        assert!(matches!(child.join().unwrap(), Err(ChildError::Protocol(_))));
    }
}

#[tokio::test]
async fn a_child_that_breaks_the_protocol_fails_every_request() {
    let ready = |files: &Files| {
        let (mut socket, _child) = child(files);
        protocol::read::<FromEngine>(&mut socket).unwrap().unwrap()
    };
    let oversized = (u32::try_from(protocol::MAX_FRAME).unwrap() + 1).to_be_bytes().to_vec();
    let ready = ready(&endless());
    let again = Frame::encode(&ready).unwrap().as_bytes().to_vec();
    for bytes in [b"\0\0\0\x03abc".to_vec(), oversized, again] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        Frame::encode(&ready).unwrap().write(&mut theirs).unwrap();
        let client = EngineClient::connect(ours, PATIENCE).await.unwrap();
        let mut stream = client.chat(None, request(5)).unwrap();
        std::io::Write::write_all(&mut theirs, &bytes).unwrap();
        assert_eq!(drain(&mut stream).await.1.unwrap_err().code, "engine_protocol");
        assert_eq!(client.closed().await.code, "engine_protocol");
        assert_eq!(client.chat(None, request(5)).map(|_| ()).unwrap_err().code, "engine_protocol");
    }
}

/// A child that has loaded its model and does nothing, and the guest's half.
async fn idle(patience: Duration) -> (UnixStream, EngineClient) {
    let (mut socket, _child) = child(&endless());
    let ready = protocol::read::<FromEngine>(&mut socket).unwrap().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    Frame::encode(&ready).unwrap().write(&mut theirs).unwrap();
    (theirs, EngineClient::connect(ours, patience).await.unwrap())
}

#[tokio::test]
async fn a_child_that_hangs_fails_what_waits_for_it() {
    let (mut theirs, client) = idle(Duration::from_millis(100)).await;
    let mut streams = [client.chat(None, request(5)).unwrap(), client.chat(None, request(5)).unwrap()];
    for stream in &mut streams {
        let failed = tokio::time::timeout(PATIENCE, drain(stream)).await.expect("the silence is noticed");
        let failure = failed.1.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.blame), ("engine_stalled", Blame::Engine));
    }
    assert_eq!(client.closed().await.code, "engine_stalled");
    assert_eq!(client.chat(None, request(5)).map(|_| ()).unwrap_err().code, "engine_stalled");
    let ended = tokio::task::spawn_blocking(move || {
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut theirs, &mut rest)
    });
    tokio::time::timeout(PATIENCE, ended).await.expect("its socket is closed").unwrap().unwrap();
}

#[tokio::test]
async fn a_child_that_works_in_silence_or_has_nothing_to_do_is_not_hung() {
    let patience = Duration::from_millis(300);
    let (mut theirs, client) = idle(patience).await;
    tokio::time::sleep(2 * patience).await;
    let mut stream = client.chat(None, request(5)).unwrap();
    for _ in 0..20 {
        Frame::encode(&FromEngine::Working).unwrap().write(&mut theirs).unwrap();
        tokio::time::sleep(patience / 10).await;
    }
    let (reason, usage) = (FinishReason::Stop, Usage::default());
    let finished = FromEngine::Event { id: RequestId(1), event: Event::Finished { reason, usage } };
    Frame::encode(&finished).unwrap().write(&mut theirs).unwrap();
    assert_eq!(drain(&mut stream).await.1, Ok((reason, usage)));
}

#[tokio::test]
async fn garbage_instead_of_a_model_is_an_error() {
    for bytes in [&b"\0\0\0\x03abc"[..], b"\xff\xff\xff\xff", b"\0\0"] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut theirs, bytes).unwrap();
        drop(theirs);
        assert!(matches!(
            EngineClient::connect(ours, PATIENCE).await.map(|_| ()),
            Err(ProcessError::Protocol(_))
        ));
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert!(matches!(EngineClient::connect(ours, PATIENCE).await.map(|_| ()), Err(ProcessError::Exited)));
}

/// Makes the real child panic after it has ended its work.
const PANIC: &str = "CONFIDE_TEST_PANIC";
/// Where the real child finds its model.
const MODEL: &str = "CONFIDE_TEST_MODEL";

/// The child of the tests below: they start this very test program again, with this test alone.
#[test]
#[ignore = "runs as the child process of other tests"]
fn child_process() {
    let model = std::env::var_os(MODEL).expect("started by another test");
    let panic = std::env::var_os(PANIC);
    let names: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
    assert!(
        names.iter().all(|name| [MODEL, PANIC].map(Into::into).contains(name)),
        "the environment holds more than the command names: {names:?}"
    );
    // In the place of what confines it: any descriptor goes to the other end.
    let confine = || std::io::stdin().as_fd().try_clone_to_owned();
    if let Err(error) = run_child(Path::new(&model), confine) {
        eprintln!("{error:?}");
        std::process::exit(1);
    }
    assert_eq!(rustix::process::dumpable_behavior(), Ok(rustix::process::DumpableBehavior::NotDumpable));
    assert_eq!(open_files(std::process::id()), [] as [PathBuf; 0], "descriptors beside the standard streams");
    if panic.is_some() {
        panic!("a prompt");
    }
}

/// What a process has open beside its standard streams, but for a folder of descriptors that it reads.
fn open_files(process: u32) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().map(|entry| entry.unwrap().path());
    let beside = entries.filter(|entry| {
        let number: u32 = entry.file_name().unwrap().to_str().unwrap().parse().unwrap();
        number > 2
    });
    beside.filter_map(|entry| std::fs::read_link(entry).ok()).filter(|file| !file.ends_with("fd")).collect()
}

fn command(model: &Path) -> EngineCommand {
    EngineCommand {
        program: std::env::current_exe().unwrap(),
        arguments: ["--exact", "child_process", "--ignored", "--nocapture"].map(Into::into).into(),
        environment: vec![(MODEL.to_owned(), model.to_str().unwrap().to_owned())],
        patience: PATIENCE,
        user: None,
    }
}

fn folder(files: &Files) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

#[tokio::test]
async fn a_real_child_answers_and_its_death_fails_what_runs() {
    let folder = folder(&endless());
    let mut process = EngineProcess::spawn(&command(folder.path())).await.unwrap();
    assert!(process.supervisor().is_some() && process.supervisor().is_none(), "handed over once");
    let manifest = MeasuredFiles::new(ModelDirectory::open(folder.path()).unwrap()).into_manifest().unwrap();
    assert_eq!(process.client().manifest(), &manifest);
    assert!(drain(&mut process.client().chat(None, request(4)).unwrap()).await.1.is_ok());

    let mut stream = process.client().chat(None, request(4000)).unwrap();
    assert!(matches!(stream.next().await, Some(Event::Text(_))));
    let id = i32::try_from(process.id().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    let failure = drain(&mut stream).await.1.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.blame), ("engine_exited", Blame::Engine));
    assert_eq!(process.client().closed().await, failure);
    assert_eq!(process.client().chat(None, request(4)).map(|_| ()).unwrap_err(), failure);
    assert!(!process.exited().await.unwrap().success());
}

#[tokio::test]
async fn a_child_runs_as_the_user_that_it_is_told_and_in_no_group_of_another() {
    if !rustix::process::geteuid().is_root() {
        println!("not run: a child as another user: these tests do not run as root");
        return;
    }
    let folder = folder(&endless());
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), readable).unwrap();
    let command = EngineCommand { user: Some(54_321), ..command(folder.path()) };
    let process = EngineProcess::spawn(&command).await.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id().unwrap())).unwrap();
    let ids = ["54321"; 4].join("\t");
    for line in [format!("Uid:\t{ids}"), format!("Gid:\t{ids}"), "Groups:\t ".to_owned()] {
        assert!(status.lines().any(|found| found == line), "{line:?} in {status}");
    }
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
}

#[tokio::test]
async fn a_child_keeps_no_descriptor_that_was_left_open_to_it() {
    let folder = folder(&endless());
    let beside = tempfile::NamedTempFile::new().unwrap();
    let stray = beside.path().canonicalize().unwrap();
    // Without CLOEXEC, as files of a library or of whoever started the guest may be.
    rustix::io::fcntl_setfd(beside.as_file(), rustix::io::FdFlags::empty()).unwrap();
    let control = format!("readlink /proc/self/fd/{}", beside.as_file().as_raw_fd());
    let control = std::process::Command::new("sh").args(["-c", &control]).output().unwrap();
    assert_eq!(
        String::from_utf8(control.stdout).unwrap().trim(),
        stray.to_str().unwrap(),
        "others inherit it"
    );

    let process = EngineProcess::spawn(&command(folder.path())).await.unwrap();
    let open = open_files(process.id().unwrap());
    assert!(!open.contains(&stray), "{open:?}");
    let model = folder.path().canonicalize().unwrap();
    // The socket is standard input, and what is read from and written to is a second descriptor of it.
    let others = open.iter().filter(|file| !file.starts_with(&model));
    let others: Vec<_> = others.map(|file| file.to_string_lossy()).collect();
    assert!(matches!(&others[..], [socket] if socket.starts_with("socket:")), "{open:?}");
    assert!(drain(&mut process.client().chat(None, request(4)).unwrap()).await.1.is_ok());
}

/// Reads past the byte with which the child hands a descriptor over; reading drops the descriptor.
fn handed_over(socket: &mut UnixStream) {
    socket.read_exact(&mut [0]).unwrap();
}

/// Runs a real child until it is ready, closes its socket, and returns how it ended and what it printed.
fn run_to_the_end(environment: &[(&str, &Path)]) -> std::process::Output {
    let command = command(Path::new("/"));
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let child = std::process::Command::new(command.program)
        .args(command.arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    handed_over(&mut ours);
    assert!(matches!(protocol::read(&mut ours).unwrap(), Some(FromEngine::Ready(_))));
    drop(ours);
    child.wait_with_output().unwrap()
}

#[test]
fn a_real_child_ends_with_its_socket_and_leaves_no_dump() {
    let folder = folder(&endless());
    let output = run_to_the_end(&[(MODEL, folder.path())]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_panic_of_the_child_ends_it_and_nothing_that_it_prints_is_read() {
    let folder = folder(&endless());
    let output = run_to_the_end(&[(MODEL, folder.path()), (PANIC, Path::new("1"))]);
    assert_eq!(output.status.code(), Some(101));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "its standard error was left open to it");
}

#[test]
fn a_child_dies_with_the_thread_that_started_it() {
    let folder = folder(&endless());
    let command = command(folder.path());
    // This thread ends without closing the socket, as a killed guest whose descriptors somebody else still holds.
    let started = std::thread::spawn(move || {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let child = std::process::Command::new(command.program)
            .args(command.arguments)
            .env_clear()
            .envs(command.environment)
            .stdin(std::os::fd::OwnedFd::from(theirs))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        handed_over(&mut ours);
        assert!(matches!(protocol::read(&mut ours).unwrap(), Some(FromEngine::Ready(_))));
        (child, ours)
    });
    let (mut child, _socket) = started.join().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap());
    assert_eq!(signal, Some(9));
}

#[tokio::test]
async fn a_tokenizer_that_panics_on_a_prompt_fails_the_request_and_not_the_child() {
    let mut files = endless();
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&files["tokenizer.json"]).unwrap();
    tokenizer["normalizer"] =
        serde_json::json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "x"});
    files.insert("tokenizer.json".to_owned(), serde_json::to_vec(&tokenizer).unwrap());
    let folder = folder(&files);
    let process = EngineProcess::spawn(&command(folder.path())).await.unwrap();
    for _ in 0..3 {
        let failure = drain(&mut process.client().chat(None, request(4)).unwrap()).await.1.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.blame), ("tokenizer_invalid", Blame::Engine));
    }
    let ended = tokio::time::timeout(Duration::from_millis(100), process.client().closed()).await;
    assert!(ended.is_err(), "the child goes on");
}

#[tokio::test]
async fn dropping_the_process_ends_the_child() {
    let folder = folder(&endless());
    let process = EngineProcess::spawn(&command(folder.path())).await.unwrap();
    let client = process.client().clone();
    drop(process);
    let closed = tokio::time::timeout(Duration::from_secs(5), client.closed());
    assert_eq!(closed.await.expect("the child must be killed").code, "engine_exited");
}

#[tokio::test]
async fn programs_and_folders_that_are_not_there_are_errors() {
    let mut missing = command(Path::new("/nonexistent"));
    match EngineProcess::spawn(&missing).await.map(|_| ()) {
        Err(ProcessError::Refused(failure)) => assert_eq!(failure.code, "model_unreadable"),
        _ => panic!("a missing folder must be refused"),
    }
    missing.program = "/nonexistent".into();
    assert!(matches!(EngineProcess::spawn(&missing).await.map(|_| ()), Err(ProcessError::Spawn(_))));
    let quiet = EngineCommand { program: "/bin/true".into(), arguments: vec![], ..missing.clone() };
    assert!(matches!(EngineProcess::spawn(&quiet).await.map(|_| ()), Err(ProcessError::Exited)));
}
