//! `health`: asks the running clawkeeper over HTTP, for HEALTHCHECK and scripts.

use super::tell::print;
use super::{Health, refuse};
use crate::core::time::Millis;
use crate::exit::Exit;
use crate::host::probe::{self, Answer, NoAnswer};
use crate::settings;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) fn run(options: &Health) -> Exit {
    let environment: Vec<_> = std::env::vars_os().collect();
    let flag = options.health_listen.as_deref();
    let flags: Vec<(&str, &OsStr)> = flag
        .map(|value| ("health-listen", value))
        .into_iter()
        .collect();
    let settings = match settings::resolve(&environment, &flags) {
        Ok(resolved) => resolved.settings,
        Err(errors) => return refuse(&errors),
    };
    let verdict = match settings.health_listen {
        Some(listens_on) => ask(asked_at(listens_on), options.live, options.timeout),
        None => Verdict::not("the health listener is off (CLAWKEEPER_HEALTH_LISTEN)".to_owned()),
    };
    let line = if options.json {
        verdict.answer.to_string()
    } else {
        // Whatever listens there, it writes one line to this terminal and nothing else.
        verdict.words.replace(char::is_control, " ")
    };
    print(line);
    if verdict.is_well {
        Exit::Stopped
    } else {
        Exit::Unhealthy
    }
}

struct Verdict {
    is_well: bool,
    words: String,
    answer: Value,
}

impl Verdict {
    fn not(why: String) -> Self {
        Self {
            is_well: false,
            answer: json!({ "ok": false, "why": why }),
            words: why,
        }
    }
}

/// A listener on every address is asked on this machine's own.
pub(super) fn asked_at(listens_on: SocketAddr) -> SocketAddr {
    let own =
        |is_any: bool| is_any.then_some(SocketAddr::from((Ipv4Addr::LOCALHOST, listens_on.port())));
    match listens_on {
        SocketAddr::V4(address) => own(address.ip().is_unspecified()),
        // `[::]` takes IPv4 as well, and is there without IPv6.
        SocketAddr::V6(address) => own(*address.ip() == Ipv6Addr::UNSPECIFIED),
    }
    .unwrap_or(listens_on)
}

fn ask(address: SocketAddr, live: bool, limit: Millis) -> Verdict {
    let path = if live { "/livez" } else { "/readyz" };
    let runtime = match probe::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return Verdict::not(format!("cannot ask: {error}")),
    };
    let question =
        async { tokio::time::timeout(limit.to_duration(), probe::get(address, path)).await };
    match runtime.block_on(question) {
        Ok(Ok(answer)) if live => judge_life(&answer),
        Ok(Ok(answer)) => judge_readiness(&answer),
        Ok(Err(NoAnswer::Refused)) => Verdict::not(format!(
            "no clawkeeper answers at {address}: it does not run, keeps no gateway, or listens elsewhere (CLAWKEEPER_HEALTH_LISTEN)"
        )),
        Ok(Err(error @ NoAnswer::NotHttp)) => {
            Verdict::not(format!("no clawkeeper answers at {address}: {error}"))
        }
        Err(_) => Verdict::not(format!(
            "clawkeeper at {address} gave no answer within {limit}"
        )),
    }
}

fn judge_life(answer: &Answer) -> Verdict {
    if answer.status == 200 {
        Verdict {
            is_well: true,
            words: "alive".to_owned(),
            answer: json!({ "ok": true }),
        }
    } else {
        Verdict::not("clawkeeper's loop gives no answer".to_owned())
    }
}

fn judge_readiness(answer: &Answer) -> Verdict {
    let body = answer.body.as_deref().unwrap_or_default();
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return Verdict::not("what answers there is no clawkeeper".to_owned());
    };
    let of = |field: &str| body.get(field).and_then(Value::as_str).unwrap_or_default();
    let is_well = answer.status == 200 && body.get("ready") == Some(&Value::Bool(true));
    let mut words = if is_well {
        format!("ready since {}", of("since"))
    } else {
        format!("not ready ({}): {}", of("phase"), of("why"))
    };
    let is_suppressed = body.pointer("/gateway/channels").is_some();
    if is_suppressed {
        words += "; its channels are suppressed";
    }
    if !of("fix").is_empty() {
        words = format!("{words}; fix: {}", of("fix"));
    }
    Verdict {
        is_well,
        words,
        answer: body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        let asked = |text: &str| asked_at(text.parse().expect("an address")).to_string();
        assert_eq!(asked("[::]:9180"), "127.0.0.1:9180");
        assert_eq!(asked("0.0.0.0:9180"), "127.0.0.1:9180");
        assert_eq!(asked("[::1]:9180"), "[::1]:9180");
        assert_eq!(asked("10.0.0.7:9180"), "10.0.0.7:9180");
    }
}
