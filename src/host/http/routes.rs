//! What there is to ask for, and who may ask for it.

use super::{Desk, page};
use crate::core::control::{Op, Peer};
use crate::core::time::Millis;
use crate::gateway::Version;
use crate::host::clock;
use crate::render::{self, Surroundings};
use crate::settings;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// Where a connection came in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Door {
    /// The TCP port: whoever reaches it may look.
    Port,
    /// The control socket: whoever may open it may also ask for something.
    Control(Peer),
}

pub(super) async fn answer(
    desk: &Desk,
    door: Door,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if let (Door::Control(peer), Some(op)) = (door, op(path, request.uri().query())) {
        return match (request.method(), op) {
            (&Method::POST, Some(op)) => requested(desk, op, peer).await,
            (&Method::POST, None) => text(StatusCode::BAD_REQUEST, render::LIMIT_IS_WRONG),
            _ => only("POST"),
        };
    }
    let is_probed = matches!(path, "/livez" | "/readyz" | "/metrics");
    if !is_probed && path != "/v1/status" && !page::has(path) {
        return text(StatusCode::NOT_FOUND, render::PATHS);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return only("GET, HEAD");
    }
    if !is_probed && !page::is_our_name(request.headers()) {
        return text(StatusCode::FORBIDDEN, render::NOT_OUR_NAME);
    }
    if page::has(path) {
        return page::answer(desk, request).await;
    }
    let Some(status) = desk.status().await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, render::NOT_LIVE);
    };
    match path {
        "/livez" => text(StatusCode::OK, render::LIVE),
        "/readyz" => {
            let code = if status.is_ready() {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            json(code, render::readiness(&status, clock::wall()))
        }
        "/v1/status" => {
            let around = surroundings(desk).await;
            let body = render::status_json(&status, &around, clock::wall());
            json(StatusCode::OK, body)
        }
        _ => {
            let body = render::metrics(&status, &surroundings(desk).await, clock::wall());
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            respond(StatusCode::OK, kind, body)
        }
    }
}

async fn surroundings(desk: &Desk) -> Surroundings {
    Surroundings {
        gateway_version: desk.launch.version.as_ref().map(Version::to_string),
        pid: std::process::id(),
        space: desk.space().await,
    }
}

/// The request that a path stands for; with what it says of itself, `None` where that is no length of time.
fn op(path: &str, query: Option<&str>) -> Option<Option<Op>> {
    Some(match path {
        "/v1/restart" => Some(Op::Restart),
        "/v1/resume" => Some(Op::Resume),
        "/v1/pause" => match query {
            None => Some(Op::Pause { limit: None }),
            Some(query) => query
                .strip_prefix("limit_ms=")
                .and_then(|limit| limit.parse().ok().map(Millis))
                .filter(|limit| (Millis(1)..=settings::LONGEST).contains(limit))
                .map(|limit| Op::Pause { limit: Some(limit) }),
        },
        _ => return None,
    })
}

async fn requested(desk: &Desk, op: Op, peer: Peer) -> Response<Full<Bytes>> {
    match desk.request(op, peer).await {
        Some(answer) => json(StatusCode::OK, render::answer_json(answer)),
        None => text(StatusCode::SERVICE_UNAVAILABLE, render::NOT_LIVE),
    }
}

fn only(methods: &'static str) -> Response<Full<Bytes>> {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "not with this method\n");
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(methods));
    answer
}

pub(super) fn text(code: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(code, "text/plain; charset=utf-8", body)
}

pub(super) fn json(code: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(code, "application/json", body)
}

pub(super) fn respond(
    code: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, render::CONTENT_SECURITY_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_its_path_and_a_pause_may_have_a_limit() {
        assert_eq!(op("/v1/restart", None), Some(Some(Op::Restart)));
        assert_eq!(op("/v1/resume", Some("x")), Some(Some(Op::Resume)));
        let pause = |limit: Option<u64>| {
            Some(Some(Op::Pause {
                limit: limit.map(Millis),
            }))
        };
        assert_eq!(op("/v1/pause", None), pause(None));
        assert_eq!(op("/v1/pause", Some("limit_ms=60000")), pause(Some(60_000)));
        let wrong = [
            "",
            "limit_ms=",
            "limit_ms=-1",
            "limit_ms=0",
            "limit_ms=1h",
            "limit=1",
            "limit_ms=604800001",
            "limit_ms=18446744073709551615",
        ];
        for wrong in wrong {
            assert_eq!(op("/v1/pause", Some(wrong)), Some(None), "{wrong:?}");
        }
        assert_eq!(op("/v1/status", None), None);
    }
}
