// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a loop without an event sink writes to standard error when connections fail. Each test runs
//! its server in a process of its own, whose standard error it reads.

#[allow(dead_code, reason = "other test programs use the rest")]
#[path = "support/waiting.rs"]
mod waiting;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use netpoll::{BoxError, Builder, Connection, EventLoop, Listener, LoopHandle};
use socket2::SockRef;

use waiting::eventually;

/// The time after which a wait fails its test.
const LIMIT: Duration = Duration::from_secs(60);

/// The variable that marks a server process.
const SERVES: &str = "NETPOLL_TEST_FAILURE_LOG";

/// The failures of a burst.
const BURST: u64 = 100;

/// A process that runs the body of a test.
struct ServerProcess {
    child: Child,
    /// The body may end its server when this is closed.
    stdin: Option<ChildStdin>,
}

impl ServerProcess {
    /// Starts a process that runs the test called `name`. Returns `None` in that process.
    fn start(name: &str) -> Option<Self> {
        if std::env::var_os(SERVES).is_some() {
            return None;
        }
        let program = std::env::current_exe().expect("a program");
        let mut command = Command::new(program);
        let command = command.args(["--exact", name, "--nocapture"]);
        let piped = command
            .env(SERVES, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = piped.spawn().expect("a child");
        let stdin = child.stdin.take();
        Some(Self { child, stdin })
    }

    /// Returns the lines of the log, as they come.
    fn log(&mut self) -> Receiver<String> {
        let stderr = self.child.stderr.take().expect("a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines().map_while(Result::ok);
            let log = lines.filter(|line| line.starts_with("netpoll: "));
            log.for_each(|line| drop(sender.send(line)));
        });
        lines
    }

    /// Waits for the end of the process, whose test must pass.
    fn finish(mut self) -> String {
        self.stdin = None;
        let mut stdout = self.child.stdout.take().expect("a pipe");
        let (sender, said) = channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).expect("a text");
            drop(sender.send(text));
        });
        let said = said.recv_timeout(LIMIT).expect("a process that ends");
        assert!(said.contains("1 passed"), "{said}");
        said
    }

    /// Returns the whole log of a process that ends by itself.
    fn whole_log(mut self) -> Vec<String> {
        let lines = self.log();
        self.finish();
        lines.iter().collect()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both fail only if the child has exited already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A server in this process.
struct Server {
    addr: SocketAddr,
    handle: LoopHandle,
    thread: std::thread::JoinHandle<io::Result<()>>,
}

/// Fails in one of the ways that a byte names, and echoes others.
async fn echo_or_fail(conn: &mut Connection) -> Result<(), BoxError> {
    let (mut reader, mut writer) = conn.split();
    match reader.read_u8().await? {
        b'f' => Err("no such user\nor no such file".into()),
        b'p' => panic!("in the handler"),
        b'l' => Ok(reader.skip(101).await?),
        b'w' => Ok(reader.skip(50).await?),
        b'o' => {
            writer.put_slice(&[0; 200_000]);
            Ok(())
        }
        byte => {
            writer.put_u8(byte);
            Ok(())
        }
    }
}

impl Server {
    fn start(change: impl FnOnce(Builder) -> Builder) -> Self {
        let listener = Listener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let builder = EventLoop::builder()
            .pollers(1)
            .max_frame(100)
            .max_output(100_000)
            .on_request(echo_or_fail);
        let running = change(builder).listen(listener).build().expect("a loop");
        let handle = running.handle();
        Self {
            addr: addr.as_tcp().expect("TCP"),
            handle,
            thread: std::thread::spawn(move || running.run()),
        }
    }

    fn connect(&self) -> TcpStream {
        let peer = TcpStream::connect(self.addr).expect("a server");
        peer.set_read_timeout(Some(LIMIT)).expect("a timeout");
        peer
    }

    /// Sends `byte` on a new connection, waits until the server closes it, and returns the address
    /// of the peer.
    fn fail(&self, byte: u8) -> SocketAddr {
        let mut peer = self.connect();
        peer.write_all(&[byte]).expect("a server that reads");
        let _end = peer.read_to_end(&mut Vec::new());
        peer.local_addr().expect("a socket")
    }

    fn burst(&self) {
        for _ in 0..BURST {
            self.fail(b'f');
        }
    }

    fn finish(self) {
        assert_eq!(self.handle.shutdown(LIMIT).wait(), 0);
        self.thread.join().expect("no panic").expect("an end");
    }
}

/// Returns how many failures the line reports in all, if it reports those of a handler.
fn count(line: &str) -> u64 {
    let number = |text: &str| {
        text.split(' ')
            .next()
            .and_then(|number| number.parse().ok())
    };
    let more: Option<u64> = line.split_once("and ").and_then(|(_, more)| number(more));
    match line.contains(": handler failed: no such user or no such file (127.0.0.1:") {
        true => 1 + more.unwrap_or(0),
        false if line.ends_with(" more: handler failed") => more.expect("a number"),
        false => panic!("an unexpected line: {line}"),
    }
}

/// Checks the lines of a burst that took `seconds`.
fn check_burst(lines: &[String], seconds: u64) {
    let total: u64 = lines.iter().map(|line| count(line)).sum();
    assert_eq!(total, BURST, "{lines:?}");
    // One at once, one after each second, and the last count.
    assert!(lines.len() as u64 <= 2 + seconds, "{seconds} s: {lines:?}");
}

#[test]
fn a_burst_is_one_line_a_second_and_a_count_while_the_loop_runs() {
    let name = "a_burst_is_one_line_a_second_and_a_count_while_the_loop_runs";
    let Some(mut process) = ServerProcess::start(name) else {
        let server = Server::start(|builder| builder);
        server.burst();
        let _closed = io::stdin().read_to_end(&mut Vec::new());
        return server.finish();
    };
    let begun = Instant::now();
    let log = process.log();
    let mut lines = Vec::new();
    while lines.iter().map(|line: &String| count(line)).sum::<u64>() < BURST {
        lines.push(log.recv_timeout(LIMIT).expect("the count of the rest"));
    }
    check_burst(&lines, begun.elapsed().as_secs());
    process.finish();
    assert_eq!(log.recv_timeout(LIMIT), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn the_count_is_reported_at_the_end_of_the_loop() {
    let name = "the_count_is_reported_at_the_end_of_the_loop";
    let Some(process) = ServerProcess::start(name) else {
        let server = Server::start(|builder| builder);
        server.burst();
        return server.finish();
    };
    let begun = Instant::now();
    check_burst(&process.whole_log(), begun.elapsed().as_secs());
}

#[test]
fn each_kind_of_failure_has_a_line() {
    let name = "each_kind_of_failure_has_a_line";
    let Some(process) = ServerProcess::start(name) else {
        let server = Server::start(|builder| builder);
        for byte in [b'f', b'p', b'l', b'o'] {
            println!("peer {}", server.fail(byte));
        }
        return server.finish();
    };
    let mut process = process;
    let log = process.log();
    let said = process.finish();
    let peers: Vec<_> = said
        .lines()
        .filter_map(|line| Some(line.split_once("peer ")?.1))
        .collect();
    let lines: Vec<_> = log.iter().collect();
    let expected = [
        format!(
            "netpoll: handler failed: no such user or no such file ({}); connection closed; handle \
             the error in failure_log::echo_or_fail",
            peers[0]
        ),
        format!(
            "netpoll: handler panicked ({}); connection closed; the panic message tells where in \
             failure_log::echo_or_fail",
            peers[1]
        ),
        format!(
            "netpoll: frame of 101 bytes exceeds max_frame (100 bytes) of {}; connection closed; \
             check the client, or raise the limit",
            peers[2]
        ),
        format!(
            "netpoll: unsent output exceeds max_output of 100,000 bytes ({}); connection closed; \
             flush between puts, or raise max_output",
            peers[3]
        ),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn nothing_is_logged_after_a_sink_is_set() {
    let name = "nothing_is_logged_after_a_sink_is_set";
    let Some(process) = ServerProcess::start(name) else {
        let server = Server::start(|builder| builder.on_event(|_| {}));
        server.burst();
        server.fail(b'p');
        server.fail(b'l');
        return server.finish();
    };
    assert_eq!(process.whole_log(), [""; 0]);
}

#[test]
fn a_reset_a_fin_and_a_timeout_are_not_logged() {
    let name = "a_reset_a_fin_and_a_timeout_are_not_logged";
    let Some(process) = ServerProcess::start(name) else {
        let server = Server::start(|builder| builder.idle_timeout(Duration::from_millis(50)));
        for waits_for_handler in [false, true] {
            let mut peer = server.connect();
            if waits_for_handler {
                // The handler waits for the rest.
                peer.write_all(b"w").expect("a server that reads");
            }
            let ended = peer.try_clone().expect("a descriptor");
            let linger = SockRef::from(&peer).set_linger(Some(Duration::ZERO));
            linger.expect("a socket");
            drop((peer, ended));
            let mut peer = server.connect();
            peer.write_all(b"e").expect("a server that reads");
            peer.shutdown(std::net::Shutdown::Write).expect("a socket");
            peer.read_to_end(&mut Vec::new()).expect("an answer");
        }
        server.connect().read_to_end(&mut Vec::new()).ok();
        eventually("five ends", || server.handle.stats().closed.total() == 5);
        return server.finish();
    };
    assert_eq!(process.whole_log(), [""; 0]);
}

/// Writes to standard error until it takes no more. Returns once the pipe is full.
fn fill_stderr() {
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let mut stderr = std::fs::File::from(stderr.expect("a descriptor"));
    let written = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&written);
    std::thread::spawn(move || {
        while stderr.write_all(&[b'.'; 512]).is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut before = 0;
    eventually("a full pipe", || {
        std::thread::sleep(Duration::from_millis(200));
        let now = written.load(Ordering::SeqCst);
        std::mem::replace(&mut before, now) == now && now > 0
    });
}

/// Fails on several connections, and checks that another one is answered all the while.
fn serve_with_broken_log() {
    let server = Server::start(|builder| builder);
    let mut steady = server.connect();
    for _ in 0..20 {
        server.fail(b'f');
        server.fail(b'l');
        steady.write_all(b"x").expect("a server that reads");
        let mut answer = [0];
        steady.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, *b"x");
    }
    drop(steady);
    server.finish();
}

#[test]
fn a_full_pipe_stops_no_request() {
    let name = "a_full_pipe_stops_no_request";
    let Some(process) = ServerProcess::start(name) else {
        fill_stderr();
        return serve_with_broken_log();
    };
    // Nothing reads its standard error.
    process.finish();
}

#[test]
fn a_closed_pipe_stops_no_request() {
    let name = "a_closed_pipe_stops_no_request";
    let Some(mut process) = ServerProcess::start(name) else {
        // Once standard input is closed, standard error is, too.
        let _closed = io::stdin().read_to_end(&mut Vec::new());
        return serve_with_broken_log();
    };
    drop(process.child.stderr.take());
    process.finish();
}
