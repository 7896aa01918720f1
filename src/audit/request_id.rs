//! The name of a request, in logs and in the audit trail.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names one request: eight random hexadecimal digits of this process, and the number of the request within it.
///
/// It is a number until somebody prints it, since most requests are never logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// The id of the next request.
    pub fn next() -> RequestId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        RequestId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        static PROCESS: LazyLock<u32> = LazyLock::new(|| RandomState::new().build_hasher().finish() as u32);
        write!(f, "{:08x}-{}", *PROCESS, self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_its_own_id() {
        let (one, two) = (RequestId::next(), RequestId::next());
        assert_ne!(one, two);
        let text = one.to_string();
        assert_eq!(text.split_once('-').unwrap().0.len(), 8, "{text}");
        assert_eq!(text.split_once('-').unwrap().0, two.to_string().split_once('-').unwrap().0);
    }
}
