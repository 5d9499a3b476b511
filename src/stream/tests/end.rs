//! How a stream ends for its readers, and that waiting may be given up at any moment.

use std::time::Duration;

use tokio::time::timeout;

use super::*;

fn one_line() -> Arc<Batch> {
    batch_of(&[(Time(1), "hello".into())])
}

#[tokio::test]
async fn readers_get_what_is_left_and_then_the_first_reason() {
    let stream = big_ring();
    let mut reader = Reader::open(Arc::clone(&stream), ReadFrom::Now);
    stream.publish(one_line());
    stream.end("the subscription was deleted");
    stream.end("again");
    assert!(matches!(reader.next().await, Delivery::Records { .. }));
    for _ in 0..2 {
        let Delivery::End(end) = reader.next().await else { panic!("the end") };
        assert_eq!(end.text, "the subscription was deleted");
    }
    assert_eq!(stream.ended().map(|end| end.text.clone()).as_deref(), Some("the subscription was deleted"));
    let mut late = Reader::open(Arc::clone(&stream), ReadFrom::Oldest);
    assert!(matches!(late.next().await, Delivery::Records { .. }));
    assert!(matches!(late.next().await, Delivery::End(_)));
}

#[tokio::test]
async fn nothing_follows_the_end() {
    let stream = big_ring();
    let mut reader = Reader::open(Arc::clone(&stream), ReadFrom::Now);
    stream.end("done");
    assert!(matches!(reader.next().await, Delivery::End(_)));
    stream.publish(one_line());
    assert!(reader.try_next().is_none());
    assert!(matches!(reader.next().await, Delivery::End(_)));
}

#[tokio::test]
async fn the_end_wakes_those_who_wait() {
    let stream = big_ring();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let mut reader = Reader::open(Arc::clone(&stream), ReadFrom::Now);
            tokio::spawn(async move { reader.next().await })
        })
        .collect();
    tokio::task::yield_now().await;
    stream.end("done");
    for reader in waiting {
        let delivery = timeout(Duration::from_secs(5), reader).await.expect("woken").expect("no panic");
        assert!(matches!(delivery, Delivery::End(end) if end.text == "done"));
    }
}

#[tokio::test]
async fn a_released_stream_ends_its_readers_after_what_is_left() {
    let stream = big_ring();
    let mut reader = Reader::open(Arc::clone(&stream), ReadFrom::Now);
    stream.publish(one_line());
    drop(stream);
    let next = async { (reader.next().await, reader.next().await) };
    let (first, second) = timeout(Duration::from_secs(5), next).await.expect("ended");
    assert!(matches!(first, Delivery::Records { .. }));
    assert!(matches!(second, Delivery::End(_)));
}

#[tokio::test(start_paused = true)]
async fn a_reader_given_up_waiting_again_and_again_loses_nothing() {
    let stream = big_ring();
    let mut reader = Reader::open(Arc::clone(&stream), ReadFrom::Now);
    let writer = tokio::spawn(async move {
        for id in 0..500 {
            stream.publish(batch_of(&[(Time(id), format!("line {id}"))]));
            tokio::time::sleep(Duration::from_millis(id as u64 % 7)).await;
        }
        stream.end("done");
    });
    let (mut got, mut given_up) = (0, 0);
    loop {
        tokio::select! {
            delivery = reader.next() => match delivery {
                Delivery::Records { first, batch } => {
                    assert_eq!(first, Some(Seq(got)));
                    got += batch.len() as u64;
                }
                Delivery::Signal { .. } | Delivery::Reading { .. } => panic!("no gap, and no reading"),
                Delivery::End(_) => break,
            },
            () = tokio::time::sleep(Duration::from_millis(2)) => given_up += 1,
        }
    }
    writer.await.expect("no panic");
    assert_eq!(got, 500);
    assert!(given_up > 100);
}
