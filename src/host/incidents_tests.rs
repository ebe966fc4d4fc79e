#![allow(clippy::disallowed_methods, reason = "tests write files")]

use super::*;
use crate::core::action::Report;
use crate::core::event::Attempt;
use crate::core::exit_class::{ExitClass, ExitStatus};
use crate::core::time::Mono;
use crate::gateway::{self, Command};
use crate::settings::Settings;
use proptest::prelude::*;
use std::ffi::OsString;

struct Site {
    dir: tempfile::TempDir,
    launch: Launch,
}

impl Site {
    fn new(variables: &[(&str, &str)], arguments: &[&str], config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a state folder");
        std::fs::write(dir.path().join("openclaw.json"), config).expect("a config");
        let state = ("OPENCLAW_STATE_DIR", dir.path().to_str().expect("text"));
        let environment = variables
            .iter()
            .chain([&state])
            .map(|(name, value)| (OsString::from(name), OsString::from(value)))
            .collect();
        let argv: Vec<OsString> = ["openclaw", "gateway"]
            .iter()
            .chain(arguments)
            .map(OsString::from)
            .collect();
        let Command::Gateway(command) = gateway::recognise(&argv) else {
            panic!("a gateway")
        };
        let launch = Launch::prepare(argv, command, environment, &Settings::default());
        Self {
            launch: launch.expect("prepared"),
            dir,
        }
    }

    fn keep(&self, class: &str, tail: &[u8], at: u64) -> Result<PathBuf, IncidentError> {
        keep(&self.launch, &incident(class), tail, WallMs(at))
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("clawkeeper/incidents")
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).expect("listed").flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().into_string().expect("text"))
            .collect();
        names.sort_unstable();
        names
    }
}

#[test]
fn files_that_somebody_else_put_there_cost_a_reader_no_more_than_ours() {
    let site = Site::new(&[], &[], "{}");
    let ours = site.keep("crash", b"", 1_000).expect("kept");
    let text = std::fs::read_to_string(&ours).expect("read");
    let theirs = text.replace("\"crash\"", &format!("\"{}\"", "x".repeat(900_000)));
    for number in 0..FILES_MAX * 3 {
        let name = format!("2026-11-21T19-44-51.{number:03}Z-crash.json");
        std::fs::write(site.folder().join(name), &theirs).expect("planted");
    }
    let ids = list(site.dir.path()).expect("listed");
    assert_eq!(ids.len(), FILES_MAX);
    for id in ids {
        assert_eq!(read(site.dir.path(), &id).expect("read").class, "crash");
    }
}

#[test]
fn a_dump_whose_name_is_no_text_does_not_empty_the_incident() {
    use std::os::unix::ffi::OsStrExt as _;
    let site = Site::new(&[], &[], "{}");
    let dumps = site.dir.path().join("clawkeeper-dumps");
    std::fs::create_dir(&dumps).expect("a folder");
    let name = std::ffi::OsStr::from_bytes(b"\xff.heapsnapshot");
    std::fs::write(dumps.join(name), "{}").expect("a dump");
    site.keep("oom-heap", b"last words\n", 1_000).expect("kept");
    let ids = list(site.dir.path()).expect("listed");
    let kept = read(site.dir.path(), &ids[0]).expect("an incident");
    assert_eq!(kept.dumps.len(), 1);
    assert_eq!(kept.output, ["last words"]);
}

fn incident(class: &str) -> Incident {
    Incident {
        class: class.to_owned(),
        attempt: Attempt(3),
        pid: 77,
        at: Mono(60_000),
        uptime: Millis(50_000),
        was_ready: true,
        report: Report::Exited {
            attempt: Attempt(3),
            pid: 77,
            status: ExitStatus::Signal(9),
            class: ExitClass::Signal { signal: 9 },
            uptime: Millis(50_000),
            memory: Box::default(),
        },
        memory: MemoryStory::default(),
        history: vec![],
    }
}

const NOON: u64 = 1_795_262_400_123;

#[test]
fn an_incident_is_read_back_as_it_was_kept() {
    let site = Site::new(&[], &[], "{}");
    assert_eq!(list(site.dir.path()).expect("listed"), [""; 0]);
    assert_eq!(
        std::fs::read_dir(site.dir.path()).expect("listed").count(),
        1,
        "looking makes nothing"
    );
    let tail = b"one\n\x1b[31mtwo\x1b[39m\nnot \xff text\n";
    let path = site.keep("oom-kernel", tail, NOON).expect("kept");
    let ids = list(site.dir.path()).expect("listed");
    assert_eq!(ids, ["2026-11-21T12-00-00.123Z-oom-kernel"]);
    assert!(path.ends_with(format!("{}.json", ids[0])));
    let kept = read(site.dir.path(), &ids[0]).expect("read");
    assert_eq!((kept.time, kept.pid, kept.attempt), (WallMs(NOON), 77, 3));
    assert_eq!(kept.output, ["one", "two", "not \u{fffd} text"]);
    assert!(
        kept.line.starts_with("gateway exited class=signal"),
        "{}",
        kept.line
    );
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn number_and_size_are_bounded_whatever_comes() {
    let site = Site::new(&[], &[], "{}");
    let noise: Vec<u8> = (0..200u32)
        .flat_map(|line| {
            let mut text = vec![b'"'; 4096];
            text.extend(format!(" {line}\n").bytes());
            text
        })
        .collect();
    for at in 0..(FILES_MAX as u64 + 15) {
        let path = site.keep("crash", &noise, NOON + at).expect("kept");
        assert!(site.names().len() <= FILES_MAX);
        let bytes = std::fs::metadata(path).expect("there").len();
        assert!(bytes <= FILE_MAX_BYTES as u64, "{bytes}");
    }
    let newest = &list(site.dir.path()).expect("listed")[0];
    let kept = read(site.dir.path(), newest).expect("read");
    assert!(
        kept.output.last().expect("some output").ends_with(" 199"),
        "the end tells why"
    );
}

#[test]
fn planted_links_and_half_written_files_do_no_harm() {
    let site = Site::new(&[], &[], "{}");
    site.keep("crash", b"x\n", NOON).expect("kept");
    let outside = tempfile::tempdir().expect("a folder");
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "precious").expect("written");
    let next = site.folder().join("2026-11-21T12-00-00.124Z-crash.json");
    std::os::unix::fs::symlink(&victim, &next).expect("a link");
    std::fs::write(
        site.folder()
            .join("2026-11-21T11-00-00.000Z-crash.json.tmp-9"),
        "half",
    )
    .expect("written");
    std::fs::write(site.folder().join("mine.txt"), "not an incident").expect("written");
    site.keep("crash", b"y\n", NOON + 1).expect("kept");
    assert_eq!(std::fs::read_to_string(&victim).expect("there"), "precious");
    assert!(!next.is_symlink(), "the link was replaced, not followed");
    assert_eq!(
        site.names(),
        [
            "2026-11-21T12-00-00.123Z-crash.json",
            "2026-11-21T12-00-00.124Z-crash.json",
            "mine.txt"
        ]
    );
    // The whole folder as a link leads nowhere either.
    std::fs::remove_dir_all(site.folder()).expect("removed");
    std::os::unix::fs::symlink(outside.path(), site.folder()).expect("a link");
    site.keep("crash", b"z\n", NOON + 2)
        .expect_err("a link is no folder");
    assert!(list(site.dir.path()).is_err());
    assert_eq!(
        std::fs::read_dir(outside.path()).expect("listed").count(),
        1
    );
}

#[test]
fn an_id_names_a_file_of_the_folder_and_nothing_else() {
    let site = Site::new(&[], &[], "{}");
    site.keep("crash", b"x\n", NOON).expect("kept");
    std::fs::write(
        site.folder().join("2026-11-21T13-00-00.000Z-crash.json"),
        "{",
    )
    .expect("written");
    for id in [
        "",
        "../child",
        "/etc/passwd",
        "2026-11-21T12-00-00.123Z-../../child",
        "2026-11-21T12-00-00.999Z-crash",
        "2026-11-21T13-00-00.000Z-crash",
        "…",
    ] {
        assert!(read(site.dir.path(), id).is_err(), "{id}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Wherever a secret is known from, and whatever stands around it.
    #[test]
    fn no_secret_reaches_a_file(
        // Secrets of a deployment are no words: one that is would be in the report's own text.
        secrets in prop::collection::vec("[A-Za-z0-9]{3}[!-~]{6,24}[0-9]{3}", 5),
        around in prop::collection::vec("[ -~]{0,30}", 1..40),
        cut in 0usize..3000,
    ) {
        let config = serde_json::json!({
            "gateway": {"mode": "local", "auth": {"token": secrets[0].clone()}},
            "env": {"SOME_API_KEY": secrets[1].clone()},
            "channels": {"$include": "channels.json5"},
        });
        let included = serde_json::json!({"telegram": {"botToken": secrets[4].clone()}});
        let site = Site::new(
            &[("OPENCLAW_GATEWAY_PASSWORD", &secrets[2])],
            // As the image has it: the config is not needed to find the gateway, and its secrets are masked all the same.
            &["--token", &secrets[3], "--port", "3000", "--bind", "lan"],
            &config.to_string(),
        );
        std::fs::write(site.dir.path().join("channels.json5"), included.to_string()).expect("written");
        let mut tail = String::new();
        for (number, text) in around.iter().enumerate() {
            tail.push_str(text);
            tail.push_str(&secrets[number % 5]);
            tail.push_str(if number % 3 == 0 { "\n" } else { " " });
        }
        let tail = &tail.as_bytes()[..tail.len().min(cut)];
        let path = site.keep("crash", tail, NOON).expect("kept");
        let text = std::fs::read_to_string(path).expect("text");
        let kept: Kept = serde_json::from_str(&text).expect("an incident");
        for secret in &secrets {
            prop_assert!(!text.contains(secret.as_str()), "{secret} in {text}");
            let shown = kept.output.join("\n");
            prop_assert!(!shown.contains(secret.as_str()), "{secret} in {shown}");
        }
    }
}
