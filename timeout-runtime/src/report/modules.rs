//! The files that a process has mapped: which of them an address belongs to, for what has no name, and where they lie.

use std::{fs, ops::Range};

/// The files that a process has mapped, as in `/proc/<pid>/maps`.
pub(crate) struct Modules(Vec<Mapping>);

struct Mapping {
    begin: u64,
    end: u64,
    is_code: bool,
    is_read_only: bool,
    /// Whether it begins where the file does.
    is_first: bool,
    /// The device and the number of the file on it.
    file: String,
    path: String,
}

impl Mapping {
    fn name(&self) -> Option<&str> {
        self.path.trim_end_matches(" (deleted)").rsplit('/').next()
    }
}

/// A file that is mapped, and a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Without its folders.
    pub(crate) name: String,
    /// Counted from where the file begins in memory: the same in every run.
    pub(crate) offset: u64,
    /// Tells it from another file that has taken its name.
    pub(crate) file: String,
}

impl Modules {
    /// Those of this process; none where `/proc` cannot be read.
    pub(crate) fn of_this_process() -> Modules {
        Modules::parse(&fs::read_to_string("/proc/self/maps").unwrap_or_default())
    }

    pub(crate) fn parse(maps: &str) -> Modules {
        Modules(maps.lines().filter_map(mapping).collect())
    }

    /// Where this process, whose they are, has files that are only read.
    pub(crate) fn read_only(&self) -> impl Iterator<Item = Range<usize>> {
        let of_files = self.0.iter().filter(|mapping| mapping.is_read_only && mapping.path.starts_with('/'));
        let range = |mapping: &Mapping| Some(mapping.begin.try_into().ok()?..mapping.end.try_into().ok()?);
        of_files.filter_map(range)
    }

    /// The file that `address` is in.
    pub(crate) fn find(&self, address: u64) -> Option<Module> {
        let mapping = self.0.iter().find(|mapping| (mapping.begin..mapping.end).contains(&address))?;
        let base = self.0.iter().filter(|other| other.is_first && other.path == mapping.path).map(|other| other.begin);
        // Whoever reads the file has mapped it, too: what is code begins at the nearest.
        let base = base.filter(|base| *base <= address).max()?;
        Some(Module { name: mapping.name()?.to_owned(), offset: address - base, file: mapping.file.clone() })
    }

    /// The address of a place in a file that another process has mapped, if this one has mapped the very file.
    pub(crate) fn address_of(&self, module: &Module) -> Option<u64> {
        let is_same = |mapping: &&Mapping| mapping.file == module.file && mapping.name() == Some(&*module.name);
        let bases = self.0.iter().filter(is_same).filter(|mapping| mapping.is_first).map(|mapping| mapping.begin);
        let is_code = |address: &u64| {
            let mut code = self.0.iter().filter(is_same).filter(|mapping| mapping.is_code);
            code.any(|mapping| (mapping.begin..mapping.end).contains(address))
        };
        bases.filter_map(|base| base.checked_add(module.offset)).find(is_code)
    }
}

/// Reads a line such as `55d0-55f0 r-xp 00001000 08:01 77  /usr/bin/x`. What is no file has no path, or one in brackets.
fn mapping(line: &str) -> Option<Mapping> {
    let (begin, rest) = line.split_once('-')?;
    let (end, rest) = rest.split_once(' ')?;
    let (rights, rest) = rest.split_once(' ')?;
    let (offset, rest) = rest.split_once(' ')?;
    let (device, rest) = rest.split_once(' ')?;
    let (number, path) = rest.split_once(' ')?;
    let is_first = offset.bytes().all(|digit| digit == b'0');
    let (is_code, is_read_only) = (rights.contains('x'), rights.starts_with("r-"));
    let (file, path) = (format!("{device} {number}"), path.trim_start());
    let is_file = path.starts_with('/') || path == "[vdso]";
    let (begin, end) = (u64::from_str_radix(begin, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    let path = path.to_owned();
    (is_file && begin < end).then_some(Mapping { begin, end, is_code, is_read_only, is_first, file, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d000-55e000 r--p 00000000 08:01 77                         /usr/bin/an app
55e000-560000 r-xp 00001000 08:01 77                         /usr/bin/an app
7f0000-7f1000 rw-p 00000000 00:00 0
7f1000-7f2000 r-xp 00000000 08:01 9                          /tmp/lib.so (deleted)
7f2000-7f3000 ---p 00001000 08:01 9                          /tmp/lib.so (deleted)
7f3000-7f4000 rw-p 00001000 08:01 9                          /tmp/lib.so (deleted)
7ff000-7ff800 r-xp 00000000 00:00 0                          [vdso]
7ff800-7ff900 rw-p 00000000 00:00 0                          [stack]
ffff-fffe r-xp 00000000 00:00 0                              /wrong
junk";

    #[test]
    fn an_address_is_told_by_its_file_and_its_distance_from_the_beginning() {
        let modules = Modules::parse(MAPS);
        let found = |address| modules.find(address).map(|module| format!("{}+{:#x}", module.name, module.offset));
        assert_eq!(found(0x55_e010).as_deref(), Some("an app+0x1010"));
        assert_eq!(found(0x7f_1001).as_deref(), Some("lib.so+0x1"));
        assert_eq!(found(0x7f_f001).as_deref(), Some("[vdso]+0x1"));
        assert_eq!(found(0x7f_0001), None);
        assert_eq!(found(0x7f_f801), None);
        assert_eq!(found(1), None);
    }

    #[test]
    fn a_file_that_somebody_reads_as_well_keeps_its_beginning() {
        let read = |begin: &str| format!("{begin} r--p 00000000 08:01 77    /usr/bin/an app\n");
        let modules = Modules::parse(&[read("100000-109000"), MAPS.to_owned(), read("7fff00-7fffff")].join("\n"));
        let module = modules.find(0x55_e010).unwrap();
        assert_eq!(module.offset, 0x1010);
        assert_eq!(modules.address_of(&module), Some(0x55_e010));
    }

    #[test]
    fn a_place_is_found_again_where_the_same_file_is_mapped_elsewhere() {
        let modules = Modules::parse(MAPS);
        let elsewhere = |file: &str| Modules::parse(&format!("10000-20000 r-xp 00000000 {file}   /tmp/lib.so"));
        let module = modules.find(0x7f_1001).unwrap();
        assert_eq!(elsewhere("08:01 9").address_of(&module), Some(0x1_0001));
        // Another file has taken the name, or the file is mapped in part.
        assert_eq!(elsewhere("08:01 8").address_of(&module), None);
        assert_eq!(elsewhere("08:02 9").address_of(&module), None);
        assert_eq!(elsewhere("08:01 9").address_of(&Module { offset: 0x1_0000, ..module.clone() }), None);
        assert_eq!(elsewhere("08:01 9").address_of(&Module { offset: u64::MAX, ..module }), None);
        let app = modules.find(0x55_e010).unwrap();
        assert_eq!(modules.address_of(&app), Some(0x55_e010));
        assert_eq!(elsewhere("08:01 9").address_of(&app), None);
    }

    #[test]
    fn what_is_written_or_closed_or_no_file_is_not_only_read() {
        let read_only: Vec<_> = Modules::parse(MAPS).read_only().collect();
        assert_eq!(read_only, [0x55_d000..0x55_e000, 0x55_e000..0x56_0000, 0x7f_1000..0x7f_2000]);
    }

    #[test]
    fn this_program_is_mapped_in_itself() {
        let here = an_address_is_told_by_its_file_and_its_distance_from_the_beginning as *const () as u64;
        assert!(Modules::of_this_process().find(here).is_some());
    }
}
