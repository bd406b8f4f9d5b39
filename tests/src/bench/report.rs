//! The table.

use std::fmt;

/// What issue or design ask of a ratio.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
    /// Less, in this unit.
    Below(f64, &'static str),
    /// Not more, in this unit.
    Within(f64, &'static str),
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) | Self::Within(bound, _) => value <= bound,
            Self::Below(bound, _) => value < bound,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "at least {bound:.2}"),
            Self::AtMost(bound) => write!(f, "at most {bound:.2}"),
            Self::Below(bound, unit) => write!(f, "below {bound} {unit}"),
            Self::Within(bound, unit) => write!(f, "at most {bound} {unit}"),
        }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Default)]
struct Row {
    what: String,
    figure: String,
    beside: String,
    ratio: Option<f64>,
    target: Option<(Target, bool)>,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// A figure that stands for itself.
    pub fn figure(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        self.rows.push(Row {
            what: what.into(),
            figure: figure.into(),
            ..Row::default()
        });
    }

    /// A figure in its own unit with a bound.
    pub fn bounded(&mut self, what: impl Into<String>, figure: String, value: f64, target: Target) {
        self.rows.push(Row {
            what: what.into(),
            figure,
            target: Some((target, target.met(value))),
            ..Row::default()
        });
    }

    /// A figure, what it stands beside, and what it is to that.
    pub fn ratio(
        &mut self,
        what: impl Into<String>,
        figure: String,
        beside: String,
        ratio: f64,
        target: Option<Target>,
    ) {
        self.rows.push(Row {
            what: what.into(),
            figure,
            beside,
            ratio: Some(ratio),
            target: target.map(|target| (target, target.met(ratio))),
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | figure | beside | ratio | to reach | reached |")?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- |")?;
        for row in &self.rows {
            let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let (target, met) = match row.target {
                Some((target, true)) => (target.to_string(), "yes"),
                Some((target, false)) => (target.to_string(), "**no**"),
                None => (String::new(), ""),
            };
            writeln!(
                f,
                "| {} | {} | {} | {ratio} | {target} | {met} |",
                row.what, row.figure, row.beside
            )?;
        }
        Ok(())
    }
}
