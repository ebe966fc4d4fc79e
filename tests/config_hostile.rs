//! What somebody could put in a config's place: an error that says what, where and what to do, and no harm.

#![allow(
    clippy::disallowed_methods,
    reason = "tests start processes and prepare files"
)]

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::keeper::Plan;
use support::{Place, Process, clawkeeper, poll_until, skip};

const GOOD: &str = "{gateway: {mode: 'local'}}";
/// Longer than any of them may take, on a loaded machine.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);
/// What a look at a config may cost: it reads 8 MB at most.
const ADDRESS_SPACE: u64 = 512 << 20;

/// Every command that reads the config, with the code it ends with when there is none to be used.
const READERS: &[(&[&str], i32)] = &[
    (&["check"], 2),
    (&["config", "validate"], 2),
    (&["config", "get"], 2),
    (&["config", "get", "gateway.auth.token"], 2),
    (&["config", "diff"], 2),
    (&["config", "put"], 71),
    (&["config", "edit"], 71),
];

fn plan() -> Plan {
    let plan = Plan::new(Place::Subreaper)
        .env("OPENCLAW_GATEWAY_TOKEN", "t0ken-t0ken-t0ken")
        .env("EDITOR", "true");
    fs::write(
        plan.file("secret"),
        "root:$6$QZXshadow:19000:0:99999:7:::\n",
    )
    .expect("written");
    plan
}

/// Runs a command with a good config on its standard input, within bounds of time and memory.
fn ask(plan: &Plan, args: &[&str]) -> Output {
    let mut command = Command::new("/usr/bin/prlimit");
    plan.surround(&mut command)
        .arg(format!("--as={ADDRESS_SPACE}"))
        .arg(clawkeeper())
        .args(args);
    let out = plan.file("stdout");
    let err = plan.file("stderr");
    let file = |path: &Path| fs::File::create(path).expect("a file");
    command
        .stdin(Stdio::piped())
        .stdout(file(&out))
        .stderr(file(&err));
    let mut process = Process::start(&mut command);
    let _ = process
        .child()
        .stdin
        .take()
        .expect("a pipe")
        .write_all(GOOD.as_bytes());
    let status = poll_until(DEADLINE, "an end in time", || {
        process
            .child()
            .try_wait()
            .expect("our child")
            .ok_or("it runs")
    });
    Output {
        status,
        stdout: fs::read(out).expect("its output"),
        stderr: fs::read(err).expect("its output"),
    }
}

fn text(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    format!("{stdout}{}", String::from_utf8_lossy(&output.stderr))
}

type Plant = fn(&Path, &Path);

/// What is planted, and a part of what is said about it.
const PLANTS: &[(&str, &str, Plant)] = &[
    ("a link to a secret", "a symbolic link", |config, secret| {
        symlink(secret, config).expect("a link");
    }),
    ("a link to a device", "a symbolic link", |config, _| {
        symlink("/dev/zero", config).expect("a link");
    }),
    ("a link to itself", "a symbolic link", |config, _| {
        symlink(config, config).expect("a link");
    }),
    (
        "a hard link to a secret",
        "openclaw.json",
        |config, secret| {
            fs::hard_link(secret, config).expect("a link");
        },
    ),
    ("a pipe", "a pipe", |config, _| {
        nix::unistd::mkfifo(config, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    }),
    ("a socket", "a socket", |config, _| {
        std::os::unix::net::UnixListener::bind(config).expect("a socket");
    }),
    ("a folder", "a folder", |config, _| {
        fs::create_dir(config).expect("a folder");
    }),
    ("an endless device", "a device", |config, _| {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        if mknod(config, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)).is_err() {
            // Where devices may not be made, a folder has to do.
            skip("devices cannot be made here");
            symlink("/dev/zero", config).expect("a link");
        }
    }),
    ("two gigabytes", "8388608", |config, _| {
        let file = fs::File::create(config).expect("a file");
        file.set_len(2 << 30).expect("a sparse file");
    }),
    ("just too much", "8388608", |config, _| {
        fs::write(config, vec![b' '; (8 << 20) + 1]).expect("written");
    }),
];

#[test]
fn nothing_in_the_configs_place_is_followed_waited_for_or_shown() {
    for (name, said, plant) in PLANTS {
        let plan = plan();
        let secret = plan.file("secret");
        fs::remove_file(plan.config()).expect("removed");
        plant(&plan.config(), &secret);
        let before = fs::symlink_metadata(plan.config()).expect("there");
        let secret_before = fs::metadata(&secret).expect("there");
        for (args, code) in READERS {
            let output = ask(&plan, args);
            let heard = text(&output);
            // A hard link reads as the file it is: what is in it does not parse, and is not shown.
            assert_eq!(
                output.status.code(),
                Some(*code),
                "{name}: {args:?}: {heard}"
            );
            assert!(heard.contains("openclaw.json"), "{name}: {args:?}: {heard}");
            assert!(heard.contains(said), "{name}: {args:?}: {heard}");
            assert!(!heard.contains("QZX"), "{name}: {args:?}: {heard}");
            assert!(!heard.contains("panicked"), "{name}: {args:?}: {heard}");
        }
        let after = fs::symlink_metadata(plan.config()).expect("there");
        assert_eq!(before.ino(), after.ino(), "{name}: it is left alone");
        let secret_after = fs::metadata(&secret).expect("there");
        let about = |it: &fs::Metadata| (it.ino(), it.mode(), it.uid(), it.size(), it.mtime_nsec());
        assert_eq!(about(&secret_before), about(&secret_after), "{name}");
        assert!(!is_kept_anywhere(&plan, "QZXshadow"), "{name}: copied");
    }
}

/// Whether a text is in any file below the state folder that is no link to somewhere else.
fn is_kept_anywhere(plan: &Plan, wanted: &str) -> bool {
    let output = Command::new("grep")
        .args([
            "-rl",
            "--devices=skip",
            "--exclude=openclaw.json",
            "--exclude=more.json",
            wanted,
        ])
        .arg(plan.state())
        .output()
        .expect("grep");
    !output.stdout.is_empty()
}

#[test]
fn a_supervisor_holds_for_each_of_them_and_starts_when_it_is_gone() {
    for (name, said, plant) in PLANTS {
        let plan = plan().options(["--hold-retry", "200ms"]);
        fs::remove_file(plan.config()).expect("removed");
        plant(&plan.config(), &plan.file("secret"));
        let kept = plan.start();
        let why = kept.wait_until_held();
        assert!(why.contains(said), "{name}: {why}");
        assert!(!kept.text().contains("QZX"), "{name}: {}", kept.text());
        match fs::symlink_metadata(plan.config()).expect("there").is_dir() {
            true => fs::remove_dir(plan.config()).expect("removed"),
            false => fs::remove_file(plan.config()).expect("removed"),
        }
        plan.write_config(GOOD);
        kept.wait_until_ready();
        assert_eq!(kept.stop().status, "exit 0", "{name}");
    }
}

/// Contents that are hostile in themselves, and a part of what is said; none where the gateway takes them.
fn contents() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    vec![
        (
            "nested lists",
            vec![b'['; 100_000],
            Some("nested deeper than 200"),
        ),
        (
            "nested objects",
            b"{a:".repeat(100_000),
            Some("nested deeper than 200"),
        ),
        (
            "closed nesting",
            [vec![b'['; 100_000], vec![b']'; 100_000]].concat(),
            Some("nested deeper"),
        ),
        (
            "a megabyte of brackets",
            vec![b'{'; 1 << 20],
            Some("nested deeper"),
        ),
        (
            "an endless string",
            [b"{a:'".to_vec(), vec![b'x'; 8 << 20]].concat(),
            Some("more than 8388608"),
        ),
        (
            "an endless comment",
            [b"{/*".to_vec(), vec![b'*'; 4 << 20]].concat(),
            Some("ends inside"),
        ),
        (
            "an endless number",
            [b"{a:".to_vec(), vec![b'9'; 4 << 20], b"}".to_vec()].concat(),
            None,
        ),
        ("NUL bytes", vec![0; 4096], Some("1:1")),
        ("nothing", Vec::new(), Some("no value")),
        ("only a mark", b"\xef\xbb\xbf".to_vec(), Some("no value")),
        ("a mark", [b"\xef\xbb\xbf", GOOD.as_bytes()].concat(), None),
        (
            "UTF-16",
            GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Some("1:"),
        ),
        (
            "no UTF-8",
            b"{gateway: {mode: 'local'}, wizard: {a: '\xff\xfe\xc0\x80'}}".to_vec(),
            None,
        ),
        ("no UTF-8 outside", b"\xff\xfe{}".to_vec(), Some("1:1")),
        (
            "a key twice",
            b"{gateway: {mode: 'remote'}, gateway: {mode: 'local'}}".to_vec(),
            None,
        ),
        (
            "a prototype",
            b"{gateway: {mode: 'local'}, __proto__: {a: 1}}".to_vec(),
            None,
        ),
        (
            "escapes for a terminal",
            b"{gateway: {mode: 'local'}, 'a\x1b[2J': '\x1b]0;x\x07'}".to_vec(),
            None,
        ),
        (
            "many keys",
            {
                let keys: String = (0..100_000).map(|n| format!("k{n}:{n},")).collect();
                format!("{{gateway:{{mode:'local'}},{keys}}}").into_bytes()
            },
            None,
        ),
        (
            "an include of itself",
            b"{$include: './openclaw.json', gateway: {mode: 'local'}}".to_vec(),
            None,
        ),
        (
            "an include of a secret",
            b"{$include: '../secret', gateway: {mode: 'local'}}".to_vec(),
            None,
        ),
        (
            "includes without end",
            b"{$include: ['./a.json', './a.json'], gateway: {mode: 'local'}}".to_vec(),
            None,
        ),
    ]
}

#[test]
fn hostile_contents_are_named_and_nobody_chokes_on_them() {
    for (name, bytes, said) in contents() {
        let plan = plan();
        fs::write(plan.config(), &bytes).expect("written");
        fs::write(plan.state().join("a.json"), "{$include: './a.json'}").expect("written");
        for (args, _) in READERS
            .iter()
            .filter(|(args, _)| args[1..] != ["edit"] && args[1..] != ["diff"])
        {
            let output = ask(&plan, args);
            let heard = text(&output);
            let code = output.status.code().unwrap_or(-1);
            // put replaces what is broken; the others say so.
            let is_put = args.ends_with(&["put"]);
            match said {
                Some(said) if is_put && !bytes.starts_with(b"{a:'") => {
                    assert!(heard.contains(said), "{name}: {args:?}: {heard}");
                }
                Some(said) => {
                    assert!([2, 71].contains(&code), "{name}: {args:?}: {code}: {heard}");
                    assert!(heard.contains(said), "{name}: {args:?}: {heard}");
                }
                None => assert!([0, 1].contains(&code), "{name}: {args:?}: {code}: {heard}"),
            }
            assert!(
                heard.len() < 20 << 20 && !heard.contains("panicked"),
                "{name}"
            );
            assert!(!heard.contains("QZX"), "{name}: {heard}");
            assert!(!heard.contains('\u{1b}'), "{name}: {args:?}: {heard:?}");
            fs::write(plan.config(), &bytes).expect("written");
        }
    }
}

#[test]
fn hostile_contents_are_refused_on_standard_input_too() {
    let plan = plan();
    for (name, bytes, said) in contents() {
        let Some(said) = said.filter(|_| !bytes.is_empty()) else {
            continue;
        };
        let mut command = Command::new(clawkeeper());
        let mut child = plan
            .surround(&mut command)
            .args(["config", "put"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let _ = child.stdin.take().expect("a pipe").write_all(&bytes);
        let output = child.wait_with_output().expect("it ends");
        let heard = text(&output);
        assert_eq!(output.status.code(), Some(2), "{name}: {heard}");
        assert!(heard.contains(said), "{name}: {heard}");
    }
}

#[test]
fn a_config_that_changes_while_it_is_read_is_read_whole_or_said_to_be_changing() {
    let plan = plan();
    let path = plan.config();
    // In place, as tee does it, and never the same twice: no reader may see a mixture.
    let versions: Vec<String> = ["1", "2"]
        .map(|digit| {
            format!(
                "{{gateway: {{mode: 'local'}}, a: '{}'}}",
                digit.repeat(200_000)
            )
        })
        .into();
    fs::write(&path, &versions[0]).expect("written");
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (done, path) = (Arc::clone(&done), path);
        std::thread::spawn(move || {
            let mut count = 0_usize;
            while !done.load(Ordering::Relaxed) {
                count += 1;
                fs::write(&path, &versions[count % 2]).expect("written");
            }
            count
        })
    };
    let mut whole = 0;
    for _ in 0..40 {
        let output = ask(&plan, &["config", "get", "a"]);
        let heard = text(&output);
        match output.status.code() {
            Some(0) => {
                let heard = heard.trim_end();
                let first = heard.chars().next().unwrap_or_default();
                assert_eq!(heard.len(), 200_000, "cut short");
                assert!(heard.chars().all(|it| it == first), "a mixture");
                whole += 1;
            }
            // Changing all the time, or caught where the writer had emptied it.
            Some(2) => assert!(
                heard.contains("keeps changing")
                    || heard.contains("no value")
                    || heard.contains("ends inside"),
                "{heard}"
            ),
            code => panic!("{code:?}: {heard}"),
        }
    }
    done.store(true, Ordering::Relaxed);
    let writes = writer.join().expect("it ends");
    assert!(writes > 10, "{writes} writes beside {whole} whole reads");
}

#[test]
fn an_include_that_is_hostile_neither_stops_a_clawkeeper_nor_is_shown() {
    for (name, _, plant) in PLANTS {
        let plan = plan();
        plan.write_config(
            "{gateway: {mode: 'local'}, $include: ['./more.json', './openclaw.json']}",
        );
        plant(&plan.state().join("more.json"), &plan.file("secret"));
        let kept = plan.start();
        // Ready or held for it, but never stuck.
        kept.wait_for_line(name, 1, |line| {
            let message = line["message"].as_str().unwrap_or_default();
            message == "gateway ready" || message.starts_with("holding")
        });
        // An edit makes it look at all of them again.
        plan.write_config("{gateway: {mode: 'local'}, $include: './more.json', a: 1}");
        let output = ask(&plan, &["config", "validate"]);
        assert!(
            matches!(output.status.code(), Some(0..=2)),
            "{name}: {}",
            text(&output)
        );
        let ended = kept.stop();
        assert_eq!(ended.status, "exit 0", "{name}: {}", ended.text);
        assert!(!(ended.text + &text(&output)).contains("QZX"), "{name}");
        assert!(!is_kept_anywhere(&plan, "QZXshadow"), "{name}: copied");
    }
}
