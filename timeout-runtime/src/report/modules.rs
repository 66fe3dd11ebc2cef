//! Which file of a process an address belongs to, for what has no name.

use std::fs;

/// The files that a process has mapped, as in `/proc/<pid>/maps`.
pub(crate) struct Modules(Vec<Mapping>);

struct Mapping {
    begin: u64,
    end: u64,
    path: String,
}

/// A file that is mapped, and a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Without its folders.
    pub(crate) name: String,
    /// Counted from where the file begins in memory: the same in every run.
    pub(crate) offset: u64,
}

impl Modules {
    /// Those of this process; none where `/proc` cannot be read.
    pub(crate) fn of_this_process() -> Modules {
        Modules::parse(&fs::read_to_string("/proc/self/maps").unwrap_or_default())
    }

    pub(crate) fn parse(maps: &str) -> Modules {
        Modules(maps.lines().filter_map(mapping).collect())
    }

    /// The file that `address` is in.
    pub(crate) fn find(&self, address: u64) -> Option<Module> {
        let mapping = self.0.iter().find(|mapping| (mapping.begin..mapping.end).contains(&address))?;
        let base = self.0.iter().filter(|other| other.path == mapping.path).map(|other| other.begin).min()?;
        let name = mapping.path.trim_end_matches(" (deleted)").rsplit('/').next()?;
        Some(Module { name: name.to_owned(), offset: address - base })
    }
}

/// Reads a line such as `55d0-55f0 r-xp 00001000 08:01 77  /usr/bin/x`. What is no file has no path, or one in brackets.
fn mapping(line: &str) -> Option<Mapping> {
    let (begin, rest) = line.split_once('-')?;
    let (end, rest) = rest.split_once(' ')?;
    let path = rest.splitn(4, ' ').nth(3)?.split_once(' ')?.1.trim_start();
    let is_code = path.starts_with('/') || path == "[vdso]";
    let (begin, end) = (u64::from_str_radix(begin, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    (is_code && begin < end).then(|| Mapping { begin, end, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d000-55e000 r--p 00000000 08:01 77                         /usr/bin/an app
55e000-560000 r-xp 00001000 08:01 77                         /usr/bin/an app
7f0000-7f1000 rw-p 00000000 00:00 0
7f1000-7f2000 r-xp 00000000 08:01 9                          /tmp/lib.so (deleted)
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
    fn this_program_is_mapped_in_itself() {
        let here = an_address_is_told_by_its_file_and_its_distance_from_the_beginning as *const () as u64;
        assert!(Modules::of_this_process().find(here).is_some());
    }
}
