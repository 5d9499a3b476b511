//! The four ways in which something fails, as every surface tells them.

use http::StatusCode;

/// What kind of failure this is, and so who can do something about it.
///
/// Each room has its own error type; each of those has a category. The log, the reason of a condition, the
/// close code of a WebSocket and the HTTP status are all derived from it, so they never contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// What was asked for makes no sense. Asking again without a change gives the same answer.
    Invalid,
    /// The key is missing, unknown, expired, suspended, or does not grant this.
    Denied,
    /// Something Weir depends on is away, or a limit is reached. Trying later may work.
    Unavailable,
    /// A fault of Weir's own. It deserves a bug report.
    Internal,
}

impl Category {
    /// Every category, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::Invalid, Self::Denied, Self::Unavailable, Self::Internal];

    /// The WebSocket close code (RFC 6455, section 7.4.1): 1008 denied or invalid, 1013 try later, 1011 a fault of ours.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Invalid | Self::Denied => 1008,
            Self::Unavailable => 1013,
            Self::Internal => 1011,
        }
    }

    /// The HTTP status: 400, 403, 503 or 500.
    ///
    /// A request without a valid key is answered with 401 and a challenge instead of the 403 here.
    pub const fn http_status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The name in conditions and logs, in the form that Kubernetes wants of a `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::Denied => "Denied",
            Self::Unavailable => "Unavailable",
            Self::Internal => "Internal",
        }
    }
}

impl std::fmt::Display for Category {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_category_has_one_code_on_every_surface() {
        let table = Category::ALL.map(|c| (c.as_str(), c.close_code(), c.http_status().as_u16()));
        assert_eq!(
            table,
            [("Invalid", 1008, 400), ("Denied", 1008, 403), ("Unavailable", 1013, 503), ("Internal", 1011, 500),]
        );
    }
}
