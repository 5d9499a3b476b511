//! One writer and many readers on many threads.

use super::*;

const RECORDS: u64 = 100_000;

async fn follow(mut reader: Reader) -> (u64, u64) {
    let (mut next, mut got, mut announced) = (0, 0, 0);
    loop {
        match reader.next().await {
            Delivery::Records { first, batch } => {
                let first = first.expect("a number").0;
                assert_eq!(first, next + announced, "no hole but those announced");
                for (seq, (_, text)) in (first..).zip(lines_of(&batch)) {
                    assert_eq!(text, seq.to_string());
                }
                (next, announced) = (first + batch.len() as u64, 0);
                got += batch.len() as u64;
            }
            Delivery::Signal { seq: None, signal } => {
                let count = signal.text.split(' ').next().and_then(|count| count.parse::<u64>().ok());
                announced += count.expect("a gap says how many");
            }
            Delivery::Signal { .. } | Delivery::Reading { .. } => panic!("nobody sent one"),
            Delivery::End(_) => {
                assert_eq!(next + announced, RECORDS);
                return (got, reader.missed());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_on_many_threads_see_rising_numbers_without_silent_holes() {
    let stream = Arc::new(LiveStream::new(RingLimits { records: 2_000, bytes: 1 << 20, age: None }, 1));
    let readers: Vec<_> =
        (0..8).map(|_| tokio::spawn(follow(Reader::open(Arc::clone(&stream), ReadFrom::Now)))).collect();
    let writer = tokio::task::spawn_blocking(move || {
        let mut id = 0;
        while id < RECORDS {
            let size = (1 + id % 37).min(RECORDS - id);
            let lines: Vec<_> = (id..id + size).map(|id| (Time(id as i64), id.to_string())).collect();
            stream.publish(batch_of(&lines));
            id += size;
        }
        stream.end("done");
    });
    writer.await.expect("no panic");
    for reader in readers {
        let (got, missed) = reader.await.expect("no panic");
        assert_eq!(got + missed, RECORDS);
    }
}
