//! Samples, their medians, and the interleaving that makes them comparable.

use crate::bed::Failure;
use crate::subject::Subject;

/// One quantity, measured for every subject in the same run.
pub(crate) struct Metric {
    /// A stable name for targets and records, as in `start.first_instruction`.
    pub(crate) key: &'static str,
    /// What is measured, from where to where.
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    /// True means that the larger value is the better one.
    pub(crate) more_is_better: bool,
    pub(crate) rows: Vec<Row>,
    pub(crate) notes: Vec<String>,
}

/// The samples of one subject.
pub(crate) struct Row {
    pub(crate) subject: Subject,
    pub(crate) samples: Vec<f64>,
}

impl Metric {
    /// The median of a subject, if it was measured.
    pub(crate) fn median(&self, subject: Subject) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.subject == subject)?;
        row.median()
    }

    /// How many times the peer's median the other's is; not defined against a zero.
    pub(crate) fn ratio(&self, ours: Subject, peer: Subject) -> Option<f64> {
        let (ours, peer) = (self.median(ours)?, self.median(peer)?);
        (peer > 0.0).then(|| ours / peer)
    }
}

impl Row {
    pub(crate) fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            len if len % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }

    /// The smallest sample that at least 95 in 100 do not exceed.
    pub(crate) fn p95(&self) -> Option<f64> {
        let sorted = self.sorted();
        let rank = (sorted.len() * 95).div_ceil(100);
        rank.checked_sub(1).map(|index| sorted[index])
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// What the metrics of a measure are called: key, title, unit.
pub(crate) type Heading = (&'static str, &'static str, &'static str);

/// Takes one sample of every subject in turn, `samples` times over; a sample is one value per heading.
///
/// Each round begins with another subject, so that nobody always follows the same one.
/// A subject that fails once is left out from then on, and a note says why.
pub(crate) fn interleave<const N: usize>(
    headings: [Heading; N],
    subjects: &[Subject],
    samples: u32,
    mut sample: impl FnMut(Subject) -> Result<[f64; N], Failure>,
) -> Vec<Metric> {
    let mut taken: Vec<(Subject, Vec<[f64; N]>)> =
        subjects.iter().map(|one| (*one, Vec::new())).collect();
    let mut out: Vec<Subject> = Vec::new();
    let mut notes = Vec::new();
    for _ in 0..samples {
        for (subject, values) in &mut taken {
            if out.contains(subject) {
                continue;
            }
            match sample(*subject) {
                Ok(value) => values.push(value),
                Err(why) => {
                    out.push(*subject);
                    notes.push(format!("{}: failed to {why}", subject.name()));
                }
            }
        }
        if !taken.is_empty() {
            taken.rotate_left(1);
        }
    }
    taken.sort_by_key(|(subject, _)| Subject::ALL.iter().position(|one| one == subject));
    let metric = |(index, (key, title, unit)): (usize, Heading)| Metric {
        key,
        title,
        unit,
        more_is_better: false,
        rows: taken
            .iter()
            .map(|(subject, values)| Row {
                subject: *subject,
                samples: values.iter().map(|value| value[index]).collect(),
            })
            .collect(),
        notes: if index == 0 {
            notes.clone()
        } else {
            Vec::new()
        },
    };
    headings.into_iter().enumerate().map(metric).collect()
}
