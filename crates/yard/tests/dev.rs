//! `yard dev` as a user runs it, on child processes: no Python, no network.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

/// `yard dev` in a folder of its own, with nothing of ours in its environment.
fn dev(folder: &Path, listen: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yard"));
    command.args(["dev", "--listen", &listen.to_string(), "--dir"]).arg(folder).args(arguments);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("YARD")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Below the ports that the kernel gives to connections, so that none takes it before the program does.
fn free_address() -> SocketAddr {
    loop {
        let dice = RandomState::new().build_hasher().finish();
        let port = 12_000 + u16::try_from(dice % 18_000).unwrap();
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().unwrap();
        }
    }
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_demo_loses_and_doubles_nothing_and_leaves_nothing_running() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join(".yard");
    let output = dev(&folder, free_address(), &["--clusters", "process", "--demo"]).output().unwrap();
    let lines = lines(&output);
    let text = lines.join("\n");
    assert!(output.status.success(), "{text}");
    for want in
        ["  lost      0 ", "  doubled   0 ", "  ended     1 failed, 1 rejected, 1 stopped, 12 succeeded"]
    {
        assert!(lines.iter().any(|line| line.starts_with(want)), "{want}: {text}");
    }
    assert!(text.contains("\"verdict\": \"rejected\""), "{text}");
    let folder = folder.canonicalize().unwrap();
    let left = Command::new("ps").args(["-A", "-o", "args="]).output().unwrap();
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(!left.contains(folder.to_str().unwrap()), "{left}");
}

#[test]
fn a_taken_port_is_one_line_that_says_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let output = dev(&place.path().join(".yard"), address, &[]).output().unwrap();
    let lines = lines(&output);
    assert_eq!((output.status.code(), lines.len()), (Some(2), 1), "{lines:?}");
    assert!(lines[0].contains(&address.port().to_string()) && lines[0].contains("--listen"), "{lines:?}");
    assert!(!place.path().join(".yard").exists(), "nothing was done");
}

#[test]
fn without_python_ray_is_one_line_that_says_what_to_do() {
    let place = tempfile::tempdir().unwrap();
    let mut command = dev(&place.path().join(".yard"), free_address(), &["--clusters", "ray"]);
    let output = command.env("PATH", place.path()).output().unwrap();
    let last = lines(&output).pop().unwrap();
    assert_eq!(output.status.code(), Some(2), "{last}");
    assert!(last.contains("no python3") && last.contains("--python"), "{last}");
}

#[test]
fn one_folder_is_used_by_one_process_at_a_time() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join(".yard");
    std::fs::create_dir(&folder).unwrap();
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let output = dev(&folder, free_address(), &["--clusters", "process"]).output().unwrap();
    let lines = lines(&output);
    assert_eq!((output.status.code(), lines.len()), (Some(2), 1), "{lines:?}");
    assert!(lines[0].contains("another `yard dev`") && lines[0].contains("--dir"), "{lines:?}");
}

/// A `yard dev` that runs, up to the end of what it says of itself.
struct Session {
    child: Child,
    said: BufReader<ChildStderr>,
    banner: String,
    address: SocketAddr,
    token_file: PathBuf,
}

impl Session {
    fn start(folder: &Path) -> Self {
        let address = free_address();
        let mut command = dev(folder, address, &["--clusters", "process"]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut banner = String::new();
        while !banner.contains("then  yard list") {
            assert_ne!(said.read_line(&mut banner).unwrap(), 0, "it ended: {banner}");
        }
        Self { child, said, banner, address, token_file: folder.join("token") }
    }

    /// What a command prints, which must work.
    fn yard(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_yard"));
        let server = format!("http://{}", self.address);
        command.args(["--server", &server, "--token-file"]).arg(&self.token_file).env_remove("YARD_TOKEN");
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// As Ctrl-C.
    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.said, &mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn what_was_applied_stands_at_the_next_start_which_says_so() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join(".yard");
    let first = Session::start(&folder);
    assert!(!first.banner.contains("catalog "), "{}", first.banner);
    let applied = first.yard(&["export"]) + "\n[[team]]\nid = \"added\"\n";
    let file = place.path().join("catalog.toml");
    std::fs::write(&file, &applied).unwrap();
    first.yard(&["apply", file.to_str().unwrap(), "--yes"]);
    first.end();

    let second = Session::start(&folder);
    let line = second.banner.lines().find(|line| line.starts_with("  catalog ")).unwrap();
    assert!(line.contains("version 2 applied by user:bootstrap stands"), "{line}");
    assert!(second.banner.contains("  teams     ads, search, research, added\n"), "{}", second.banner);
    assert!(!second.banner.contains("\n! "), "nothing has moved: {}", second.banner);
    assert_eq!(second.yard(&["export"]), applied);
    second.yard(&["submit", "--team", "added", "--wait", "--", "true"]);
    second.end();
}
