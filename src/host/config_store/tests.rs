#![allow(
    clippy::disallowed_methods,
    reason = "tests prepare files and read what was written"
)]

use super::super::launch::Launch;
use super::super::state;
use super::*;
use crate::core::config_history::{self, Source};
use crate::core::time::WallMs;
use crate::gateway::{self, config::content_hash};
use crate::settings;
use nix::sys::stat::Mode;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

const OLD: &[u8] = b"{a: 1} // old\n";
const NEW: &[u8] = b"{a: 2} // new\n";
const NOW: WallMs = WallMs(1_763_726_400_000);

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("state")).expect("a state folder");
        let fixture = Self { dir };
        fs::write(fixture.config(), OLD).expect("a config");
        fixture
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn config(&self) -> PathBuf {
        self.state().join("openclaw.json")
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// The image's gateway with its state here, and its config where `config` says.
    fn launch(&self, config: Option<&Path>) -> Launch {
        let mut environment = vec![
            ("OPENCLAW_STATE_DIR".into(), self.state().into()),
            ("CLAWKEEPER_USER".into(), "0:0".into()),
        ];
        if let Some(config) = config {
            environment.push(("OPENCLAW_CONFIG_PATH".into(), config.into()));
        }
        if !nix::unistd::geteuid().is_root() {
            environment.remove(1);
        }
        let settings = settings::resolve(&environment, &[])
            .expect("valid")
            .settings;
        let argv = gateway::default_command();
        let gateway::Command::Gateway(command) = gateway::recognise(&argv) else {
            panic!("the default is a gateway")
        };
        Launch::prepare(argv, command, environment, &settings).expect("prepared")
    }

    fn write(&self, bytes: &[u8]) -> Result<Written, WriteError> {
        write_config(
            &self.launch(None),
            bytes,
            Source::Put,
            Expected::Anything,
            NOW,
        )
    }

    fn store(&self) -> ConfigStore {
        ConfigStore::open(&self.state()).expect("a store")
    }

    fn history(&self) -> Vec<(u64, Source)> {
        let versions = self.store().versions().expect("listed");
        versions.iter().map(|it| (it.number, it.source)).collect()
    }

    /// Everything beside the config but our own folder.
    fn beside(&self) -> Vec<String> {
        let names = fs::read_dir(self.state()).expect("listed").flatten();
        names
            .map(|entry| entry.file_name().into_string().expect("text"))
            .filter(|name| name != "clawkeeper" && name != "openclaw.json")
            .collect()
    }
}

#[test]
fn a_replacement_keeps_what_was_there_and_what_is() {
    let fixture = Fixture::new();
    let Ok(Written::Replaced {
        previous: Some(previous),
        kept: Ok(kept),
        not_durable: None,
    }) = fixture.write(NEW)
    else {
        panic!("it is replaced")
    };
    assert_eq!(fs::read(fixture.config()).expect("read"), NEW);
    let store = fixture.store();
    assert_eq!(store.read(&previous).expect("read"), OLD);
    assert_eq!(store.read(&kept).expect("read"), NEW);
    assert_eq!(fixture.history(), [(2, Source::Put), (1, Source::Found)]);
    let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(&fixture.config()), 0o600);
    assert_eq!(mode(store.path()), 0o700);
    assert_eq!(mode(&store.path().join(kept.file_name())), 0o600);
    assert!(fixture.beside().is_empty());
}

#[test]
fn a_first_config_is_written_and_the_same_one_again_is_not() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.config()).expect("removed");
    let first = fixture.write(NEW).expect("written");
    assert!(matches!(first, Written::Replaced { previous: None, .. }));
    let inode = fs::metadata(fixture.config()).expect("there").ino();
    assert_eq!(fixture.write(NEW), Ok(Written::Unchanged));
    assert_eq!(fs::metadata(fixture.config()).expect("there").ino(), inode);
    assert_eq!(fixture.history(), [(1, Source::Put)]);
}

#[test]
fn going_back_and_forth_is_kept_but_nothing_is_kept_twice_in_a_row() {
    let fixture = Fixture::new();
    fixture.write(NEW).expect("written");
    fixture.write(OLD).expect("written");
    fixture.write(NEW).expect("written");
    let numbers: Vec<u64> = fixture
        .history()
        .iter()
        .map(|(number, _)| *number)
        .collect();
    assert_eq!(numbers, [4, 3, 2, 1]);
}

#[test]
fn whatever_is_no_file_of_its_own_is_refused_and_stays() {
    type Plant = fn(&Path, &Path);
    let plants: [(&str, Plant); 5] = [
        ("a symbolic link", |config, outside| {
            symlink(outside, config).expect("a link");
        }),
        ("a pipe", |config, _| {
            nix::unistd::mkfifo(config, Mode::S_IRWXU).expect("a pipe");
        }),
        ("a folder", |config, _| {
            fs::create_dir(config).expect("a folder")
        }),
        ("a socket", |config, _| {
            std::os::unix::net::UnixListener::bind(config).expect("a socket");
        }),
        ("2 names", |config, outside| {
            fs::hard_link(outside, config).expect("a link");
        }),
    ];
    for (what, plant) in plants {
        let fixture = Fixture::new();
        fs::remove_file(fixture.config()).expect("removed");
        fs::write(fixture.outside(), "outside").expect("written");
        plant(&fixture.config(), &fixture.outside());
        let before = fs::symlink_metadata(fixture.config()).expect("there");
        let error = fixture.write(NEW).expect_err(what).to_string();
        assert!(error.contains(what), "{error}");
        assert!(error.contains("openclaw.json"), "{error}");
        let after = fs::symlink_metadata(fixture.config()).expect("there");
        assert_eq!(before.ino(), after.ino(), "{what}");
        assert_eq!(fs::read(fixture.outside()).expect("read"), b"outside");
        assert!(fixture.history().is_empty(), "{what}");
        assert!(fixture.beside().is_empty(), "{what}");
    }
}

#[test]
fn a_planted_folder_on_the_way_to_the_config_is_not_followed() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.outside()).expect("a folder");
    symlink(fixture.outside(), fixture.state().join("sub")).expect("a link");
    let config = fixture.state().join("sub/openclaw.json");
    let launch = fixture.launch(Some(&config));
    let written = write_config(&launch, NEW, Source::Put, Expected::Anything, NOW);
    written.expect_err("it leads outside");
    assert_eq!(fs::read_dir(fixture.outside()).expect("listed").count(), 0);
}

#[test]
fn a_config_elsewhere_keeps_the_mode_somebody_chose() {
    let fixture = Fixture::new();
    fs::write(fixture.outside(), OLD).expect("written");
    let chosen = fs::Permissions::from_mode(0o640);
    fs::set_permissions(fixture.outside(), chosen).expect("changed");
    let launch = fixture.launch(Some(&fixture.outside()));
    write_config(&launch, NEW, Source::Put, Expected::Anything, NOW).expect("written");
    assert_eq!(fs::read(fixture.outside()).expect("read"), NEW);
    let mode = fs::metadata(fixture.outside()).expect("there").mode() & 0o777;
    assert_eq!(mode, 0o640);
}

#[test]
fn only_what_was_looked_at_is_replaced() {
    let fixture = Fixture::new();
    let launch = fixture.launch(None);
    let write = |expected| write_config(&launch, NEW, Source::Edit, expected, NOW);
    let other = Expected::Exactly(Some(content_hash(b"{}")));
    for wrong in [other, Expected::Exactly(None)] {
        assert!(matches!(write(wrong), Err(WriteError::Changed(_))));
        assert_eq!(fs::read(fixture.config()).expect("read"), OLD);
    }
    let right = Expected::Exactly(Some(content_hash(OLD)));
    assert!(matches!(write(right), Ok(Written::Replaced { .. })));
}

#[test]
fn what_a_killed_one_left_is_swept_and_what_a_living_one_holds_is_not() {
    let fixture = Fixture::new();
    let dead = fixture.state().join(".openclaw.json.clawkeeper-new-7");
    let living = fixture.state().join(".openclaw.json.clawkeeper-new-8");
    let users = fixture.state().join(".openclaw.json.clawkeeper-new-notes");
    for path in [&dead, &living, &users] {
        fs::write(path, "half").expect("written");
    }
    let holder = File::open(&living).expect("opened");
    assert!(state::try_hold(&holder));
    let torn = fixture.store().path().join("000009-put.json5.tmp-7");
    fs::write(&torn, "half").expect("written");
    fixture.write(NEW).expect("written");
    assert!(!dead.exists() && !torn.exists());
    assert!(living.exists() && users.exists());
}

#[test]
fn the_history_is_bounded_and_the_good_one_outlives_it() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let good = store.mark_good(OLD, NOW).expect("marked");
    assert_eq!((good.number, good.source), (1, Source::Ready));
    for number in 0..60 {
        let text = format!("{{n: {number}}}");
        store.keep(text.as_bytes(), Source::Put, NOW).expect("kept");
    }
    let versions = store.versions().expect("listed");
    assert_eq!(versions.len(), config_history::MAX_VERSIONS);
    let (marked, _) = store.last_good().expect("still marked");
    assert_eq!(store.read(&marked).expect("read"), OLD);
}

#[test]
fn a_mark_without_its_version_is_no_mark() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let good = store.mark_good(OLD, NOW).expect("marked");
    fs::remove_file(store.path().join(good.file_name())).expect("removed");
    assert_eq!(store.last_good(), None);
    // The number is given again, to something else.
    store.keep(NEW, Source::Put, NOW).expect("kept");
    assert_eq!(store.last_good(), None);
}

#[test]
fn a_version_that_was_tampered_with_is_not_given_out() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let version = store.keep(OLD, Source::Put, NOW).expect("kept");
    fs::write(store.path().join(version.file_name()), NEW).expect("written");
    store.read(&version).expect_err("it is not what was kept");
}

#[test]
fn looking_for_a_store_makes_none() {
    let fixture = Fixture::new();
    assert!(
        ConfigStore::existing(&fixture.state())
            .expect("looked")
            .is_none()
    );
    assert_eq!(fs::read_dir(fixture.state()).expect("listed").count(), 1);
    fixture.store();
    assert!(
        ConfigStore::existing(&fixture.state())
            .expect("looked")
            .is_some()
    );
}
