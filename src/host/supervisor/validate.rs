//! Asks the gateway's own validator beside a gateway that runs: with what nobody else wants of the processor.

use super::super::launch::Launch;
use super::super::validator::{self, DEADLINE, Question};
use super::channels::{Calls, Priority};
use crate::core::reload::Validation;
use crate::gateway::Mask;
use crate::gateway::config::Answer;
use serde_json::Value;

/// So many issues make a line.
const MAX_ISSUES: usize = 3;

/// Asks it; `config` is what may not be shown of its answer.
pub(super) async fn ask(launch: &Launch, calls: &Calls, config: &Value) -> Validation {
    match run(launch, calls).await {
        Ok(Answer::Valid) => Validation::Valid,
        Ok(Answer::Invalid(issues)) => {
            let mask = Mask::new([], [], Some(config));
            let issues = issues.iter().take(MAX_ISSUES);
            Validation::Invalid(issues.map(|issue| mask.line(issue)).collect())
        }
        Err(why) => Validation::Skipped(why),
    }
}

async fn run(launch: &Launch, calls: &Calls) -> Result<Answer, String> {
    let Question { spec, answer } = validator::question(launch, &launch.config_path)?;
    calls.run(spec, DEADLINE, Priority::Idle).await?;
    validator::read(answer)
}
