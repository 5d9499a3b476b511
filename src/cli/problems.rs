//! Everything that is wrong with the options, collected before anything starts, each with a remedy.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::api::duration;

/// What is wrong with the options; empty where nothing is.
#[derive(Debug, Default, thiserror::Error)]
pub(super) struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            many => {
                f.write_str("the options are wrong:")?;
                many.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
            }
        }
    }
}

impl Problems {
    /// One problem that is known alone.
    pub fn one(problem: impl Into<String>) -> Self {
        Self(vec![problem.into()])
    }

    /// Adds a problem.
    pub fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An error where there is any problem.
    pub fn none(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// The value, or what `otherwise` gives where it is wrong, which is noted.
    pub fn take<T, E: fmt::Display>(&mut self, option: &str, value: Result<T, E>, otherwise: impl FnOnce() -> T) -> T {
        value.unwrap_or_else(|error| {
            self.add(format!("{option} {error}"));
            otherwise()
        })
    }

    /// A whole number within `range`.
    pub fn number<T>(&mut self, option: &str, text: &str, range: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + Copy + fmt::Display,
    {
        match text.parse().ok().filter(|number| range.contains(number)) {
            Some(number) => number,
            None => {
                let (least, most) = (range.start(), range.end());
                self.add(format!("{option} is {text:?}; write a whole number from {least} to {most}"));
                *least
            }
        }
    }

    /// A length of time within `range`.
    pub fn duration(&mut self, option: &str, text: &str, range: RangeInclusive<Duration>) -> Duration {
        let value = match duration::parse(text) {
            Ok(value) => value,
            Err(error) => {
                self.add(format!("{option} is {text:?}, which {error}"));
                return *range.start();
            }
        };
        if !range.contains(&value) {
            let (least, most) = (duration::format(*range.start()), duration::format(*range.end()));
            self.add(format!("{option} is {text:?}; write a time from {least} to {most}"));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_with_its_remedy() {
        let mut problems = Problems::default();
        assert_eq!(problems.number("--a", "5", 1..=9_u32), 5);
        problems.number("--b", "0", 1..=9_u32);
        problems.number("--c", "many", 1..=9_usize);
        let minute = Duration::from_secs(60);
        assert_eq!(problems.duration("--d", "1m", Duration::ZERO..=minute), minute);
        problems.duration("--e", "90s", Duration::ZERO..=minute);
        problems.duration("--f", "90", Duration::ZERO..=minute);
        let text = problems.none().unwrap_err().to_string();
        for part in ["--b is \"0\"", "from 1 to 9", "--c is", "--e is \"90s\"", "from 0s to 1m", "use ms, s, m, h or d"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(text.lines().count(), 5);
        assert!(Problems::default().none().is_ok());
    }
}
