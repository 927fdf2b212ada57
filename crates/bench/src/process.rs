//! Processes: copies of this program that are measured from outside, and what the system says of any process.

use std::collections::{BTreeMap, HashMap};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::Result;

/// Longest wait for a process to say something.
const LONGEST: Duration = Duration::from_mins(10);
/// Linux counts time in hundredths of a second for everybody.
const TICKS_PER_S: f64 = 100.0;

/// This program once more, with another subcommand. It says where it is, and goes on when it is told.
pub struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts it with these arguments and variables.
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).envs(variables.iter().copied()).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let out = child.stdout.take().ok_or("the process has no output")?;
        Ok(Self { child, lines: BufReader::new(out).lines() })
    }

    /// Waits until the process says `word`.
    pub async fn says(&mut self, word: &str) -> Result<()> {
        let line = tokio::time::timeout(LONGEST, self.lines.next_line()).await??;
        if line.as_deref() == Some(word) { Ok(()) } else { Err(format!("not {word:?}, but {line:?}").into()) }
    }

    /// Lets it go on.
    pub async fn go_on(&mut self) -> Result<()> {
        let input = self.child.stdin.as_mut().ok_or("the process has no input")?;
        input.write_all(b".").await?;
        Ok(input.flush().await?)
    }

    /// Lets it go on, to its end.
    pub async fn end(mut self) -> Result<()> {
        self.go_on().await?;
        drop(self.child.stdin.take());
        let ended = tokio::time::timeout(LONGEST, self.child.wait()).await??;
        if ended.success() { Ok(()) } else { Err(format!("the measured process: {ended}").into()) }
    }

    /// Its resident memory now, in MB.
    pub fn resident(&self) -> Result<f64> {
        memory(self.id()?, "VmRSS")
    }

    /// The most that it ever had, in MB.
    pub fn peak(&self) -> Result<f64> {
        memory(self.id()?, "VmHWM")
    }

    /// What it has had of all cores, in seconds.
    pub fn cpu_s(&self) -> Result<f64> {
        Ok(Stat::of(self.id()?)?.cpu_s)
    }

    fn id(&self) -> Result<u32> {
        Ok(self.child.id().ok_or("the process has ended")?)
    }
}

/// Of the measured process: says where it is, and waits until it is told to go on.
pub async fn say_and_wait(word: &str) -> Result<()> {
    println!("{word}");
    let read = || std::io::Read::read_exact(&mut std::io::stdin(), &mut [0]);
    Ok(tokio::task::spawn_blocking(read).await??)
}

/// What this process and all that whoever started it has started have had of all cores, in seconds, by their names: with
/// tests/env/up.py, the servers.
pub fn family_cpu_s() -> Result<BTreeMap<String, f64>> {
    let ids = std::fs::read_dir("/proc")?.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    // One that has ended meanwhile is none.
    let all: HashMap<u32, Stat> = ids.filter_map(|id| Some((id, Stat::of(id).ok()?))).collect();
    let top = std::os::unix::process::parent_id();
    let mut sums = BTreeMap::new();
    for (id, stat) in &all {
        let line = std::iter::successors(Some(*id), |id| all.get(id).map(|stat| stat.parent));
        // The line ends with the first process, whose parent is 0.
        if line.take_while(|id| *id != 0).any(|id| id == top) {
            *sums.entry(stat.name.clone()).or_default() += stat.cpu_s;
        }
    }
    Ok(sums)
}

/// `VmRSS` or `VmHWM`, in MB (10⁶ bytes).
fn memory(id: u32, field: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).ok_or("no such field")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1_024.0 / 1e6)
}

struct Stat {
    name: String,
    parent: u32,
    cpu_s: f64,
}

impl Stat {
    fn of(id: u32) -> Result<Self> {
        Self::read(&std::fs::read_to_string(format!("/proc/{id}/stat"))?)
    }

    /// Reads a line of `/proc/ID/stat`: the name in brackets may hold anything.
    fn read(text: &str) -> Result<Self> {
        let (head, rest) = text.rsplit_once(')').ok_or("no name")?;
        let name = head.split_once('(').ok_or("no name")?.1.to_owned();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| -> Result<f64> { Ok(fields.get(at).ok_or("too few fields")?.parse()?) };
        let parent = fields.get(1).ok_or("no parent")?.parse()?;
        Ok(Self { name, parent, cpu_s: (number(11)? + number(12)?) / TICKS_PER_S })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_system_is_read_whatever_the_name() {
        let line = "12 (a) b (c) S 7 12 12 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        let stat = Stat::read(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.cpu_s), ("a) b (c", 7, 3.0));
        assert!(Stat::read("12 (a) S").is_err());
    }
}
