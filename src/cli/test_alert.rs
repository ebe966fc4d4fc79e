//! `test-alert`: hands a test to the command that alerts go to, with what it says of errors shown here.

use super::surroundings::{self, Surroundings};
use super::tell::{complain, say};
use crate::exit::Exit;
use crate::host::hook::Hook;

pub(super) fn run() -> Exit {
    let Surroundings {
        launch, settings, ..
    } = match surroundings::find() {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let hook = match Hook::find(&settings, &launch) {
        Ok(Some(hook)) => hook,
        Ok(None) => {
            complain(
                "nobody is told of anything: neither CLAWKEEPER_ALERT_… nor CLAWKEEPER_ON_EVENT is set here",
            );
            return Exit::NotDelivered;
        }
        Err(error) => {
            complain(error);
            return Exit::NotDelivered;
        }
    };
    match hook.test() {
        Ok(()) => {
            say(format_args!("delivered, says {}", hook.name()));
            Exit::Stopped
        }
        Err(why) => {
            complain(format_args!("not delivered by {}: {why}", hook.name()));
            Exit::NotDelivered
        }
    }
}
