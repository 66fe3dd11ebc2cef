//! CPU time is counted alike on a machine that has none to spare. Apart from the other bounds: it would be their load.

mod common;

use common::{Start, busy, greed::check_burning};

common::scenarios_everywhere![a_body_that_burns_on_a_busy_machine_is_out_of_cpu_time_precisely];

fn a_body_that_burns_on_a_busy_machine_is_out_of_cpu_time_precisely(start: Start) {
    let _busy = busy();
    check_burning(start);
}
