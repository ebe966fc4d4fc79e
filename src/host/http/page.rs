//! The page's files, and what it draws from. Reads the volume beside the loop, one reader at a time.
//!
//! There is no password: what is shown is no secret, and nothing can be changed. What has to be kept out is a web site
//! that has its own name point to this address, and reads with the eyes of whoever looks at both (DNS rebinding).

use super::Desk;
use super::routes::{json, respond, text};
use crate::core::history::Span;
use crate::core::time::WallMs;
use crate::host::incidents;
use crate::host::{clock, history, timeline};
use crate::render;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, HOST, HeaderMap};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// For a reader to have its turn, and then for the volume to answer.
const READ_TIME: Duration = Duration::from_secs(2);
/// The page shows a week, and some hundred entries are more than anybody reads.
const EVENTS_SINCE_MS: u64 = 7 * 24 * 3_600_000;
const EVENTS_MAX: usize = 400;
/// More than any line of ours has; whoever else wrote the file may have meant to fill our memory.
const LINE_MAX_BYTES: usize = 4096;

/// Whether this is a path of the page.
pub(super) fn has(path: &str) -> bool {
    matches!(
        path,
        "/" | "/app.js" | "/style.css" | "/v1/history" | "/v1/events" | "/v1/incidents"
    )
}

/// The answer to a request for one of them.
pub(super) async fn answer(desk: &Desk, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let now = clock::wall();
    let body = match request.uri().path() {
        "/app.js" => {
            let kind = "text/javascript; charset=utf-8";
            return respond(StatusCode::OK, kind, render::SCRIPT);
        }
        "/style.css" => return respond(StatusCode::OK, "text/css; charset=utf-8", render::STYLE),
        "/v1/history" => match request.uri().query().map_or(Some(Span::Hour), span) {
            Some(span) => desk.read(move |state| past(state, span, now)).await,
            None => return text(StatusCode::BAD_REQUEST, render::SPAN_IS_WRONG),
        },
        "/v1/events" => desk.read(move |state| events(state, now)).await,
        "/v1/incidents" => desk.read(kept).await,
        _ if wants_html(request.headers()) => {
            return respond(StatusCode::OK, "text/html; charset=utf-8", render::PAGE);
        }
        _ => return text(StatusCode::OK, render::PATHS),
    };
    match body.flatten() {
        Some(body) => json(StatusCode::OK, body),
        None => text(StatusCode::SERVICE_UNAVAILABLE, render::NO_ANSWER_OF_VOLUME),
    }
}

impl Desk {
    /// Looks at the state folder, whose disk may hang; `None` when it takes too long.
    async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Option<T> {
        let turn = Arc::clone(&self.reading).acquire_owned();
        let turn = timeout(READ_TIME, turn).await.ok()?.ok()?;
        let launch = Arc::clone(&self.launch);
        let look = tokio::task::spawn_blocking(move || {
            let found = look(&launch.state_dir);
            drop(turn);
            found
        });
        timeout(READ_TIME, look).await.ok()?.ok()
    }
}

fn past(state: &Path, span: Span, now: WallMs) -> Option<String> {
    let stretches = history::read(state, span, now).ok()?;
    Some(render::history_json(span, now, &stretches))
}

fn events(state: &Path, now: WallMs) -> Option<String> {
    let since = WallMs(now.0.saturating_sub(EVENTS_SINCE_MS));
    let entries = timeline::read(state, since, EVENTS_MAX).ok()?;
    Some(render::events_json(&entries))
}

/// The list only; what the gateway printed stays in the files. One that cannot be read is left out.
fn kept(state: &Path) -> Option<String> {
    let ids = incidents::list(state).ok()?;
    let rows = ids.iter().enumerate().filter_map(|(place, id)| {
        let kept = incidents::read(state, id).ok()?;
        let mut row = kept.summary(place + 1, id);
        let mut line = render::without_values(&kept.line);
        let end = (0..=LINE_MAX_BYTES).rfind(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or(0));
        row["line"] = line.into();
        Some(row)
    });
    let rows: Vec<Value> = rows.collect();
    Some(json!({ "v": 1, "incidents": rows }).to_string() + "\n")
}

fn span(query: &str) -> Option<Span> {
    Span::of(query.strip_prefix("span=")?)
}

/// A browser asks for HTML; curl does not.
fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|it| it.to_str().ok());
    accept.is_some_and(|it| it.contains("text/html"))
}

/// Whether the request names this host as only its own network does. A browser always says what name it went by.
pub(super) fn is_our_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else {
        return true;
    };
    host.to_str().is_ok_and(is_private_name)
}

/// An address, a name without a dot, or one under a name that nobody can register: RFC 6761 (`localhost`), RFC 6762
/// (`local`), ICANN's `internal`, and Fly's `flycast`.
fn is_private_name(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest.split_once(']').map(|(address, _)| address);
        return address.is_some_and(|it| it.parse::<IpAddr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_word = |it: &str| {
        let mut bytes = it.bytes();
        !it.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    match name.rsplit_once('.') {
        None => is_word(&name),
        Some((_, "localhost" | "local" | "internal" | "flycast")) => true,
        Some(_) => name.parse::<IpAddr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_can_register_are_ours() {
        for ours in [
            "localhost:9180",
            "LOCALHOST",
            "127.0.0.1:9180",
            "[::1]:9180",
            "[fdaa:0:1::3]",
            "clawkeeper",
            "app.internal:9180",
            "4d891.vm.app.internal.",
            "app.flycast",
            "gateway.default.svc.cluster.local",
        ] {
            assert!(is_private_name(ours), "{ours}");
        }
        for other in [
            "",
            ":9180",
            ".",
            "evil.example",
            "evil.example.:9180",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "internal.evil.example:80",
            "[::1",
            "[evil.example]",
            "a b",
            "127.0.0.1@evil.example",
            "evil.example:80:localhost",
        ] {
            assert!(!is_private_name(other), "{other}");
        }
    }

    #[test]
    fn a_span_is_one_of_three_words() {
        assert_eq!(span("span=day"), Some(Span::Day));
        for wrong in ["", "span=", "span=year", "day", "span=day&x=1"] {
            assert_eq!(span(wrong), None, "{wrong:?}");
        }
    }
}
