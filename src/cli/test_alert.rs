//! `test-alert`: hands a test to the command that alerts go to, with what it says of errors shown here.

use super::looked_at;
use crate::exit::Exit;
use crate::host::hook::Hook;

pub(super) fn run() -> Exit {
    let (launch, settings) = match looked_at(Vec::new()) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let hook = match Hook::find(&settings, &launch) {
        Ok(Some(hook)) => hook,
        Ok(None) => {
            eprintln!(
                "clawkeeper: nobody is told of anything: neither CLAWKEEPER_ALERT_… nor CLAWKEEPER_ON_EVENT is set here"
            );
            return Exit::NotDelivered;
        }
        Err(error) => {
            eprintln!("clawkeeper: {error}");
            return Exit::NotDelivered;
        }
    };
    match hook.test() {
        Ok(()) => {
            println!("delivered, says {}", hook.name());
            Exit::Stopped
        }
        Err(why) => {
            eprintln!("clawkeeper: not delivered by {}: {why}", hook.name());
            Exit::NotDelivered
        }
    }
}
