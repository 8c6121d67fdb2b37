//! Plugins that die of SIGKILL at a moment that is named by what they do, not by a clock.
//!
//! A process changes what is outside of it by system calls alone. A run is therefore traced (ptrace(2)) and killed where it
//! enters its `n`-th call that may change something: at that stop the call has not happened, and a thread that finds itself
//! killed there does not make it. The moments between two such entries are all alike, so the numbers from 0 to the end of the run
//! are all moments that make a difference.
//!
//! What counts is every call that is not known to be harmless. Beside these entries there are the start, before anything, and the
//! return from each start of a child process. A child is not traced: it outlives the plugin as it would without a tracer. Two
//! threads that change something at the same time are as free in their order as ever.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Output};
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::plugin::{Invocation, Outcome};
use crate::pod::in_thread;

/// How a run went that was to be killed.
#[derive(Debug)]
pub enum Fate {
    /// It was killed, with this on its streams.
    Killed {
        /// Where.
        moment: Moment,
        /// What it had written by then.
        outcome: Outcome,
    },
    /// It ended before it came so far.
    Ended(Outcome),
}

/// Where a run was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Its number in the run.
    pub number: usize,
    /// What came next, such as `system call 44 on socket:[4711]`.
    pub next: String,
}

/// Calls `attempt` with 0, 1, 2 and so on, until the run that it tells of has ended by itself; how often it was killed.
///
/// # Panics
/// When the run that ended by itself has failed.
#[track_caller]
pub fn at_every_moment(mut attempt: impl FnMut(usize) -> Fate) -> usize {
    let mut number = 0;
    loop {
        match attempt(number) {
            Fate::Killed { .. } => number += 1,
            Fate::Ended(outcome) => {
                assert!(outcome.is_success(), "{outcome}");
                return number;
            }
        }
    }
}

impl Invocation {
    /// Runs it, and kills it where it enters its `number`-th system call that may change something outside of it; 0 is its very
    /// start, before it has got its stdin, and the last number its end, when everything has been done.
    ///
    /// # Panics
    /// As [`Invocation::run`], and where a process may not trace its children (`kernel.yama.ptrace_scope` is 3).
    pub fn killed_at(&self, number: usize) -> Fate {
        // A thread of its own has no other children, so it can wait for any.
        in_thread(|| {
            #[expect(clippy::zombie_processes, reason = "the tracer waits for it")]
            let mut child = self.spawn();
            let stdin = child.stdin.take();
            let streams = (child.stdout.take(), child.stderr.take());
            thread::scope(|scope| {
                let stdout = scope.spawn(|| read(streams.0));
                let stderr = scope.spawn(|| read(streams.1));
                let mut tracer = Tracer::seize(&child);
                if number == 0 {
                    tracer.kill_at("its start".to_owned());
                }
                scope.spawn(|| {
                    // A plugin may judge its environment and end without reading.
                    let _ = stdin.map(|mut stdin| stdin.write_all(self.input()));
                });
                tracer.until = number;
                let status = tracer.follow();
                let output = Output {
                    status,
                    stdout: stdout.join().expect("a reader"),
                    stderr: stderr.join().expect("a reader"),
                };
                let outcome = Outcome::new(output, self.to_string());
                match tracer.killed {
                    Some(next) => Fate::Killed {
                        moment: Moment { number, next },
                        outcome,
                    },
                    None => Fate::Ended(outcome),
                }
            })
        })
    }
}

impl Fate {
    /// Whether it has said its result, so that whoever started it may believe it done.
    pub fn has_answered(&self) -> bool {
        let (Self::Killed { outcome, .. } | Self::Ended(outcome)) = self;
        outcome.is_success() || !outcome.output.stdout.is_empty()
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed { moment, .. } => {
                write!(f, "killed at moment {}, {}", moment.number, moment.next)
            }
            Self::Ended(_) => write!(f, "ended by itself"),
        }
    }
}

fn read(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes).expect("the plugin's output");
    }
    bytes
}

/// The one thread that may give orders to a process and hears of it.
struct Tracer {
    process: Pid,
    /// Moments that have been.
    passed: usize,
    until: usize,
    killed: Option<String>,
}

impl Tracer {
    /// Takes hold of a process that waits for its stdin, with all its threads: each stops before it goes on.
    fn seize(child: &Child) -> Self {
        let process = Pid::from_raw(child.id().cast_signed());
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_EXITKILL;
        let mut threads = Vec::new();
        // What begins later is taken by PTRACE_O_TRACECLONE, also while this looks.
        while let Some(thread) = tasks(process).into_iter().find(|id| !threads.contains(id)) {
            threads.push(thread);
            match ptrace::seize(thread, options) {
                Ok(()) => match ptrace::interrupt(thread) {
                    Err(Errno::ESRCH) if thread != process => {}
                    stopped => stopped.expect("a stop of a thread"),
                },
                // Taken already, or gone.
                Err(Errno::EPERM | Errno::ESRCH) if thread != process => {}
                Err(error) => panic!("a child cannot be traced: {error}"),
            }
        }
        Self {
            process,
            passed: 0,
            until: 0,
            killed: None,
        }
    }

    /// Follows it to its end.
    fn follow(&mut self) -> ExitStatus {
        let mut end = None;
        loop {
            let all = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            match waitpid(None, Some(all)) {
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    self.stopped(thread);
                    go_on(thread, None);
                }
                Ok(WaitStatus::Stopped(thread, signal)) => go_on(thread, Some(signal)),
                Ok(WaitStatus::PtraceEvent(thread, ..)) => go_on(thread, None),
                Ok(WaitStatus::Exited(thread, code)) if thread == self.process => {
                    end = Some(ExitStatus::from_raw(code << 8));
                }
                Ok(WaitStatus::Signaled(thread, signal, _)) if thread == self.process => {
                    end = Some(ExitStatus::from_raw(signal as i32));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return end.expect("the plugin's end"),
                Err(error) => panic!("waiting for the plugin: {error}"),
            }
        }
    }

    /// A thread has stopped at a system call.
    fn stopped(&mut self, thread: Pid) {
        let is_entry = match ptrace::syscall_info(thread) {
            Ok(info) => info.op == libc::PTRACE_SYSCALL_INFO_ENTRY,
            // Another thread has ended the process.
            Err(_) => return,
        };
        let Ok(call) = Call::of(thread) else {
            return;
        };
        let is_moment = match is_entry {
            true => call.may_change(thread),
            false => call.starts_process(thread),
        };
        if !is_moment || self.killed.is_some() {
            return;
        }
        self.passed += 1;
        if self.passed == self.until {
            let when = if is_entry { "" } else { "after " };
            self.kill_at(format!("{when}{}", call.describe(thread)));
        }
    }

    fn kill_at(&mut self, moment: String) {
        kill(self.process, Signal::SIGKILL).expect("killing the plugin");
        self.killed = Some(moment);
    }
}

fn go_on(thread: Pid, signal: Option<Signal>) {
    match ptrace::syscall(thread, signal) {
        // It has been killed meanwhile.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("a traced thread does not go on: {error}"),
    }
}

fn tasks(process: Pid) -> Vec<Pid> {
    let entries = fs::read_dir(format!("/proc/{process}/task"));
    let names = entries.into_iter().flatten().flatten();
    let ids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.map(Pid::from_raw).collect()
}

/// A system call: its number and its arguments.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: i64,
    arguments: [u64; 3],
}

impl Call {
    #[cfg(target_arch = "x86_64")]
    fn of(thread: Pid) -> nix::Result<Self> {
        let registers = ptrace::getregs(thread)?;
        Ok(Self {
            number: registers.orig_rax.cast_signed(),
            arguments: [registers.rdi, registers.rsi, registers.rdx],
        })
    }

    #[cfg(target_arch = "aarch64")]
    fn of(thread: Pid) -> nix::Result<Self> {
        let registers = ptrace::getregs(thread)?.regs;
        Ok(Self {
            number: registers[8].cast_signed(),
            arguments: [registers[0], registers[1], registers[2]],
        })
    }

    /// Whether something outside of the process may be another after it: all are thought to do so that are not known better.
    fn may_change(self, thread: Pid) -> bool {
        let [first, second, third] = self.arguments;
        let opens_to_write =
            |flags: u64| flags & (libc::O_CREAT | libc::O_TRUNC).cast_unsigned() as u64 != 0;
        match self.number {
            // An eventfd wakes the process's own threads.
            libc::SYS_write | libc::SYS_writev => !file(thread, first).starts_with("anon_inode:"),
            libc::SYS_openat => opens_to_write(third),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => opens_to_write(second),
            libc::SYS_clone | libc::SYS_clone3 => self.starts_process(thread),
            libc::SYS_sendto => !is_question(word(thread, second), third),
            // A netlink socket's address is nobody else's affair.
            libc::SYS_bind | libc::SYS_connect => {
                word(thread, second) & 0xffff != u64::from(libc::AF_NETLINK.cast_unsigned())
            }
            number => !HARMLESS.contains(&number) && !older_harmless(number),
        }
    }

    fn starts_process(self, thread: Pid) -> bool {
        let flags = match self.number {
            libc::SYS_clone => self.arguments[0],
            // Its first argument points to a struct clone_args, which begins with the flags.
            libc::SYS_clone3 => word(thread, self.arguments[0]),
            number => return older_spawn(number),
        };
        flags & libc::CLONE_THREAD.cast_unsigned() as u64 == 0
    }

    /// For people, where a test fails.
    fn describe(self, thread: Pid) -> String {
        format!(
            "system call {} ({:x?}), its first argument as a file {:?}",
            self.number,
            self.arguments,
            file(thread, self.arguments[0])
        )
    }
}

/// Eight bytes of a thread's memory; 0 where it has none.
fn word(thread: Pid, address: u64) -> u64 {
    ptrace::read(thread, address as ptrace::AddressType).map_or(0, i64::cast_unsigned)
}

/// Whether a buffer is one netlink message that only asks: `RTM_GET...`, `NFT_MSG_GET...`, `IPCTNL_MSG_CT_GET`. (A struct nlmsghdr
/// begins with its length and its type. No plugin speaks generic netlink, whose types say nothing.)
fn is_question(header: u64, length: u64) -> bool {
    let [a, b, c, d, e, f, g, h] = header.to_ne_bytes();
    let is_request = u16::from_ne_bytes([g, h]) & 1 != 0;
    if u64::from(u32::from_ne_bytes([a, b, c, d])) != length || !is_request {
        return false;
    }
    let kind = u16::from_ne_bytes([e, f]);
    match (kind >> 8, kind & 0xff) {
        // linux/rtnetlink.h: new, delete, get, set, and so on from RTM_BASE.
        (0, 16..) => kind % 4 == 2,
        // linux/netfilter/nfnetlink.h: NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_NFTABLES.
        (1, kind) => kind == 1,
        (10, kind) => [1, 4, 7, 10, 13, 16, 19, 22].contains(&kind),
        _ => false,
    }
}

/// What a descriptor of a thread's stands for.
fn file(thread: Pid, descriptor: u64) -> String {
    let link = fs::read_link(format!("/proc/{thread}/fd/{descriptor}"));
    let link: io::Result<String> = link.map(|path| path.to_string_lossy().into_owned());
    link.unwrap_or_default()
}

/// Calls that change nothing that outlives the process: its memory, threads, signals and descriptors, locks, which end with it,
/// and looks at something.
const HARMLESS: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_restart_syscall,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getrandom,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_pidfd_open,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_socket,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
];

/// Those that only this architecture has still.
#[cfg(target_arch = "x86_64")]
fn older_harmless(number: i64) -> bool {
    [
        libc::SYS_arch_prctl,
        libc::SYS_access,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_readlink,
        libc::SYS_poll,
        libc::SYS_epoll_wait,
        libc::SYS_dup2,
        libc::SYS_pipe,
    ]
    .contains(&number)
}

#[cfg(not(target_arch = "x86_64"))]
fn older_harmless(_: i64) -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn older_spawn(number: i64) -> bool {
    [libc::SYS_fork, libc::SYS_vfork].contains(&number)
}

#[cfg(not(target_arch = "x86_64"))]
fn older_spawn(_: i64) -> bool {
    false
}
