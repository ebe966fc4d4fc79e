//! The launch of a supervisor, which must begin also where the volume hangs.

use super::{Launch, LaunchError, Volume};
use crate::core::time::Millis;
use crate::gateway::GatewayCommand;
use crate::host::{log, volume};
use crate::render::LogLine;
use crate::settings::Settings;
use std::ffi::OsString;
use std::sync::mpsc::sync_channel;

const STACK_BYTES: usize = 512 * 1024;

impl Launch {
    /// [`Launch::prepare`], but a volume that gives no answer is not waited for: the paths and the user are then the
    /// defaults, and the volume's own check holds.
    pub fn prepare_in_time(
        argv: Vec<OsString>,
        command: GatewayCommand,
        environment: Vec<(OsString, OsString)>,
        settings: &Settings,
    ) -> Result<Self, LaunchError> {
        let again = (argv.clone(), command.clone(), environment.clone());
        let settings_too = settings.clone();
        let prepared = in_time(volume::DEADLINE, move || {
            Self::prepare(argv, command, environment, &settings_too)
        });
        prepared.unwrap_or_else(|| {
            let (argv, command, environment) = again;
            log::emit(
                &LogLine::warn("the volume gives no answer: going on without its owner")
                    .field("waited", volume::DEADLINE),
            );
            Self::prepare_by(Volume::Silent, argv, command, environment, settings)
        })
    }
}

/// What a job on a thread of its own says within the limit. A job that hangs is left behind.
fn in_time<T: Send + 'static>(
    limit: Millis,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = sync_channel(1);
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        // Nobody listens any more when it was too late.
        let _ = answer.send(job());
    });
    started.ok()?;
    answered.recv_timeout(limit.to_duration()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::User;
    use std::sync::mpsc::channel;

    #[test]
    fn a_job_that_hangs_is_left_behind() {
        let (hold, held) = channel::<()>();
        let job = move || held.recv().is_err();
        assert_eq!(in_time(Millis(1), job), None);
        drop(hold);
        assert_eq!(in_time(Millis::from_secs(20), || 7), Some(7));
    }

    #[test]
    fn without_an_answer_of_the_volume_the_paths_are_the_defaults() {
        let volume = tempfile::tempdir().expect("a folder");
        std::fs::write(volume.path().join("clawdbot.json"), "{}").expect("written");
        let variables = [("OPENCLAW_STATE_DIR", volume.path().as_os_str())];
        let launch = |volume| {
            let variables = variables.map(|(name, value)| (name.into(), value.to_owned()));
            let settings = Settings {
                user: User::Auto,
                ..Settings::default()
            };
            let command = GatewayCommand::default();
            Launch::prepare_by(volume, vec![], command, variables.into(), &settings)
        };
        let name = |volume| {
            let path = launch(volume).expect("prepared").config_path;
            path.file_name().map(OsString::from)
        };
        assert_eq!(name(Volume::Answers), Some("clawdbot.json".into()));
        assert_eq!(name(Volume::Silent), Some("openclaw.json".into()));
    }
}
