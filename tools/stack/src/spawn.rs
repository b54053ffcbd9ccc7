//! Starting child processes that end with us, even when we are killed with SIGKILL.
//!
//! Linux can signal a child when its parent dies, but counts the parent's *thread* as the parent, and a test's
//! thread is short-lived. So one thread that lives as long as the process spawns them all. The wish itself is set
//! by util-linux' `setpriv`, which then becomes the program (same pid): doing it here would take unsafe code.
//! Where there is no `setpriv`, children outlive a parent that is killed with SIGKILL; every other end stops them.

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

/// Becomes the program (same pid), whose files are for its owner alone.
const PRIVATELY: [&str; 3] = ["/bin/sh", "-c", "umask 077; exec \"$0\" \"$@\""];

/// A command that runs `program` so that nobody else can read its files, and that it dies with us where the system can do
/// that.
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
    let [shell, arguments @ ..] = PRIVATELY;
    let mut command = if *works { with_setpriv(shell.as_ref()) } else { Command::new(shell) };
    command.args(arguments).arg(program);
    command
}

/// Spawns from the thread that never ends.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        thread::spawn(move || {
            for (mut command, answer) in queue {
                // Nobody waits for the answer only if the asking thread is gone; the child must not stay then.
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
