//! Is the gateway ready, alive, and where Fly can reach it? Answers to probes in, verdicts out.

use super::exit_class::Marker;
use super::time::{Millis, Mono};
use serde::{Deserialize, Serialize};

/// What is asked over HTTP on the gateway's own port, from loopback and without proxy headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeTarget {
    /// `/startupz`, 2026.8.2 and later: has the start completed?
    Startupz,
    /// `/readyz`, 2026.3.13 and later; also depends on channels.
    Readyz,
    /// `/healthz`: does the event loop turn?
    Healthz,
}

impl ProbeTarget {
    /// The path asked for.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Startupz => "/startupz",
            Self::Readyz => "/readyz",
            Self::Healthz => "/healthz",
        }
    }
}

/// What a probe brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeOutcome {
    /// Nobody listens.
    Refused,
    /// No complete answer in time.
    TimedOut,
    /// An HTTP answer.
    Answered {
        /// The status code.
        status: u16,
        /// The body, if it is a JSON object. Versions that do not know a path answer 200 with an HTML page.
        body: Option<HealthBody>,
    },
}

/// The fields of a health answer that mean something to us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthBody {
    /// `/startupz`, `/healthz`.
    pub ok: Option<bool>,
    /// `/readyz`.
    pub ready: Option<bool>,
    /// What `/readyz` still waits for.
    pub failing: Vec<String>,
    /// Channels that the crash breaker left off (`/readyz`, 2026.7.1 and later); absent when there are none.
    pub suppressed: Vec<String>,
    /// What `/startupz` still waits for.
    #[serde(rename = "pendingReason")]
    pub pending_reason: Option<String>,
}

/// Signs of work during a start: whoever makes progress is not stuck.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes of output so far.
    pub output_bytes: u64,
    /// Processor time of the main process so far.
    pub cpu_ms: u64,
    /// Its page faults that waited for the disk. No progress: whoever has too little memory has most of them.
    #[serde(default)]
    pub major_faults: u64,
}

/// A start may burn this much processor time between two looks without it being called progress.
const CPU_NOISE_MS: u64 = 20;

impl Progress {
    /// True when there is more output, or enough processor time spent, since `earlier`.
    #[must_use]
    pub const fn is_beyond(&self, earlier: &Self) -> bool {
        self.output_bytes > earlier.output_bytes
            || self.cpu_ms > earlier.cpu_ms.saturating_add(CPU_NOISE_MS)
    }
}

/// What an answer says about the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartVerdict {
    /// Ask again.
    NotYet,
    /// It serves.
    Ready,
    /// This version does not know the path: ask this one from now on.
    AskInstead(ProbeTarget),
}

/// A version without `/readyz` that answers but prints no line we know is taken for ready after this long.
const QUIET_READY: Millis = Millis::from_secs(30);

/// Judges one answer during a start. `answering_since` is when the first HTTP answer came.
#[must_use]
pub fn judge_start(
    target: ProbeTarget,
    outcome: &ProbeOutcome,
    markers: &[Marker],
    answering_since: Option<Mono>,
    now: Mono,
) -> StartVerdict {
    let ProbeOutcome::Answered { body, .. } = outcome else {
        return StartVerdict::NotYet;
    };
    let said_ready = markers.contains(&Marker::Ready);
    match (target, body.as_ref().map(|body| (body.ok, body.ready))) {
        (ProbeTarget::Startupz, Some((Some(true), _)))
        | (ProbeTarget::Readyz, Some((_, Some(true)))) => StartVerdict::Ready,
        (ProbeTarget::Startupz, Some((Some(false), _))) => StartVerdict::NotYet,
        // Its channels may take long or never come: its own line decides.
        (ProbeTarget::Readyz, Some((_, Some(false)))) if said_ready => StartVerdict::Ready,
        (ProbeTarget::Readyz, Some((_, Some(false)))) => StartVerdict::NotYet,
        (ProbeTarget::Startupz, _) => StartVerdict::AskInstead(ProbeTarget::Readyz),
        (ProbeTarget::Readyz, _) => StartVerdict::AskInstead(ProbeTarget::Healthz),
        (ProbeTarget::Healthz, _) => {
            let quiet = answering_since.is_some_and(|since| now.since(since) >= QUIET_READY);
            if said_ready || markers.contains(&Marker::Listening) || quiet {
                StartVerdict::Ready
            } else {
                StartVerdict::NotYet
            }
        }
    }
}

/// Any complete HTTP answer proves that the event loop turns, whatever its status.
#[must_use]
pub const fn is_alive(outcome: &ProbeOutcome) -> bool {
    matches!(outcome, ProbeOutcome::Answered { .. })
}

/// A listening TCP socket of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Address it is bound to.
    pub address: std::net::IpAddr,
    /// Its port.
    pub port: u16,
}

/// Where the platform will knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// The `internal_port` of `fly.toml`, or what was set for it.
    pub port: u16,
}

/// Whether the platform can reach the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenVerdict {
    /// It can.
    Reachable,
    /// Right port, but only this machine can reach it.
    LoopbackOnly {
        /// The address it is bound to.
        address: std::net::IpAddr,
    },
    /// It listens elsewhere.
    WrongPort {
        /// The ports it does listen on, public ones first.
        actual: Vec<u16>,
    },
}

/// Compares the gateway's sockets with what the platform expects.
#[must_use]
pub fn judge_listeners(listeners: &[Listener], expected: Expected) -> ListenVerdict {
    let on_port: Vec<_> = listeners
        .iter()
        .filter(|listener| listener.port == expected.port)
        .collect();
    if on_port
        .iter()
        .any(|listener| !listener.address.is_loopback())
    {
        return ListenVerdict::Reachable;
    }
    if let Some(listener) = on_port.first() {
        return ListenVerdict::LoopbackOnly {
            address: listener.address,
        };
    }
    let mut actual: Vec<_> = listeners.iter().collect();
    actual.sort_by_key(|listener| (listener.address.is_loopback(), listener.port));
    let mut actual: Vec<u16> = actual.into_iter().map(|listener| listener.port).collect();
    actual.dedup();
    ListenVerdict::WrongPort { actual }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, json: &str) -> ProbeOutcome {
        ProbeOutcome::Answered {
            status,
            body: serde_json::from_str(json).ok(),
        }
    }

    fn judge(target: ProbeTarget, outcome: &ProbeOutcome, markers: &[Marker]) -> StartVerdict {
        judge_start(target, outcome, markers, Some(Mono(0)), Mono(1_000))
    }

    #[test]
    fn startupz_of_9_6_decides_alone() {
        let starting = answer(
            503,
            r#"{"ok":false,"status":"starting","pendingReason":"startup-sidecars"}"#,
        );
        assert_eq!(
            judge(ProbeTarget::Startupz, &starting, &[Marker::Ready]),
            StartVerdict::NotYet
        );
        let started = answer(
            200,
            r#"{"ok":true,"status":"started","version":"2026.9.6"}"#,
        );
        assert_eq!(
            judge(ProbeTarget::Startupz, &started, &[]),
            StartVerdict::Ready
        );
    }

    #[test]
    fn an_html_page_on_an_unknown_path_is_no_readiness() {
        let page = ProbeOutcome::Answered {
            status: 200,
            body: None,
        };
        assert_eq!(
            judge(ProbeTarget::Startupz, &page, &[]),
            StartVerdict::AskInstead(ProbeTarget::Readyz)
        );
        assert_eq!(
            judge(ProbeTarget::Readyz, &page, &[]),
            StartVerdict::AskInstead(ProbeTarget::Healthz)
        );
        assert_eq!(
            judge(ProbeTarget::Healthz, &page, &[]),
            StartVerdict::NotYet
        );
        assert_eq!(
            judge(ProbeTarget::Healthz, &page, &[Marker::Listening]),
            StartVerdict::Ready
        );
    }

    #[test]
    fn readyz_waiting_for_channels_gives_way_to_the_gateways_own_ready_line() {
        let waiting = answer(503, r#"{"ready":false,"failing":["telegram"]}"#);
        assert_eq!(
            judge(ProbeTarget::Readyz, &waiting, &[]),
            StartVerdict::NotYet
        );
        assert_eq!(
            judge(ProbeTarget::Readyz, &waiting, &[Marker::Ready]),
            StartVerdict::Ready
        );
    }

    #[test]
    fn an_old_gateway_that_answers_for_long_without_a_known_line_is_ready() {
        let page = ProbeOutcome::Answered {
            status: 200,
            body: None,
        };
        let at = |now| judge_start(ProbeTarget::Healthz, &page, &[], Some(Mono(0)), Mono(now));
        assert_eq!(
            (at(29_999), at(30_000)),
            (StartVerdict::NotYet, StartVerdict::Ready)
        );
    }

    #[test]
    fn a_listener_is_reachable_on_any_address_but_loopback() {
        let listener = |address: &str, port| Listener {
            address: address.parse().expect("an address"),
            port,
        };
        let expected = Expected { port: 3000 };
        let judge = |listeners: &[Listener]| judge_listeners(listeners, expected);
        assert_eq!(
            judge(&[listener("127.0.0.1", 3000), listener("0.0.0.0", 3000)]),
            ListenVerdict::Reachable
        );
        assert_eq!(judge(&[listener("::", 3000)]), ListenVerdict::Reachable);
        assert_eq!(
            judge(&[listener("::1", 3000)]),
            ListenVerdict::LoopbackOnly {
                address: "::1".parse().expect("an address")
            }
        );
        assert_eq!(
            judge(&[listener("127.0.0.1", 9229), listener("0.0.0.0", 18789)]),
            ListenVerdict::WrongPort {
                actual: vec![18789, 9229]
            }
        );
        assert_eq!(judge(&[]), ListenVerdict::WrongPort { actual: vec![] });
    }
}
