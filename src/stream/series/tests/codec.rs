//! Rows come out as they went in.

use proptest::prelude::*;

use crate::stream::series::bits::{BitReader, BitWriter};
use crate::stream::series::chunk::{Chunk, Encoder, Row};

fn encoded<const K: usize>(rows: &[Row<K>]) -> Chunk<K> {
    let mut encoder = Encoder::new(&rows[0]);
    rows[1..].iter().for_each(|row| encoder.push(row));
    encoder.to_chunk()
}

fn bits<const K: usize>(rows: impl IntoIterator<Item = Row<K>>) -> Vec<(i64, [u64; K])> {
    rows.into_iter().map(|row| (row.time, row.values.map(f64::to_bits))).collect()
}

fn some_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => (-1000..1000i64).prop_map(|value| value as f64),
        2 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(-0.0),
        1 => Just(f64::MIN_POSITIVE / 2.0),
        1 => Just(f64::MAX),
        2 => (0..100u32).prop_map(|value| f64::from(value) / 10.0),
    ]
}

/// Distances of rows in milliseconds, with each width.
fn some_distance() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1000), 995..1005i64, 1..20_000i64, 1..5_000_000i64, 1..4_000_000_000_000i64]
}

fn some_rows<const K: usize>() -> impl Strategy<Value = Vec<Row<K>>> {
    let row = (some_distance(), proptest::collection::vec(some_number(), K));
    (any::<i32>(), proptest::collection::vec(row, 1..150)).prop_map(|(start, rows)| {
        let mut time = i64::from(start) * 1000;
        let row = |(distance, values): (i64, Vec<f64>)| {
            time += distance;
            Row { time, values: std::array::from_fn(|at| values[at]) }
        };
        rows.into_iter().map(row).collect()
    })
}

proptest! {
    #[test]
    fn points_come_out_bit_for_bit(rows in some_rows::<1>()) {
        let chunk = encoded(&rows);
        prop_assert_eq!(bits(chunk.rows()), bits(rows.iter().copied()));
        prop_assert_eq!((chunk.start, chunk.end), (rows[0].time, rows[rows.len() - 1].time));
    }

    #[test]
    fn buckets_come_out_bit_for_bit(rows in some_rows::<5>()) {
        prop_assert_eq!(bits(encoded(&rows).rows()), bits(rows));
    }

    #[test]
    fn bits_come_out_in_the_order_in_which_they_went_in(written in proptest::collection::vec((any::<u64>(), 1..=64u32), 0..40)) {
        let mut writer = BitWriter::default();
        let lowest = |(bits, count): &(u64, u32)| bits & (u64::MAX >> (64 - count));
        written.iter().for_each(|(bits, count)| writer.push(*bits, *count));
        let bytes = writer.to_bytes();
        let total: u32 = written.iter().map(|(_, count)| count).sum();
        prop_assert_eq!(bytes.len(), total.div_ceil(8) as usize);
        let mut reader = BitReader::new(&bytes);
        for one in &written {
            prop_assert_eq!(reader.take(one.1), Some(lowest(one)));
        }
        prop_assert_eq!(reader.take(8), None);
    }

    #[test]
    fn bytes_that_no_encoder_wrote_end_the_rows_and_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0..400u32,
    ) {
        let chunk = Chunk::<5> { start: 0, end: 0, count, bytes: bytes.into() };
        prop_assert!(chunk.rows().count() <= count as usize);
    }
}

#[test]
fn a_steady_series_takes_few_bytes_a_point() {
    let bytes = |value: &dyn Fn(i64) -> f64| {
        let rows: Vec<_> =
            (0..120).map(|at| Row { time: 1_795_211_409_000 + at * 5000, values: [value(at)] }).collect();
        encoded(&rows).bytes.len()
    };
    // 16 bytes for the first, then two bits for each.
    assert_eq!(bytes(&|_| 4096.0), 16 + (119usize * 2 + 16).div_ceil(8));
    assert!(bytes(&|at| (at * 17 % 100) as f64) < 120 * 4, "{}", bytes(&|at| (at * 17 % 100) as f64));
}
