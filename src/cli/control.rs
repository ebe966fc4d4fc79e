//! `status`, `restart`, `pause` and `resume`: asks the clawkeeper that runs, over its control socket.

use super::surroundings::{self, Surroundings};
use super::tell::{complain, say};
use super::{fail, length_of_time};
use crate::core::control::{Op, Progress, Seen, progress};
use crate::core::time::{Millis, WallMs};
use crate::exit::Exit;
use crate::host::http::Socket;
use crate::host::probe::{self, Answer};
use crate::host::{clock, state, timeline};
use crate::render::{self, Style, plain};
use clap::Args;
use hyper::Method;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A loop that turns answers within a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at how far a request has come.
const LOOK: Duration = Duration::from_millis(200);
const WATCH: Duration = Duration::from_secs(2);
/// Answers that may stay away while a request is waited for: a loaded machine, or one that is being stopped.
const SILENCES: u32 = 3;

#[derive(Debug, Args)]
#[command(after_help = STATUS_HELP)]
pub(super) struct Status {
    /// One JSON object in one line
    #[arg(long)]
    json: bool,
    /// Again every 2 seconds, until interrupted
    #[arg(long)]
    watch: bool,
}

const STATUS_HELP: &str = "\
Asks at the control socket in the state folder, else at the health listener, which shows the same.

Exit codes: 0 the gateway serves; 1 it does not; 69 no clawkeeper answers.";

#[derive(Debug, Args)]
#[command(after_help = ASK_HELP)]
pub(super) struct Ask {
    /// Return as soon as it is accepted
    #[arg(long)]
    no_wait: bool,
    /// Wait this long for it to be done
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = length_of_time)]
    timeout: Millis,
}

const ASK_HELP: &str = "\
Waits until it is done, with one line a step; what was accepted goes on when the waiting is interrupted.

Exit codes: 0 done (with --no-wait: accepted); 1 not done in time, or held; 2 refused; 69 no clawkeeper answers.";

#[derive(Debug, Args)]
pub(super) struct Pause {
    /// Resume by itself after this long [default: not by itself]
    #[arg(long = "for", value_name = "TIME", value_parser = length_of_time)]
    limit: Option<Millis>,
    #[command(flatten)]
    ask: Ask,
}

pub(super) fn status(options: &Status) -> Exit {
    let line = match Line::new() {
        Ok(line) => line,
        Err(exit) => return exit,
    };
    let out = std::io::stdout();
    let style = super::style();
    loop {
        let (text, exit) = line.status_once(options.json, style);
        let is_screen = options.watch && !options.json && out.is_terminal();
        // Clears what stands below the cursor after going home: no flicker.
        let clear = if is_screen { "\u{1b}[H\u{1b}[J" } else { "" };
        let written = write!(&out, "{clear}{text}").and_then(|()| (&out).flush());
        if !options.watch || written.is_err() {
            return exit;
        }
        sleep(WATCH);
    }
}

pub(super) fn pause(options: &Pause) -> Exit {
    let limit = options.limit;
    request(Op::Pause { limit }, &options.ask)
}

pub(super) fn request(op: Op, options: &Ask) -> Exit {
    let line = match Line::new() {
        Ok(line) => line,
        Err(exit) => return exit,
    };
    let path = match op {
        Op::Restart => "/v1/restart".to_owned(),
        Op::Resume => "/v1/resume".to_owned(),
        Op::Pause { limit: None } => "/v1/pause".to_owned(),
        Op::Pause { limit: Some(limit) } => format!("/v1/pause?limit_ms={}", limit.0),
    };
    let answer = match line.over_socket(Method::POST, &path) {
        Ok(answer) => answer,
        Err(silence) => {
            return fail(&silence, Exit::NobodyAnswers);
        }
    };
    if answer.get("accepted") != Some(&Value::Bool(true)) {
        let why = answer.get("why").and_then(Value::as_str).unwrap_or("");
        complain(format_args!("{} refused: {why}", op.word()));
        return Exit::RequestRefused;
    }
    say(format_args!("{}: accepted", op.word()));
    if options.no_wait {
        return Exit::Stopped;
    }
    let starts = answer.get("starts").and_then(Value::as_u64).unwrap_or(0);
    line.wait(op, starts, options.timeout.to_duration())
}

/// The line to the clawkeeper of one state folder.
struct Line {
    state_dir: PathBuf,
    socket: Socket,
    listener: Option<SocketAddr>,
    runtime: Runtime,
}

/// No clawkeeper answers.
#[derive(Debug, thiserror::Error)]
#[error("no clawkeeper answers for {}: {why}", .state_dir.display())]
struct Silence {
    state_dir: PathBuf,
    why: String,
}

impl Line {
    fn new() -> Result<Self, Exit> {
        let Surroundings {
            launch, settings, ..
        } = surroundings::find()?;
        let runtime = probe::runtime().map_err(|error| {
            complain(format_args!("cannot ask: {error}"));
            Exit::Host
        })?;
        Ok(Self {
            socket: Socket::of(&launch.state_dir),
            state_dir: launch.state_dir,
            listener: settings.health_listen.map(super::health::asked_at),
            runtime,
        })
    }

    fn over_socket(&self, method: Method, path: &str) -> Result<Value, Silence> {
        let question = async {
            let stream = self.socket.connect().map_err(|error| error.to_string())?;
            probe::exchange(stream, "clawkeeper", method, path)
                .await
                .map_err(|error| error.to_string())
        };
        self.hear(question)
    }

    fn over_port(&self, address: SocketAddr) -> Result<Value, Silence> {
        self.hear(async {
            probe::get(address, "/v1/status")
                .await
                .map_err(|error| error.to_string())
        })
    }

    fn hear(
        &self,
        question: impl Future<Output = Result<Answer, String>>,
    ) -> Result<Value, Silence> {
        let limited = async { tokio::time::timeout(PATIENCE, question).await };
        let why = match self.runtime.block_on(limited) {
            Ok(Ok(Answer {
                body: Some(body), ..
            })) => match serde_json::from_slice(&body) {
                Ok(value) => return Ok(value),
                Err(_) => plain(&String::from_utf8_lossy(&body)),
            },
            Ok(Ok(Answer { body: None, .. })) => "its answer was cut off".to_owned(),
            Ok(Err(why)) => why,
            Err(_) => "no answer in time".to_owned(),
        };
        Err(Silence {
            state_dir: self.state_dir.clone(),
            why,
        })
    }

    fn status(&self) -> Result<Value, Silence> {
        self.over_socket(Method::GET, "/v1/status")
            .or_else(|silence| match self.listener {
                Some(address) => self.over_port(address).map_err(|_| silence),
                None => Err(silence),
            })
    }

    fn status_once(&self, as_json: bool, style: Style) -> (String, Exit) {
        let now = clock::wall();
        match self.status() {
            Ok(status) => {
                let text = if as_json {
                    format!("{status}\n")
                } else {
                    render::status_text(&status, style, now)
                };
                let is_ready = status.get("ready") == Some(&Value::Bool(true));
                let exit = if is_ready {
                    Exit::Stopped
                } else {
                    Exit::Unhealthy
                };
                (text, exit)
            }
            Err(silence) => (
                self.without_one(&silence, as_json, style),
                Exit::NobodyAnswers,
            ),
        }
    }

    /// What the state folder tells while nobody answers.
    fn without_one(&self, silence: &Silence, as_json: bool, style: Style) -> String {
        let last = timeline::read(&self.state_dir, WallMs(0), 1).unwrap_or_default();
        let last = last.last().map(|entry| {
            let at = render::utc_seconds(entry.at);
            json!({ "at": at, "kind": entry.kind.word(), "text": plain(&entry.text) })
        });
        let status = json!({
            "v": 1,
            "answers": false,
            "why": silence.to_string(),
            "state_folder_kept_by_pid": state::held_by(&self.state_dir),
            "last_event": last,
        });
        if as_json {
            format!("{status}\n")
        } else {
            render::silence_text(&status, style)
        }
    }

    fn wait(&self, op: Op, starts: u64, limit: Duration) -> Exit {
        let until = Instant::now() + limit;
        let (mut said, mut silences) = (String::new(), 0);
        loop {
            let status = match self.status() {
                Ok(status) => status,
                Err(_) if silences < SILENCES => {
                    silences += 1;
                    sleep(LOOK);
                    continue;
                }
                Err(silence) => {
                    return fail(&silence, Exit::NobodyAnswers);
                }
            };
            silences = 0;
            let of = |field: &str| {
                let text = status.get(field).and_then(Value::as_str);
                plain(text.unwrap_or_default())
            };
            let seen = Seen {
                phase: &of("phase"),
                is_ready: status.get("ready") == Some(&Value::Bool(true)),
                is_paused: status.get("paused").is_some(),
                starts: status.get("starts").and_then(Value::as_u64).unwrap_or(0),
            };
            let (why, fix) = (of("why"), of("fix"));
            let not_done = match progress(op, starts, seen) {
                Progress::Done => {
                    say(if why.is_empty() {
                        "the gateway is ready"
                    } else {
                        &why
                    });
                    return Exit::Stopped;
                }
                Progress::Going if Instant::now() < until => None,
                Progress::Going => Some(format!("not done in time, and goes on: {why}")),
                Progress::Held => Some(format!("held: {why}; fix: {fix}")),
                Progress::Paused => Some("somebody paused it meanwhile".to_owned()),
                Progress::Resumed => Some("somebody resumed it meanwhile".to_owned()),
                Progress::Ending => Some("clawkeeper is ending".to_owned()),
            };
            if let Some(not_done) = not_done {
                complain(format_args!("{}: {not_done}", op.word()));
                return Exit::Unhealthy;
            }
            if said != seen.phase {
                say(format_args!("{}: {why}", seen.phase));
                said = of("phase");
            }
            sleep(LOOK);
        }
    }
}
