//! Where a gateway keeps its state and its config.

use std::path::{Component, Path, PathBuf};

use super::environment::Env;
use super::launch::is_profile_name;

/// Folders of the state folder that the CLI writes to as well, so that one of root's in a console leaves root's files
/// in them: logins of channels, the device's key and its pairings, the database (3.13 to 9.6, source and seen).
pub const CONSOLE_FOLDERS: [&str; 4] = ["credentials", "identity", "devices", "state"];

/// The folder of the agents in the state folder.
pub const AGENTS: &str = "agents";

/// In each agent's folder, what the CLI writes to as well: logins of model providers.
pub const AGENT: &str = "agent";

/// What the gateway's own path rules depend on.
#[derive(Clone, Copy)]
pub struct PathFacts<'a> {
    /// The gateway's environment.
    pub env: Env<'a>,
    /// The profile of its command line; see [`super::GatewayCommand::profile`].
    pub profile: Option<&'a str>,
    /// Its working folder, absolute: a relative path starts here.
    pub working_dir: &'a Path,
    /// The home folder of its uid in the user database, used when `HOME` is unset.
    pub account_home: Option<&'a Path>,
    /// Whether something exists at a path.
    pub exists: &'a dyn Fn(&Path) -> bool,
}

/// The state folder, as the gateway finds it.
///
/// `OPENCLAW_STATE_DIR` (3.13 and older: also `CLAWDBOT_STATE_DIR`), else the profile's
/// `~/.openclaw-<profile>`, else `~/.openclaw`, else an existing `~/.clawdbot` (3.13: also `.moldbot`,
/// `.moltbot`), else `~/.openclaw` (3.13, 7.1 and 9.6, source).
#[must_use]
pub fn state_dir(facts: PathFacts<'_>) -> PathBuf {
    if let Some(explicit) = explicit_state_dir(facts) {
        return explicit;
    }
    let home = home(facts);
    if let Some(profile) = named_profile(facts) {
        return home.join(format!(".openclaw-{profile}"));
    }
    let newest = home.join(".openclaw");
    if (facts.exists)(&newest) {
        return newest;
    }
    [".clawdbot", ".moldbot", ".moltbot"]
        .into_iter()
        .map(|name| home.join(name))
        .find(|path| (facts.exists)(path))
        .unwrap_or(newest)
}

/// The config file, as the gateway finds it.
///
/// `OPENCLAW_CONFIG_PATH` (3.13 and older: also `CLAWDBOT_CONFIG_PATH`), else `openclaw.json` in the
/// state folder, else an existing `clawdbot.json` (3.13: also `moldbot.json`, `moltbot.json`) there,
/// else `openclaw.json` (3.13, 7.1 and 9.6, source).
#[must_use]
pub fn config_path(facts: PathFacts<'_>) -> PathBuf {
    let explicit = ["OPENCLAW_CONFIG_PATH", "CLAWDBOT_CONFIG_PATH"]
        .into_iter()
        .find_map(|name| facts.env.path(name));
    if let Some(path) = explicit {
        return resolve(&path, facts);
    }
    let state = state_dir(facts);
    let newest = state.join("openclaw.json");
    if named_profile(facts).is_some() || (facts.exists)(&newest) {
        return newest;
    }
    ["clawdbot.json", "moldbot.json", "moltbot.json"]
        .into_iter()
        .map(|name| state.join(name))
        .find(|path| (facts.exists)(path))
        .unwrap_or(newest)
}

fn explicit_state_dir(facts: PathFacts<'_>) -> Option<PathBuf> {
    let path = ["OPENCLAW_STATE_DIR", "CLAWDBOT_STATE_DIR"]
        .into_iter()
        .find_map(|name| facts.env.path(name))?;
    Some(resolve(&path, facts))
}

/// `OPENCLAW_PROFILE` alone moves nothing but the port; only the flag chooses a folder (9.6, source).
fn named_profile(facts: PathFacts<'_>) -> Option<&str> {
    facts
        .profile
        .filter(|profile| is_profile_name(profile) && !profile.eq_ignore_ascii_case("default"))
}

/// `OPENCLAW_HOME`, else `HOME`, else the account's, else the working folder.
fn home(facts: PathFacts<'_>) -> PathBuf {
    let account = facts
        .env
        .path("HOME")
        .or_else(|| facts.account_home.map(Path::to_owned));
    let account = account.unwrap_or_else(|| facts.working_dir.to_owned());
    let home = match facts.env.path("OPENCLAW_HOME") {
        Some(path) => match path.strip_prefix("~") {
            Ok(rest) => account.join(rest),
            Err(_) => path,
        },
        None => account,
    };
    normal(&facts.working_dir.join(home))
}

/// Expands a leading `~` and makes a path absolute, as the gateway does with what a user wrote.
fn resolve(path: &Path, facts: PathFacts<'_>) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => normal(&home(facts).join(rest)),
        Err(_) => normal(&facts.working_dir.join(path)),
    }
}

/// Takes `.` and `..` out of a path by its text alone, as Node's `path.resolve` does.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => out.push(component),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn paths(vars: &[(&str, &str)], profile: Option<&str>, existing: &[&str]) -> (String, String) {
        let lookup = |name: &str| {
            let found = vars.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let exists = |path: &Path| existing.iter().any(|it| Path::new(it) == path);
        let facts = PathFacts {
            env: Env::new(&lookup),
            profile,
            working_dir: Path::new("/app"),
            account_home: Some(Path::new("/home/node")),
            exists: &exists,
        };
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        (text(state_dir(facts)), text(config_path(facts)))
    }

    #[test]
    fn state_and_config_are_found_as_the_gateway_finds_them() {
        // Variables, existing paths, state folder, config.
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a str, &'a str);
        let table: &[Row<'_>] = &[
            (
                &[],
                &[],
                "/home/node/.openclaw",
                "/home/node/.openclaw/openclaw.json",
            ),
            (
                &[("HOME", "/root")],
                &[],
                "/root/.openclaw",
                "/root/.openclaw/openclaw.json",
            ),
            (
                &[("OPENCLAW_STATE_DIR", "/data")],
                &[],
                "/data",
                "/data/openclaw.json",
            ),
            (
                &[("OPENCLAW_STATE_DIR", " /data/ ")],
                &[],
                "/data",
                "/data/openclaw.json",
            ),
            (
                &[("OPENCLAW_STATE_DIR", "~/s")],
                &[],
                "/home/node/s",
                "/home/node/s/openclaw.json",
            ),
            (
                &[("OPENCLAW_STATE_DIR", "../s/./t")],
                &[],
                "/s/t",
                "/s/t/openclaw.json",
            ),
            (
                &[("OPENCLAW_STATE_DIR", "  ")],
                &[],
                "/home/node/.openclaw",
                "/home/node/.openclaw/openclaw.json",
            ),
            (
                &[("CLAWDBOT_STATE_DIR", "/old")],
                &[],
                "/old",
                "/old/openclaw.json",
            ),
            (
                &[("OPENCLAW_HOME", "~/h")],
                &[],
                "/home/node/h/.openclaw",
                "/home/node/h/.openclaw/openclaw.json",
            ),
            (
                &[("OPENCLAW_CONFIG_PATH", "c.json")],
                &[],
                "/home/node/.openclaw",
                "/app/c.json",
            ),
            (
                &[],
                &["/home/node/.clawdbot"],
                "/home/node/.clawdbot",
                "/home/node/.clawdbot/openclaw.json",
            ),
            (
                &[],
                &["/home/node/.clawdbot", "/home/node/.openclaw"],
                "/home/node/.openclaw",
                "/home/node/.openclaw/openclaw.json",
            ),
            (
                &[("OPENCLAW_STATE_DIR", "/data")],
                &["/data/clawdbot.json"],
                "/data",
                "/data/clawdbot.json",
            ),
        ];
        for (vars, existing, state, config) in table {
            let expected = ((*state).to_owned(), (*config).to_owned());
            assert_eq!(
                paths(vars, None, existing),
                expected,
                "{vars:?} {existing:?}"
            );
        }
    }

    #[test]
    fn a_profile_has_its_own_state_unless_one_is_set() {
        assert_eq!(paths(&[], Some("work"), &[]).0, "/home/node/.openclaw-work");
        assert_eq!(
            paths(&[("OPENCLAW_STATE_DIR", "/data")], Some("work"), &[]).0,
            "/data"
        );
        for profile in ["default", "../x", ""] {
            assert_eq!(
                paths(&[], Some(profile), &[]).0,
                "/home/node/.openclaw",
                "{profile}"
            );
        }
    }
}
