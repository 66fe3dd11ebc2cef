//! The same as the first of `limits.rs`, on a machine that has more to do: apart, so that the one is not the load of the other.

mod common;

use std::time::Duration;

use common::{Start, busy, lateness::check_lateness};

common::scenarios_everywhere![a_late_body_is_cut_off_on_time_on_a_busy_machine];

fn a_late_body_is_cut_off_on_time_on_a_busy_machine(start: Start) {
    let _busy = busy();
    check_lateness(start, Duration::from_millis(100));
}
