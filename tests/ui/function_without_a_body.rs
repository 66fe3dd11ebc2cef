use timeout_runtime::timeout;

trait Solver {
    #[timeout(2)]
    fn solve(&self) -> u32;
}

unsafe extern "C" {
    #[timeout(2)]
    fn solve() -> u32;
}

fn main() {}
