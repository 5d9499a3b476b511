//! A log that is cut and asked for again, any number of times: every line once.

use proptest::sample::Index;

use super::*;

/// One connection after another to a log, each asking from where the trail says.
struct Follow {
    trail: Trail,
    got: Vec<Seen>,
}

impl Follow {
    fn new(trail: Trail) -> Self {
        Self { trail, got: Vec::new() }
    }

    /// Reads what the server still has (`log`), but for what is older than what was asked for, up to a
    /// cut after `cut` lines. Says whether what comes joins what was seen.
    fn connect(&mut self, log: &[Seen], sizes: &[usize], cut: Index) -> bool {
        let since = self.trail.ask_again_from().unwrap_or(Time(i64::MIN));
        let given: Vec<Seen> = log.iter().filter(|line| line.0 >= since).cloned().collect();
        let given = &given[..cut.index(given.len() + 1)];
        let mut window = self.trail.window();
        for batch in batches(given, sizes) {
            if let Some(new) = window.admit(&batch) {
                self.trail.note(&new);
                self.got.extend(lines_of(&new));
            }
        }
        window.joined()
    }

    fn connect_to_the_end(&mut self, log: &[Seen], sizes: &[usize]) -> bool {
        let since = self.trail.ask_again_from().unwrap_or(Time(i64::MIN));
        let given: Vec<Seen> = log.iter().filter(|line| line.0 >= since).cloned().collect();
        let mut window = self.trail.window();
        for batch in batches(&given, sizes) {
            if let Some(new) = window.admit(&batch) {
                self.trail.note(&new);
                self.got.extend(lines_of(&new));
            }
        }
        window.joined()
    }
}

fn some_cuts() -> impl Strategy<Value = Vec<(Index, Index)>> {
    proptest::collection::vec(any::<(Index, Index)>(), 0..12)
}

fn some_sizes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1..20usize, 1..6)
}

fn follow_through(trail: Trail, log: &[Seen], cuts: &[(Index, Index)], sizes: &[usize]) -> Vec<Seen> {
    let mut follow = Follow::new(trail);
    let mut written = 0;
    for (grown, cut) in cuts {
        written += grown.index(log.len() - written + 1) / 2;
        follow.connect(&log[..written], sizes, *cut);
    }
    follow.connect_to_the_end(log, sizes);
    follow.got
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_line_comes_once_however_often_the_log_is_cut(
        log in some_log(Texts::Unique, 99_999_999, 1..150), cuts in some_cuts(), sizes in some_sizes(),
    ) {
        prop_assert_eq!(follow_through(Trail::default(), &log, &cuts, &sizes), log);
    }

    #[test]
    fn lines_alike_come_as_often_as_they_were_written(
        log in some_log(Texts::Alike, 99_999_999, 1..150), cuts in some_cuts(), sizes in some_sizes(),
    ) {
        prop_assert_eq!(follow_through(Trail::default(), &log, &cuts, &sizes), log);
    }

    #[test]
    fn a_log_in_order_is_exact_also_beyond_what_is_remembered(
        steps in proptest::collection::vec((1..50i64, 1..5usize), 1..100), cuts in some_cuts(), sizes in some_sizes(),
    ) {
        let mut now = 0;
        let times = steps.into_iter().flat_map(|(step, alike)| {
            now += step;
            std::iter::repeat_n(now, alike)
        });
        let log: Vec<Seen> = times.map(|nanos| (Time(nanos), "tick".into())).collect();
        let trail = Trail::remembering(8);
        prop_assert_eq!(follow_through(trail, &log, &cuts, &sizes), log);
    }

    #[test]
    fn what_a_rotation_took_is_noticed_and_nothing_is_doubled(
        log in some_log(Texts::Unique, 99_999_999, 2..150),
        cut in any::<Index>(), rotated in any::<Index>(), sizes in some_sizes(),
    ) {
        let mut follow = Follow::new(Trail::default());
        follow.connect(&log, &sizes, cut);
        let seen = follow.got.len();
        prop_assert_eq!(&follow.got, &log[..seen]);
        let rotated = rotated.index(log.len());
        let since = follow.trail.ask_again_from();
        let still_there = log[rotated.min(seen)..seen].iter().any(|line| Some(line.0) >= since);
        let joined = follow.connect_to_the_end(&log[rotated..], &sizes);
        prop_assert_eq!(joined, seen == 0 || still_there);
        let expected: Vec<Seen> = log[..seen].iter().chain(&log[rotated.max(seen)..]).cloned().collect();
        prop_assert_eq!(follow.got, expected);
    }
}

#[test]
fn a_late_line_is_new_although_only_a_later_one_is_remembered() {
    let line = |millis: i64, text: &str| (Time(millis * 1_000_000), text.to_owned());
    let log = [line(1_000, "long ago"), line(5_000, "now"), line(4_950, "written a moment later")];
    let mut follow = Follow::new(Trail::default());
    follow.connect_to_the_end(&log[..2], &[1]);
    follow.connect_to_the_end(&log, &[1]);
    assert_eq!(follow.got, log);
}

#[test]
fn what_was_seen_is_let_go() {
    let mut trail = Trail::default();
    let batch = batch_of(&[(Time(1), "x".repeat(1 << 20))]);
    let gone = Arc::downgrade(&batch);
    trail.note(&batch);
    drop(batch);
    assert!(gone.upgrade().is_none());
    assert!(!trail.window().is_new(Time(1), "x".repeat(1 << 20).as_bytes()));
}

#[test]
fn a_trail_that_saw_nothing_refuses_nothing() {
    let trail = Trail::default();
    assert!(trail.is_empty() && trail.ask_again_from().is_none() && trail.newest().is_none());
    let mut window = trail.window();
    assert!(window.passed() && window.joined());
    assert!(window.is_new(Time(i64::MIN), b"x"));
}

#[test]
fn a_window_is_over_once_a_line_comes_that_none_can_be_late_to() {
    let mut trail = Trail::default();
    trail.note(&batch_of(&[(Time(0), "a".into())]));
    let mut window = trail.window();
    assert!(window.is_new(Time(100_000_000), b"b") && !window.passed());
    assert!(window.is_new(Time(100_000_001), b"c") && window.passed());
}

#[test]
fn what_stands_before_the_beginning_is_not_taken_for_new() {
    // The follow began with the second line; asked again from the whole second, the server gives the first too.
    let log = [(Time(1_100_000_000), "before".to_owned()), (Time(1_900_000_000), "seen".to_owned())];
    let mut follow = Follow::new(Trail::default());
    follow.trail.note(&batch_of(&log[1..]));
    assert!(follow.connect_to_the_end(&log, &[1]));
    assert_eq!(follow.got, []);
}
