//! A real Chromium, for the tests of the page. One for all tests of a file; each opens pages of its own in it.

use super::real::cache_folder;
use super::{PATIENCE, poll_until};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// As `tests/browser/setup.sh` installs it.
const PLAYWRIGHT: &str = "playwright-1.65.1";
const CHROMIUM: &str = "/usr/bin/chromium";

/// The driver with its browser. It ends when this process does, because its standard input does.
struct Browser {
    _driver: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

static BROWSER: OnceLock<Mutex<Browser>> = OnceLock::new();

/// True where there is a browser; else says that the test is skipped.
pub(crate) fn is_there() -> bool {
    let there = installed().exists() && Path::new(CHROMIUM).exists();
    if !there {
        super::skip("no browser: tests/browser/setup.sh gets one");
    }
    there
}

fn installed() -> PathBuf {
    cache_folder()
        .join(PLAYWRIGHT)
        .join(".clawkeeper-installed")
}

/// The node that the gateways' own installation brought, or the one that is on the path.
fn node() -> PathBuf {
    let own = cache_folder().join("gateways/node-24/node_modules/node/bin/node");
    if own.exists() { own } else { "node".into() }
}

fn start() -> Mutex<Browser> {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/driver.mjs");
    let mut driver = Command::new(node())
        .arg(driver)
        .arg(cache_folder().join(PLAYWRIGHT))
        .arg(CHROMIUM)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node");
    let (stdin, stdout) = (driver.stdin.take(), driver.stdout.take());
    Mutex::new(Browser {
        commands: stdin.expect("a pipe"),
        answers: BufReader::new(stdout.expect("a pipe")),
        _driver: driver,
    })
}

fn command(command: &Value) -> Value {
    let browser = BROWSER.get_or_init(start);
    let mut browser = browser.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(browser.commands, "{command}").expect("the browser lives");
    let mut line = String::new();
    browser.answers.read_line(&mut line).expect("an answer");
    let mut answer: Value =
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{command}: {error}: {line:?}"));
    assert_eq!(answer.get("error"), None, "{command}");
    answer["value"].take()
}

/// A page in it.
pub(crate) struct Page {
    number: Value,
    /// Of the document.
    pub(crate) headers: Value,
    origin: String,
}

impl Page {
    /// Opens `/` of the clawkeeper that listens there, in a window of this size.
    pub(crate) fn open(port: u16, width: u32, scheme: &str) -> Self {
        let origin = format!("http://127.0.0.1:{port}/");
        let mut answer = command(
            &json!({ "do": "open", "url": origin, "width": width, "height": 800, "scheme": scheme }),
        );
        Self {
            number: answer["page"].take(),
            headers: answer["headers"].take(),
            origin,
        }
    }

    fn tell(&self, what: &str, mut with: Value) -> Value {
        with["do"] = what.into();
        with["page"] = self.number.clone();
        command(&with)
    }

    /// The value of an expression.
    pub(crate) fn value(&self, code: &str) -> Value {
        self.tell("evaluate", json!({ "code": code }))
    }

    /// What an element shows.
    pub(crate) fn text(&self, id: &str) -> String {
        let text = self.value(&format!("document.getElementById('{id}').textContent"));
        text.as_str().expect("text").to_owned()
    }

    /// Waits until an expression is true; fails with what the page shows.
    pub(crate) fn wait_for(&self, code: &str) {
        poll_until(2 * PATIENCE, code, || {
            if self.value(&format!("Boolean({code})")) == true {
                Ok(())
            } else {
                Err(self.value("document.body.innerText"))
            }
        });
    }

    /// Waits until it shows this phase.
    pub(crate) fn wait_for_phase(&self, phase: &str) {
        self.wait_for(&format!(
            "document.getElementById('phase').textContent === '{phase}'"
        ));
    }

    /// Presses a key, by its name in the DOM.
    pub(crate) fn press(&self, key: &str) {
        self.tell("press", json!({ "key": key }));
    }

    /// Makes the window as wide as this.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        self.tell("resize", json!({ "width": width, "height": height }));
    }

    /// Prefers `light` or `dark`.
    pub(crate) fn prefer(&self, scheme: &str) {
        self.tell("scheme", json!({ "scheme": scheme }));
    }

    /// Keeps a picture of what the window shows.
    pub(crate) fn screenshot(&self, path: &Path) {
        self.tell("screenshot", json!({ "path": path }));
    }

    /// What it said on its console so far.
    pub(crate) fn console(&self) -> Vec<String> {
        let seen = self.tell("seen", json!({}));
        serde_json::from_value(seen["console"].clone()).expect("lines")
    }

    /// Ends it. It must have asked nobody but its own clawkeeper, and have nothing to complain of.
    pub(crate) fn close(self) {
        assert_eq!(self.console(), [""; 0]);
        self.close_with_complaints();
    }

    /// The same, where its clawkeeper was taken away on purpose.
    pub(crate) fn close_with_complaints(self) {
        let seen = self.tell("seen", json!({}));
        let requests = seen["requests"].as_array().expect("requests");
        for request in requests {
            let request = request.as_str().expect("an address");
            assert!(
                request.starts_with(&self.origin) || request.starts_with("data:"),
                "asked another host: {request}"
            );
        }
        self.tell("close", json!({}));
    }
}
