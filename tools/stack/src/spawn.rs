//! Child processes that end with this process, even if it is killed with SIGKILL.
//!
//! Linux can signal a child when its parent dies, but counts the parent's *thread* as the parent,
//! and a test's thread is short-lived. So one thread that lives as long as the process spawns all
//! children. util-linux' `setpriv` requests the signal and then becomes the program (same pid):
//! requesting it here would take unsafe code. Without `setpriv`, children outlive a parent that is
//! killed with SIGKILL; every other end stops them.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

type Job = (Command, Sender<io::Result<Child>>);

/// A shell that becomes the program (same pid), whose files only their owner can read.
const PRIVATE_SHELL: [&str; 3] = ["/bin/sh", "-c", "umask 077; exec \"$0\" \"$@\""];

/// A command that runs `program` with files that only their owner can read, and that ends with this
/// process if the system supports that.
pub(crate) fn command(program: &Path) -> Command {
    static SETPRIV_WORKS: OnceLock<bool> = OnceLock::new();
    let with_setpriv = |program: &OsStr| {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    };
    let works = SETPRIV_WORKS.get_or_init(|| {
        let mut trial = with_setpriv("true".as_ref());
        trial
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    });
    let [shell, arguments @ ..] = PRIVATE_SHELL;
    let mut command = if *works { with_setpriv(shell.as_ref()) } else { Command::new(shell) };
    command.args(arguments).arg(program);
    command
}

/// Spawns from the permanent thread.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        thread::spawn(move || {
            for (mut command, answer) in queue {
                // The receiver is gone only if its thread is; the child must not stay then.
                if let Err(unheard) = answer.send(command.spawn())
                    && let Ok(mut child) = unheard.0
                {
                    let _ = child.kill().and_then(|()| child.wait());
                }
            }
        });
        jobs
    });
    let (answer, result) = channel();
    let gone = || io::Error::other("the thread that spawns processes is gone");
    spawner.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}
