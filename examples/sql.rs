//! A query that never ends, deep in SQLite's C code where no async timeout could stop it, is cut at its limit; the
//! caller's own connection works on.
//!
//! `cargo run --example sql`

use std::{env, error::Error, fs, path::Path, process, time::Instant};

use rusqlite::{Connection, OpenFlags};
use timeout_runtime::timeout;

/// Asks the database for one number. SQLite forbids using a connection across a fork, so the body opens its own.
#[timeout(0.5)]
fn ask(database: &Path, query: &str) -> Result<i64, String> {
    Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|connection| connection.query_row(query, [], |row| row.get(0)))
        .map_err(|error| error.to_string())
}

fn main() -> Result<(), Box<dyn Error>> {
    let database = env::temp_dir().join(format!("sql-example-{}.db", process::id()));
    let outcome = show(&database);
    fs::remove_file(&database)?;
    outcome
}

fn show(database: &Path) -> Result<(), Box<dyn Error>> {
    let mine = Connection::open(database)?;
    mine.execute_batch("CREATE TABLE fruit (name, price); INSERT INTO fruit VALUES ('apple', 3), ('fig', 8);")?;

    let sum = "SELECT sum(price) FROM fruit";
    // Every row asks for the next one. It reads the table too, so while it runs nobody may write.
    let endless = "WITH RECURSIVE n AS (SELECT price FROM fruit UNION ALL SELECT price FROM n) SELECT count(*) FROM n";
    for (query, ends) in [(sum, true), ("SELECT sum(colour) FROM fruit", true), (endless, false)] {
        let begin = Instant::now();
        let answer = ask(database, query);
        print!("{query}\n  after {:3} ms: ", begin.elapsed().as_millis());
        match &answer {
            Ok(Ok(number)) => println!("{number}"),
            Ok(Err(error)) => println!("{error}"),
            Err(late) => println!("{late}"),
        }
        assert_eq!(answer.is_ok(), ends);
    }

    // The lock of the endless reader went with its process.
    mine.execute("INSERT INTO fruit VALUES ('plum', 4)", [])?;
    let total: i64 = mine.query_row(sum, [], |row| row.get(0))?;
    println!("the caller's own connection, open all the while, has added a plum: {total}");
    Ok(())
}
