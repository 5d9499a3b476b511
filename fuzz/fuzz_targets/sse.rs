//! Whatever arrives as server-sent events: the parser does not panic, holds little, and agrees with the slow one however
//! the bytes are split.

#![no_main]

use weir_fuzz::sse_reference::assert_agreement;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // The first bytes say how the rest arrives and how long an event may be.
    let [limit, one, two, stream @ ..] = input else { return };
    assert_agreement(stream, &[usize::from(*one), usize::from(*two)], usize::from(*limit) + 1);
});
