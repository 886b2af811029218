//! A home server as a process: started, stopped, paused, killed, started again on the same ports.
//!
//! It must not reach into the data directory; stories that do say so.

use std::{
    fs::{self, File, OpenOptions},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use super::{
    fault::Board,
    http,
    wait::{wait_until, when, within},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_spacepanda-under-test");
/// Read by the program under test alone: milliseconds.
const CLOCK_AHEAD: &str = "UNDER_TEST_CLOCK_AHEAD_MS";
const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(10);
const LOG_TAIL_LINES: usize = 40;

/// How a server is started.
#[derive(Default)]
pub(crate) struct Plan {
    name: String,
    flags: Vec<String>,
    variables: Vec<(String, PathBuf)>,
    seat: Option<(Arc<Board>, usize)>,
    ignores_file_limits: bool,
    everywhere: bool,
}

impl Plan {
    /// Adds flags of `serve`.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(ToString::to_string));
        self
    }

    /// Serves metrics on a free port.
    pub(crate) fn metrics(self) -> Self {
        self.flags(&["--metrics-listen", "127.0.0.1:0"])
    }

    /// Sets a variable of the environment.
    pub(crate) fn variable(mut self, name: &str, value: &Path) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Takes a seat at the fault board, which must know the process to cut its links.
    pub(crate) fn seat(mut self, board: Arc<Board>, seat: usize) -> Self {
        let announce = format!("/ip4/127.0.0.1/tcp/{}", board.proxy_port(seat));
        self.seat = Some((board, seat));
        self.flags(&["--announce", &announce])
    }

    /// Listens on every address of the machine, in plaintext: other rules hold there than on loopback.
    pub(crate) fn everywhere(mut self) -> Self {
        self.everywhere = true;
        self.flags(&["--allow-plaintext"])
    }

    /// Lets a write beyond [`Server::limit_files`] fail, as on a full disk, instead of ending the process.
    pub(crate) fn survives_file_limits(mut self) -> Self {
        self.ignores_file_limits = true;
        self
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(self) -> Server {
        let mut dir = TempDir::with_prefix("spacepanda-test-").expect("a directory");
        dir.disable_cleanup(std::env::var_os("KEEP_TEST_DIRS").is_some());
        let server = Server(Arc::new(Inner { plan: self, dir, process: Mutex::default() }));
        server.spawn().await;
        server
    }
}

/// A running, paused or dead server; clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

struct Inner {
    plan: Plan,
    dir: TempDir,
    process: Mutex<Process>,
}

#[derive(Default)]
struct Process {
    child: Option<Child>,
    address: Option<SocketAddr>,
    /// How far its wall clock is ahead.
    ahead: Duration,
}

impl Server {
    /// A server to be, with the name that failures print.
    pub(crate) fn plan(name: &str) -> Plan {
        Plan { name: name.into(), ..Plan::default() }
    }

    /// Starts a server without extra flags.
    pub(crate) async fn start(name: &str) -> Self {
        Self::plan(name).start().await
    }

    /// Where its API listens; the same after a restart.
    pub(crate) fn address(&self) -> SocketAddr {
        self.process().address.expect("the server has listened")
    }

    /// A new connection to the API, made on first use and again after a loss.
    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address()))
            .expect("an address")
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(30))
            .connect_lazy()
    }

    /// The process id.
    pub(crate) fn process_id(&self) -> u32 {
        self.process().child.as_ref().expect("a process").id()
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.0.dir.path().join("data")
    }

    /// Everything the server wrote to standard error: its log.
    pub(crate) fn log(&self) -> String {
        read(&self.0.dir.path().join("stderr"))
    }

    /// Everything the server wrote to standard output.
    pub(crate) fn printed(&self) -> String {
        read(&self.0.dir.path().join("stdout"))
    }

    /// The Prometheus text; needs [`Plan::metrics`].
    pub(crate) async fn metrics(&self) -> String {
        let what = format!("the metrics of {}", self.0.plan.name);
        wait_until(&what, async || {
            let printed = self.printed();
            let (_, since_start) = printed.rsplit_once("listening on ").ok_or("not started")?;
            let url = since_start.lines().find_map(|line| line.strip_prefix("metrics on http://"));
            let address = url.and_then(|url| url.strip_suffix("/metrics")?.parse().ok());
            let address = address.ok_or_else(|| since_start.to_owned())?;
            let answer = http::get(address, "/metrics").await.map_err(|error| error.to_string())?;
            when(answer.status() == Some(200), &answer.head)?;
            Ok(answer.body_text())
        })
        .await
    }

    /// Fails if this process has ever seen or tried the reuse of a message key.
    pub(crate) async fn assert_no_key_reuse(&self) {
        let metrics = self.metrics().await;
        let line = metrics.lines().find(|line| line.contains("reason=\"key_reuse\""));
        let line = line.expect("the reuse of keys is counted");
        assert!(line.ends_with(" 0"), "{} saw a message key used twice: {line}", self.0.plan.name);
    }

    /// SIGKILL, and wait until the process is gone.
    pub(crate) fn kill_9(&self) {
        let mut process = self.process();
        if let Some(mut child) = process.child.take() {
            child.kill().expect("SIGKILL");
            child.wait().expect("reaped");
        }
    }

    /// SIGTERM; it must exit 0 within 10 s.
    pub(crate) async fn stop(&self) {
        self.stop_within(STOP_WITHIN).await;
    }

    /// SIGTERM; it must exit 0 in this time.
    pub(crate) async fn stop_within(&self, deadline: Duration) {
        self.signal("TERM");
        let status = self.exit_within(deadline).await;
        assert_eq!(status.code(), Some(0), "{} after SIGTERM", self.0.plan.name);
    }

    /// SIGSTOP: alive, but silent.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    /// Starts it again on the same port and data directory; stops it first if it runs.
    pub(crate) async fn restart(&self) {
        if self.process().child.is_some() {
            self.stop().await;
        }
        self.spawn().await;
    }

    /// From its next start on, its wall clock is this far ahead.
    pub(crate) fn clock_ahead(&self, by: Duration) {
        self.process().ahead = by;
    }

    /// Waits until the process ends by itself or by a signal.
    pub(crate) async fn exit_within(&self, deadline: Duration) -> ExitStatus {
        let status = within(deadline, &format!("{} to exit", self.0.plan.name), async || {
            let mut process = self.process();
            let child = process.child.as_mut().expect("a process");
            child.try_wait().expect("waiting").ok_or_else(|| String::from("it still runs"))
        })
        .await;
        self.process().child = None;
        status
    }

    /// The command that starts a server on this data directory, listening elsewhere.
    pub(crate) fn command(&self) -> Command {
        serve(&self.data_dir(), None)
    }

    /// From now on no file of the running server may grow beyond this many bytes; `None` lifts it.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) {
        let id = self.process_id().to_string();
        let limit = bytes.map_or_else(|| "unlimited".into(), |bytes| bytes.to_string());
        let limit = format!("--fsize={limit}:unlimited");
        let status = Command::new("prlimit").args(["--pid", &id, &limit]).status();
        assert!(
            status.expect("prlimit, of util-linux, is needed to fill a disk").success(),
            "prlimit {limit}"
        );
    }

    fn signal(&self, signal: &str) {
        let id = self.process_id();
        // The shell's own kill: no machine is without it, and no unsafe call is needed.
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status();
        assert!(status.expect("sh").success(), "SIG{signal}");
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.0.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it again with more flags.
    pub(crate) async fn restart_with(&self, flags: &[&str]) {
        self.stop().await;
        self.spawn_with(flags).await;
    }

    async fn spawn(&self) {
        self.spawn_with(&[]).await;
    }

    async fn spawn_with(&self, flags: &[&str]) {
        let known = self.process().address;
        let printed_before = self.printed().len();
        let everywhere = self.0.plan.everywhere.then_some(SocketAddr::from(([0, 0, 0, 0], 0)));
        let mut command = serve(&self.data_dir(), known.or(everywhere));
        command.args(&self.0.plan.flags).args(flags).envs(self.0.plan.variables.iter().cloned());
        command.env(CLOCK_AHEAD, self.process().ahead.as_millis().to_string());
        if self.0.plan.ignores_file_limits {
            command = ignoring_file_limits(&command);
        }
        let child = command
            .stdout(append(&self.0.dir.path().join("stdout")))
            .stderr(append(&self.0.dir.path().join("stderr")))
            .spawn()
            .expect("the program starts");
        if let Some((board, seat)) = &self.0.plan.seat {
            board.seated(*seat, child.id());
        }
        self.process().child = Some(child);

        let what = format!("{} to listen", self.0.plan.name);
        let address = within(START_WITHIN, &what, async || {
            let printed = self.printed();
            if let Some(address) = listening(printed.get(printed_before..).unwrap_or_default()) {
                return Ok(address);
            }
            let mut process = self.process();
            let ended = process.child.as_mut().expect("a process").try_wait().expect("waiting");
            if let Some(status) = ended {
                panic!("{} ended at once: {status}", self.0.plan.name);
            }
            Err(printed)
        })
        .await;
        self.process().address = Some(address);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = process.child.take() {
            // It may have ended already; there is nobody to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for stream in ["stdout", "stderr"] {
                let path = self.dir.path().join(stream);
                eprintln!("--- {} of {} ---\n{}", stream, self.plan.name, tail(&read(&path)));
            }
        }
    }
}

/// Runs the program with these arguments to its end.
pub(crate) async fn run(arguments: &[&str]) -> Output {
    let mut command = program();
    command.args(arguments);
    ends_within(START_WITHIN, command).await
}

/// Runs a command that must end by itself in time; else it is killed and the test fails.
pub(crate) async fn ends_within(deadline: Duration, command: Command) -> Output {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(deadline, command.output()).await;
    output.unwrap_or_else(|_| panic!("still running after {deadline:?}: {command:?}")).expect("it starts")
}

/// The program, free of the environment's own settings.
pub(crate) fn program() -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SPACEPANDA_")) {
        command.env_remove(name);
    }
    // Nor of the settings of whoever runs the tests.
    command.env("NO_COLOR", "1").env("XDG_CONFIG_HOME", "/nonexistent").env_remove("CREDENTIALS_DIRECTORY");
    command
}

/// A loopback port that nobody listened on a moment ago.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// Checks that a process ended with this code; for `Output` of [`run`].
pub(crate) fn assert_exit(output: &Output, code: i32) {
    let printed = String::from_utf8_lossy(&output.stderr);
    when(output.status.code() == Some(code), format!("{:?}: {printed}", output.status)).expect("exit code");
}

fn serve(data_dir: &Path, address: Option<SocketAddr>) -> Command {
    let listen = address.map_or_else(|| "127.0.0.1:0".into(), |address| address.to_string());
    let mut command = program();
    command.arg("serve").arg("--data-dir").arg(data_dir);
    command.args(["--listen", &listen, "--peer-listen", "/ip4/127.0.0.1/tcp/0"]);
    command
}

/// The same command under a shell that ignores the signal about files over their limit, which is inherited.
fn ignoring_file_limits(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// The address in a complete line `listening on ADDRESS`.
fn listening(printed: &str) -> Option<SocketAddr> {
    let (complete, _) = printed.rsplit_once('\n')?;
    let line = complete.lines().find_map(|line| line.split_once("listening on "))?;
    let word = line.1.split_whitespace().next()?;
    word.rsplit('/').next()?.parse().ok()
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("a log file")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
