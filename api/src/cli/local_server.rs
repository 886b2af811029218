//! Home servers as child processes in temporary directories, for the demo and the bench.
//!
//! They are killed and their directories removed when dropped, whatever happened before.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
};

use super::failure::Failure;

/// What a server prints before the address of its API.
const READY: &str = "listening on ";
const START_DEADLINE: Duration = Duration::from_secs(15);
/// How long a killed process may take to be gone.
const END_DEADLINE: Duration = Duration::from_secs(2);
/// Lines of a failed server's log that are shown.
const LOG_LINES: usize = 5;
/// Any free port.
const ANY_PORT: &str = "127.0.0.1:0";

/// A home server of this program in a process of its own, on loopback.
#[derive(Debug)]
pub(super) struct LocalServer {
    name: String,
    // Before the directory, which must outlive the process.
    child: Child,
    address: SocketAddr,
    unlock: Unlock,
    /// Where its metrics are served, if they are.
    metrics: Option<SocketAddr>,
    directory: TempDir,
}

/// How its accounts come back when it starts again.
#[derive(Debug, Clone, Copy)]
enum Unlock {
    /// With the next call of each.
    ByCall,
    /// All by themselves.
    ByKeyFile,
}

impl LocalServer {
    /// Starts a server with an empty data directory and waits until it listens.
    ///
    /// # Errors
    /// When it does not start; with the end of its log.
    pub(super) async fn start(name: &str) -> Result<Self, Failure> {
        Self::start_as(name, Unlock::ByCall, None).await
    }

    /// The same, with metrics that can be read.
    ///
    /// # Errors
    /// When it does not start; with the end of its log.
    pub(super) async fn start_measured(name: &str) -> Result<Self, Failure> {
        let free = TcpListener::bind(ANY_PORT).await.and_then(|listener| listener.local_addr());
        let free = free.map_err(|error| fault(name, &format!("finds no port: {error}")))?;
        Self::start_as(name, Unlock::ByCall, Some(free)).await
    }

    /// The same with an unlock key, so that accounts come back without a call.
    ///
    /// # Errors
    /// When it does not start; with the end of its log.
    pub(super) async fn start_with_unlock_key(name: &str) -> Result<Self, Failure> {
        Self::start_as(name, Unlock::ByKeyFile, None).await
    }

    async fn start_as(name: &str, unlock: Unlock, metrics: Option<SocketAddr>) -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("spacepanda-")
            .tempdir()
            .map_err(|error| fault(name, &format!("no temporary directory: {error}")))?;
        let command = command(&directory, ANY_PORT, unlock, metrics);
        let (child, address) = launch(name, &directory, command, START_DEADLINE).await?;
        Ok(Self { name: name.to_owned(), child, address, unlock, metrics, directory })
    }

    /// The URL of its API.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process, while it runs.
    pub(super) fn process_id(&self) -> Option<u32> {
        self.child.id()
    }

    /// A metric without labels, of a server that was started measured.
    ///
    /// # Errors
    /// When it does not answer, or has no such metric.
    pub(super) async fn metric(&self, name: &str) -> Result<f64, Failure> {
        let text = self.metrics_text().await.unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.and_then(|value| value.trim().parse().ok());
        value.ok_or_else(|| fault(&self.name, &format!("does not tell {name}")))
    }

    async fn metrics_text(&self) -> Option<String> {
        let mut stream = TcpStream::connect(self.metrics?).await.ok()?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    }

    /// Ends it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| fault(&self.name, &format!("cannot be killed: {error}")))
    }

    /// Starts it again on the same data and the same address.
    ///
    /// # Errors
    /// When it does not start; with the end of its log.
    pub(super) async fn restart(&mut self) -> Result<(), Failure> {
        self.restart_within(START_DEADLINE).await
    }

    /// The same, for a server that has much to do before it listens.
    ///
    /// # Errors
    /// When it does not start; with the end of its log.
    pub(super) async fn restart_within(&mut self, deadline: Duration) -> Result<(), Failure> {
        let listen = self.address.to_string();
        let command = command(&self.directory, &listen, self.unlock, self.metrics);
        let (child, address) = launch(&self.name, &self.directory, command, deadline).await?;
        self.child = child;
        self.address = address;
        Ok(())
    }

    /// How many lines of its log hold this text.
    pub(super) fn logged(&self, text: &str) -> usize {
        log(&self.directory).lines().filter(|line| line.contains(text)).count()
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        // A process that still writes would leave files behind in the directory.
        let _ = self.child.start_kill();
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < END_DEADLINE {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

async fn launch(
    name: &str,
    directory: &TempDir,
    command: io::Result<Command>,
    deadline: Duration,
) -> Result<(Child, SocketAddr), Failure> {
    let started = command.and_then(|mut command| command.spawn());
    let mut child = started.map_err(|error| fault(name, &format!("did not start: {error}")))?;
    let output = child.stdout.take().ok_or_else(|| fault(name, "has no output"))?;
    let mut lines = BufReader::new(output).lines();
    match tokio::time::timeout(deadline, address(&mut lines)).await {
        Ok(Some(address)) => {
            // A full pipe would stop the server.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            Ok((child, address))
        }
        Ok(None) => Err(fault(name, &format!("ended at its start:\n{}", log_end(directory)))),
        Err(_) => Err(fault(name, &format!("did not listen in time:\n{}", log_end(directory)))),
    }
}

fn command(
    directory: &TempDir,
    listen: &str,
    unlock: Unlock,
    metrics: Option<SocketAddr>,
) -> io::Result<Command> {
    let log = File::options().create(true).append(true).open(directory.path().join("log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    // The user's own settings are for the user's own server.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SPACEPANDA_") {
            command.env_remove(name);
        }
    }
    command.arg("serve");
    if let Unlock::ByKeyFile = unlock {
        command.arg("--unlock-key-file").arg(directory.path().join("unlock.key"));
    }
    command
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .args(["--listen", listen, "--peer-listen", "/ip4/127.0.0.1/tcp/0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true);
    if let Some(metrics) = metrics {
        command.args(["--metrics-listen", &metrics.to_string()]);
    }
    Ok(command)
}

async fn address(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<SocketAddr> {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = parse_ready(&line) {
            return Some(address);
        }
    }
    None
}

fn parse_ready(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(READY)?;
    let word = rest.split_whitespace().next()?;
    let word = word.strip_prefix("http://").unwrap_or(word);
    word.trim_end_matches(['.', ',', '/']).parse().ok()
}

fn log(directory: &TempDir) -> String {
    let log = fs::read(directory.path().join("log")).unwrap_or_default();
    String::from_utf8_lossy(&log).into_owned()
}

fn log_end(directory: &TempDir) -> String {
    let log = log(directory);
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
}

fn fault(name: &str, what: &str) -> Failure {
    Failure::local_fault("LOCAL_SERVER", format!("the server of {name} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_understood() {
        let expected = Some("127.0.0.1:50051".parse().unwrap());
        assert_eq!(parse_ready("listening on 127.0.0.1:50051"), expected);
        assert_eq!(parse_ready("SpacePanda is listening on http://127.0.0.1:50051/."), expected);
        assert_eq!(parse_ready("listening on somewhere"), None);
        assert_eq!(parse_ready("data in /tmp/x"), None);
    }

    #[test]
    fn the_end_of_a_log_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(log_end(&directory), "");
        fs::write(directory.path().join("log"), "1\n2\n3\n4\n5\n6\n").unwrap();
        assert_eq!(log_end(&directory), "2\n3\n4\n5\n6");
    }
}
