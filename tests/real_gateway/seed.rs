//! The first config.

use crate::support::real::{BEFORE_8_2, NEWEST, Site, cache};
use std::fs;

#[test]
fn the_seed_is_accepted_by_every_version_that_can_say_so() {
    // Earlier releases know no `config validate --json`.
    let can_say = |version: &str| !matches!(version, "2026.1.29" | "2026.2.26");
    let installed = fs::read_dir(cache()).expect("the cache").flatten();
    let mut versions: Vec<&'static str> = installed
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix("openclaw-")?;
            can_say(version).then(|| &*version.to_owned().leak())
        })
        .collect();
    versions.sort_unstable();
    assert!(
        versions.contains(&NEWEST) && versions.contains(&BEFORE_8_2),
        "{versions:?}"
    );

    for version in versions {
        let site = Site::new(version);
        let environment = [
            ("FLY_APP_NAME", "the-app"),
            ("ANTHROPIC_API_KEY", "sk-ant-dummy"),
            ("TELEGRAM_BOT_TOKEN", "123:dummy"),
            ("DISCORD_BOT_TOKEN", "dummy"),
        ];
        let mut seed = site.command(crate::support::clawkeeper());
        let seed = seed
            .args(["config", "seed", "--print"])
            .envs(environment)
            .output();
        let seed = seed.expect("clawkeeper");
        assert!(seed.status.success(), "{seed:?}");
        let text = String::from_utf8(seed.stdout).expect("text");
        for part in [
            "anthropic/",
            "telegram",
            "discord",
            "the-app.fly.dev",
            "\"local\"",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
        assert!(!text.contains("dummy"), "a secret in {text}");

        site.write_config(&text);
        let mut validate = site.command("node");
        let validate = validate
            .args(["dist/index.js", "config", "validate", "--json"])
            .envs(environment)
            .output()
            .expect("node");
        let verdict = String::from_utf8_lossy(&validate.stdout);
        assert!(validate.status.success(), "{version}: {verdict}");
        println!("{version}: {}", verdict.replace('\n', ""));
    }
}
