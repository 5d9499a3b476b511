//! Figures: each with all its values, shown by their median.

use std::fmt::Write;

use serde_json::{Value, json};

/// What a figure should come to.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Aim {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

#[derive(Debug)]
struct Figure {
    part: &'static str,
    name: String,
    unit: &'static str,
    values: Vec<f64>,
    aim: Option<Aim>,
}

/// All figures of a run.
#[derive(Debug, Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    pub fn add(&mut self, part: &'static str, name: impl Into<String>, unit: &'static str, values: Vec<f64>) {
        self.aimed(part, name, unit, values, None);
    }

    pub fn aimed(
        &mut self,
        part: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        values: Vec<f64>,
        aim: impl Into<Option<Aim>>,
    ) {
        let figure = Figure { part, name: name.into(), unit, values, aim: aim.into() };
        eprintln!("    {}: {} {unit}", figure.name, shown(median(&figure.values)));
        self.0.push(figure);
    }

    /// The median and the 99th percentile of many values, which are not kept.
    pub fn percentiles(
        &mut self,
        part: &'static str,
        name: &str,
        mut values: Vec<f64>,
        p99_aim: impl Into<Option<Aim>>,
    ) {
        values.sort_by(f64::total_cmp);
        self.add(part, format!("{name}, p50"), "ms", vec![percentile(&values, 0.50)]);
        self.aimed(part, format!("{name}, p99"), "ms", vec![percentile(&values, 0.99)], p99_aim);
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut part = "";
        for figure in &self.0 {
            if figure.part != part {
                part = figure.part;
                let _ = write!(out, "\n{part}\n");
            }
            let value = median(&figure.values);
            let (least, most) = (percentile(&sorted(&figure.values), 0.0), percentile(&sorted(&figure.values), 1.0));
            let _ = write!(out, "  {:<56} {:>10} {:<8}", figure.name, shown(value), figure.unit);
            if figure.values.len() > 1 {
                let _ = write!(out, " {} to {} in {}", shown(least), shown(most), figure.values.len());
            }
            if let Some(aim) = figure.aim {
                let (sign, limit) = match aim {
                    Aim::AtLeast(limit) => ('≥', limit),
                    Aim::AtMost(limit) => ('≤', limit),
                };
                let verdict = if aim.met(value) { "met" } else { "NOT MET" };
                let _ = write!(out, "  aim {sign} {}: {verdict}", shown(limit));
            }
            out.push('\n');
        }
        out
    }

    /// Everything, for machines.
    pub fn json(&self) -> String {
        let figure = |figure: &Figure| {
            let aim = figure.aim.map(|aim| match aim {
                Aim::AtLeast(limit) => json!({"atLeast": limit, "met": aim.met(median(&figure.values))}),
                Aim::AtMost(limit) => json!({"atMost": limit, "met": aim.met(median(&figure.values))}),
            });
            json!({"part": figure.part, "name": figure.name, "unit": figure.unit, "median": median(&figure.values),
                "values": figure.values, "aim": aim})
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let all = json!({"version": env!("CARGO_PKG_VERSION"), "cores": cores,
            "figures": self.0.iter().map(figure).collect::<Vec<Value>>()});
        format!("{all:#}\n")
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

pub fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The value below which this part of the sorted values lies.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

fn shown(value: f64) -> String {
    match value.abs() {
        big if big >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let mut out = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at) % 3 == 0 {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
        big if big >= 100.0 => format!("{value:.0}"),
        big if big >= 10.0 => format!("{value:.1}"),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}
