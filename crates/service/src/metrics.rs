//! Counters, and how they are told: the text format of Prometheus, version 0.0.4.
//!
//! Whoever measures owns the values and writes them to a [`Page`] when it is asked for. There is no registry and nothing
//! global. Labels are words of closed lists, or names whose number the owner bounds: a [`Tally`] does by itself.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The media type of a [`Page`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The most label sets of one tally. Codes are the longest closed list, with under 256 words.
const MAX_LABEL_SETS: usize = 512;
/// What label sets beyond the limit are counted under.
const OTHER: &str = "other";

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters by the values of `N` labels, each a word of a closed list.
#[derive(Debug)]
pub struct Tally<const N: usize>(Mutex<BTreeMap<[&'static str; N], u64>>);

impl<const N: usize> Tally<N> {
    /// Counts one.
    pub fn count(&self, labels: [&'static str; N]) {
        let mut sets = self.sets();
        let labels =
            if sets.len() < MAX_LABEL_SETS || sets.contains_key(&labels) { labels } else { [OTHER; N] };
        let count = sets.entry(labels).or_default();
        *count = count.saturating_add(1);
    }

    /// Every label set that was counted, with its number, sorted.
    #[must_use]
    pub fn values(&self) -> Vec<([&'static str; N], u64)> {
        self.sets().iter().map(|(labels, count)| (*labels, *count)).collect()
    }

    fn sets(&self) -> MutexGuard<'_, BTreeMap<[&'static str; N], u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// How often something took how long.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds in seconds, rising.
    bounds: &'static [f64],
    /// One for each bound, and one for what is above them all.
    counts: Box<[AtomicU64]>,
    /// In microseconds: 584,000 years fit.
    sum: AtomicU64,
}

impl Histogram {
    /// A histogram with these upper bounds in seconds, which rise.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Notes that something took `took`.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }
}

/// What a family of metrics is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// All metrics at one moment, as Prometheus reads them.
#[derive(Debug, Default)]
pub struct Page(String);

/// One family of a page: metrics of one name.
#[derive(Debug)]
pub struct Family<'p> {
    page: &'p mut String,
    name: &'static str,
}

impl Page {
    /// Begins a family. `help` is one line.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'_> {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
        Family { page: &mut self.0, name }
    }

    /// The text, of media type [`CONTENT_TYPE`].
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Writes one value.
    pub fn value(&mut self, labels: &[(&'static str, &str)], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// Writes a histogram.
    pub fn histogram(&mut self, labels: &[(&'static str, &str)], histogram: &Histogram) {
        let mut total: u64 = 0;
        for (place, count) in histogram.counts.iter().enumerate() {
            total = total.saturating_add(count.load(Ordering::Relaxed));
            let bound = histogram.bounds.get(place).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
            self.line("_bucket", labels, Some(&bound), total);
        }
        let sum = Duration::from_micros(histogram.sum.load(Ordering::Relaxed)).as_secs_f64();
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, total);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&'static str, &str)],
        bound: Option<&str>,
        value: impl Display,
    ) {
        self.page.push_str(self.name);
        self.page.push_str(suffix);
        let mut before = '{';
        for (name, text) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            let _ = write!(self.page, "{before}{name}=\"{}\"", escaped(text));
            before = ',';
        }
        if before == ',' {
            self.page.push('}');
        }
        let _ = writeln!(self.page, " {value}");
    }
}

/// A label's value: backslash, quotation mark and line feed are escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_in_the_text_format() {
        let verdicts = Tally::default();
        for labels in [["accepted", ""], ["rejected", "mr_td"], ["accepted", ""]] {
            verdicts.count(labels);
        }
        let took = Histogram::new(&[0.005, 0.25, 1.0]);
        for millis in [5, 6, 250, 999, 4000] {
            took.observe(Duration::from_millis(millis));
        }
        let bytes = Counter::default();
        bytes.add(7);
        bytes.add(5);
        let mut page = Page::default();
        let mut family = page.family("verdicts_total", Kind::Counter, "Appraisals.");
        for ([outcome, code], count) in verdicts.values() {
            family.value(&[("outcome", outcome), ("code", code)], count);
        }
        page.family("took_seconds", Kind::Histogram, "How long.").histogram(&[("of", "a")], &took);
        page.family("bytes_total", Kind::Counter, "Bytes.").value(&[], bytes.value());
        page.family("left_seconds", Kind::Gauge, "Left.").value(&[("name", "a\"b\\c\nd")], 1.5);
        page.family("empty", Kind::Gauge, "Nothing yet.");
        let expected = "\
# HELP verdicts_total Appraisals.
# TYPE verdicts_total counter
verdicts_total{outcome=\"accepted\",code=\"\"} 2
verdicts_total{outcome=\"rejected\",code=\"mr_td\"} 1
# HELP took_seconds How long.
# TYPE took_seconds histogram
took_seconds_bucket{of=\"a\",le=\"0.005\"} 1
took_seconds_bucket{of=\"a\",le=\"0.25\"} 3
took_seconds_bucket{of=\"a\",le=\"1\"} 4
took_seconds_bucket{of=\"a\",le=\"+Inf\"} 5
took_seconds_sum{of=\"a\"} 5.26
took_seconds_count{of=\"a\"} 5
# HELP bytes_total Bytes.
# TYPE bytes_total counter
bytes_total 12
# HELP left_seconds Left.
# TYPE left_seconds gauge
left_seconds{name=\"a\\\"b\\\\c\\nd\"} 1.5
# HELP empty Nothing yet.
# TYPE empty gauge
";
        assert_eq!(page.into_text(), expected);
    }

    /// A closed list that is longer than it should be costs no memory without end.
    #[test]
    fn label_sets_are_bounded() {
        let tally = Tally::default();
        for number in 0..2 * MAX_LABEL_SETS {
            tally.count([&*Box::leak(number.to_string().into_boxed_str())]);
        }
        tally.count(["0"]);
        let values = tally.values();
        assert_eq!(values.len(), MAX_LABEL_SETS + 1);
        let count = |label: &str| values.iter().find(|(labels, _)| labels == &[label]).unwrap().1;
        assert_eq!((count("0"), count(OTHER)), (2, MAX_LABEL_SETS as u64));
    }
}
