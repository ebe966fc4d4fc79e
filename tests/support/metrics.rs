//! A strict reader of Prometheus' text format 0.0.4: what it lets pass, Prometheus takes in.

use std::collections::{BTreeMap, BTreeSet};

/// Every series, by its name with labels as it is written, with its value. Fails on anything out of order.
pub(crate) fn read(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'), "the last line is unfinished");
    let mut families = BTreeSet::new();
    let (mut helped, mut typed): (&str, Option<(&str, &str)>) = ("", None);
    let mut series = BTreeMap::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a help has words");
            assert!(families.insert(name), "{name} begins twice");
            assert!(is_name(name) && words.ends_with('.'), "{line}");
            assert!(!words.contains('\\'), "{line}");
            (helped, typed) = (name, None);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type has a word");
            assert_eq!(name, helped, "its help comes right before");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(matches!(kind, "counter" | "gauge"), "{line}");
            typed = Some((name, kind));
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (family, kind) = typed.unwrap_or_else(|| panic!("no type before {line}"));
            let labels = name.strip_prefix(family).expect("its own family's sample");
            assert!(are_labels(labels), "{line}");
            let number: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(number.is_finite() && number >= 0.0, "{line}");
            assert!(kind == "gauge" || number.fract() == 0.0, "{line}");
            assert!(
                series.insert(name.to_owned(), number).is_none(),
                "{name} stands twice"
            );
        }
    }
    assert!(!series.is_empty());
    series
}

fn is_name(name: &str) -> bool {
    name.starts_with("clawkeeper_")
        && name
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
}

/// Nothing, or `{name="value",…}` with only plain characters in the values.
fn are_labels(text: &str) -> bool {
    if text.is_empty() {
        return true;
    }
    let inner = text.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
    inner.is_some_and(|inner| {
        inner.split(',').all(|label| {
            label.split_once('=').is_some_and(|(name, value)| {
                let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
                is_name(&format!("clawkeeper_{name}"))
                    && value.is_some_and(|it| !it.contains(['"', '\\']))
            })
        })
    })
}
