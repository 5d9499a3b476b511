//! Whatever arrives as a page of metrics: the parser does not panic, and agrees with the slow one.

#![no_main]

use weir_fuzz::{Format, reference::assert_agreement};

libfuzzer_sys::fuzz_target!(|page: &[u8]| {
    assert_agreement(page, Format::Text);
    assert_agreement(page, Format::OpenMetrics);
});
