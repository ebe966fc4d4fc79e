//! Writes log lines: through the relay once it runs, so that a line of ours never lands inside one of the gateway's.

use crate::render::LogLine;
use crate::settings::{LogFormat, LogLevel};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::relay::{self, Relay};

static RELAY: OnceLock<Arc<Relay>> = OnceLock::new();
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Sets up logging for the whole process. A second call changes nothing.
pub fn init(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    };
    let _ = FORMAT.set(format);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .event_format(Line(format))
        .with_writer(|| Output(Vec::new()))
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// From here on lines go through the relay.
pub fn use_relay(relay: Arc<Relay>) {
    let _ = RELAY.set(relay);
}

/// Writes one line that the core or the shell found worth saying.
pub fn emit(line: &LogLine) {
    let body = match FORMAT.get().copied().unwrap_or_default() {
        LogFormat::Text => line.to_text(),
        LogFormat::Json => line.to_json_fields(),
    };
    match line.level {
        LogLevel::Error => tracing::error!("{body}"),
        LogLevel::Warn => tracing::warn!("{body}"),
        LogLevel::Info => tracing::info!("{body}"),
        LogLevel::Debug => tracing::debug!("{body}"),
    }
}

/// Writes a line about a defect: also where logging was never set up, as in a command that only looks.
pub fn last_words(line: &LogLine) {
    if FORMAT.get().is_some() {
        emit(line);
    } else {
        // Nobody is left to tell that stderr is gone.
        let _ = writeln!(std::io::stderr(), "clawkeeper: {}", line.to_text());
    }
}

/// Waits until the relay has passed everything on, for at most this long, and ends it.
pub fn flush(limit: Duration) {
    if let Some(relay) = RELAY.get() {
        // What is not read in time is lost with us.
        let _ = relay.shutdown(limit);
    }
}

/// One line, gathered and then written in a single call.
struct Output(Vec<u8>);

impl std::io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        match RELAY.get().filter(|_| !relay::is_own_thread()) {
            // The relay counts what it refuses.
            Some(relay) => {
                relay.say(&self.0);
            }
            // Nobody is left to tell that stderr is gone.
            None => {
                let _ = std::io::stderr().write_all(&self.0);
            }
        }
    }
}

/// `2026-11-20T06:44:40.123Z INFO clawkeeper: gateway ready attempt=1 took=7.7s`, or the same as JSON.
struct Line(LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let now = humantime::format_rfc3339_millis(super::clock::system_time());
        let mut message = Message(String::new());
        event.record(&mut message);
        let level = event.metadata().level();
        match self.0 {
            LogFormat::Text => writeln!(writer, "{now} {level:>5} clawkeeper: {}", message.0),
            LogFormat::Json => {
                let level = level.as_str().to_lowercase();
                // Lines of ours come as fields; events, actions and what libraries say are plain text.
                if !message.0.starts_with("\"message\":") {
                    let detail = LogLine::debug("detail").field("what", &message.0);
                    message.0 = detail.to_json_fields();
                }
                writeln!(
                    writer,
                    r#"{{"time":"{now}","level":"{level}",{}}}"#,
                    message.0
                )
            }
        }
    }
}

struct Message(String);

impl tracing::field::Visit for Message {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}
