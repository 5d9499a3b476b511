//! Tickets work once, for thirty seconds, for their key.

use rstest::rstest;

use super::*;

fn office(limits: TicketLimits) -> (Arc<KeyRing>, Tickets, Arc<Key>, StdRng) {
    let ring = KeyRing::new();
    let key = ring.upsert(record("shop/a", 1, &reader())).key.unwrap();
    (Arc::clone(&ring), Tickets::new(ring, limits), key, StdRng::seed_from_u64(11))
}

#[test]
fn a_ticket_works_once() {
    let (_, tickets, key, mut rng) = office(TicketLimits::default());
    let ticket = tickets.issue(&key, &mut rng, at(0)).unwrap();
    assert_eq!(ticket.expires_at(), at(30));
    assert!(ticket.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    assert_eq!(tickets.redeem(ticket.expose(), at(1)).unwrap().id(), key.id());
    assert_eq!(tickets.redeem(ticket.expose(), at(1)).unwrap_err(), Denied::BadTicket);
    assert!(tickets.is_empty());
}

#[rstest]
#[case(0, true)]
#[case(29, true)]
#[case(30, false)]
#[case(3600, false)]
#[case::clock_set_back_a_little(-1, true)]
#[case::clock_set_back_an_hour(-3600, false)]
fn a_ticket_lives_thirty_seconds(#[case] age: i64, #[case] good: bool) {
    let (_, tickets, key, mut rng) = office(TicketLimits::default());
    let ticket = tickets.issue(&key, &mut rng, at(10_000)).unwrap();
    assert_eq!(tickets.redeem(ticket.expose(), at(10_000 + age)).is_ok(), good);
}

#[rstest]
#[case("")]
#[case("weirt_")]
#[case("weirt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
fn what_was_never_issued_is_refused(#[case] text: &str) {
    let (_, tickets, key, mut rng) = office(TicketLimits::default());
    tickets.issue(&key, &mut rng, at(0)).unwrap();
    assert_eq!(tickets.redeem(text, at(0)).unwrap_err(), Denied::BadTicket);
    assert_eq!(tickets.redeem(token(1).expose(), at(0)).unwrap_err(), Denied::BadTicket, "a key is no ticket");
    assert_eq!(tickets.len(), 1);
}

#[test]
fn a_ticket_is_worth_no_more_than_its_key() {
    let (ring, tickets, key, mut rng) = office(TicketLimits::default());
    let issued: Vec<_> = (0..3).map(|_| tickets.issue(&key, &mut rng, at(0)).unwrap()).collect();
    // A changed key: the ticket stands for the key as it is now.
    ring.upsert(record("shop/a", 1, &spec(vec![pods("x", "", "", "")])));
    assert_eq!(
        tickets.redeem(issued[0].expose(), at(1)).unwrap().grants().written()[0].pods.as_ref().unwrap().namespaces,
        ["x"]
    );
    let mut suspended = record("shop/a", 1, &reader());
    suspended.suspended = true;
    ring.upsert(suspended);
    assert_eq!(tickets.redeem(issued[1].expose(), at(1)).unwrap_err(), Denied::Suspended);
    ring.upsert(record("shop/a", 2, &reader()));
    assert_eq!(tickets.redeem(issued[2].expose(), at(1)).unwrap_err(), Denied::Rotated);
    assert!(tickets.issue(&key, &mut rng, at(1)).is_err(), "an ended key gets none");
}

#[test]
fn their_number_is_bounded_and_time_frees_places() {
    let (ring, tickets, key, mut rng) = office(TicketLimits { per_key: 2, total: 3 });
    let other = ring.upsert(record("shop/b", 2, &reader())).key.unwrap();
    let full = Denied::TooManyTickets { retry_seconds: 30 };
    let first = tickets.issue(&key, &mut rng, at(0)).unwrap();
    tickets.issue(&key, &mut rng, at(1)).unwrap();
    assert_eq!(tickets.issue(&key, &mut rng, at(2)).unwrap_err(), full, "per key");
    tickets.issue(&other, &mut rng, at(2)).unwrap();
    assert_eq!(tickets.issue(&other, &mut rng, at(3)).unwrap_err(), full, "in all");
    assert!(tickets.issue(&other, &mut rng, at(30)).is_ok(), "the first is swept");
    assert_eq!(tickets.redeem(first.expose(), at(30)).unwrap_err(), Denied::BadTicket);
    tickets.sweep(at(100));
    assert!(tickets.is_empty());
}
