//! What a body changes through `&mut self` and `&mut` arguments is written back, all together, when it returns; after a
//! failure they are as they were before the call.
//!
//! `cargo run --example write_back`

use serde::{Deserialize, Serialize};
use timeout_runtime::timeout;

/// A number and an estimate of its square root. What is written back crosses between processes, hence serde.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Root {
    square: f64,
    estimate: f64,
}

impl Root {
    /// Improves the estimate until its square is within `tolerance`, and counts the steps. For a tolerance of 0 and most
    /// numbers that is never.
    #[timeout(0.3)]
    fn refine(&mut self, steps: &mut u64, tolerance: f64) -> f64 {
        loop {
            let error = (self.estimate * self.estimate - self.square).abs();
            if error <= tolerance {
                return error;
            }
            self.estimate = (self.estimate + self.square / self.estimate) / 2.0;
            *steps += 1;
        }
    }
}

fn main() {
    let mut root = Root { square: 2.0, estimate: 1.0 };
    let mut steps = 0;
    println!("{:16}  {root:?}, {steps} steps", "at first");

    for (tolerance, ends) in [(1e-3, true), (0.0, false), (1e-12, true)] {
        let before = (root.clone(), steps);
        let result = root.refine(&mut steps, tolerance);

        println!("tolerance {tolerance:<6?}  {root:?}, {steps} steps");
        match &result {
            Ok(error) => println!("{:16}  changed: within {error:.1e}", ""),
            Err(error) => println!("{:16}  as before: {error}", ""),
        }
        assert_eq!(result.is_ok(), ends);
        assert_eq!((root.clone(), steps) != before, ends);
    }
}
