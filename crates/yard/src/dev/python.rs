//! The private Python environment in `.yard/python`, with Ray and the queue server.
//!
//! Whatever can go wrong here has one line that says what to do: [`PythonProblem`].

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::folder::Folder;
use super::procs::{self, MARK};
use super::ui::Step;

/// What is installed: the versions that docs/facts was measured with.
pub const REQUIREMENTS: [&str; 2] = ["ray[default]==2.60.0", "ministack==1.5.33"];
/// The Python versions that this Ray has packages for, as minor versions of 3.
const MINORS: std::ops::RangeInclusive<u32> = 10..=13;
/// Room that the environment takes while it is being made, in MiB.
const ROOM_MIB: u64 = 1_200;
/// The mark of what makes the environment, and the name of its log.
const NAME: &str = "python";
/// Says that the environment is complete, and of what.
const MARKER: &str = "complete";
const QUESTION: &str = "import sys, importlib.util as u; \
    print(sys.version_info[0], sys.version_info[1], u.find_spec('venv') is not None and u.find_spec('ensurepip') is not None)";
const QUESTION_TIMEOUT: Duration = Duration::from_secs(20);

/// Why there is no Python environment: one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PythonProblem {
    /// No python3 at all.
    #[error("there is no python3 on the PATH: install Python 3.{} to 3.{} (Debian, Ubuntu: apt install python3 python3-venv), or name one with --python", MINORS.start(), MINORS.end())]
    NotFound,
    /// The one that was named does not run.
    #[error("{} is no Python 3 that runs: name another with --python, or leave that out to take the one on the PATH", .program.display())]
    NotThere {
        /// Which.
        program: PathBuf,
    },
    /// None that Ray supports.
    #[error("Ray 2.60 needs Python 3.{} to 3.{}, but there is only {found}: install one of those, or name it with --python", MINORS.start(), MINORS.end())]
    Unsupported {
        /// The versions that are there.
        found: String,
    },
    /// Python comes without what makes environments.
    #[error(
        "{program} (Python {version}) can't make virtual environments: install that part (Debian, Ubuntu: apt install python{version}-venv), or name another Python with --python"
    )]
    NoVenv {
        /// The Python.
        program: String,
        /// `3.11`.
        version: String,
    },
    /// The environment has no pip.
    #[error(
        "the Python environment came without pip: install it (Debian, Ubuntu: apt install python3-venv python3-pip), or name another Python with --python"
    )]
    NoPip,
    /// The package index does not answer.
    #[error(
        "the Python packages can't be downloaded: connect to the network, or set PIP_INDEX_URL (or HTTPS_PROXY) to reach a package index, and run this again"
    )]
    NoNetwork,
    /// The disk is full, or would be.
    #[error("there is no room for the Python packages: free {ROOM_MIB} MiB under {}, or choose another folder with --dir, and run this again", .path.display())]
    DiskFull {
        /// The folder.
        path: PathBuf,
    },
    /// The index has not got them for this machine.
    #[error("there is no package of {requirement} for Python {version} on this machine (pip's words are in {})", .log.display())]
    NoPackage {
        /// Which.
        requirement: String,
        /// `3.11`.
        version: String,
        /// Where the rest is.
        log: PathBuf,
    },
    /// Anything else.
    #[error("the Python environment can't be made: {last} (the rest is in {})", .log.display())]
    Other {
        /// The most telling line.
        last: String,
        /// Where the rest is.
        log: PathBuf,
    },
}

/// A Python on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Base {
    program: PathBuf,
    minor: u32,
    has_venv: bool,
}

/// The interpreter of the private environment, which is made if it is missing, incomplete or of other versions.
/// `given` is the Python to make it with; else the first fitting one on the PATH is taken.
pub async fn prepare(folder: &Folder, given: Option<&Path>, step: &Step) -> Result<PathBuf, PythonProblem> {
    let home = folder.path("python");
    let program = home.join("bin/python");
    if is_complete(&home) && ask(&program).await.is_some() {
        return Ok(program);
    }
    let base = choose(candidates(given).await).map_err(|problem| match given {
        Some(program) if matches!(problem, PythonProblem::NotFound) => {
            PythonProblem::NotThere { program: program.to_owned() }
        }
        _ => problem,
    })?;
    let log = folder.log(NAME);
    let fail = |e: io::Error| other(&log, &e.to_string());
    if free_mib(&folder.path("")) < ROOM_MIB {
        return Err(PythonProblem::DiskFull { path: folder.path("") });
    }
    // What a killed `yard dev` left behind would go on writing to what is removed here.
    stop(folder).await.map_err(fail)?;
    if home.exists() {
        step.tell("removing an environment that is not complete");
        tokio::fs::remove_dir_all(&home).await.map_err(fail)?;
    }
    tokio::fs::write(&log, "").await.map_err(fail)?;
    step.tell(&format!("making an environment with {}", base.program.display()));
    let mut make = Command::new(&base.program);
    make.args(["-m", "venv"]).arg(&home).env(MARK, folder.mark(NAME));
    let pip = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["-m", "pip", "--no-input", "--disable-pip-version-check"]).args(arguments);
        command.env(MARK, folder.mark(NAME));
        command
    };
    let mut install = pip(&["install", "--progress-bar", "off", "--retries", "2", "--timeout", "30"]);
    install.args(REQUIREMENTS);
    run(make, &log, step, &base).await?;
    run(pip(&["--version"]), &log, step, &base).await?;
    step.tell("installing Ray and the queue server (about 100 MB to download, 460 MB on disk)");
    run(install, &log, step, &base).await?;
    tokio::fs::write(home.join(MARKER), wanted()).await.map_err(fail)?;
    Ok(program)
}

/// Ends whatever still makes the environment. Dropping [`prepare`] ends venv or pip, but not what they have started.
pub async fn stop(folder: &Folder) -> io::Result<()> {
    procs::kill_server(None, &folder.mark(NAME)).await
}

fn wanted() -> String {
    REQUIREMENTS.join("\n")
}

fn is_complete(home: &Path) -> bool {
    fs::read_to_string(home.join(MARKER)).is_ok_and(|content| content == wanted())
}

fn other(log: &Path, last: &str) -> PythonProblem {
    PythonProblem::Other { last: last.to_owned(), log: log.to_owned() }
}

/// Free room for us where `path` is, in MiB; unlimited where that can't be told.
fn free_mib(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize) >> 20)
}

/// Every Python to choose from, the preferred first.
async fn candidates(given: Option<&Path>) -> Vec<Base> {
    let mut programs: Vec<PathBuf> = Vec::new();
    if let Some(given) = given {
        programs.push(given.to_owned());
    } else {
        let versions = MINORS.rev().map(|minor| format!("python3.{minor}"));
        for name in std::iter::once("python3".to_owned()).chain(versions) {
            let path = std::env::var_os("PATH").unwrap_or_default();
            programs
                .extend(std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|p| p.is_file()));
        }
    }
    let mut found = Vec::new();
    for program in programs {
        found.extend(ask(&program).await);
    }
    found
}

/// What `program` says of itself; `None` if it is no Python 3 that runs.
async fn ask(program: &Path) -> Option<Base> {
    let mut command = Command::new(program);
    let command = command.args(["-c", QUESTION]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(QUESTION_TIMEOUT, command.output()).await.ok()?.ok()?;
    let answer = String::from_utf8(output.stdout).ok()?;
    let mut words = answer.split_ascii_whitespace();
    let (major, minor, has_venv) = (words.next()?, words.next()?.parse().ok()?, words.next()? == "True");
    (major == "3").then(|| Base { program: program.to_owned(), minor, has_venv })
}

/// The first that Ray supports and that can make environments, or why there is none.
fn choose(found: Vec<Base>) -> Result<Base, PythonProblem> {
    if found.is_empty() {
        return Err(PythonProblem::NotFound);
    }
    let mut versions: Vec<String> = found.iter().map(|base| format!("3.{}", base.minor)).collect();
    versions.dedup();
    let supported: Vec<Base> = found.into_iter().filter(|base| MINORS.contains(&base.minor)).collect();
    let Some(first) = supported.first().cloned() else {
        return Err(PythonProblem::Unsupported { found: versions.join(", ") });
    };
    supported.into_iter().find(|base| base.has_venv).ok_or_else(|| PythonProblem::NoVenv {
        program: first.program.display().to_string(),
        version: format!("3.{}", first.minor),
    })
}

/// Runs one command to its end, with its lines in the log and the telling ones on show.
async fn run(mut command: Command, log: &Path, step: &Step, base: &Base) -> Result<(), PythonProblem> {
    let fail = |e: io::Error| other(log, &e.to_string());
    // One stream for both, through a pipe of our own, so that the log has the lines in their order.
    let (reader, writer) = io::pipe().map_err(fail)?;
    let writer_too = writer.try_clone().map_err(fail)?;
    command.stdin(Stdio::null()).stdout(writer).stderr(writer_too).kill_on_drop(true);
    // Out of the terminal's reach: else a Ctrl-C would end pip first, and look like one of its failures.
    command.process_group(0);
    for variable in ["PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX"] {
        command.env_remove(variable);
    }
    let mut child = command.spawn().map_err(fail)?;
    // It holds the writing ends; the pipe ends only when they are closed here.
    drop(command);
    let mut file = tokio::fs::OpenOptions::new().append(true).open(log).await.map_err(fail)?;
    let reader = tokio::fs::File::from_std(std::fs::File::from(std::os::fd::OwnedFd::from(reader)));
    let mut lines = BufReader::new(reader).lines();
    let mut tail = VecDeque::new();
    let mut progress = Progress::default();
    while let Ok(Some(line)) = lines.next_line().await {
        file.write_all(format!("{line}\n").as_bytes()).await.map_err(fail)?;
        if let Some(message) = progress.read(&line) {
            step.show(&message);
        }
        tail.push_back(line);
        if tail.len() > 200 {
            tail.pop_front();
        }
    }
    file.flush().await.map_err(fail)?;
    let status = child.wait().await.map_err(fail)?;
    if status.success() { Ok(()) } else { Err(diagnose(tail.make_contiguous(), log, base)) }
}

/// pip's lines as one that is short enough to show.
#[derive(Debug, Default)]
struct Progress {
    packages: u32,
}

impl Progress {
    fn read(&mut self, line: &str) -> Option<String> {
        let line = line.trim();
        let word = line.split_ascii_whitespace().next()?;
        let rest = line.split_once(' ').map_or("", |(_, rest)| rest.trim());
        match word {
            "Collecting" => {
                self.packages += 1;
                Some(format!("{} packages; looking for {rest}", self.packages))
            }
            "Downloading" | "Using" => {
                let file = rest.trim_start_matches("cached ").rsplit('/').next().unwrap_or(rest);
                Some(format!("{} packages; {} {file}", self.packages, word.to_lowercase()))
            }
            "Installing" => Some(format!("{} packages; unpacking them", self.packages)),
            _ => None,
        }
    }
}

/// What the last lines of a failed command mean.
fn diagnose(lines: &[String], log: &Path, base: &Base) -> PythonProblem {
    let has = |words: &[&str]| lines.iter().any(|line| words.iter().any(|word| line.contains(word)));
    let version = format!("3.{}", base.minor);
    if has(&["No space left on device", "Errno 28", "Disk quota exceeded"]) {
        return PythonProblem::DiskFull {
            path: log.parent().and_then(Path::parent).unwrap_or(log).to_owned(),
        };
    }
    if has(&["ensurepip is not available", "No module named ensurepip", "No module named venv"]) {
        return PythonProblem::NoVenv { program: base.program.display().to_string(), version };
    }
    if has(&["No module named pip"]) {
        return PythonProblem::NoPip;
    }
    // pip says 'no matching distribution' as well when it reached nothing: look for this first.
    if has(&[
        "Failed to establish a new connection",
        "NewConnectionError",
        "NameResolutionError",
        "Temporary failure in name resolution",
        "Connection refused",
        "Connection aborted",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "Network is unreachable",
        "ProxyError",
        "SSLError",
        "Max retries exceeded",
    ]) {
        return PythonProblem::NoNetwork;
    }
    let missing = lines.iter().find_map(|line| line.split_once("No matching distribution found for "));
    if let Some((_, requirement)) = missing {
        return PythonProblem::NoPackage {
            requirement: requirement.trim().to_owned(),
            version,
            log: log.to_owned(),
        };
    }
    let telling = lines.iter().rev().map(|line| line.trim());
    let error = telling.clone().find(|line| line.to_lowercase().starts_with("error"));
    let last = error.or_else(|| telling.clone().find(|line| !line.is_empty())).unwrap_or("it said nothing");
    other(log, last)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::ui::Ui;
    use super::*;

    fn base(minor: u32, has_venv: bool) -> Base {
        Base { program: format!("/usr/bin/python3.{minor}").into(), minor, has_venv }
    }

    #[test]
    fn the_first_fitting_python_is_taken_and_else_the_reason_is_one_line() {
        assert_eq!(choose(vec![base(9, true), base(12, false), base(11, true)]).unwrap(), base(11, true));
        for (found, want) in [
            (vec![], "there is no python3 on the PATH"),
            (vec![base(8, true), base(14, true)], "needs Python 3.10 to 3.13, but there is only 3.8, 3.14"),
            (vec![base(9, true), base(12, false)], "apt install python3.12-venv"),
        ] {
            let line = choose(found).unwrap_err().to_string();
            assert!(line.contains(want) && line.contains("--python") && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn what_pip_says_is_understood() {
        let log = Path::new("/x/.yard/log/python.log");
        for (line, want) in [
            ("OSError: [Errno 28] No space left on device", "free 1200 MiB under /x/.yard"),
            (
                "The virtual environment was not created successfully because ensurepip is not available.",
                "python3.11-venv",
            ),
            ("/x/.yard/python/bin/python: No module named pip", "without pip"),
            (
                "WARNING: Retrying … NewConnectionError('… Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')",
                "connect to the network",
            ),
            (
                "ERROR: No matching distribution found for ray[default]==2.60.0",
                "no package of ray[default]==2.60.0 for Python 3.11",
            ),
            ("ERROR: something new", "ERROR: something new (the rest is in /x/.yard/log/python.log)"),
        ] {
            let lines = ["Collecting ray".to_owned(), line.to_owned(), "  note: done".to_owned()];
            let shown = diagnose(&lines, log, &base(11, true)).to_string();
            assert!(shown.contains(want) && !shown.contains('\n'), "{shown}");
        }
    }

    #[test]
    fn progress_is_short() {
        let mut progress = Progress::default();
        assert_eq!(
            progress.read("Collecting aiohttp>=3.7"),
            Some("1 packages; looking for aiohttp>=3.7".to_owned())
        );
        let line = "  Downloading https://files.example/a/b/aiohttp-3.9-cp311.whl (1.2 MB)";
        assert_eq!(
            progress.read(line),
            Some("1 packages; downloading aiohttp-3.9-cp311.whl (1.2 MB)".to_owned())
        );
        assert_eq!(progress.read("Requirement already satisfied: x"), None);
    }

    #[test]
    fn versions_are_those_of_the_test_environment() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/requirements.txt");
        let tested = fs::read_to_string(path).unwrap();
        for requirement in REQUIREMENTS {
            assert!(tested.lines().any(|line| line == requirement), "{requirement}");
        }
    }

    /// A `python3` that is a script: `answer` to the question, `venv` for everything else.
    fn fake(folder: &Path, answer: &str, venv: &str) -> PathBuf {
        let path = folder.join("fake-python3");
        fs::write(&path, format!("#!/bin/sh\nif [ \"$1\" = -c ]; then echo {answer}; exit 0; fi\n{venv}\n"))
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn an_interrupted_environment_is_made_anew_and_failures_are_one_line() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join(".yard")).unwrap();
        let step = Ui::new().step("Python", "");
        fs::create_dir_all(folder.path("python/bin")).unwrap();
        fs::write(folder.path("python/half"), "").unwrap();
        // Its venv makes a python that knows the question, has a pip, and an index that can't be reached.
        let python = "#!/bin/sh\\nif [ $1 = -c ]; then echo 3 11 True; exit; fi\\nif [ $5 = --version ]; then exit 0; fi\\n\
                      echo NewConnectionError >&2; exit 1\\n";
        let venv = format!("mkdir -p $3/bin; printf '{python}' > $3/bin/python; chmod +x $3/bin/python");
        let program = fake(place.path(), "3 11 True", &venv);
        let problem = prepare(&folder, Some(&program), &step).await.unwrap_err();
        assert!(matches!(problem, PythonProblem::NoNetwork), "{problem}");
        assert!(!folder.path("python/half").exists() && !is_complete(&folder.path("python")));
        // With the network back, the same again succeeds, and the third time nothing is made.
        let working = venv.replace("echo NewConnectionError >&2; exit 1", "exit 0");
        let program = fake(place.path(), "3 11 True", &working);
        let made = prepare(&folder, Some(&program), &step).await.unwrap();
        let program = fake(place.path(), "3 11 True", "exit 1");
        assert_eq!(prepare(&folder, Some(&program), &step).await.unwrap(), made);
    }

    #[tokio::test]
    async fn a_python_without_venv_is_told_apart() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join(".yard")).unwrap();
        let step = Ui::new().step("Python", "");
        let program = fake(place.path(), "3 11 False", "exit 1");
        let problem = prepare(&folder, Some(&program), &step).await.unwrap_err();
        assert!(matches!(problem, PythonProblem::NoVenv { .. }), "{problem}");
        let problem = prepare(&folder, Some(Path::new("/no/such/python")), &step).await.unwrap_err();
        assert!(problem.to_string().starts_with("/no/such/python is no Python 3 that runs"), "{problem}");
    }

    /// Linux only, because elsewhere a process's mark can't be read.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_interrupt_ends_what_venv_has_started_too() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join(".yard")).unwrap();
        let step = Ui::new().step("Python", "");
        let heartbeat = place.path().join("pid");
        let venv =
            format!("sh -c 'echo $$ > {0}.new; mv {0}.new {0}; sleep 600' & wait", heartbeat.display());
        let program = fake(place.path(), "3 11 True", &venv);
        let started = async {
            while !heartbeat.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            made = prepare(&folder, Some(&program), &step) => panic!("{made:?}"),
            () = started => {}
        }
        let pid: i32 = fs::read_to_string(&heartbeat).unwrap().trim().parse().unwrap();
        assert!(procs::start_of(pid).is_some(), "the grandchild outlives its parent");
        stop(&folder).await.unwrap();
        assert!(procs::start_of(pid).is_none());
    }
}
