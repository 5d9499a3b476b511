//! What is to be watched: system checks, resources, a heartbeat. Whoever reads a configuration makes these.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::Category;

/// The shortest interval: what is asked more often is a load, not a check.
pub const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval.
pub const MOST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest address, in bytes.
const URL_BYTES: usize = 4096;

/// Why something cannot be watched as it is written. The text says what to do, and holds nothing of an address.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HealthError {
    /// Not an address that can be asked.
    #[error("the url is not an address with a host that begins with http:// or https://")]
    Url,
    /// An interval that is too short or too long.
    #[error("the interval is {0:?}; use 1s to 24h")]
    Interval(Duration),
    /// A time limit that is too short or longer than the interval.
    #[error("the timeout is {0:?}; use more than 0 and at most the interval, so that checks do not overlap")]
    Timeout(Duration),
    /// No check may be missed.
    #[error("missed_threshold is 0; use 1 or more")]
    MissedThreshold,
    /// Not a share of the whole.
    #[error("the threshold is {0} percent; use more than 0 and at most 100")]
    Percent(f64),
    /// Nothing is watched.
    #[error("no resource is watched; set cpu_percent, memory_percent or disk_percent")]
    NoThreshold,
    /// No client for requests can be made.
    #[error("requests cannot be sent: {0}")]
    Client(String),
}

impl HealthError {
    /// Whom the error concerns.
    pub fn category(&self) -> Category {
        match self {
            Self::Client(_) => Category::Internal,
            _ => Category::Invalid,
        }
    }
}

/// An address that is asked. It may hold secrets, in its path or its query: shown is only its scheme and host.
#[derive(Clone, PartialEq, Eq)]
pub struct CheckUrl(reqwest::Url);

impl CheckUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// [`HealthError::Url`] where it is not of http or https, has no host, or is too long.
    pub fn parse(text: &str) -> Result<Self, HealthError> {
        let url = (text.len() <= URL_BYTES).then(|| reqwest::Url::parse(text).ok()).flatten();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.map(Self).ok_or(HealthError::Url)
    }

    /// The whole address: for requests only.
    pub(super) fn whole(&self) -> reqwest::Url {
        self.0.clone()
    }
}

impl fmt::Display for CheckUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for CheckUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckUrl({self})")
    }
}

/// Asks an address again and again, and tells when it does not answer as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemCheck {
    /// What people call it; alerts carry it.
    pub name: String,
    /// What is asked, with GET.
    pub url: CheckUrl,
    /// From one check to the next. Default 30 s.
    pub interval: Duration,
    /// How long an answer may take. Default 5 s, or the interval where that is shorter.
    pub timeout: Duration,
    /// After how many failed checks in a row it is told. Default 2.
    pub missed_threshold: u32,
    /// Whom to tell: names of alerts, known to the floor above.
    pub alerts: Arc<[String]>,
}

impl SystemCheck {
    /// A check with the usual times.
    pub fn new(name: impl Into<String>, url: CheckUrl, alerts: impl Into<Arc<[String]>>) -> Self {
        Self {
            name: name.into(),
            url,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            missed_threshold: 2,
            alerts: alerts.into(),
        }
    }

    /// What is wrong with it, if anything is.
    ///
    /// # Errors
    /// The first bound that it breaks.
    pub fn validate(&self) -> Result<(), HealthError> {
        check_interval(self.interval)?;
        if self.timeout.is_zero() || self.timeout > self.interval {
            return Err(HealthError::Timeout(self.timeout));
        }
        if self.missed_threshold == 0 { Err(HealthError::MissedThreshold) } else { Ok(()) }
    }
}

/// How much of a resource may be in use, as a share of the whole.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(f64);

impl Percent {
    /// A share of more than 0 and at most 100 percent.
    ///
    /// # Errors
    /// [`HealthError::Percent`] for any other number.
    pub fn new(value: f64) -> Result<Self, HealthError> {
        if value > 0.0 && value <= 100.0 { Ok(Self(value)) } else { Err(HealthError::Percent(value)) }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Measures the machine, and tells when more of it is in use than should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// From one measurement to the next. Default 10 s.
    pub interval: Duration,
    /// Processors of the whole machine, over the interval.
    pub cpu_percent: Option<Percent>,
    /// Memory: of the machine, or of the process's control group where that has less.
    pub memory_percent: Option<Percent>,
    /// Each disk that is mounted and can be written to.
    pub disk_percent: Option<Percent>,
    /// Whom to tell: names of alerts, known to the floor above.
    pub alerts: Arc<[String]>,
}

impl Resources {
    /// Nothing is watched yet, at the usual interval.
    pub fn new(alerts: impl Into<Arc<[String]>>) -> Self {
        let (cpu_percent, memory_percent, disk_percent) = (None, None, None);
        Self { interval: Duration::from_secs(10), cpu_percent, memory_percent, disk_percent, alerts: alerts.into() }
    }

    /// What is wrong with it, if anything is.
    ///
    /// # Errors
    /// The first bound that it breaks.
    pub fn validate(&self) -> Result<(), HealthError> {
        check_interval(self.interval)?;
        let watched = [self.cpu_percent, self.memory_percent, self.disk_percent];
        if watched.iter().all(Option::is_none) { Err(HealthError::NoThreshold) } else { Ok(()) }
    }
}

/// Asks an address at each interval, so that whoever stands there misses it when this process does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// What is asked, with GET.
    pub url: CheckUrl,
    /// From one beat to the next. Default 60 s.
    pub interval: Duration,
}

impl Heartbeat {
    /// A heartbeat at the usual interval.
    pub fn new(url: CheckUrl) -> Self {
        Self { url, interval: Duration::from_secs(60) }
    }

    /// What is wrong with it, if anything is.
    ///
    /// # Errors
    /// The first bound that it breaks.
    pub fn validate(&self) -> Result<(), HealthError> {
        check_interval(self.interval)
    }
}

fn check_interval(interval: Duration) -> Result<(), HealthError> {
    let within = (LEAST_INTERVAL..=MOST_INTERVAL).contains(&interval);
    if within { Ok(()) } else { Err(HealthError::Interval(interval)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn an_address_shows_its_scheme_and_host_and_nothing_else() {
        let url = CheckUrl::parse("https://user:secret@beat.example:8443/ping/secret?key=secret").expect("an address");
        assert_eq!(url.to_string(), "https://beat.example:8443");
        let heartbeat = Heartbeat::new(url);
        assert!(!format!("{heartbeat:?}").contains("secret"), "{heartbeat:?}");
        assert_eq!(CheckUrl::parse("https://[::1]/x").expect("an address").to_string(), "https://[::1]");
    }

    #[rstest]
    #[case("")]
    #[case("beat.example/ping")]
    #[case("ftp://beat.example")]
    #[case("file:///etc/passwd")]
    #[case("http://")]
    fn what_cannot_be_asked_is_refused(#[case] text: &str) {
        assert_eq!(CheckUrl::parse(text), Err(HealthError::Url));
    }

    #[test]
    fn what_would_overlap_never_tell_or_hammer_is_refused() {
        let url = || CheckUrl::parse("http://a.example").expect("an address");
        let check = SystemCheck::new("a", url(), []);
        assert_eq!(check.validate(), Ok(()));
        let second = Duration::from_secs(1);
        let slow = SystemCheck { interval: second, timeout: second * 2, ..check.clone() };
        assert_eq!(slow.validate(), Err(HealthError::Timeout(second * 2)));
        assert_eq!(SystemCheck { missed_threshold: 0, ..check.clone() }.validate(), Err(HealthError::MissedThreshold));
        let often = Heartbeat { interval: second / 2, ..Heartbeat::new(url()) };
        assert_eq!(often.validate(), Err(HealthError::Interval(second / 2)));
        assert_eq!(Resources::new([]).validate(), Err(HealthError::NoThreshold));
        assert!([0.0, -1.0, 100.5, f64::NAN, f64::INFINITY].iter().all(|value| Percent::new(*value).is_err()));
        assert_eq!(Percent::new(100.0).map(Percent::get), Ok(100.0));
    }
}
