//! The files of the house that are fuzzed, by themselves: it takes seconds to build them with the fuzzer's marks, and
//! would take many minutes to build all that a whole Weir needs.

#[path = "../../src/source/pods/metrics/exposition/mod.rs"]
pub mod exposition;
#[path = "../../src/record/encode/json.rs"]
pub mod json;
#[path = "../../src/endpoint/socket_io/packet/mod.rs"]
mod packet;
#[path = "../../src/endpoint/socket_io/packet/tests/reference.rs"]
pub mod packet_reference;
#[path = "../../src/source/pods/metrics/exposition/tests/reference.rs"]
pub mod reference;
#[path = "../../src/source/remote/sse.rs"]
pub mod sse;
#[path = "../../src/source/remote/tests/sse_reference.rs"]
pub mod sse_reference;
#[path = "../../src/record/time.rs"]
pub mod time;

pub use exposition::*;
use packet::*;

/// Where those files look for it.
pub mod record {
    pub use crate::time::Time;

    pub mod encode {
        pub use crate::json::push_str;
    }
}
