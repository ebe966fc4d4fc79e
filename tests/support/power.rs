//! When a power cut comes, with the real gateway: for the tests with a machine, and those with a container on a disk.

/// When the plug is pulled.
#[derive(Clone, Copy)]
pub(crate) enum Moment {
    /// A while after the gateway was ready.
    Running,
    /// While its config is written again and again, by [`WRITING`].
    Writing,
    /// When its log says so, on the way to ready.
    Starting(&'static str),
}

/// Of the n-th cut in a row. Every second start is let come up, so that each damage is lived with by a ready gateway.
pub(crate) fn moment(cut: usize) -> Moment {
    match cut % 10 {
        0 | 4 | 8 => Moment::Running,
        2 | 6 => Moment::Writing,
        1 => Moment::Starting("[gateway] loading configuration"),
        3 => Moment::Starting("[gateway] spawn broker ready"),
        5 => Moment::Starting("clawkeeper: gateway started"),
        7 => Moment::Starting("[gateway] http server listening"),
        _ => Moment::Starting("[gateway] starting HTTP server"),
    }
}

/// A line for a shell: two configs of one meaning and very different length are put in each other's place, by
/// `config put` and by a person's redirection in turn, until the plug is pulled.
pub(crate) const WRITING: &str = "cd /data; cp openclaw.json /tmp/a; (cat /tmp/a; yes // | head -n 4000) >/tmp/b; \
    (while :; do for new in b a; do clawkeeper config put --force /tmp/$new; cat /tmp/$new >openclaw.json; done; done) \
    >/dev/null 2>&1 &";

/// Nothing of the start that this log tells needed a person, or a second try.
pub(crate) fn assert_came_up_at_once(log: &str, cuts: usize) {
    for word in ["holding", "gateway exited", "could not be cleared"] {
        assert!(!log.contains(word), "after {cuts} power cuts: {log}");
    }
}

/// How many power cuts in a row a gateway gets; each is a start more.
pub(crate) fn cuts(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |cuts| cuts.parse().expect("a number of cuts"))
}
