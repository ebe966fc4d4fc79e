//! Node's diagnostic report, rid of what it may hold of secrets.
//!
//! `--report-exclude-env` leaves the environment out of the report of the main thread, but not out of the subreports
//! of worker threads (seen with Node 24.21: `workers[0].environmentVariables` held the gateway's token).

use super::Mask;
use serde_json::Value;

/// The section that is left out, wherever it stands.
const ENVIRONMENT: &str = "environmentVariables";
/// Sections whose texts may hold a secret: flags like `--token`, and an error's message and properties. Others hold
/// symbols and addresses, which a mask that goes by looks would make unreadable.
const TEXTS: [&str; 2] = ["commandLine", "javascriptStack"];

/// Takes environments out and masks what people and programs wrote. True if that changed something.
pub fn clean_report(report: &mut Value, mask: &Mask) -> bool {
    match report {
        Value::Object(sections) => {
            let mut changed = sections.remove(ENVIRONMENT).is_some();
            for (name, section) in sections {
                changed |= if TEXTS.contains(&name.as_str()) {
                    mask_texts(section, mask)
                } else {
                    clean_report(section, mask)
                };
            }
            changed
        }
        Value::Array(items) => any_of(items, |item| clean_report(item, mask)),
        _ => false,
    }
}

fn mask_texts(value: &mut Value, mask: &Mask) -> bool {
    match value {
        Value::String(text) => {
            let masked = mask.line(text);
            let changed = masked != *text;
            *text = masked;
            changed
        }
        Value::Array(items) => any_of(items, |item| mask_texts(item, mask)),
        Value::Object(fields) => any_of(fields.values_mut(), |field| mask_texts(field, mask)),
        _ => false,
    }
}

/// Changes each of them, where `any` would stop at the first that changed.
fn any_of<'a>(
    values: impl IntoIterator<Item = &'a mut Value>,
    mut change: impl FnMut(&mut Value) -> bool,
) -> bool {
    let mut changed = false;
    for value in values {
        changed |= change(value);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn environments_of_workers_and_secrets_in_texts_go_and_the_rest_stays() {
        let mask = Mask::of(["hunter2-hunter2".to_owned()]);
        let symbol =
            "v8::internal::Heap::FatalProcessOutOfMemory [/usr/local/bin/node] 0x00007f3a9C1b2D3e";
        let mut report = json!({
            "header": {"event": "OOM", "commandLine": ["node", "index.js", "--token", "hunter2-hunter2"]},
            "javascriptStack": {"message": "hunter2-hunter2", "errorProperties": {"a": {"b": ["hunter2-hunter2"]}}},
            "nativeStack": [{"symbol": symbol}],
            "workers": [{"header": {}, "environmentVariables": {"X": "y"}, "workers": [{"environmentVariables": 1}]}],
        });
        assert!(clean_report(&mut report, &mask));
        let text = report.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!text.contains("environmentVariables"), "{text}");
        assert_eq!(report["nativeStack"][0]["symbol"], symbol);
        assert_eq!(report["header"]["commandLine"][0], "node");
        let once = report.clone();
        assert!(!clean_report(&mut report, &mask), "once is enough");
        assert_eq!(report, once);
    }
}
