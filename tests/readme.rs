//! The README tells the truth: its examples run, and its settings are the ones that exist.
#![allow(
    clippy::disallowed_methods,
    reason = "tests read files and start processes"
)]

use std::process::{Command, Stdio};

const README: &str = include_str!("../README.md");

#[test]
fn every_clawkeeper_example_runs() {
    let state = tempfile::tempdir().expect("a state folder");
    let home = tempfile::tempdir().expect("a home");
    let examples: Vec<&str> = README
        .lines()
        .filter_map(|line| line.strip_prefix("$ clawkeeper "))
        .collect();
    assert!(examples.len() >= 6, "the README has lost its examples");
    for example in examples {
        let output = Command::new(env!("CARGO_BIN_EXE_clawkeeper"))
            .args(example.split(' '))
            .env("OPENCLAW_STATE_DIR", state.path())
            .env("OPENCLAW_GATEWAY_TOKEN", "a-token-for-this-test")
            .env("HOME", home.path())
            .env_remove("FLY_APP_NAME")
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        // 1 and 2 are grades of what was looked at: this folder has no gateway and no config. 69: nobody keeps one.
        let code = output.status.code().expect("it returned");
        assert!(
            code <= 2 || code == 69,
            "clawkeeper {example} ended with {code}: {output:?}"
        );
        assert!(
            !(output.stdout.is_empty() && output.stderr.is_empty()),
            "clawkeeper {example} said nothing"
        );
    }
    let left = std::fs::read_dir(state.path()).expect("listed").count();
    assert_eq!(left, 0, "looking changes nothing");
}

#[test]
fn the_settings_table_and_the_help_name_the_same_flags() {
    let help = Command::new(env!("CARGO_BIN_EXE_clawkeeper"))
        .args(["run", "--help"])
        .output()
        .expect("it starts");
    let help = String::from_utf8(help.stdout).expect("text");
    let flags = |text: &str| {
        let mut flags: Vec<String> = text
            .split(|character: char| character.is_whitespace() || "`|,[<".contains(character))
            .filter(|word| word.starts_with("--") && word.len() > 2)
            .map(|word| word.trim_end_matches([':', '.', ']']).to_owned())
            .collect();
        flags.sort_unstable();
        flags.dedup();
        flags
    };
    let table: String = README
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .collect::<Vec<_>>()
        .join("\n");
    let options: String = help
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("--"))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|flag| *flag != "--help")
        .collect::<Vec<_>>()
        .join("\n");
    assert_eq!(flags(&table), flags(&options));
}

/// What a row of the table calls the default, where the help names one for the same flag.
#[test]
fn the_settings_table_and_the_help_name_the_same_defaults() {
    let help = Command::new(env!("CARGO_BIN_EXE_clawkeeper"))
        .args(["run", "--help"])
        .output()
        .expect("it starts");
    let help = String::from_utf8(help.stdout).expect("text");
    let in_help = |flag: &str| {
        let line = help
            .lines()
            .find(|line| line.split_whitespace().next() == Some(flag))?;
        let (_, default) = line.split_once("[default: ")?;
        let end = default.find(|letter: char| " :]".contains(letter));
        let is_address = default.starts_with(|letter: char| letter.is_ascii_digit());
        let end = if is_address {
            default.find([' ', ']'])
        } else {
            end
        };
        Some(default[..end?].to_owned())
    };
    let mut compared = 0;
    for row in README.lines().filter(|line| line.starts_with("| `--")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let quoted = |cell: &str| -> Vec<String> {
            let words = cell.split('`').skip(1).step_by(2);
            words.map(str::to_owned).collect()
        };
        let (flags, defaults) = (quoted(cells[0]), quoted(cells[2]));
        for (flag, default) in flags.iter().zip(&defaults) {
            let told = in_help(flag);
            assert_eq!(told.as_ref(), Some(default), "{row}");
            compared += 1;
        }
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn the_two_commands_and_the_documents_it_names_exist() {
    for path in [
        "scripts/gateway",
        "scripts/run-tests",
        "docs/ARCHITECTURE.md",
        "docs/decisions",
    ] {
        assert!(README.contains(path), "{path} is not in the README");
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        assert!(path.exists(), "{} does not exist", path.display());
    }
}
