//! Errors that have no serde come home, too: with their kind, their OS code and all their sources. With `flatten` a failed
//! call is one of them, so that `?` passes everything on.
//!
//! `cargo run --example errors`

use std::{error::Error, fmt, fs, io, iter, thread, time::Duration};

use timeout_runtime::{TimedOut, timeout};

/// The outer error is the call's, the inner one the body's.
#[timeout(2)]
fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(path)
}

/// Sums up numbers; `?` boxes whatever goes wrong.
#[timeout(2)]
fn sum(path: &str) -> Result<i64, Box<dyn Error + Send + Sync>> {
    let text = fs::read_to_string(path).map_err(|error| io::Error::new(error.kind(), NoList(error)))?;
    Ok(text.split_whitespace().map(str::parse::<i64>).sum::<Result<_, _>>()?)
}

#[derive(Debug)]
struct NoList(io::Error);

impl fmt::Display for NoList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the list cannot be read")
    }
}

impl Error for NoList {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Keeps its signature: late, it fails with an `io::Error` of the kind `TimedOut`.
#[timeout(0.2, flatten)]
fn wait_for(path: &str) -> io::Result<String> {
    while !fs::exists(path)? {
        thread::sleep(Duration::from_millis(10));
    }
    fs::read_to_string(path)
}

fn all_of_it(path: &str) -> io::Result<usize> {
    Ok(wait_for("/proc/self/comm")?.len() + wait_for(path)?.len())
}

fn main() -> Result<(), TimedOut> {
    let error = read("/no/such/file")?.expect_err("there is no such file");
    println!("{:?}, code {:?}: {error}", error.kind(), error.raw_os_error());
    assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::NotFound, Some(2)));

    let error = sum("/no/such/file")?.expect_err("there is no such file");
    let chain: Vec<_> = iter::successors(Some(&*error as &dyn Error), |&error| error.source()).collect();
    println!("{}", chain.iter().map(ToString::to_string).collect::<Vec<_>>().join(": "));
    assert_eq!(chain.len(), 2);
    assert!(error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound));

    let error = all_of_it("/no/such/file").expect_err("it never appears");
    println!("{:?}: {error}", error.kind());
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    Ok(())
}
