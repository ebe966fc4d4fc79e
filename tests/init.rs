//! Init mode as its users meet it: as PID 1, as PID 1 without privileges, and as neither.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and read the clock"
)]

mod support;

use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use support::{End, Launch, Launched, PATIENCE, Place, clawkeeper, example, poll_until, skip};

/// Runs `command` below clawkeeper and waits for the end.
fn run(place: Place, command: &[&str]) -> End {
    launch(place, &[], &[], command).start().end()
}

/// A launch of `command` below clawkeeper, with options of the launcher and of clawkeeper.
fn launch(place: Place, launcher: &[&str], options: &[&str], command: &[&str]) -> Launch {
    Launch::in_place(place)
        .args(launcher)
        .args(["--"])
        .args([clawkeeper()])
        .args(["run", "--mode", "init"])
        .args(options)
        .args(["--"])
        .args(command)
}

fn tool() -> String {
    example("pid1")
        .into_os_string()
        .into_string()
        .expect("the checkout's path is text")
}

/// Starts the child that prints every signal it gets, and waits until it listens.
fn start_listener(place: Place, options: &[&str]) -> Launched {
    let tool = tool();
    let launched = launch(place, &[], options, &[&tool, "child", "signals"]).start();
    launched.wait_for_output("the listener", |text| text.contains("ready"));
    launched
}

#[test]
fn exit_codes_are_passed_on() {
    for place in Place::ALL {
        for code in [0, 1, 7, 255] {
            let end = run(place, &["sh", "-c", &format!("exit {code}")]);
            assert_eq!(end.status, format!("exit {code}"), "{place:?} {end:?}");
            assert_eq!(end.stderr, "", "{place:?}");
        }
    }
}

#[test]
fn a_user_that_is_named_is_who_the_command_runs_as() {
    if !nix::unistd::geteuid().is_root() {
        skip("only root can run a command as another user");
        return;
    }
    let script = "id -u; id -g; echo $HOME; grep CapEff /proc/self/status";
    for place in [Place::Pid1, Place::Subreaper] {
        let root = launch(place, &[], &[], &["sh", "-c", "id -u"])
            .start()
            .end();
        assert_eq!(root.stdout.trim(), "0", "{root:?}");
        let options = ["--user", "1234:1235"];
        let end = launch(place, &[], &options, &["sh", "-c", script])
            .start()
            .end();
        let lines: Vec<_> = end.stdout.lines().collect();
        let none = "CapEff:\t0000000000000000";
        assert_eq!(lines, ["1234", "1235", "/", none], "{place:?} {end:?}");
        let unknown = ["--user", "nobody-of-this-name"];
        let end = launch(place, &[], &unknown, &["true"]).start().end();
        assert_eq!(end.status, "exit 64", "{end:?}");
    }
}

#[test]
fn a_gateway_that_a_shell_hides_is_told_of_and_run() {
    let line = "cd / && exec /none/openclaw gateway --port $PORT";
    let command = |line| {
        Launch::in_place(Place::Subreaper)
            .args(["--"])
            .args([clawkeeper()])
            .args(["run", "--", "sh", "-c", line])
            .start()
            .end()
    };
    let end = command(line);
    let told: Vec<_> = end
        .stderr
        .lines()
        .filter(|it| it.starts_with("clawkeeper:"))
        .collect();
    assert_eq!(told.len(), 1, "{end:?}");
    assert!(told[0].contains("CLAWKEEPER_MODE=gateway"), "{told:?}");
    // There is no such program here; the shell says so.
    assert_eq!(end.status, "exit 127", "{end:?}");
    assert!(!command("cd / && exit 127").stderr.contains("clawkeeper:"));
}

#[test]
fn an_end_by_a_signal_is_128_and_its_number_also_for_real_time_signals() {
    let tool = tool();
    for place in Place::ALL {
        for signal in [libc::SIGTERM, libc::SIGKILL, 34, 64] {
            let end = run(place, &[&tool, "child", "kill-self", &signal.to_string()]);
            assert_eq!(
                end.status,
                format!("exit {}", 128 + signal),
                "{place:?} {end:?}"
            );
        }
    }
}

#[test]
fn a_command_that_cannot_run_is_told_in_one_line_with_the_code_of_a_shell() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| {
        folder
            .path()
            .join(name)
            .into_os_string()
            .into_string()
            .expect("text")
    };
    let make = |name: &str, text: &str, mode: u32| {
        fs::write(path(name), text).expect("a file");
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).expect("its mode");
        path(name)
    };
    let plain = make("plain", "exit 0\n", 0o644);
    let lost = make("lost", "#!/no/such/interpreter\n", 0o755);
    let inside_file = format!("{plain}/inside");
    let cases = [
        ("clawkeeper-no-such-command", 127, "not in PATH"),
        ("/no/such/command", 127, "No such file"),
        ("", 127, "No such file"),
        (&lost, 127, "interpreter"),
        (&plain, 126, "Permission denied"),
        ("/", 126, "a folder"),
        (&inside_file, 126, "Not a directory"),
    ];
    for place in Place::ALL {
        for (command, code, why) in cases {
            let end = run(place, &[command]);
            assert_eq!(
                end.status,
                format!("exit {code}"),
                "{place:?} {command:?} {end:?}"
            );
            assert_eq!(
                end.stderr.lines().count(),
                1,
                "{place:?} {command:?} {end:?}"
            );
            assert!(end.stderr.contains(why), "{place:?} {command:?} {end:?}");
        }
    }
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_the_shell() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script");
    fs::write(&script, "echo \"$0 $1\"; exit 5\n").expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
    let end = launch(Place::Pid1, &[], &[], &["script", "argument"])
        .with(|command| command.env("PATH", folder.path()))
        .start()
        .end();
    assert_eq!(end.status, "exit 5", "{end:?}");
    assert_eq!(end.stdout, format!("{} argument\n", script.display()));
}

#[test]
fn a_denied_file_does_not_hide_a_later_one_in_path() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("true"), "").expect("a file that cannot be executed");
    let path = format!("/no/such/folder:{}:/bin:/usr/bin", folder.path().display());
    for (command, code) in [("true", 0), ("clawkeeper-no-such-command", 127)] {
        let end = launch(Place::Subreaper, &[], &[], &[command])
            .with(|launch| launch.env("PATH", &path))
            .start()
            .end();
        assert_eq!(end.status, format!("exit {code}"), "{end:?}");
    }
}

#[test]
fn environment_folder_umask_and_all_descriptors_are_the_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), "from descriptor 77\n").expect("a file");
    let script =
        "pwd -P; umask; env | LC_ALL=C sort | od -c; cat /proc/self/fd/77; ls /proc/self/fd";
    let keeper = clawkeeper().into_os_string();
    for place in Place::ALL {
        let outputs = [
            &[][..],
            &[keeper.as_os_str(), "run".as_ref(), "--".as_ref()],
        ]
        .map(|below| {
            let file = fs::File::open(folder.path().join("file")).expect("the file");
            let end = Launch::in_place(place)
                .args(["--"])
                .args(below)
                .args([
                    if below.is_empty() { "/bin/sh" } else { "sh" },
                    "-c",
                    script,
                ])
                .with(|command| {
                    command
                        .env_clear()
                        .env("PATH", "/usr/bin:/bin")
                        .current_dir(folder.path());
                    command.env("STRANGE", OsStr::from_bytes(b"a\xff\xfe=b"));
                    // SAFETY: umask and dup2 are async-signal-safe.
                    unsafe {
                        command.pre_exec(move || {
                            libc::umask(0o027);
                            libc::dup2(file.as_raw_fd(), 77);
                            Ok(())
                        })
                    }
                })
                .start()
                .end();
            assert!(
                end.stdout.contains("from descriptor 77\n"),
                "{place:?} {end:?}"
            );
            assert!(end.stdout.contains("377 376   =   b"), "{place:?} {end:?}");
            end.stdout
        });
        assert_eq!(outputs[0], outputs[1], "{place:?}");
    }
}

#[test]
fn the_signal_state_is_inherited_exactly() {
    for place in Place::ALL {
        // SIGHUP, SIGPIPE and a real-time signal ignored; SIGUSR1 and SIGCHLD's neighbour blocked.
        let state = [
            "--ignore", "1", "--ignore", "13", "--block", "10", "--block", "40",
        ];
        let end = launch(
            place,
            &state,
            &[],
            &["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"],
        )
        .start()
        .end();
        assert_eq!(
            end.stdout, "SigBlk:\t0000008000000200\nSigIgn:\t0000000000001001\n",
            "{place:?} {end:?}"
        );
        let end = run(place, &["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]);
        assert_eq!(
            end.stdout, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n",
            "{place:?} {end:?}"
        );
    }
}

#[test]
fn an_ignored_sigchld_does_not_make_it_wait_for_ever() {
    for place in Place::ALL {
        let ignored = ["--ignore", "17"];
        let end = launch(place, &ignored, &[], &["sh", "-c", "exit 7"])
            .start()
            .end();
        assert_eq!(end.status, "exit 7", "{place:?} {end:?}");
        let command = ["grep", "SigIgn", "/proc/self/status"];
        let end = launch(place, &ignored, &[], &command).start().end();
        assert_eq!(
            end.stdout, "SigIgn:\t0000000000010000\n",
            "{place:?} inherited all the same"
        );
    }
}

#[test]
fn closed_descriptors_0_to_2_stay_closed_and_harm_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for place in Place::ALL {
        let said = folder.path().join(format!("{place:?}"));
        let script = format!(
            "for n in 0 1 2; do test -e /proc/$$/fd/$n; echo $? >>{}; done; exit 4",
            said.display()
        );
        let closed = ["--close", "0", "--close", "1", "--close", "2"];
        let end = launch(place, &closed, &[], &["sh", "-c", &script])
            .start()
            .end();
        assert_eq!(end.status, "exit 4", "{place:?} {end:?}");
        assert_eq!(support::read_lossy(&said), "1\n1\n1\n", "{place:?}");
        let missing = launch(place, &closed, &[], &["/no/such/command"])
            .start()
            .end();
        assert_eq!(missing.status, "exit 127", "{place:?} {missing:?}");
    }
}

#[test]
fn every_signal_is_forwarded() {
    for place in Place::ALL {
        let listener = start_listener(place, &[]);
        let not_forwarded = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGTERM];
        for signal in (1..=64).filter(|signal| !not_forwarded.contains(signal)) {
            listener.signal(signal);
            listener.wait_for_output(&format!("signal {signal} in {place:?}"), |text| {
                text.lines().any(|line| line == signal.to_string())
            });
        }
        listener.signal(libc::SIGTERM);
        let end = listener.end();
        assert_eq!(end.status, "exit 42", "{place:?} {end:?}");
    }
}

#[test]
fn a_second_stop_is_forwarded_as_the_first() {
    for place in Place::ALL {
        let launched = launch(place, &[], &[], &["sh", "-c",
            "trap 'n=x$n; echo $n; test $n != xx || exit 6' TERM; echo ready; while :; do sleep 0.01; done"])
            .start();
        for sign in ["ready\n", "x\n"] {
            launched.wait_for_output("the trap", |text| text.ends_with(sign));
            launched.signal(libc::SIGTERM);
        }
        assert_eq!(launched.end().status, "exit 6", "{place:?}");
    }
}

/// Between exec and the first instruction of a program the kernel drops what comes to a PID 1 that
/// does not block it: no program can help that. From the mask on, nothing is lost.
#[test]
fn a_stop_is_not_lost_once_it_is_blocked() {
    for place in Place::ALL {
        for round in 0..50 {
            let launcher = ["--signal-once-blocked", "15"];
            let end = launch(place, &launcher, &[], &["sleep", "1000"])
                .start()
                .end();
            assert_eq!(end.status, "exit 143", "{place:?} round {round}: {end:?}");
        }
    }
}

#[test]
fn a_stop_right_after_exec_ends_it_in_any_case_where_the_kernel_lets_it() {
    for round in 0..50 {
        let launcher = [
            "--signal-after-exec",
            "15",
            "--delay-us",
            &(round * 40).to_string(),
        ];
        let end = launch(Place::Subreaper, &launcher, &[], &["sleep", "1000"])
            .start()
            .end();
        // An ordinary process that has not begun yet dies of it.
        let fits = ["exit 143", "signal 15"].contains(&end.status.as_str());
        assert!(fits, "after {} µs: {end:?}", round * 40);
    }
}

#[test]
fn a_group_gets_the_signal_only_when_asked_for() {
    let script = "trap 'echo parent; wait; exit 3' USR1
        sh -c 'trap \"echo child; exit\" USR1; echo ready; while :; do sleep 0.01; done' &
        while :; do sleep 0.01; done";
    for place in Place::ALL {
        for (options, reaches_child) in [(&["--signal-group"][..], true), (&[][..], false)] {
            let launched = launch(place, &[], options, &["bash", "-c", script]).start();
            launched.wait_for_output("the child's trap", |text| text.contains("ready"));
            launched.signal(libc::SIGUSR1);
            let text =
                launched.wait_for_output("the parent's trap", |text| text.contains("parent"));
            if reaches_child {
                launched.wait_for_output("the child's trap", |text| text.contains("child"));
                assert_eq!(launched.end().status, "exit 3", "{place:?}");
            } else {
                assert!(!text.contains("child"), "{place:?} {text:?}");
                launched.signal(libc::SIGTERM);
                launched.end();
            }
        }
    }
}

#[test]
fn a_daemon_in_its_own_session_is_ended_with_the_command() {
    let folder = tempfile::tempdir().expect("a folder");
    for place in Place::ALL {
        let said = folder.path().join(format!("{place:?}"));
        // The inner shell is the daemon: it is asked first, and says so.
        let script = format!(
            "setsid sh -c 'trap \"echo asked >{0}; exit\" TERM; echo up >{0}; while :; do sleep 0.01; done' &
             until test -s {0}; do sleep 0.01; done; exit 3",
            said.display()
        );
        let end = run(place, &["sh", "-c", &script]);
        assert_eq!(end.status, "exit 3", "{place:?} {end:?}");
        assert_eq!(support::read_lossy(&said), "asked\n", "{place:?}");
    }
}

#[test]
fn a_daemon_that_ignores_the_stop_is_killed_with_its_children() {
    let folder = tempfile::tempdir().expect("a folder");
    for place in Place::ALL {
        // Both hold the pipe open, so its end is the end of both.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let script = format!(
            "setsid sh -c 'trap \"\" TERM; sh -c \"while :; do sleep 0.05; done\" &
             echo up >{0}; while :; do sleep 0.05; done' &
             until test -s {0}; do sleep 0.01; done; exit 2",
            folder.path().join(format!("{place:?}")).display()
        );
        let end = launch(place, &[], &[], &["sh", "-c", &script])
            .with(|command| {
                // SAFETY: dup2 is async-signal-safe.
                unsafe {
                    command.pre_exec(move || {
                        libc::dup2(writer.as_raw_fd(), 77);
                        Ok(())
                    })
                }
            })
            .start()
            .end();
        assert_eq!(end.status, "exit 2", "{place:?} {end:?}");
        let mut waited = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        let ended = poll(&mut waited, PollTimeout::from(10_000u16)).expect("a pipe can be polled");
        assert_eq!(ended, 1, "{place:?}: something still holds the pipe");
    }
}

#[test]
fn a_command_that_does_not_stop_is_killed_only_when_asked_for() {
    let script = "trap 'echo asked; n=$((n + 1)); test $n = 3 && exit 4' TERM
        echo ready; while :; do sleep 0.01; done";
    for place in Place::ALL {
        let launched = launch(
            place,
            &[],
            &["--stop-timeout", "500ms"],
            &["sh", "-c", script],
        )
        .start();
        launched.wait_for_output("the trap", |text| text.contains("ready"));
        launched.signal(libc::SIGTERM);
        let end = launched.end();
        assert_eq!(
            (end.status.as_str(), end.stdout.as_str()),
            ("exit 137", "ready\nasked\n")
        );

        let launched = launch(place, &[], &[], &["sh", "-c", script]).start();
        launched.wait_for_output("the trap", |text| text.contains("ready"));
        for asked in 1..=2 {
            launched.signal(libc::SIGTERM);
            launched.wait_for_output("the trap", |text| text.matches("asked").count() == asked);
        }
        launched.signal(libc::SIGTERM);
        assert_eq!(launched.end().status, "exit 4");
    }
}

#[test]
fn ten_thousand_orphans_that_end_at_once_are_all_reaped() {
    let tool = tool();
    for place in [Place::Pid1, Place::Subreaper] {
        let end = run(place, &[&tool, "child", "orphans", "10000"]);
        assert_eq!(end.status, "exit 0", "{place:?} {end:?}");
        println!(
            "{place:?}: 10,000 orphans reaped after {} ms",
            end.stdout.trim()
        );
    }
}

#[test]
fn no_zombie_is_left_while_the_command_runs() {
    for place in Place::ALL {
        let script = "for n in 1 2 3 4 5; do (sleep 0.01 & exec true); done; sleep 0.1
            grep -l \"^PPid:.$PPID$\" /proc/[0-9]*/status 2>/dev/null | while read file; do
                grep -q '^State:.Z' $file && echo zombie $file; done; echo looked";
        // A zombie may be there for an instant; only one that stays is a defect.
        poll_until(PATIENCE, "a look that finds no zombie", || {
            let end = run(place, &["sh", "-c", script]);
            if end.stdout == "looked\n" {
                Ok(())
            } else {
                Err((place, end))
            }
        });
    }
}

#[test]
fn standard_input_is_the_commands() {
    for place in Place::ALL {
        let mut launched = launch(place, &[], &[], &["cat"])
            .with(|command| command.stdin(Stdio::piped()))
            .start();
        let mut stdin = launched.launcher().child().stdin.take().expect("piped");
        stdin.write_all(b"through\xff\n").expect("cat reads");
        drop(stdin);
        assert_eq!(launched.end().stdout, "through\u{fffd}\n", "{place:?}");
    }
}

/// A terminal whose other side the test holds.
struct Terminal {
    master: fs::File,
    path: String,
    seen: String,
}

impl Terminal {
    fn open() -> Self {
        let master = nix::pty::posix_openpt(
            OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
        )
        .expect("a terminal");
        nix::pty::grantpt(&master).expect("granted");
        nix::pty::unlockpt(&master).expect("unlocked");
        let path = nix::pty::ptsname_r(&master).expect("its path");
        // SAFETY: the descriptor is handed over to its only owner.
        let master = unsafe { std::os::fd::FromRawFd::from_raw_fd(into_raw(master)) };
        Self {
            master,
            path,
            seen: String::new(),
        }
    }

    fn write(&mut self, text: &str) {
        self.master
            .write_all(text.as_bytes())
            .expect("room in the terminal");
    }

    /// Reads until `text` has appeared, and forgets what came up to it.
    fn expect(&mut self, text: &str) {
        let Self { master, seen, .. } = self;
        poll_until(PATIENCE, text, || {
            let mut buffer = [0; 4096];
            // EAGAIN: nothing new. EIO: nobody has it open at present.
            if let Ok(length) = master.read(&mut buffer) {
                seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            match seen.find(text) {
                Some(at) => {
                    seen.drain(..at + text.len());
                    Ok(())
                }
                None => Err(seen.clone()),
            }
        });
    }
}

fn into_raw(master: nix::pty::PtyMaster) -> i32 {
    std::os::fd::IntoRawFd::into_raw_fd(master)
}

#[test]
fn the_command_gets_the_terminal_and_a_script_gets_it_back() {
    for place in [Place::Pid1, Place::Subreaper] {
        let mut terminal = Terminal::open();
        let path = terminal.path.clone();
        // Stopped by SIGTTIN, the read would never answer.
        let reads = "read line; echo got:$line:";
        let keeper = clawkeeper().display().to_string();
        let script =
            format!("{keeper} run --mode init -- sh -c '{reads}'; read again; echo then:$again:");
        let launched = Launch::in_place(place)
            .args(["--terminal", &path, "--", "/bin/sh", "-c", &script])
            .start();
        terminal.write("first\n");
        terminal.expect("got:first:");
        terminal.write("second\n");
        terminal.expect("then:second:");
        assert_eq!(launched.end().status, "exit 0", "{place:?}");
    }
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    for place in [Place::Pid1, Place::Subreaper] {
        let mut terminal = Terminal::open();
        let path = terminal.path.clone();
        let tool = tool();
        let launched = launch(
            place,
            &["--terminal", &path],
            &[],
            &[&tool, "child", "signals"],
        )
        .start();
        terminal.expect("ready");
        terminal.write("\x03");
        terminal.expect("2\r\n");
        launched.signal(libc::SIGTERM);
        terminal.expect("15\r\n");
        assert_eq!(launched.end().status, "exit 42", "{place:?}");
    }
}

#[test]
fn ctrl_z_where_nobody_could_continue_it_does_not_stop_the_command_for_good() {
    for place in [Place::Pid1, Place::Subreaper] {
        let mut terminal = Terminal::open();
        let path = terminal.path.clone();
        let launched = launch(
            place,
            &["--terminal", &path],
            &[],
            &["sed", "-u", "s/^/got:/"],
        )
        .start();
        terminal.write("one\n");
        terminal.expect("got:one\r\n");
        terminal.write("\x1a");
        terminal.write("two\n");
        terminal.expect("got:two\r\n");
        terminal.write("\x04");
        assert_eq!(launched.end().status, "exit 0", "{place:?}");
    }
}

#[test]
fn ctrl_z_under_a_shell_stops_the_job_and_fg_brings_it_back() {
    let mut terminal = Terminal::open();
    let path = terminal.path.clone();
    let keeper = clawkeeper().display().to_string();
    let launched = Launch::in_place(Place::Subreaper)
        .args([
            "--terminal",
            &path,
            "--",
            "/bin/bash",
            "--norc",
            "--noprofile",
            "-i",
        ])
        .with(|command| command.env("PS1", "prompt> "))
        .start();
    terminal.expect("prompt> ");
    terminal.write(&format!("{keeper} run --mode init -- sed -u s/^/got:/\n"));
    terminal.write("one\n");
    terminal.expect("got:one\r\n");
    terminal.write("\x1a");
    terminal.expect("Stopped");
    terminal.expect("prompt> ");
    terminal.write("echo shell is $((40+2))\n");
    terminal.expect("shell is 42");
    terminal.write("fg\n");
    terminal.write("two\n");
    terminal.expect("got:two\r\n");
    terminal.write("\x04");
    terminal.expect("prompt> ");
    terminal.write("exit 8\n");
    assert_eq!(launched.end().status, "exit 8");
}
