//! Whatever arrives as a packet of Socket.IO: the parser does not panic, agrees with the slow one, and reads what another
//! writes.

#![no_main]

use weir_fuzz::packet_reference::assert_agreement;

libfuzzer_sys::fuzz_target!(|message: &str| assert_agreement(message));
