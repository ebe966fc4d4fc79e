//! Tells the command that starts a gateway from every other command.
//!
//! What is taken for a gateway gets the whole care: locks, config, restarts. Anything else is run as a
//! plain init runs it. A one-off call such as `gateway status` must never be taken for a gateway.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::launch::parse_port;

/// What a command line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// It starts a gateway in the foreground.
    Gateway(GatewayCommand),
    /// It is anything else.
    Other,
}

/// A command line that starts a gateway, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayCommand {
    /// The script as written, such as `dist/index.js`; `None` when the program is `openclaw` itself.
    pub entry: Option<PathBuf>,
    /// What stands between `node` and the script, such as `--max-old-space-size=1536`.
    pub node_options: Vec<OsString>,
    /// The profile of `--profile NAME`, or `dev` of a `--dev` before `gateway`.
    pub profile: Option<String>,
    /// The last `--port`; `Err` holds the text of one that is no port (the gateway exits 1 on it).
    pub port: Option<Result<u16, String>>,
    /// The last `--bind`, as written.
    pub bind: Option<String>,
    /// The last `--auth`, as written: `none`, `token`, `password` or `trusted-proxy`.
    pub auth: Option<String>,
    /// The last `--tailscale`, as written: `off`, `serve` or `funnel`.
    pub tailscale: Option<String>,
    /// True when `--allow-unconfigured` is there: neither a config nor `gateway.mode` is demanded.
    pub allow_unconfigured: bool,
    /// True when `--token` or `--token-file` gives a token.
    pub token_given: bool,
    /// True when `--password` or `--password-file` gives a password.
    pub password_given: bool,
}

/// The scripts that are the gateway's CLI, by the end of their path (9.6 ships the first four).
const ENTRIES: [&str; 8] = [
    "dist/index.js",
    "dist/entry.js",
    "openclaw.mjs",
    "dist/index.mjs",
    "dist/entry.mjs",
    "clawdbot.mjs",
    "moltbot.mjs",
    "openclaw.js",
];

/// The CLI's own names, as a program or as a script linked into a `bin` folder.
const PROGRAMS: [&str; 3] = ["openclaw", "clawdbot", "moltbot"];

/// Node's options whose value is the next word, always.
const NODE_VALUE_OPTIONS: [&str; 10] = [
    "-r",
    "--require",
    "--import",
    "--loader",
    "--experimental-loader",
    "-C",
    "--conditions",
    "--env-file",
    "--title",
    "--disable-warning",
];

/// Node's options after which it runs no script of ours.
const NODE_NO_SCRIPT: [&str; 16] = [
    "-e",
    "--eval",
    "-p",
    "--print",
    "-pe",
    "-c",
    "--check",
    "-i",
    "--interactive",
    "-h",
    "--help",
    "-v",
    "--version",
    "--test",
    "--run",
    "--v8-options",
];

/// The CLI's flags that take a value and may stand anywhere (9.6, `cli-root-options.mjs`).
const ROOT_VALUE_FLAGS: [&str; 2] = ["--profile", "--log-level"];

/// `gateway`'s flags that take a value (9.6, `gateway-run-argv.mjs`).
const VALUE_FLAGS: [&str; 10] = [
    "--port",
    "--bind",
    "--token",
    "--token-file",
    "--auth",
    "--password",
    "--password-file",
    "--tailscale",
    "--ws-log",
    "--raw-stream-path",
];

/// Flags without a value, of the CLI and of `gateway` (9.6).
const BOOLEAN_FLAGS: [&str; 14] = [
    "--dev",
    "--no-color",
    "--tailscale-reset-on-exit",
    "--allow-unconfigured",
    "--ambient-channels",
    "--dev-ambient-channels",
    "--reset",
    "--update-canary",
    "--force",
    "--verbose",
    "--cli-backend-logs",
    "--claude-cli-logs",
    "--compact",
    "--raw-stream",
];

/// The command of the official image and of the Fly.io guide.
#[must_use]
pub fn default_command() -> Vec<OsString> {
    [
        "node",
        "dist/index.js",
        "gateway",
        "--allow-unconfigured",
        "--port",
        "3000",
        "--bind",
        "lan",
    ]
    .into_iter()
    .map(OsString::from)
    .collect()
}

/// Says what a command line is.
///
/// A gateway is `node [options] <entry> [flags] gateway [run] [flags]`, or the same after `openclaw`.
/// A subcommand (`gateway status`), `--help`, `--version` and `--container` make it another command.
/// An unknown flag does not: a newer gateway may have it.
/// A shell (`sh -c "node …"`) is not looked into; see [`super::shell_words`].
#[must_use]
pub fn recognise(argv: &[OsString]) -> Command {
    let Some((program, rest)) = argv.split_first() else {
        return Command::Other;
    };
    let mut command = GatewayCommand::default();
    let arguments = match base_name(program) {
        "node" | "nodejs" => {
            let Some(index) = script_index(rest) else {
                return Command::Other;
            };
            command.node_options = rest[..index].to_vec();
            command.entry = Some(PathBuf::from(&rest[index]));
            &rest[index + 1..]
        }
        name if PROGRAMS.contains(&name) => rest,
        _ => return Command::Other,
    };
    match read_arguments(arguments, &mut command) {
        Some(()) => Command::Gateway(command),
        None => Command::Other,
    }
}

/// Reads a command line that the user says is a gateway's, such as a wrapper's: what it says of ports and
/// addresses counts, as far as it can be read.
#[must_use]
pub fn assume(argv: &[OsString]) -> GatewayCommand {
    let mut command = GatewayCommand::default();
    let behind = argv
        .iter()
        .position(|word| word == "gateway")
        .unwrap_or_default();
    let is_flag = |word: &&OsString| word.to_string_lossy().starts_with('-');
    let flags = argv
        .iter()
        .skip(behind + 1)
        .skip_while(|word| !is_flag(word));
    let arguments: Vec<_> = std::iter::once(OsString::from("gateway"))
        .chain(flags.cloned())
        .collect();
    // What stops the reading is no flag of a gateway; what was read before it is.
    let _ = read_arguments(&arguments, &mut command);
    command
}

/// The place of the gateway's script among node's arguments.
fn script_index(arguments: &[OsString]) -> Option<usize> {
    let mut index = 0;
    while let Some(argument) = arguments.get(index) {
        let text = argument.to_string_lossy();
        if text == "--" {
            return arguments
                .get(index + 1)
                .filter(|it| is_entry(it))
                .map(|_| index + 1);
        }
        if !text.starts_with('-') {
            return is_entry(argument).then_some(index);
        }
        let name = text.split('=').next().unwrap_or(&text);
        if NODE_NO_SCRIPT.contains(&name) {
            return None;
        }
        index += 1;
        // V8's options are too many to list. A word after one is its value, unless it is the script.
        let next = arguments.get(index).filter(|_| !text.contains('='));
        let takes_next = next.is_some_and(|next| {
            NODE_VALUE_OPTIONS.contains(&name)
                || (!next.to_string_lossy().starts_with('-') && !is_entry(next))
        });
        index += usize::from(takes_next);
    }
    None
}

fn is_entry(script: &OsStr) -> bool {
    let path = Path::new(script);
    ENTRIES.iter().any(|entry| path.ends_with(entry)) || PROGRAMS.contains(&base_name(script))
}

fn base_name(path: &OsStr) -> &str {
    Path::new(path)
        .file_name()
        .and_then(OsStr::to_str)
        .unwrap_or("")
}

/// Reads the CLI's arguments; `None` when they do not start a gateway.
fn read_arguments(arguments: &[OsString], command: &mut GatewayCommand) -> Option<()> {
    let mut words = arguments.iter().map(|argument| argument.to_string_lossy());
    let mut saw_gateway = false;
    let mut saw_run = false;
    let mut after_unknown_flag = false;
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        if !word.starts_with('-') {
            match (saw_gateway, word.as_ref()) {
                (false, "gateway") => saw_gateway = true,
                (true, "run") if !saw_run => saw_run = true,
                // The value of a flag a newer gateway may have.
                (true, _) if after_unknown_flag => {}
                (_, _) => return None,
            }
            after_unknown_flag = false;
            continue;
        }
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_ref(), None),
        };
        if matches!(name, "--help" | "-h" | "--version" | "-V" | "--container") {
            return None;
        }
        after_unknown_flag = false;
        if ROOT_VALUE_FLAGS.contains(&name) || VALUE_FLAGS.contains(&name) {
            let value = inline.or_else(|| words.next().map(|value| value.into_owned()));
            read_value(name, value.unwrap_or_default(), command);
        } else if BOOLEAN_FLAGS.contains(&name) {
            read_flag(name, saw_gateway, command);
        } else {
            after_unknown_flag = inline.is_none();
        }
    }
    saw_gateway.then_some(())
}

fn read_value(name: &str, value: String, command: &mut GatewayCommand) {
    match name {
        "--port" => command.port = Some(parse_port(&value).ok_or(value)),
        "--bind" => command.bind = some_text(value),
        "--auth" => command.auth = some_text(value),
        "--tailscale" => command.tailscale = some_text(value),
        "--profile" => command.profile = some_text(value),
        "--token" | "--token-file" => command.token_given = !value.trim().is_empty(),
        "--password" | "--password-file" => command.password_given = !value.trim().is_empty(),
        _ => {}
    }
}

fn read_flag(name: &str, saw_gateway: bool, command: &mut GatewayCommand) {
    match name {
        "--allow-unconfigured" => command.allow_unconfigured = true,
        // After `gateway` the same flag means something else: it makes a config (9.6, source).
        "--dev" if !saw_gateway => command.profile = Some("dev".to_owned()),
        _ => {}
    }
}

fn some_text(value: String) -> Option<String> {
    let trimmed = value.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wrapper_assumed_to_be_a_gateway_says_its_port() {
        let line = |words: &[&str]| assume(&words.iter().map(OsString::from).collect::<Vec<_>>());
        let wrapped = line(&[
            "sh", "start.sh", "gateway", "--port", "3000", "--bind", "lan",
        ]);
        assert_eq!(
            (wrapped.port, wrapped.bind.as_deref()),
            (Some(Ok(3000)), Some("lan"))
        );
        assert_eq!(line(&["/fake", "--port=7"]).port, Some(Ok(7)));
        assert_eq!(line(&["/fake"]), GatewayCommand::default());
    }

    fn argv(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn gateway(line: &str) -> GatewayCommand {
        match recognise(&argv(line)) {
            Command::Gateway(command) => command,
            Command::Other => panic!("not taken for a gateway: {line}"),
        }
    }

    #[test]
    fn the_default_command_is_a_gateway() {
        let Command::Gateway(command) = recognise(&default_command()) else {
            panic!("the default command is no gateway");
        };
        assert_eq!(command.entry, Some(PathBuf::from("dist/index.js")));
        assert_eq!(command.port, Some(Ok(3000)));
        assert_eq!(command.bind.as_deref(), Some("lan"));
        assert!(command.allow_unconfigured);
        assert!(!command.token_given && !command.password_given);
    }

    #[test]
    fn every_way_to_start_a_gateway_is_one() {
        for line in [
            "node dist/index.js gateway",
            "node dist/index.js gateway run",
            "/usr/local/bin/node /app/dist/index.js gateway --port=3000 --bind=lan",
            "nodejs ./dist/entry.js gateway",
            "node openclaw.mjs gateway --allow-unconfigured",
            "node /app/clawdbot.mjs gateway",
            "node /usr/local/bin/openclaw gateway",
            "node --max-old-space-size=1536 dist/index.js gateway",
            "node --max-old-space-size 1536 dist/index.js gateway",
            "node -r ./hook.js --import mod --enable-source-maps dist/index.js gateway",
            "node --expose-gc dist/index.js gateway",
            "node -- dist/index.js gateway",
            "node dist/index.js --profile work --no-color gateway --log-level debug run --verbose",
            "node dist/index.js --log-level=debug gateway",
            "openclaw gateway",
            "/usr/bin/clawdbot gateway run --force",
            "moltbot gateway",
            "openclaw gateway --some-new-flag",
            "openclaw gateway --some-new-flag value --port 3000",
            "openclaw gateway --token status",
        ] {
            gateway(line);
        }
    }

    #[test]
    fn nothing_else_is_a_gateway() {
        for line in [
            "",
            "bash",
            "sh -c node",
            "node",
            "node dist/index.js",
            "node dist/index.js doctor",
            "node dist/index.js gateway status",
            "node dist/index.js gateway call health",
            "node dist/index.js gateway health",
            "node dist/index.js gateway stop",
            "node dist/index.js gateway restart",
            "node dist/index.js gateway install --port 3000",
            "node dist/index.js gateway probe",
            "node dist/index.js gateway --port 3000 status",
            "node dist/index.js gateway run status",
            "node dist/index.js gateway --help",
            "node dist/index.js gateway -h",
            "node dist/index.js --version gateway",
            "node dist/index.js --container box gateway",
            "node dist/index.js -- gateway",
            "node dist/index.js config validate --json",
            "node server.js gateway",
            "node -e dist/index.js gateway",
            "node --version dist/index.js gateway",
            "node -r dist/index.js gateway",
            "openclaw status",
            "openclaw-gateway",
            "npm run gateway",
        ] {
            assert_eq!(recognise(&argv(line)), Command::Other, "{line}");
        }
    }

    #[test]
    fn the_last_of_a_repeated_flag_wins() {
        let command = gateway("openclaw gateway --port 1 --port=2 --bind lan --bind loopback");
        assert_eq!(command.port, Some(Ok(2)));
        assert_eq!(command.bind.as_deref(), Some("loopback"));
    }

    #[test]
    fn a_bad_port_is_kept_as_text() {
        for (line, text) in [
            ("openclaw gateway --port 70000", "70000"),
            ("openclaw gateway --port=", ""),
            ("openclaw gateway --port", ""),
            ("openclaw gateway --port 0", "0"),
            ("openclaw gateway --port three", "three"),
        ] {
            assert_eq!(gateway(line).port, Some(Err(text.to_owned())), "{line}");
        }
    }

    #[test]
    fn secrets_are_noted_and_not_kept() {
        let command = gateway("openclaw gateway --token sk-1 --password-file /run/pw");
        assert!(command.token_given && command.password_given);
        assert!(!format!("{command:?}").contains("sk-1"));
        assert!(!gateway("openclaw gateway --token=").token_given);
    }

    #[test]
    fn dev_before_gateway_is_a_profile_and_after_it_is_not() {
        assert_eq!(
            gateway("openclaw --dev gateway").profile.as_deref(),
            Some("dev")
        );
        assert_eq!(gateway("openclaw gateway --dev").profile, None);
        assert_eq!(
            gateway("openclaw gateway --profile x").profile.as_deref(),
            Some("x")
        );
    }

    #[test]
    fn node_options_are_kept_in_order() {
        let command = gateway("node -r a --max-old-space-size=1536 dist/index.js gateway");
        assert_eq!(command.node_options, argv("-r a --max-old-space-size=1536"));
    }

    proptest! {
        #[test]
        fn recognising_never_panics(words in prop::collection::vec("[-a-z=./]{0,12}", 0..8)) {
            let argv: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            let _ = recognise(&argv);
        }

        #[test]
        fn a_subcommand_is_never_a_gateway(
            flags in prop::collection::vec("--(verbose|force|port=1|bind lan|token x)", 0..4),
            subcommand in "(status|call|health|stop|restart|install|uninstall|start|probe|discover)",
        ) {
            let line = format!("node dist/index.js gateway {} {subcommand}", flags.join(" "));
            prop_assert_eq!(recognise(&argv(&line)), Command::Other);
        }
    }
}
