//! What a command looks at: the gateway of the clawkeeper that runs, or the image's.

use super::{Cli, Verb, refuse};
use crate::exit::Exit;
use crate::gateway::{self, Command as Recognised};
use crate::host::launch::{Launch, LaunchError};
use crate::host::log;
use crate::host::proc::Proc;
use crate::host::running::{self, Running};
use crate::settings::{self, LogFormat, LogLevel, Mode, Settings};
use clap::Parser as _;
use std::ffi::OsString;

/// The gateway that is meant.
pub(super) struct Surroundings {
    pub(super) launch: Launch,
    pub(super) settings: Settings,
    /// The pid of the clawkeeper that keeps it, if one runs.
    pub(super) keeper: Option<i32>,
}

/// Variables that say which state and config are meant; set by hand, they win over the running clawkeeper's.
const CHOICES: [&str; 4] = [
    "OPENCLAW_STATE_DIR",
    "CLAWDBOT_STATE_DIR",
    "OPENCLAW_CONFIG_PATH",
    "CLAWDBOT_CONFIG_PATH",
];

/// Looks at what the running clawkeeper looks at.
///
/// Its working folder becomes ours: relative paths in its command line start there. Whoever has a
/// relative path from the user makes it absolute before.
pub(super) fn find() -> Result<Surroundings, Exit> {
    let own: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let chosen: Vec<_> = own
        .iter()
        .filter(|(name, value)| !value.is_empty() && CHOICES.iter().any(|choice| name == choice))
        .cloned()
        .collect();
    let (launch, settings) = looked_at(Vec::new())?;
    let proc = Proc::default();
    let running = if chosen.is_empty() {
        running::only_one(&proc)
    } else {
        running::keeper_of(&proc, &launch.state_dir)
    };
    let Some(running) = running else {
        return Ok(Surroundings {
            launch,
            settings,
            keeper: None,
        });
    };
    let pid = running.pid;
    Ok(match as_it_sees(running, chosen)? {
        Some((launch, settings)) => Surroundings {
            launch,
            settings,
            keeper: Some(pid),
        },
        None => Surroundings {
            launch,
            settings,
            keeper: None,
        },
    })
}

/// The launch of a running clawkeeper; `None` when it runs something else than a gateway.
fn as_it_sees(
    running: Running,
    chosen: Vec<(OsString, OsString)>,
) -> Result<Option<(Launch, Settings)>, Exit> {
    let Ok(Cli {
        command: Verb::Run(run),
    }) = Cli::try_parse_from(&running.argv)
    else {
        return Ok(None);
    };
    let mut environment = running.environment;
    for (name, value) in chosen {
        environment.retain(|(known, _)| *known != name);
        environment.push((name, value));
    }
    let settings = settings::resolve(&environment, &run.flags.given())
        .map_err(|errors| refuse(&errors))?
        .settings;
    let argv = if run.command.is_empty() {
        gateway::default_command()
    } else {
        gateway::unwrapped(run.command)
    };
    let command = match (gateway::recognise(&argv), settings.mode) {
        (_, Mode::Init) | (Recognised::Other, Mode::Auto) => return Ok(None),
        (Recognised::Gateway(command), Mode::Auto | Mode::Gateway) => command,
        (Recognised::Other, Mode::Gateway) => gateway::assume(&argv),
    };
    // Where it cannot be entered, the gateway's program is not found, which is said where it matters.
    let _ = std::env::set_current_dir(&running.working_dir);
    Launch::prepare(argv, command, environment, &settings)
        .map(|launch| Some((launch, settings)))
        .map_err(|error| refuse(&error))
}

/// The launch that a command other than `run` looks at: the image's gateway, unless one is named.
pub(super) fn looked_at(command: Vec<OsString>) -> Result<(Launch, Settings), Exit> {
    log::init(LogLevel::Warn, LogFormat::Text);
    let environment: Vec<_> = std::env::vars_os().collect();
    let settings = settings::resolve(&environment, &[])
        .map_err(|errors| refuse(&errors))?
        .settings;
    let argv = if command.is_empty() {
        gateway::default_command()
    } else {
        gateway::unwrapped(command)
    };
    let Recognised::Gateway(command) = gateway::recognise(&argv) else {
        return Err(refuse(&NotAGateway));
    };
    let launch = Launch::prepare(argv, command, environment, &settings)
        .map_err(|error: LaunchError| refuse(&error))?;
    Ok((launch, settings))
}

#[derive(Debug, thiserror::Error)]
#[error("this command does not start a gateway; try: node dist/index.js gateway")]
struct NotAGateway;
