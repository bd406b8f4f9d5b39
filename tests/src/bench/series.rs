//! One figure, taken several times.

use std::time::Duration;

/// What was measured, in order.
#[derive(Clone, Debug, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds one.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// The one that this part of all do not exceed, 0 to 1.
    pub fn at(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let index = (part * last as f64).round() as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    /// What each is to its companion in `other`: they were taken one after the other, so noise that lasts longer than
    /// a round drops out.
    pub fn over(&self, other: &Self) -> Self {
        self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect()
    }

    /// Each without its companion.
    pub fn less(&self, other: &Self) -> Self {
        self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect()
    }

    /// Each and its companion together.
    pub fn plus(&self, other: &Self) -> Self {
        self.0.iter().zip(&other.0).map(|(a, b)| a + b).collect()
    }

    /// `12,300 /s (11,900 to 12,800)`
    pub fn rate(&self) -> String {
        self.show(|value| format!("{} /s", thousands(value)), thousands)
    }

    /// Seconds as `1.25 ms (1.20 to 1.31)`
    pub fn millis(&self) -> String {
        let bare = |seconds: f64| format!("{:.2}", seconds * 1e3);
        self.show(|seconds| format!("{} ms", bare(seconds)), bare)
    }

    fn show(&self, with_unit: impl Fn(f64) -> String, bare: impl Fn(f64) -> String) -> String {
        let median = with_unit(self.median());
        if self.0.len() < 2 {
            return median;
        }
        format!("{median} ({} to {})", bare(self.at(0.0)), bare(self.at(1.0)))
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// How many a second.
pub fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Rounded to what a noisy measurement is worth, with separators.
pub fn thousands(value: f64) -> String {
    let rounded = if value < 1_000.0 {
        value.round()
    } else {
        (value / 100.0).round() * 100.0
    };
    let digits = format!("{rounded:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
