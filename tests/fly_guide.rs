//! docs/fly.md tells the truth as far as it can be tried here: its commands, settings, examples and links exist.
#![allow(
    clippy::disallowed_methods,
    reason = "tests read files and start processes"
)]

use clawkeeper::settings;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const GUIDE: &str = include_str!("../docs/fly.md");
const FLY: &str = include_str!("../fly.toml");

fn clawkeeper(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clawkeeper"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("it starts")
}

/// The pieces between a mark and the next one of another kind.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    let rest = text.split(from).skip(1);
    rest.filter_map(|rest| rest.split(to).next()).collect()
}

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    between(GUIDE, &format!("```{language}\n"), "```")
}

#[test]
fn every_command_of_ours_that_it_names_exists() {
    let in_console = between(GUIDE, "-C \"clawkeeper ", "\"");
    let in_text = between(GUIDE, "`clawkeeper ", "`");
    let named: BTreeSet<Vec<&str>> = in_console
        .into_iter()
        .chain(in_text)
        .map(|words| {
            let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
            words.split(' ').take_while(is_word).take(2).collect()
        })
        .collect();
    assert!(named.len() >= 9, "{named:?}");
    for words in named {
        let help = clawkeeper(&[&words[..], &["--help"]].concat());
        assert!(help.status.success(), "clawkeeper {words:?}");
        let text = String::from_utf8_lossy(&help.stdout);
        let usage = format!("Usage: clawkeeper {}", words.join(" "));
        assert!(text.contains(&usage), "{usage}: {text}");
    }
}

#[test]
fn every_setting_that_it_or_a_deployment_file_names_exists() {
    let files = [
        GUIDE,
        FLY,
        include_str!("../fly.private.toml"),
        include_str!("../docker/compose.yaml"),
        include_str!("../docker/kubernetes.yaml"),
        include_str!("../docker/Dockerfile"),
    ];
    let mut names = BTreeSet::new();
    for text in files {
        for rest in text.split(settings::PREFIX).skip(1) {
            let end = rest.find(|c: char| c != '_' && !c.is_ascii_uppercase());
            names.insert(format!(
                "{}{}",
                settings::PREFIX,
                &rest[..end.unwrap_or(rest.len())]
            ));
        }
    }
    assert!(names.len() >= 4, "{names:?}");
    let unset = |name: String| (OsString::from(name), OsString::new());
    let environment: Vec<_> = names.into_iter().map(unset).collect();
    let resolved = settings::resolve(&environment, &[]).expect("unset settings");
    assert_eq!(resolved.unknown, Vec::<String>::new());
}

#[test]
fn the_gateway_could_start_on_fly_with_its_examples() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("openclaw.json");
    // The first is whole; the others are to be merged into a config.
    let examples = blocks("json5");
    let (whole, pieces) = examples.split_first().expect("an example");
    assert_eq!(pieces.len(), 2, "webhooks and Signal");
    let merged = pieces.iter().map(|piece| {
        let open = piece.trim_end().strip_suffix('}').expect("an object");
        format!("{open}  gateway: {{ mode: \"local\" }},\n}}")
    });
    for example in std::iter::once((*whole).to_owned()).chain(merged) {
        std::fs::write(&path, &example).expect("a file");
        let verdict = Command::new(env!("CARGO_BIN_EXE_clawkeeper"))
            .args(["config", "validate"])
            .arg(&path)
            .env("OPENCLAW_GATEWAY_TOKEN", "a-token-for-this-test")
            .envs([
                ("FLY_APP_NAME", "my-openclaw"),
                ("FLY_MACHINE_ID", "148e21"),
            ])
            .output()
            .expect("it starts");
        assert!(
            matches!(verdict.status.code(), Some(0 | 1)),
            "{example}: {verdict:?}"
        );
    }
}

#[test]
fn every_build_argument_that_it_names_is_one_of_the_image() {
    let image = include_str!("../docker/Dockerfile");
    let named: Vec<&str> = blocks("toml")
        .into_iter()
        .flat_map(str::lines)
        .filter_map(|line| line.trim().split_once(" = \""))
        .map(|(name, _)| name)
        .filter(|name| {
            name.bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        })
        .collect();
    assert!(named.len() >= 5, "{named:?}");
    for name in named
        .into_iter()
        .chain(["OPENCLAW_VERSION", "OPENCLAW_PLUGINS"])
    {
        assert!(image.contains(&format!("\nARG {name}=")), "{name}");
    }
}

#[test]
fn the_settings_it_explains_are_those_of_fly_toml() {
    let rows = GUIDE.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let explained: Vec<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|code| code.contains(" = ") && !code.contains('…'))
        .map(|code| code.rsplit_once("] ").map_or(code, |(_, setting)| setting))
        .collect();
    assert!(explained.len() >= 7, "{explained:?}");
    for setting in explained {
        assert!(FLY.contains(setting), "{setting} is not in fly.toml");
    }
}

#[test]
fn every_file_and_section_that_it_points_to_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let anchors: BTreeSet<String> = GUIDE
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect();
    let links = between(GUIDE, "](", ")");
    assert!(links.len() >= 12);
    for link in links
        .into_iter()
        .filter(|link| !link.starts_with("https://"))
    {
        match link.strip_prefix('#') {
            Some(anchor) => assert!(anchors.contains(anchor), "{link}: {anchors:?}"),
            None => {
                let file = link.split('#').next().unwrap_or_default();
                assert!(root.join("docs").join(file).exists(), "{link}");
            }
        }
    }
}

#[test]
fn each_section_of_trouble_says_what_is_seen_and_what_is_left() {
    let trouble = GUIDE
        .split("## When something is wrong")
        .nth(1)
        .expect("it has one");
    let trouble = trouble.split("\n## ").next().expect("it ends");
    for section in trouble.split("\n### ").skip(1) {
        let title = section.lines().next().unwrap_or_default();
        for part in ["**What is left for you**", "**What you see**"] {
            let is_said = section.contains(part) || section.contains("Nothing is left for you");
            assert!(is_said, "{title}: no {part}");
        }
    }
}
