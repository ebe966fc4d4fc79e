#![allow(clippy::disallowed_methods, reason = "tests write files")]

use super::super::records::Records;
use super::super::state;
use super::*;
use crate::gateway::{self, Command};
use crate::settings::Settings;
use std::ffi::OsString;
use std::time::Duration;

struct Site {
    dir: tempfile::TempDir,
    folder: Folder,
    output: Output,
}

impl Site {
    /// With the ports on the command line, as the image has them: the config is not needed to find the gateway.
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a state folder");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text);
        write("openclaw.json", config).expect("a config");
        let environment = [
            ("OPENCLAW_STATE_DIR", dir.path().to_str().expect("text")),
            ("OPENCLAW_GATEWAY_TOKEN", "the gateway's word"),
            ("DISCORD_BOT_TOKEN", "the bot's word"),
        ];
        let environment = environment.map(|(name, value)| (name.into(), value.into()));
        let argv: Vec<OsString> = "openclaw gateway --port 3000 --bind lan"
            .split(' ')
            .map(OsString::from)
            .collect();
        let Command::Gateway(command) = gateway::recognise(&argv) else {
            panic!("a gateway")
        };
        let launch = Launch::prepare(argv, command, environment.into(), &Settings::default());
        let state = Folder::open(dir.path()).expect("it opens");
        Self {
            folder: state::open_private(&state).expect("ours"),
            output: Output::new(Arc::new(launch.expect("prepared")), 1 << 20),
            dir,
        }
    }

    fn write(&mut self, lines: &[&str]) -> Vec<String> {
        let mut batch = Pending::default();
        for line in lines {
            batch.push(WallMs(1_795_271_080_123), line.as_bytes());
        }
        let written = self.output.write(&self.folder, &batch);
        written.expect("there is room");
        self.lines()
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("clawkeeper/output.log"));
        let text = text.expect("there");
        text.lines().map(str::to_owned).collect()
    }
}

const TIME: &str = "2026-11-21T14:24:40.123Z";

#[test]
fn a_line_is_kept_with_its_time_and_without_what_moves_a_cursor() {
    let mut site = Site::new("{}");
    let lines = site.write(&["\u{1b}[90m[gateway]\u{1b}[39m ready\r", ""]);
    assert_eq!(
        lines,
        [format!("{TIME} [gateway] ready"), format!("{TIME} ")]
    );
    let parsed = parse(&lines[0]).expect("a line of ours");
    assert_eq!(parsed, (WallMs(1_795_271_080_123), "[gateway] ready"));
    assert_eq!(parse("no time at all, or cut"), None);
}

#[test]
fn no_secret_is_kept_wherever_it_comes_from() {
    let config = r#"{channels:{slack:{token:"config-word"}}}"#;
    let mut site = Site::new(config);
    let said = [
        "token is the gateway's word",
        "bot: the bot's word!",
        "from the config: config-word",
        "Authorization: Bearer abcdefghijklmnop",
        "key sk-ant-REDACTED",
        "-----BEGIN PRIVATE KEY-----",
    ];
    let kept = site.write(&said).join("\n");
    for secret in [
        "gateway's word",
        "bot's word",
        "config-word",
        "abcdefgh",
        "sk-ant",
    ] {
        assert!(!kept.contains(secret), "{secret} in {kept}");
    }
    // A key may go on in the next batch.
    let kept = site.write(&["secretsecret", "-----END PRIVATE KEY-----", "after"]);
    assert!(!kept.join("\n").contains("secretsecret"), "{kept:?}");
    assert_eq!(kept.last(), Some(&format!("{TIME} after")));
}

#[test]
fn an_error_that_quotes_the_start_of_a_key_hides_neither_what_follows_nor_a_line_of_ours() {
    let full = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    let mut site = Site::new("{}");
    let kept = site.write(&["PEM must start with -----BEGIN PRIVATE KEY-----", full]);
    assert_eq!(kept, [format!("{TIME} ***"), format!("{TIME} ***")]);
    // It was killed while it printed one.
    let said = [
        "clawkeeper: gateway exited class=signal",
        "[gateway] this could be the last line of it",
        "[gateway] loading configuration…",
    ];
    let kept = site.write(&said);
    let shown = [said[0], "***", said[2]];
    assert_eq!(kept[2..], shown.map(|line| format!("{TIME} {line}")));
}

#[test]
fn a_secret_that_an_edit_brings_is_masked_and_a_broken_edit_forgets_none() {
    let mut site = Site::new(r#"{channels:{slack:{token:"first-word"}}}"#);
    site.write(&["x"]);
    let config = site.dir.path().join("openclaw.json");
    std::fs::write(&config, r#"{channels:{slack:{token:"other-word"}}}"#).expect("edited");
    let kept = site.write(&["now other-word"]);
    assert_eq!(kept.last(), Some(&format!("{TIME} now ***")));
    std::fs::write(&config, "{channels:").expect("broken");
    let kept = site.write(&["still other-word"]);
    assert_eq!(kept.last(), Some(&format!("{TIME} still ***")));
}

#[test]
fn a_secret_of_an_included_file_is_masked_as_the_file_changes() {
    let mut site = Site::new(r#"{channels:{$include:"channels.json5"}}"#);
    let included = site.dir.path().join("channels.json5");
    std::fs::write(&included, r#"{slack:{token:"first-word"}}"#).expect("written");
    let kept = site.write(&["now first-word"]);
    assert_eq!(kept.last(), Some(&format!("{TIME} now ***")));
    std::fs::write(&included, r#"{slack:{token:"next-word"}}"#).expect("edited");
    let kept = site.write(&["now next-word"]);
    assert_eq!(kept.last(), Some(&format!("{TIME} now ***")));
}

#[test]
fn lost_lines_are_said_before_those_that_came_after() {
    let mut site = Site::new("{}");
    let mut failed = Pending::default();
    failed.push(WallMs(0), b"one");
    failed.push(WallMs(0), b"two");
    let mut batch = Pending::default();
    batch.push(WallMs(1_795_271_080_123), b"three");
    batch.lose(&failed);
    site.output
        .write(&site.folder, &batch)
        .expect("there is room");
    let lines = site.lines();
    assert!(lines[0].starts_with(&format!(
        "{TIME} clawkeeper: 2 lines of output were not kept"
    )));
    assert_eq!(lines[1..], [format!("{TIME} three")]);
}

#[test]
fn a_line_of_any_length_is_one_that_a_reader_takes() {
    let mut site = Site::new("{}");
    site.write(&["ü ".repeat(LINE_MAX_BYTES).as_str(), "next"]);
    let last = ring(1 << 20).last(&site.folder, 9, |_| true);
    assert_eq!(last.expect("read").len(), 2);
}

#[test]
fn output_is_taken_once_it_is_to_be_kept_and_what_waits_is_written_at_the_end() {
    let site = Site::new("{}");
    let records = Records::open(site.dir.path());
    records.begin();
    records.output(WallMs(0), b"before");
    records.keep_output(Arc::clone(&site.output.launch), 1 << 20);
    records.output(WallMs(1_795_271_080_123), b"after");
    records.close(Duration::from_secs(20));
    assert_eq!(site.lines(), [format!("{TIME} after")]);
}

#[test]
fn a_flood_is_written_in_part_and_the_rest_is_counted() {
    const LINES: usize = 50_000;
    let site = Site::new("{}");
    let records = Records::open(site.dir.path());
    records.begin();
    records.keep_output(Arc::clone(&site.output.launch), 1 << 20);
    for number in 0..LINES {
        records.output(
            WallMs(1_795_271_080_123),
            format!("line {number}").as_bytes(),
        );
    }
    records.close(Duration::from_secs(20));
    let lines = site.lines();
    let counts = lines.iter().filter_map(|line| {
        let (_, rest) = line.split_once("clawkeeper: ")?;
        rest.split_once(" lines of output were not kept")?
            .0
            .parse()
            .ok()
    });
    let lost: Vec<usize> = counts.collect();
    assert_eq!(lost.iter().sum::<usize>() + lines.len() - lost.len(), LINES);
    assert_eq!(lines.last(), Some(&format!("{TIME} line {}", LINES - 1)));
}
