//! Whether a file is still the one that was read.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What changes when a file is written, touched or replaced, also by a link that leads elsewhere now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Option<[i128; 5]>);

impl Stamp {
    /// To be taken before the file is read: what is written in between is then seen the next time.
    pub fn of(path: &Path) -> Stamp {
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Stamp(std::fs::metadata(path).ok().map(|m| {
            let times = [nanos(m.mtime(), m.mtime_nsec()), nanos(m.ctime(), m.ctime_nsec())];
            [m.dev().into(), m.ino().into(), m.len().into(), times[0], times[1]]
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_linked_elsewhere_or_gone_it_is_another() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = |name: &str| directory.path().join(name);
        std::fs::write(file("a"), "same").unwrap();
        std::fs::write(file("b"), "same").unwrap();
        std::os::unix::fs::symlink("a", file("link")).unwrap();
        let first = Stamp::of(&file("link"));
        assert_eq!(first, Stamp::of(&file("a")));
        std::fs::remove_file(file("link")).unwrap();
        std::os::unix::fs::symlink("b", file("link")).unwrap();
        assert_ne!(first, Stamp::of(&file("link")));
        std::fs::rename(file("b"), file("a")).unwrap();
        assert_ne!(first, Stamp::of(&file("a")));
        assert_eq!(Stamp::of(&file("b")), Stamp::of(&file("c")), "neither is there");
    }
}
