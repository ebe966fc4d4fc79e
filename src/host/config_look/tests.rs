#![allow(
    clippy::disallowed_methods,
    reason = "tests write files and read the clock"
)]

use super::*;
use crate::gateway;
use crate::settings;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::time::{Duration, Instant};

/// A state folder with a config, as a gateway of ours has it.
struct Site {
    dir: tempfile::TempDir,
    launch: Launch,
    looker: Looker,
}

impl Site {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut environment = vec![("OPENCLAW_STATE_DIR".into(), dir.path().into())];
        if nix::unistd::geteuid().is_root() {
            environment.push(("CLAWKEEPER_USER".into(), "0:0".into()));
        }
        let settings = settings::resolve(&environment, &[])
            .expect("valid")
            .settings;
        let argv = gateway::default_command();
        let gateway::Command::Gateway(command) = gateway::recognise(&argv) else {
            panic!("the default is a gateway")
        };
        let launch = Launch::prepare(argv, command, environment, &settings).expect("prepared");
        let site = Self {
            dir,
            launch,
            looker: Looker::default(),
        };
        site.write("openclaw.json", config);
        site
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn look(&mut self) -> Look {
        self.looker.look(&self.launch, None).0
    }

    /// What is wrong, with the folder's own name left out.
    fn error(&mut self) -> String {
        match self.look().state {
            ConfigState::Broken { error } => {
                let folder = format!("{}/", self.dir.path().display());
                error
                    .replace(&folder, "")
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            }
            other => panic!("it is not broken: {other:?}"),
        }
    }
}

#[test]
fn an_edit_of_an_included_file_is_seen_and_watched() {
    let mut site = Site::new(r#"{gateway:{mode:"local"}, $include: ["./inc/a.json5", "b.json"]}"#);
    site.write("inc/a.json5", r#"{"$include": "deep.json5"}"#);
    site.write("inc/deep.json5", "{logging: {level: 'info'}}");
    site.write("b.json", "{}");
    let first = site.look();
    assert!(
        matches!(first.state, ConfigState::Parsed { .. }),
        "{first:?}"
    );
    let names: Vec<_> = site.looker.paths();
    let names: Vec<_> = names.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(names, ["openclaw.json", "a.json5", "deep.json5", "b.json"]);
    assert!(!site.looker.is_outdated());
    site.write("inc/deep.json5", "{logging: {level: 'debug!'}}");
    assert!(site.looker.is_outdated());
    let second = site.look();
    assert_ne!(second.meaning, first.meaning);
    assert_eq!(second.changed, ["logging.level"]);
}

#[test]
fn comments_order_and_where_a_value_comes_from_mean_nothing() {
    let mut site = Site::new(r#"{gateway:{mode:"local"}, $include: "a.json"}"#);
    site.write("a.json", "{\"logging\": {\"level\": \"info\"}}");
    let first = site.look();
    site.write(
        "openclaw.json",
        "// mine\n{\"logging\": {\"level\": \"info\"}, \"gateway\": {\"mode\": \"local\"}}\n",
    );
    let second = site.look();
    assert_ne!(second.bytes, first.bytes);
    assert_eq!(second.meaning, first.meaning);
    assert_eq!(second.changed, Vec::<String>::new());
}

#[test]
fn includes_that_cannot_be_used_are_named_with_their_place() {
    let including = |path: &str| format!("{{gateway:{{mode:'local'}}, $include: {path:?}}}");
    let mut site = Site::new(&including("a.json"));
    assert_eq!(
        site.error(),
        "$include of a.json in openclaw.json: No such file or directory"
    );
    site.write("a.json", "{logging: {\n  level }}");
    assert!(site.error().starts_with("a.json:2:9: "), "{}", site.error());
    site.write("a.json", &including("openclaw.json"));
    assert_eq!(
        site.error(),
        "$include of openclaw.json in a.json: it includes itself"
    );
    for outside in ["/etc/passwd", "../x.json", "sub/../../x.json"] {
        site.write("openclaw.json", &including(outside));
        assert!(
            site.error()
                .ends_with("it lies outside the config's folder"),
            "{}",
            site.error()
        );
    }
}

#[test]
fn a_ladder_of_includes_and_a_crowd_of_them_are_bounded() {
    let mut site = Site::new("{$include: '0.json'}");
    for rung in 0..20 {
        site.write(
            &format!("{rung}.json"),
            &format!("{{$include: '{}.json'}}", rung + 1),
        );
    }
    assert!(site.error().ends_with("includes are nested too deep"));
    let crowd: Vec<String> = (0..200).map(|n| format!("'c{n}.json'")).collect();
    for n in 0..200 {
        site.write(&format!("c{n}.json"), "{}");
    }
    site.write(
        "openclaw.json",
        &format!("{{$include: [{}]}}", crowd.join(",")),
    );
    assert!(site.error().ends_with("too many files are included"));
    // A file that includes another twice, and so on, would be read a million times.
    site.write("openclaw.json", "{$include: ['d0.json', 'd0.json']}");
    for n in 0..9 {
        let next = format!("'d{}.json'", n + 1);
        site.write(
            &format!("d{n}.json"),
            &format!("{{$include: [{next}, {next}, {next}, {next}]}}"),
        );
    }
    site.write("d9.json", "{}");
    assert!(site.error().ends_with("too many files are included"));
}

#[test]
fn links_are_not_followed_and_what_they_hide_is_left_to_the_gateway() {
    let mut site = Site::new(r#"{gateway:{mode:"local"}, $include: "secret.json"}"#);
    symlink("/etc/shadow", site.dir.path().join("secret.json")).expect("a link");
    let look = site.look();
    assert!(matches!(look.state, ConfigState::Parsed { .. }), "{look:?}");
    fs::remove_file(site.dir.path().join("secret.json")).expect("removed");
    site.write("other.json", "not json");
    fs::hard_link(
        site.dir.path().join("other.json"),
        site.dir.path().join("secret.json"),
    )
    .expect("a second name");
    assert!(matches!(site.look().state, ConfigState::Parsed { .. }));
}

#[test]
fn the_gateways_backup_tells_who_wrote_and_its_last_good_one_that_it_was_read() {
    let mut site = Site::new(r#"{gateway:{mode:"local"}}"#);
    site.look();
    let edited = r#"{gateway:{mode:"local"}, logging:{level:"info"}}"#;
    site.write("openclaw.json", edited);
    let users = site.look();
    assert!(!users.is_gateways_own && !users.is_taken);
    site.write("openclaw.json.last-good", edited);
    assert!(site.look().is_taken);
    site.write("openclaw.json.bak.1", edited);
    site.write("openclaw.json", r#"{"gateway":{"mode":"local"}}"#);
    let own = site.look();
    assert!(own.is_gateways_own && !own.is_taken);
}

#[test]
fn a_touch_changes_the_time_and_nothing_else() {
    let text = r#"{gateway:{mode:"local"}}"#;
    let mut site = Site::new(text);
    let old = nix::sys::time::TimeSpec::new(1_000, 0);
    let config = site.dir.path().join("openclaw.json");
    futimens(fs::File::open(&config).expect("it opens"), &old, &old).expect("set");
    site.look();
    site.looker.touch(&site.launch);
    assert!(fs::metadata(&config).expect("there").mtime() > 1_000);
    assert_eq!(fs::read_to_string(&config).expect("text"), text);
    // A file that changed meanwhile was written by somebody, and needs no touch.
    site.write("openclaw.json", "{}");
    futimens(fs::File::open(&config).expect("it opens"), &old, &old).expect("set");
    site.looker.touch(&site.launch);
    assert_eq!(fs::metadata(&config).expect("there").mtime(), 1_000);
}

#[test]
fn only_the_bytes_that_were_fingerprinted_are_kept() {
    let mut site = Site::new(r#"{gateway:{mode:"local"}}"#);
    let look = site.look();
    let kept = site.looker.main_if_still(&site.launch, look.bytes);
    assert_eq!(kept.as_deref(), Some(&br#"{gateway:{mode:"local"}}"#[..]));
    assert_eq!(site.looker.main_if_still(&site.launch, Digest(0)), None);
    site.write("openclaw.json", "{ }");
    assert_eq!(site.looker.main_if_still(&site.launch, look.bytes), None);
}

/// A config of the guide's size takes a millisecond even unoptimised; this is forty times as large.
#[test]
fn a_look_at_a_large_config_is_quick() {
    let agents: Vec<String> = (0..1_000)
        .map(|n| format!("a{n}: {{name: 'agent {n}', model: 'm', tools: [1, 2, 3]}}"))
        .collect();
    let config = format!(
        "{{gateway:{{mode:'local'}}, agents:{{entries:{{{}}}}}}}",
        agents.join(",")
    );
    let mut site = Site::new(&config);
    let began = Instant::now();
    let look = site.look();
    assert!(matches!(look.state, ConfigState::Parsed { .. }));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}
