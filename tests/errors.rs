//! The usual errors without serde come back from a body: texts, kind, OS code, every source.

mod common;

use std::{
    error::Error,
    fmt, fs,
    io::{self, Read},
    num::ParseIntError,
    time::{Duration, Instant},
};

use common::{
    LONG, Mark, SOON, Start, assert_fails,
    chain::{Opaque, chain, deep, find_io},
};
use timeout_runtime::{Cancel, Ran, Reason, RemoteError, call, timeout};

common::scenarios_everywhere![
    an_io_error_comes_back_with_kind_code_and_text,
    a_boxed_error_comes_back_with_all_its_sources,
    an_anyhow_error_comes_back_with_all_its_contexts,
    an_eyre_report_comes_back_with_all_its_contexts,
    errors_inside_the_ok_come_back,
    arguments_are_written_back_beside_an_error,
];

// Their errors come from closures that have something with them.
common::scenarios_by_fork![
    a_value_beside_an_error_is_whole_whatever_its_size,
    every_option_goes_with_an_error,
    a_failed_call_is_told_from_an_error_of_the_body,
    a_chain_without_an_end_comes_back_cut,
    a_remote_error_travels_in_any_format,
];

/// The attribute's limit: nothing in a passing test meets it.
const AMPLE: Duration = LONG;

/// The same functions by each start method.
macro_rules! functions {
    ($($start:ident)?) => {
        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn read(path: &str) -> io::Result<String> {
            fs::read_to_string(path)
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn io_error(number: u8) -> Result<u8, io::Error> {
            match number {
                0 => Err(io::ErrorKind::WriteZero.into()),
                1 => Err(io::Error::new(io::ErrorKind::InvalidData, "not a list")),
                2 => Err(io::Error::other(deep())),
                3 => (&[] as &[u8]).read_exact(&mut [0]).map(|()| 0),
                number => Ok(number),
            }
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn boxed(text: &str) -> Result<i32, Box<dyn Error + Send + Sync>> {
            match text {
                "" => Err("nothing to read".into()),
                "deep" => Err(deep().into()),
                "os" => Err(io::Error::from_raw_os_error(13).into()),
                text => Ok(text.parse()?),
            }
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn boxed_for_one_thread(text: &str) -> Result<i32, Box<dyn Error>> {
            Ok(text.parse()?)
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn anyhow_error(number: u8) -> anyhow::Result<u8> {
            match number {
                0 => Err(with_contexts()),
                1 => anyhow::bail!("no {number}"),
                2 => Err(anyhow::Error::new(deep()).context("around")),
                3 => Err(io::Error::from_raw_os_error(4).into()),
                number => Ok(number),
            }
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn eyre_report(number: u8) -> eyre::Result<u8> {
            match number {
                0 => Err(report()),
                1 => eyre::bail!("no {number}"),
                2 => Err(eyre::Report::new(deep()).wrap_err("around")),
                number => Ok(number),
            }
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn read_all(paths: &[String]) -> Vec<io::Result<String>> {
            paths.iter().map(fs::read_to_string).collect()
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn read_first(paths: &[String]) -> Option<io::Result<String>> {
            paths.first().map(fs::read_to_string)
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn io_in_serde(path: &str) -> Result<io::Result<String>, String> {
            if path.is_empty() { Err("no path".into()) } else { Ok(fs::read_to_string(path)) }
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn io_in_anyhow(paths: &[String]) -> anyhow::Result<Vec<io::Result<String>>> {
            anyhow::ensure!(!paths.is_empty(), "no paths");
            Ok(paths.iter().map(fs::read_to_string).collect())
        }

        #[timeout(AMPLE $(, start = $start)?)]
        pub(super) fn serde_in_io(path: &str) -> io::Result<Result<i32, String>> {
            Ok(fs::read_to_string(path)?.trim().parse::<i32>().map_err(|error| error.to_string()))
        }

        #[timeout(limit $(, start = $start)?)]
        pub(super) fn fill(limit: Duration, buffer: &mut Vec<u8>, path: &str) -> io::Result<usize> {
            buffer.push(1);
            if path.is_empty() {
                std::thread::sleep(Duration::from_secs(600));
            }
            fs::File::open(path)?.read_to_end(buffer)
        }
    };
}

common::by_each_start_method!(functions);

fn an_io_error_comes_back_with_kind_code_and_text(start: Start) {
    let read = common::by!(start, read);
    let io_error = common::by!(start, io_error);
    let check = |error: io::Error| {
        assert_eq!((error.kind(), error.raw_os_error()), (io::ErrorKind::NotFound, Some(2)));
        assert_eq!(error.to_string(), io::Error::from_raw_os_error(2).to_string());
    };
    check(read("/no/such/file").unwrap().unwrap_err());
    check(start.call(LONG).run_result(|| fs::read("/no/such/file")).unwrap().unwrap_err());
    assert!(read("/proc/self/comm").unwrap().is_ok());

    let error = |number| io_error(number).unwrap().unwrap_err();
    assert_eq!((error(0).kind(), error(0).get_ref().is_none()), (io::ErrorKind::WriteZero, true));
    assert_eq!((error(1).kind(), error(1).to_string()), (io::ErrorKind::InvalidData, "not a list".into()));
    assert_eq!(format!("{:?}", error(1)), "Custom { kind: InvalidData, error: \"not a list\" }");
    assert_eq!(chain(&error(2)), chain(&io::Error::other(deep())));
    assert_eq!(
        (error(3).kind(), &*error(3).to_string()),
        (io::ErrorKind::UnexpectedEof, "failed to fill whole buffer")
    );
    assert_eq!(io_error(9).unwrap().unwrap(), 9);
}

fn a_boxed_error_comes_back_with_all_its_sources(start: Start) {
    let boxed = common::by!(start, boxed);
    let boxed_for_one_thread = common::by!(start, boxed_for_one_thread);
    assert_eq!(boxed("12").unwrap().unwrap(), 12);
    let error = boxed("").unwrap().unwrap_err();
    assert_eq!((error.to_string(), format!("{error:?}")), ("nothing to read".into(), "\"nothing to read\"".into()));
    let error = boxed("x").unwrap().unwrap_err();
    let original = "x".parse::<i32>().unwrap_err();
    assert_eq!(chain(&*error), chain(&original));
    assert!(error.is::<RemoteError>() && !error.is::<ParseIntError>());

    let error = boxed("deep").unwrap().unwrap_err();
    assert_eq!(chain(&*error), chain(&deep()));
    assert_eq!(chain(&*error).len(), 3);
    let io = find_io(&*error).unwrap();
    assert_eq!(io.kind(), io::ErrorKind::PermissionDenied);
    let inner = io.get_ref().and_then(|inner| find_io(inner)).unwrap();
    assert_eq!(inner.raw_os_error(), Some(2));

    let error = boxed("os").unwrap().unwrap_err().downcast::<io::Error>().unwrap();
    assert_eq!(error.raw_os_error(), Some(13));
    assert_eq!(boxed_for_one_thread("x").unwrap().unwrap_err().to_string(), original.to_string());
    let body = || Err::<(), Box<dyn Error + Send>>(Box::new(deep()));
    assert_eq!(chain(&*start.call(LONG).run_result(body).unwrap().unwrap_err()), chain(&deep()));
}

fn with_contexts() -> anyhow::Error {
    anyhow::Error::from(io::Error::from_raw_os_error(2))
        .context("opening the list")
        .context(Opaque { step: "start", source: None })
}

fn an_anyhow_error_comes_back_with_all_its_contexts(start: Start) {
    let anyhow_error = common::by!(start, anyhow_error);
    let error = |number| anyhow_error(number).unwrap().unwrap_err();
    let same = |back: &anyhow::Error, original: &anyhow::Error| {
        assert_eq!(format!("{back}"), format!("{original}"));
        assert_eq!(format!("{back:#}"), format!("{original:#}"));
        assert_eq!(format!("{back:?}"), format!("{original:?}"));
        assert_eq!(back.chain().len(), original.chain().len());
    };
    same(&error(0), &with_contexts());
    assert_eq!(error(0).downcast_ref::<io::Error>().and_then(io::Error::raw_os_error), Some(2));
    assert_eq!(format!("{:?}", error(0).downcast_ref::<RemoteError>().unwrap()), format!("{:?}", with_contexts()));
    same(&error(1), &anyhow::anyhow!("no 1"));
    same(&error(2), &anyhow::Error::new(deep()).context("around"));
    assert_eq!(error(2).downcast_ref::<io::Error>().map(io::Error::kind), Some(io::ErrorKind::PermissionDenied));
    assert_eq!(error(2).chain().filter(|link| link.is::<io::Error>()).count(), 2);
    assert_eq!(error(3).downcast::<io::Error>().unwrap().raw_os_error(), Some(4));
    assert_eq!(anyhow_error(9).unwrap().unwrap(), 9);
    let body = || -> anyhow::Result<()> { Err(with_contexts()) };
    same(&start.call(LONG).run_result(body).unwrap().unwrap_err(), &with_contexts());
}

fn report() -> eyre::Report {
    eyre::Report::from(io::Error::from_raw_os_error(2)).wrap_err("opening the list").wrap_err("starting")
}

fn an_eyre_report_comes_back_with_all_its_contexts(start: Start) {
    let eyre_report = common::by!(start, eyre_report);
    let error = |number| eyre_report(number).unwrap().unwrap_err();
    // eyre's own hook adds the place of the line that made the report, which is the one here.
    let lines = |report: &eyre::Report| format!("{report:?}").lines().filter(|line| !line.contains(".rs:")).count();
    let same = |back: &eyre::Report, original: &eyre::Report| {
        assert_eq!(format!("{back}"), format!("{original}"));
        assert_eq!(format!("{back:#}"), format!("{original:#}"));
        assert_eq!(back.chain().len(), original.chain().len());
        assert_eq!(lines(back), lines(original));
    };
    same(&error(0), &report());
    assert_eq!(error(0).downcast_ref::<io::Error>().and_then(io::Error::raw_os_error), Some(2));
    same(&error(1), &eyre::eyre!("no 1"));
    same(&error(2), &eyre::Report::new(deep()).wrap_err("around"));
    assert_eq!(eyre_report(9).unwrap().unwrap(), 9);
}

fn errors_inside_the_ok_come_back(start: Start) {
    let read_all = common::by!(start, read_all);
    let read_first = common::by!(start, read_first);
    let io_in_serde = common::by!(start, io_in_serde);
    let io_in_anyhow = common::by!(start, io_in_anyhow);
    let serde_in_io = common::by!(start, serde_in_io);
    const MISSING: &str = "/no/such/file";
    let paths = |paths: &[&str]| -> Vec<String> { paths.iter().map(|path| (*path).to_owned()).collect() };
    let missing = |error: &io::Error| error.raw_os_error() == Some(2);
    let all = read_all(&paths(&[MISSING, "/dev/null", MISSING])).unwrap();
    assert!(matches!(&*all, [Err(a), Ok(text), Err(b)] if missing(a) && text.is_empty() && missing(b)));
    assert!(matches!(read_first(&paths(&[MISSING])).unwrap(), Some(Err(error)) if missing(&error)));
    assert!(read_first(&[]).unwrap().is_none());
    assert!(matches!(io_in_serde(MISSING).unwrap(), Ok(Err(error)) if missing(&error)));
    assert!(matches!(io_in_serde("").unwrap(), Err(text) if text == "no path"));
    let all = io_in_anyhow(&paths(&[MISSING, "/dev/null"])).unwrap().unwrap();
    assert!(matches!(&*all, [Err(error), Ok(_)] if missing(error)));
    assert_eq!(io_in_anyhow(&[]).unwrap().unwrap_err().to_string(), "no paths");
    assert!(matches!(serde_in_io(MISSING).unwrap(), Err(error) if missing(&error)));
    assert!(serde_in_io("/proc/self/comm").unwrap().unwrap().is_err());
}

fn a_value_beside_an_error_is_whole_whatever_its_size(start: Start) {
    for size in [0, 1, 4096, 65_537, 16 << 20] {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
        let back = start.call(LONG).run_result(|| io::Result::Ok(bytes.clone())).unwrap().unwrap();
        assert!(back == bytes, "{size} bytes");
        let text = "ž".repeat(size / 2);
        let back = start.call(LONG).run_result(|| Err::<(), _>(io::Error::other(text.clone()))).unwrap().unwrap_err();
        assert!(back.to_string() == text, "{size} bytes");
    }
}

fn arguments_are_written_back_beside_an_error(start: Start) {
    let fill = common::by!(start, fill);
    let mut buffer = vec![];
    assert_eq!(fill(LONG, &mut buffer, "/dev/null").unwrap().unwrap(), 0);
    assert_eq!(fill(LONG, &mut buffer, "/no/such/file").unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
    // An error of the body is a value: what was changed before is kept.
    assert_eq!(buffer, [1, 1]);
    assert!(fill(Duration::from_millis(50), &mut buffer, "").unwrap_err().is_late());
    assert_eq!(buffer, [1, 1]);
}

#[timeout(AMPLE, grace = 1, panic = "resume", cancel = token, start = fork)]
fn with_options(token: &Cancel, panics: bool) -> io::Result<()> {
    assert!(!panics, "on purpose");
    Err(io::Error::from_raw_os_error(1))
}

fn every_option_goes_with_an_error(start: Start) {
    let token = Cancel::new();
    assert_eq!(with_options(&token, false).unwrap().unwrap_err().raw_os_error(), Some(1));
    let payload = std::panic::catch_unwind(|| with_options(&token, true)).unwrap_err();
    assert!(payload.downcast_ref::<String>().unwrap().starts_with("on purpose"));
    token.cancel();
    assert_fails!(with_options(&token, false), Reason::Cancelled, Ran::No);
    let body = || -> io::Result<()> { panic!("on purpose") };
    assert!(std::panic::catch_unwind(|| start.call(LONG).resume_panics().run_result(body)).is_err());
}

fn a_failed_call_is_told_from_an_error_of_the_body(start: Start) {
    let limit = Duration::from_millis(100);
    let mark = Mark::new();
    let begin = Instant::now();
    let line = line!() + 1;
    let late = start.call(limit).run_result(|| -> io::Result<()> {
        mark.now();
        std::thread::sleep(Duration::from_secs(600));
        Ok(())
    });
    let elapsed = begin.elapsed();
    let error = assert_fails!(late, Reason::Late { .. }, Ran::Maybe);
    assert!(mark.is_told() && elapsed >= limit && elapsed < SOON, "{elapsed:?}");
    assert_eq!((error.called_from().file(), error.called_from().line()), (file!(), line));
    let body = || -> io::Result<()> { panic!("on purpose") };
    let error = assert_fails!(start.call(LONG).run_result(body), Reason::Panicked { .. }, Ran::Yes);
    assert!(error.function().ends_with("a_failed_call_is_told_from_an_error_of_the_body"), "{}", error.function());
    let body = || -> io::Result<()> { std::process::exit(3) };
    assert_fails!(start.call(LONG).run_result(body), Reason::Exited { code: 3, .. }, Ran::Yes);
}

fn a_chain_without_an_end_comes_back_cut(start: Start) {
    #[derive(Debug)]
    struct Endless;
    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("again")
        }
    }
    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }
    let error = start.call(LONG).run_result(|| Err::<(), Box<dyn Error + Send + Sync>>(Box::new(Endless))).unwrap();
    let texts = chain(&*error.unwrap_err());
    assert_eq!(texts.iter().filter(|text| *text == "again | Endless").count(), 128);
    assert_eq!(texts.len(), 129);
    assert!(texts[128].contains("goes on"), "{}", texts[128]);
}

fn a_remote_error_travels_in_any_format(_: Start) {
    let json = serde_json::to_string(&RemoteError::of(&deep())).unwrap();
    let back: RemoteError = serde_json::from_str(&json).unwrap();
    assert_eq!(chain(&back), chain(&deep()));
    for junk in
        ["[]", r#"[{"Around":{"LikeOs":100000}},{"Os":1}]"#, r#"[{"Os":1},{"Os":1}]"#, r#"[{"Around":"Other"}]"#]
    {
        assert!(serde_json::from_str::<RemoteError>(junk).is_err(), "{junk}");
    }
    // It is a value like any other, too.
    assert_eq!(chain(&call(LONG, || RemoteError::of(&deep())).unwrap()), chain(&deep()));
}
