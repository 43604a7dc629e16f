//! One chosen system call of the real server goes wrong, by way of strace.
//!
//! strace counts the calls of each thread separately, so if it traced all threads, "the third fsync"
//! would fail once in each. Therefore it follows one thread only: `main` from the start on, or another
//! one, to which it is attached when the server listens. Only calls on the log's own files count.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::Pid;

use crate::common::{PROGRAM, eventually};

/// How a call goes wrong. It is not made at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It fails with this error.
    Error(&'static str),
    /// It returns this number of bytes.
    Returns(u64),
    /// The process is killed when it is about to make it.
    Kill,
}

/// A call that goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The call's name as a regular expression; `rename` is also `renameat` and `renameat2`.
    pub call: &'static str,
    pub way: Way,
    /// The first, the second, ...
    pub at: usize,
}

/// Whose calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traced {
    Main,
    /// Every thread, each by itself.
    All,
    /// A thread of this name, from when the server listens.
    Thread(&'static str),
    /// Every thread that may commit, each by itself, once the journal's clients have connected.
    Committing,
}

/// Why none of this can be done on this machine; `None` if it can.
pub fn why_not() -> Option<String> {
    let mut victim =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat");
    let tracer = strace().args(["-o", "/dev/null", "-p"]).arg(victim.id().to_string()).spawn();
    let why = match tracer {
        Err(error) => Some(format!("strace: {error}")),
        Ok(mut tracer) => {
            let said = first_line(&mut tracer);
            tracer.kill().expect("a child that nobody waited for");
            tracer.wait().expect("a child");
            (!said.contains("attached")).then_some(said)
        }
    };
    victim.kill().expect("a child that nobody waited for");
    victim.wait().expect("a child");
    why
}

/// What strace writes down, and strace itself once it is attached.
pub struct Trace {
    path: PathBuf,
    options: Vec<String>,
    tracer: Option<(Child, BufReader<ChildStderr>)>,
}

impl Trace {
    /// Lets `fault` happen to calls on `files`. The trace is kept at `path`.
    pub fn new(path: &Path, fault: Fault, files: &[PathBuf]) -> Trace {
        // `rename` on one kind of processor is `renameat` on another.
        let calls = format!("/^{}(at2?)?$", fault.call);
        let way = match fault.way {
            Way::Error(errno) => format!("error={errno}"),
            Way::Returns(count) => format!("retval={count}"),
            Way::Kill => "signal=KILL".to_owned(),
        };
        let inject = format!("inject={calls}:{way}:when={}", fault.at);
        let mut options = vec!["-o".to_owned(), path.display().to_string()];
        options.extend(["-e".to_owned(), format!("trace={calls}"), "-e".to_owned(), inject]);
        options.extend(["-e".to_owned(), "signal=none".to_owned()]);
        options.extend(files.iter().flat_map(|file| ["-P".to_owned(), file.display().to_string()]));
        Trace { path: path.to_owned(), options, tracer: None }
    }

    /// `program`, with its main thread or all threads traced. strace makes itself a grandchild, so
    /// that the child is the server itself, its exit code and all.
    pub fn wrap(&self, program: &Command, follow: bool) -> Command {
        let mut command = strace();
        command.arg("-D").args(follow.then_some("-f")).args(&self.options);
        command.arg(PROGRAM).args(program.get_args());
        command
    }

    /// Traces the threads of these names, each by itself.
    pub fn attach(&mut self, server: Pid, threads: &[&str]) {
        let ids: Vec<String> = threads.iter().map(|thread| thread_id(server, thread)).collect();
        let threads = ids.iter().flat_map(|id| ["-p", id]);
        let mut tracer = strace().args(&self.options).args(threads).spawn().expect("strace");
        let mut stderr = BufReader::new(tracer.stderr.take().expect("a pipe"));
        for _ in &ids {
            let mut said = String::new();
            stderr.read_line(&mut said).expect("a pipe can be read");
            assert!(said.contains("attached"), "strace: {said}");
        }
        self.tracer = Some((tracer, stderr));
    }

    /// What was traced so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.path).unwrap_or_default()).into()
    }

    /// All that was traced, after the server's end.
    pub fn finish(mut self) -> String {
        if let Some((tracer, _)) = &mut self.tracer {
            tracer.wait().expect("strace ends with what it traces");
        }
        self.text()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some((tracer, _)) = &mut self.tracer {
            // Both fail if it has ended already, which is as good.
            let _ = tracer.kill();
            let _ = tracer.wait();
        }
    }
}

fn strace() -> Command {
    let mut command = Command::new("strace");
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let stderr = child.stderr.as_mut().expect("a pipe");
    BufReader::new(stderr).read_line(&mut line).expect("a pipe can be read");
    line.trim().to_owned()
}

fn thread_id(server: Pid, thread: &str) -> String {
    let tasks = format!("/proc/{}/task", server.as_raw_nonzero());
    let mut found = None;
    eventually("the thread has its name", || {
        let tasks = fs::read_dir(&tasks).expect("a running process");
        let mut tasks = tasks.map(|task| task.expect("an entry").path());
        found = tasks.find(|task| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == thread)
        });
        found.is_some()
    });
    let id = found.expect("just found").file_name().expect("a number").to_owned();
    id.into_string().expect("a number")
}
