//! One call of a stack: what is known of an address, and whose code it is.

use std::{env, fmt};

use super::{
    modules::Module,
    symbols::{self, Symbol},
};

/// One call that was under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    address: u64,
    symbol: Symbol,
    module: Option<Module>,
    is_users: bool,
}

/// Who looks at a trace: what the frames cannot say of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// The function of the body, as its type names it.
    pub(crate) function: &'static str,
    /// The file of the call, relative to where the compiler ran.
    pub(crate) file: &'static str,
}

impl Frame {
    /// Gives an address inside the instruction that was under way, as the child saw it.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Gives the path of the function; `None` where the program has no names.
    #[must_use]
    pub fn function(&self) -> Option<&str> {
        self.symbol.function.as_deref()
    }

    /// Gives the path of the source file, relative to where the compiler ran if the file is from there.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.symbol.file.as_deref()
    }

    /// Gives the line, counted from 1.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.symbol.line
    }

    /// Gives the column, counted from 1.
    #[must_use]
    pub fn column(&self) -> Option<u32> {
        self.symbol.column
    }

    /// Gives the name of the program or library that the code is in, without folders.
    #[must_use]
    pub fn module(&self) -> Option<&str> {
        self.module.as_ref().map(|module| module.name.as_str())
    }

    /// Gives the distance of the address from where its module begins in memory, in bytes; the same in every run.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.module.as_ref().map(|module| module.offset)
    }

    /// Whether it is neither std's, nor the C library's, nor of a package from a registry, as far as can be told.
    pub(crate) fn is_users(&self) -> bool {
        self.is_users
    }

    /// Whether both are the same place in the program.
    pub(crate) fn is_like(&self, other: &Frame) -> bool {
        self.symbol == other.symbol && self.module == other.module
    }

    /// The function without the closures in its path.
    fn outer_function(&self) -> Option<String> {
        self.function().map(without_closures)
    }
}

/// `app::sieve at src/main.rs:14`; with `#` on two lines, and with the column.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = if f.alternate() { self.function().map(str::to_owned) } else { self.outer_function() };
        match (function, &self.module) {
            (Some(function), _) if function.is_empty() => f.write_str("a closure")?,
            (Some(function), _) => f.write_str(&function)?,
            (None, Some(module)) => write!(f, "{}+{:#x}", module.name, module.offset)?,
            (None, None) => write!(f, "{:#x}", self.address)?,
        }
        let (Some(file), Some(line)) = (self.file(), self.line()) else { return Ok(()) };
        match (f.alternate(), self.column()) {
            (false, _) => write!(f, " at {file}:{line}"),
            (true, None) => write!(f, "\n             at {file}:{line}"),
            (true, Some(column)) => write!(f, "\n             at {file}:{line}:{column}"),
        }
    }
}

/// Looks a thread's addresses up and leaves out the frames around the user's; `find` gives where
/// the same code is in this process, if it is there, and its module.
pub(crate) fn resolve(
    stacks: &[Vec<u64>],
    is_body: bool,
    view: &View,
    find: &dyn Fn(u64) -> (Option<u64>, Option<Module>),
) -> Vec<Frame> {
    let mut frames = Vec::new();
    for (index, stack) in stacks.iter().enumerate() {
        let mut here = Vec::new();
        for &address in stack {
            let (place, module) = find(address);
            let mut symbols = place.map(symbols::resolve).unwrap_or_default();
            if symbols.is_empty() {
                symbols.push(Symbol::default());
            }
            here.extend(symbols.into_iter().map(|symbol| Frame {
                address,
                is_users: is_users(&symbol, module.as_ref()),
                symbol,
                module: module.clone(),
            }));
        }
        let mut here = between_the_marks(here);
        if index > 0 {
            // It waits for the call before: what we need for that, down to the first function of ours, is no news.
            let wait = here.iter().position(|frame| is_ours(&frame.symbol));
            here.drain(..wait.unwrap_or(0));
        }
        if is_body && index + 1 == stacks.len() {
            name_the_entry(&mut here, view);
        }
        frames.extend(here);
    }
    frames.retain(|frame| !is_ours(&frame.symbol));
    frames
}

/// std marks the inner end of a panic's stack, and the outer end of a thread's, by the names of two functions.
fn between_the_marks(mut frames: Vec<Frame>) -> Vec<Frame> {
    let position = |frames: &[Frame], mark: &str| {
        frames.iter().position(|frame| frame.function().is_some_and(|function| function.contains(mark)))
    };
    if let Some(end) = position(&frames, "__rust_begin_short_backtrace") {
        frames.truncate(end);
    }
    if let Some(begin) = position(&frames, "__rust_end_short_backtrace") {
        frames.drain(..=begin);
    }
    frames
}

/// Gives the outermost frames of the body its name, where they have none that says anything of it.
fn name_the_entry(frames: &mut [Frame], view: &View) {
    let Some(entry) = frames.iter().position(|frame| is_entry(&frame.symbol)) else { return };
    if frames.iter().any(|frame| frame.outer_function().as_deref() == Some(view.function)) {
        return;
    }
    let name = |frame: &mut Frame| {
        frame.symbol.function = Some(view.function.to_owned());
        frame.is_users = true;
    };
    let (inner, frames) = frames.split_at_mut(entry);
    match inner.last_mut() {
        // With line tables alone, a closure has no path.
        Some(body) if body.outer_function().is_some_and(|function| function.is_empty()) => name(body),
        Some(body) if body.address == frames[0].address => {}
        // The body was merged into the function of ours that calls it.
        _ => {
            frames[0].symbol = Symbol::default();
            name(&mut frames[0]);
        }
    }
}

fn is_entry(symbol: &Symbol) -> bool {
    let function = symbol.function.as_deref().unwrap_or_default();
    let function = function.strip_prefix("timeout_runtime::call::").unwrap_or(function);
    is_ours(symbol)
        && function
            .strip_prefix("enter")
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Whether a function is one of this library. With line tables alone its path is not known, but its file.
fn is_ours(symbol: &Symbol) -> bool {
    const FILE: &str = file!();
    let folder = FILE.strip_suffix("report/frame.rs").unwrap_or(FILE);
    symbol.function.as_deref().is_some_and(|function| owner(function).starts_with("timeout_runtime::"))
        || symbol.file.as_deref().is_some_and(|file| file.contains(folder))
}

fn is_users(symbol: &Symbol, module: Option<&Module>) -> bool {
    // Of the system, whatever their functions are called.
    const LIBRARIES: [&str; 10] = [
        "libc.so",
        "libc-",
        "ld-linux",
        "ld-musl",
        "libpthread",
        "libm.so",
        "libgcc_s",
        "libdl.so",
        "librt.so",
        "[vdso]",
    ];
    const FOLDERS: [&str; 3] = ["/rustc/", "/rustlib/", "/registry/src/"];
    const CRATES: [&str; 14] = [
        "std::",
        "core::",
        "alloc::",
        "timeout_runtime::",
        // With these std prints a backtrace of its own, which may be what runs out of memory.
        "addr2line::",
        "gimli::",
        "miniz_oxide::",
        "object::",
        "rustc_demangle::",
        "compiler_builtins::",
        "__rust",
        "rust_",
        "__libc_",
        "_start",
    ];
    if module.is_some_and(|module| LIBRARIES.iter().any(|library| module.name.starts_with(library))) {
        return false;
    }
    if symbol.file.as_ref().is_some_and(|file| FOLDERS.iter().any(|folder| file.contains(folder))) {
        return false;
    }
    match &symbol.function {
        Some(_) if is_ours(symbol) => false,
        Some(function) => !CRATES.iter().any(|name| owner(function).starts_with(name)),
        // Nothing is known, so that nothing speaks against it.
        None => module.is_some(),
    }
}

/// The path that says whose a function is: its own, its type's, or its trait's where the type is a parameter.
fn owner(function: &str) -> &str {
    let Some(inner) = function.strip_prefix('<') else { return function };
    let inner = inner.trim_start_matches(['<', '&', '*', '[', '(']);
    let inner = ["mut ", "const ", "dyn "].iter().fold(inner, |inner, word| inner.strip_prefix(word).unwrap_or(inner));
    match inner.split_once(" as ") {
        Some((type_name, of_trait)) if !type_name.contains("::") => of_trait,
        _ => inner,
    }
}

/// Leaves what stands for closures out of a path.
fn without_closures(function: &str) -> String {
    let is_closure = |part: &&str| part.starts_with("{closure") || part.starts_with("{{closure");
    function.split("::").filter(|part| !is_closure(part)).collect::<Vec<_>>().join("::")
}

/// Makes paths relative to where the compiler ran, or else to where the program runs.
pub(crate) fn shorten_paths<'a>(frames: impl Iterator<Item = &'a mut Frame>, view: &View) {
    let mut frames: Vec<&mut Frame> = frames.collect();
    let of_call = frames.iter().filter(|frame| frame.is_users).find_map(|frame| {
        let root = frame.file()?.strip_suffix(view.file)?;
        root.ends_with('/').then(|| root.to_owned())
    });
    let here = || env::current_dir().ok().map(|folder| format!("{}/", folder.display()));
    let Some(root) = of_call.or_else(here) else { return };
    for frame in &mut frames {
        if let Some(rest) = frame.symbol.file.as_ref().and_then(|file| file.strip_prefix(&root)) {
            frame.symbol.file = Some(rest.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, file: &str, module: &str) -> Frame {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let symbol = Symbol { function: text(function), file: text(file), line: Some(14), column: Some(9) };
        let module = text(module).map(|name| Module { name, offset: 0x1a2b, file: String::new() });
        Frame { address: 0x55_1234, is_users: is_users(&symbol, module.as_ref()), symbol, module }
    }

    #[test]
    fn the_users_code_is_told_from_that_of_others() {
        for (function, file, module, expected) in [
            ("app::sieve", "/home/u/app/src/main.rs", "app", true),
            ("app::sieve", "", "app", true),
            ("<app::Parser as core::iter::Iterator>::next", "", "app", true),
            ("inflate", "", "libz.so.1", true),
            ("", "", "app", true),
            ("", "", "", false),
            ("read", "", "libc.so.6", false),
            ("", "", "libc.so.6", false),
            ("core::hint::spin_loop", "/rustc/abc/library/core/src/hint.rs", "app", false),
            ("<alloc::vec::Vec<T> as core::clone::Clone>::clone", "", "app", false),
            ("<T as core::convert::Into<U>>::into", "", "app", false),
            ("<&T as core::fmt::Display>::fmt", "", "app", false),
            ("regex::exec", "/home/u/.cargo/registry/src/index/regex-1.0.0/src/exec.rs", "app", false),
            ("timeout_runtime::call::Call::run", "", "app", false),
            ("std::sys::thread::sleep", "", "app", false),
        ] {
            assert_eq!(frame(function, file, module).is_users(), expected, "{function} {file} {module}");
        }
    }

    #[test]
    fn a_frame_is_shown_by_what_is_known_of_it() {
        let shown = |function, file| frame(function, file, "app").to_string();
        assert_eq!(shown("app::{{closure}}::sieve::{closure#0}", "src/main.rs"), "app::sieve at src/main.rs:14");
        assert_eq!(shown("app::sieve", ""), "app::sieve");
        assert_eq!(shown("{closure#0}", "src/main.rs"), "a closure at src/main.rs:14");
        assert_eq!(shown("", ""), "app+0x1a2b");
        assert_eq!(frame("", "", "").to_string(), "0x551234");
        let listed = format!("{:#}", frame("app::sieve::{{closure}}", "src/main.rs", "app"));
        assert_eq!(listed, "app::sieve::{{closure}}\n             at src/main.rs:14:9");
    }

    #[test]
    fn paths_are_shown_as_the_compiler_was_given_them() {
        let view = View { function: "app::f", file: "src/main.rs" };
        let mut frames = [
            frame("core::hint::spin_loop", "/rustc/abc/library/core/src/main.rs", "app"),
            frame("app::parser::f", "/home/u/app/src/parser.rs", "app"),
            frame("app::f", "/home/u/app/src/main.rs", "app"),
        ];
        shorten_paths(frames.iter_mut(), &view);
        let files: Vec<_> = frames.iter().filter_map(Frame::file).collect();
        assert_eq!(files, ["/rustc/abc/library/core/src/main.rs", "src/parser.rs", "src/main.rs"]);
    }

    #[test]
    fn a_body_merged_into_its_caller_keeps_its_name() {
        let view = View { function: "app::f", file: "src/main.rs" };
        let mut merged = [frame("std::sleep", "", "app"), frame("timeout_runtime::call::enter", "", "app")];
        merged[0].address = 1;
        name_the_entry(&mut merged, &view);
        assert_eq!(merged[1].function(), Some("app::f"));
        let here = file!();
        let mut bare =
            [frame("{closure#0}", "src/main.rs", "app"), frame("enter<(), app::f::{closure_env#0}>", here, "app")];
        bare[0].address = 1;
        name_the_entry(&mut bare, &view);
        assert_eq!(bare[0].to_string(), "app::f at src/main.rs:14");
        let mut shown = [frame("app::f::{{closure}}", "", "app"), frame("timeout_runtime::call::enter", "", "app")];
        shown[0].address = 1;
        name_the_entry(&mut shown, &view);
        assert_eq!(shown[1].function(), Some("timeout_runtime::call::enter"));
    }

    #[test]
    fn the_panic_machinery_and_the_threads_beginning_are_cut_away() {
        let names =
            ["core::panicking", "std::x::__rust_end_short_backtrace", "app::f", "__rust_begin_short_backtrace", "x"];
        let frames = between_the_marks(names.iter().map(|name| frame(name, "", "app")).collect());
        assert_eq!(frames.iter().filter_map(Frame::function).collect::<Vec<_>>(), ["app::f"]);
    }
}
