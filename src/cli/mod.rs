//! The commands. Each works out its facts in `host`, lets `core` judge them, and prints.
#![allow(
    clippy::disallowed_methods,
    reason = "the command line reads the environment and prints"
)]

mod check;
mod config;
mod control;
mod events;
mod health;
mod incidents;
mod kept;
mod locks;
mod logs;
mod replay;
mod surroundings;
mod tell;
mod test_alert;

use crate::core::control::Op;
use crate::core::time::Millis;
use crate::exit::Exit;
use crate::gateway::{self, Command as Recognised};
use crate::host::config_file::chain;
use crate::host::init::{self, ForwardTo, InitOptions};
use crate::host::launch::{Account, Launch};
use crate::host::{defect, early, footprint};
use crate::host::{log, supervisor};
use crate::render;
use crate::settings::{self, Mode, Settings};
use clap::{Args, Parser, Subcommand};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use tell::complain;

/// Keeps an OpenClaw gateway running, heals what it can, and says in one line what it cannot.
#[derive(Debug, Parser)]
#[command(name = "clawkeeper", version, disable_help_subcommand = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

const EXAMPLES: &str = "\
Examples:
  clawkeeper run                                   keep the image's gateway running
  clawkeeper run -- node dist/index.js gateway --port 3000 --bind lan
  clawkeeper run -- bash                           any other command: a plain init
  clawkeeper check                                 what would stop a start, changing nothing
  clawkeeper locks --clear                         clear stale locks, as a start would
  clawkeeper config put < new.json5                check a config, keep the old one, put it in place
  clawkeeper config rollback                       go back to the last config that worked
  clawkeeper status                                how things stand, and what to do
  clawkeeper pause --for 1h                        stop the gateway for repairs, keep the container
  clawkeeper events --since 12h                    what happened last night
  clawkeeper logs -f                               the gateway's output, also what the platform has forgotten
  clawkeeper health                                is the gateway ready? (0 yes, 1 no)

Exit codes:
  0 stopped as asked · 64 wrong setting or flag · 66 a named file cannot be used · 70 a defect in clawkeeper
  71 the system refused something essential · 75 another clawkeeper keeps this state folder
  124 the gateway had to be killed after the stop timeout · 126/127 a command that cannot be run
  status: 0 ready, 1 not, 69 nobody answers · restart, pause, resume: 0 done, 1 not done, 2 refused, 69 nobody answers
  check: 0 fine, 1 warnings, 2 the gateway would not be started · health: 0 ready, 1 not
  config put, edit, rollback: 0 applied, 2 refused and unchanged, 71 could not be written, or is in place but perhaps not on the disk yet";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a command: a gateway is kept running, anything else runs as under a plain init
    Run(Box<Run>),
    /// Look at everything a start looks at, and change nothing
    Check(Check),
    /// List the gateway's locks, each with its verdict
    Locks(Locks),
    /// What happened, one line a transition, over restarts of the container
    Events(events::Events),
    /// The gateway's last output, kept on the volume with its secrets masked
    Logs(logs::Logs),
    /// List the deaths of the gateway that were kept, or show one with its evidence
    Incidents(incidents::Incidents),
    /// Look at the gateway's config, change it safely, or go back to a version that worked
    #[command(subcommand, after_help = config::EXAMPLES)]
    Config(config::Config),
    /// Ask the running clawkeeper whether its gateway serves: exit code 0 if it does, 1 if not
    Health(Health),
    /// Hand a test to the command that alerts go to (CLAWKEEPER_ON_EVENT): exit code 0 if it was delivered, 1 if not
    TestAlert,
    /// Show what clawkeeper and its gateway do, and what is left for you
    Status(control::Status),
    /// Drain the gateway and start it again
    Restart(control::Ask),
    /// Drain the gateway and start none until resumed; the container stays, for repairs by hand
    Pause(control::Pause),
    /// End a pause
    Resume(control::Ask),
    /// Feed a journal through the decisions again and print them
    Replay {
        /// A journal: <state>/clawkeeper/journal.ndjson, or journal.1.ndjson for what came before
        file: PathBuf,
    },
}

/// Every flag is also an environment variable: --stop-timeout is CLAWKEEPER_STOP_TIMEOUT. Flags win.
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
struct Run {
    #[command(flatten)]
    flags: Flags,
    /// The command; without one, the image's gateway: node dist/index.js gateway --allow-unconfigured --port 3000 --bind lan
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

const RUN_HELP: &str = "\
A length of time is written as 90s, 5m, 250ms, or a bare number of seconds.
The state folder is the gateway's own: OPENCLAW_STATE_DIR, else ~/.openclaw.

In gateway mode SIGTERM, SIGINT and SIGQUIT stop the gateway (drained) and then clawkeeper; a second signal
shortens the wait; SIGHUP looks at the config again, SIGUSR1 and SIGUSR2 do nothing.
In init mode every signal is passed on.";

/// All of them are texts here: `settings` checks them together with the environment and reports every error at once.
#[derive(Debug, Args)]
struct Flags {
    /// auto, gateway or init: how the command is run; auto sees it by the command [default: auto]
    #[arg(long, value_name = "MODE")]
    mode: Option<OsString>,
    /// Whom the command runs as when clawkeeper is root: a name, UID or UID:GID [default: auto: a gateway as the owner of the state folder, else the user node; other commands as root]
    #[arg(long, value_name = "USER")]
    user: Option<OsString>,
    /// From SIGTERM to SIGKILL [default: 330s for a gateway, which may drain for 315s; never for other commands]
    #[arg(long, value_name = "TIME")]
    stop_timeout: Option<OsString>,
    /// Give a start up after this long without any progress [default: 5m]
    #[arg(long, value_name = "TIME")]
    startup_timeout: Option<OsString>,
    /// Restart a gateway that was ready and answers nothing for this long; off never does [default: 60s]
    #[arg(long, value_name = "TIME")]
    liveness_timeout: Option<OsString>,
    /// Wait before the second start in a row of crashes; it doubles with each [default: 1s]
    #[arg(long, value_name = "TIME")]
    backoff_min: Option<OsString>,
    /// The longest wait between two starts [default: 5m]
    #[arg(long, value_name = "TIME")]
    backoff_max: Option<OsString>,
    /// Try again this often while holding, besides every change of the config [default: 5m]
    #[arg(long, value_name = "TIME")]
    hold_retry: Option<OsString>,
    /// warn or hold when the state folder is not on a volume [default: warn]
    #[arg(long, value_name = "POLICY")]
    no_mount: Option<OsString>,
    /// What a missing config is made from: auto (keys and tokens in the environment), off, a path, or JSON [default: auto]
    #[arg(long, value_name = "SEED")]
    config_seed: Option<OsString>,
    /// How an edit reaches the gateway: auto (it reloads itself, and is restarted where it cannot), gateway, or restart [default: auto]
    #[arg(long, value_name = "HOW")]
    config_apply: Option<OsString>,
    /// A config the gateway has served with for this long is kept as the last good one [default: 60s]
    #[arg(long, value_name = "TIME")]
    config_good_after: Option<OsString>,
    /// true: start on the last good config when the one there cannot be used; the broken one is kept [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    config_rollback: Option<OsString>,
    /// The port the platform forwards to (fly.toml's internal_port); the gateway's sockets are compared with it
    #[arg(long, value_name = "PORT")]
    internal_port: Option<OsString>,
    /// Where clawkeeper answers /livez, /readyz and /metrics: ADDRESS:PORT, or off [default: 127.0.0.1:9180]
    #[arg(long, value_name = "ADDRESS")]
    health_listen: Option<OsString>,
    /// What the gateway leaves when V8 runs out of heap: off, report, snapshot or both, in <state>/clawkeeper-dumps; a snapshot holds secrets [default: off]
    #[arg(long, value_name = "WHAT")]
    heap_dump: Option<OsString>,
    /// auto: a gateway that leaks is drained and restarted before memory is full; off: it is only warned of [default: auto]
    #[arg(long, value_name = "WHEN")]
    memory_restart: Option<OsString>,
    /// At most so many memory restarts an hour, 1 to 60 [default: 4]
    #[arg(long, value_name = "N")]
    memory_restarts_per_hour: Option<OsString>,
    /// The gateway's heap: auto fits it to the memory there is, off leaves it to Node, or a number of MB [default: auto]
    #[arg(long, value_name = "SIZE")]
    heap: Option<OsString>,
    /// How many MB of the gateway's output are kept in <state>/clawkeeper, secrets masked, for clawkeeper logs; off keeps none [default: 1]
    #[arg(long, value_name = "SIZE")]
    keep_output: Option<OsString>,
    /// Whom alerts are handed to, as JSON: auto (the image's poster, where a CLAWKEEPER_ALERT_… is set), off, or a command [default: auto]
    #[arg(long, value_name = "COMMAND")]
    on_event: Option<OsString>,
    /// true: in init mode, signals go to the command's whole process group [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    signal_group: Option<OsString>,
    /// error, warn, info or debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<OsString>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<OsString>,
}

/// What a start would look at, and what it would say.
#[derive(Debug, Args)]
struct Check {
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
    /// The gateway command to check for [default: that of the clawkeeper that runs, else the image's]
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
struct Locks {
    /// Move proven leftovers into quarantine, as a start does
    #[arg(long)]
    clear: bool,
    /// One JSON array instead of lines
    #[arg(long)]
    json: bool,
}

/// For HEALTHCHECK and scripts: asks over HTTP, as a probe does, and needs no curl.
#[derive(Debug, Args)]
struct Health {
    /// Only whether clawkeeper itself works, whatever its gateway does
    #[arg(long)]
    live: bool,
    /// The answer as JSON instead of one line
    #[arg(long)]
    json: bool,
    /// Give up after this long
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = length_of_time)]
    timeout: Millis,
    /// Where to ask, if not at CLAWKEEPER_HEALTH_LISTEN
    #[arg(long, value_name = "ADDRESS")]
    health_listen: Option<OsString>,
}

/// Parses, runs, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    footprint::begin_small();
    defect::install();
    match Cli::try_parse() {
        Ok(cli) => {
            if !matches!(cli.command, Verb::Run(_)) {
                // Nothing of what the others do is worth more than the Ctrl-C of whoever waits for it.
                early::accept_signals();
            }
            match cli.command {
                Verb::Run(run) => ExitCode::from(run_command(*run)),
                Verb::Check(check) => check::run(&check).into(),
                Verb::Locks(locks) => locks::run(&locks).into(),
                Verb::Events(events) => events::run(&events).into(),
                Verb::Logs(logs) => logs::run(&logs).into(),
                Verb::Incidents(incidents) => incidents::run(&incidents).into(),
                Verb::Config(config) => config::run(&config).into(),
                Verb::Health(health) => health::run(&health).into(),
                Verb::TestAlert => test_alert::run().into(),
                Verb::Status(status) => control::status(&status).into(),
                Verb::Restart(ask) => control::request(Op::Restart, &ask).into(),
                Verb::Pause(pause) => control::pause(&pause).into(),
                Verb::Resume(ask) => control::request(Op::Resume, &ask).into(),
                Verb::Replay { file } => replay::run(&file).into(),
            }
        }
        Err(error) => {
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            if error.use_stderr() {
                Exit::Usage.into()
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}

fn run_command(run: Run) -> u8 {
    let environment: Vec<_> = std::env::vars_os().collect();
    let resolved = match settings::resolve(&environment, &run.flags.given()) {
        Ok(resolved) => resolved,
        Err(errors) => return refuse(&errors).code(),
    };
    let settings = resolved.settings;
    let argv = if run.command.is_empty() {
        gateway::default_command()
    } else {
        gateway::unwrapped(run.command)
    };
    let command = match (gateway::recognise(&argv), settings.mode) {
        (Recognised::Other, Mode::Auto) => {
            if gateway::hides_a_gateway(&argv) {
                complain(
                    "the gateway in this shell's command is not kept; with CLAWKEEPER_MODE=gateway, and exec before it, it is",
                );
            }
            return run_init(&argv, &settings);
        }
        (_, Mode::Init) => return run_init(&argv, &settings),
        (Recognised::Gateway(command), Mode::Auto | Mode::Gateway) => command,
        (Recognised::Other, Mode::Gateway) => gateway::assume(&argv),
    };
    log::init(settings.log_level, settings.log_format);
    match Launch::prepare_in_time(argv, command, environment, &settings) {
        Ok(launch) => supervisor::run(settings, &resolved.unknown, launch).code(),
        Err(error) => refuse(&error).code(),
    }
}

fn run_init(argv: &[OsString], settings: &Settings) -> u8 {
    let account = match Account::named(&settings.user) {
        Ok(account) => account,
        Err(error) => return refuse(&error).code(),
    };
    let options = InitOptions {
        forward_to: if settings.signal_group {
            ForwardTo::Group
        } else {
            ForwardTo::Command
        },
        stop_timeout: settings.stop_timeout.map(Millis::to_duration),
        account,
        ..InitOptions::default()
    };
    init::run(argv, &options)
}

impl Flags {
    fn given(&self) -> Vec<(&str, &OsStr)> {
        let all = [
            ("mode", &self.mode),
            ("user", &self.user),
            ("stop-timeout", &self.stop_timeout),
            ("startup-timeout", &self.startup_timeout),
            ("liveness-timeout", &self.liveness_timeout),
            ("backoff-min", &self.backoff_min),
            ("backoff-max", &self.backoff_max),
            ("hold-retry", &self.hold_retry),
            ("no-mount", &self.no_mount),
            ("config-seed", &self.config_seed),
            ("config-apply", &self.config_apply),
            ("config-good-after", &self.config_good_after),
            ("config-rollback", &self.config_rollback),
            ("internal-port", &self.internal_port),
            ("health-listen", &self.health_listen),
            ("heap-dump", &self.heap_dump),
            ("memory-restart", &self.memory_restart),
            ("memory-restarts-per-hour", &self.memory_restarts_per_hour),
            ("heap", &self.heap),
            ("keep-output", &self.keep_output),
            ("on-event", &self.on_event),
            ("signal-group", &self.signal_group),
            ("log-level", &self.log_level),
            ("log-format", &self.log_format),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect()
    }
}

fn length_of_time(text: &str) -> Result<Millis, &'static str> {
    settings::time(text)
        .filter(|length| length.0 > 0)
        .ok_or("not a length of time such as 90s, 5m or 250ms")
}

/// Colours where a person looks at the output and has not forbidden them (no-color.org).
fn style() -> render::Style {
    let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|value| value == "dumb");
    render::Style {
        colour: std::io::IsTerminal::is_terminal(&std::io::stdout()) && !forbidden && !is_dumb,
    }
}

/// One line on stderr for what could not be done.
fn fail(error: &dyn std::error::Error, exit: Exit) -> Exit {
    complain(chain(error));
    exit
}

/// One line for each thing that is wrong with a setting or a flag.
fn refuse(error: &dyn std::error::Error) -> Exit {
    chain(error).lines().for_each(complain);
    Exit::Usage
}
