//! Which part of a stream is asked for.

/// A part of a stream of known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it: no range was asked for, or one that is not understood, which counts as none (RFC 9110, 14.2).
    All,
    /// From the first offset to before the second.
    Bytes(u64, u64),
    /// Nothing there is.
    Unsatisfiable,
}

/// The part that a `Range` header asks for, of a stream of which the bytes from `start` to `len` are kept.
pub(super) fn part(header: Option<&str>, start: u64, len: u64) -> Part {
    let Some(spec) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Part::All };
    // Several ranges would make an answer of several parts; a server may answer with all of it.
    let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else { return Part::All };
    let number = |text: &str| match text.trim() {
        "" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Some(digits.parse::<u64>().unwrap_or(u64::MAX)))
        }
        _ => None,
    };
    let (from, to) = match (number(first), number(last)) {
        (Some(Some(first)), Some(Some(last))) if first <= last => (first, last.saturating_add(1).min(len)),
        (Some(Some(first)), Some(None)) => (first, len),
        (Some(None), Some(Some(suffix))) => (len.saturating_sub(suffix).max(start), len),
        _ => return Part::All,
    };
    if from >= to || from < start { Part::Unsatisfiable } else { Part::Bytes(from, to) }
}

/// Whether an `If-None-Match` header names the tag, or any.
pub(super) fn names(header: &str, tag: &str) -> bool {
    let bare = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    header.trim() == "*" || header.split(',').any(|one| bare(one) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::none(None, Part::All)]
    #[case::first_bytes(Some("bytes=0-4"), Part::Bytes(0, 5))]
    #[case::one_byte(Some("bytes=9-9"), Part::Bytes(9, 10))]
    #[case::to_the_end(Some("bytes=4-"), Part::Bytes(4, 10))]
    #[case::beyond_the_end(Some("bytes=4-99"), Part::Bytes(4, 10))]
    #[case::last_bytes(Some("bytes=-3"), Part::Bytes(7, 10))]
    #[case::more_than_all(Some("bytes=-30"), Part::Bytes(0, 10))]
    #[case::none_at_all(Some("bytes=-0"), Part::Unsatisfiable)]
    #[case::behind_the_end(Some("bytes=10-"), Part::Unsatisfiable)]
    #[case::huge(Some("bytes=99999999999999999999999-"), Part::Unsatisfiable)]
    #[case::backwards(Some("bytes=5-4"), Part::All)]
    #[case::several(Some("bytes=0-1,3-4"), Part::All)]
    #[case::other_unit(Some("lines=0-1"), Part::All)]
    #[case::nonsense(Some("bytes=a-b"), Part::All)]
    #[case::signed(Some("bytes=+1-2"), Part::All)]
    #[case::empty(Some("bytes=-"), Part::All)]
    fn a_range_gives_a_part_or_counts_as_none(#[case] header: Option<&str>, #[case] expected: Part) {
        assert_eq!(part(header, 0, 10), expected);
    }

    #[test]
    fn what_was_given_up_cannot_be_asked_for() {
        assert_eq!(part(Some("bytes=3-"), 4, 10), Part::Unsatisfiable);
        assert_eq!(part(Some("bytes=4-"), 4, 10), Part::Bytes(4, 10));
        assert_eq!(part(Some("bytes=-9"), 4, 10), Part::Bytes(4, 10));
        assert_eq!(part(Some("bytes=0-"), 0, 0), Part::Unsatisfiable);
    }

    #[rstest]
    #[case(r#""a-1""#, true)]
    #[case(r#"W/"a-1""#, true)]
    #[case(r#""b", "a-1""#, true)]
    #[case("*", true)]
    #[case(r#""a-2""#, false)]
    #[case("a-1", false)]
    fn a_tag_is_found_in_a_list(#[case] header: &str, #[case] expected: bool) {
        assert_eq!(names(header, r#""a-1""#), expected);
    }
}
