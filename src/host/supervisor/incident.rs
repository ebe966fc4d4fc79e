//! Has an incident written beside everything else: a disk that hangs must not hold up the next start.

use super::super::config_file;
use super::super::{clock, incidents, log};
use super::Supervisor;
use crate::core::incident::Incident;
use crate::render::LogLine;
use std::sync::Arc;
use std::time::Duration;

/// Longer means that the disk hangs.
const DEADLINE: Duration = Duration::from_secs(10);
/// Time for an incident that is being written when clawkeeper ends.
const AT_THE_END: Duration = Duration::from_millis(500);

impl Supervisor {
    pub(super) fn keep_incident(&mut self, incident: Incident) {
        if self
            .incident
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            // One thread may hang with the disk, not one for each death.
            let line = LogLine::warn("incident not kept").field("class", &incident.class);
            return log::emit(&line.field("why", "the one before is still being written"));
        }
        let (launch, tail, now) = (Arc::clone(&self.launch), self.relay.tail(), clock::wall());
        self.incident = Some(tokio::spawn(async move {
            let class = incident.class.clone();
            let written = tokio::task::spawn_blocking(move || {
                incidents::keep(&launch, &incident, &tail, now)
                    .map_err(|error| config_file::chain(&error))
            });
            let kept = match tokio::time::timeout(DEADLINE, written).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err("its thread has ended".to_owned()),
                Err(_) => Err("the disk gives no answer".to_owned()),
            };
            log::emit(&match kept {
                Ok(path) => LogLine::info("incident kept; clawkeeper incidents shows it")
                    .field("path", path.display()),
                Err(why) => LogLine::warn("incident not kept")
                    .field("class", class)
                    .field("why", why),
            });
        }));
    }

    /// Waits a moment for what is being written.
    pub(super) async fn finish_incident(&mut self) {
        if let Some(task) = self.incident.take() {
            // It is lost with a disk that hangs; the line in the log is not.
            let _ = tokio::time::timeout(AT_THE_END, task).await;
        }
    }
}
