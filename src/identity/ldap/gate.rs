//! What stands between the directory's bytes and the library, whose BER reader recurses without limit: a crafted answer would end
//! the process, and no task can catch that. Only whole, shallow and not too long messages get through.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// Longest message, in bytes: a group with a hundred thousand members fits.
const LONGEST: usize = 8 << 20;

/// Deepest nesting of a message; honest answers need seven levels.
const DEEPEST: usize = 16;

/// Carries requests to the server and checked answers back, until either side ends.
pub async fn relay(server: impl AsyncRead + AsyncWrite, library: UnixStream) -> io::Result<()> {
    let (from_server, mut to_server) = tokio::io::split(server);
    let (mut from_library, mut to_library) = library.into_split();
    let mut from_server = BufReader::new(from_server);
    let answers = async {
        loop {
            let message = read_message(&mut from_server).await?;
            to_library.write_all(&message).await?;
        }
    };
    tokio::select! {
        ended = answers => ended,
        ended = tokio::io::copy(&mut from_library, &mut to_server) => ended.map(|_| ()),
    }
}

/// One LDAPMessage (RFC 4511 section 4.1.1), and not a byte more.
pub async fn read_message(server: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not an LDAP message");
    let mut message = vec![server.read_u8().await?, server.read_u8().await?];
    let length = match message.as_slice() {
        [0x30, short @ 0..=0x7f] => usize::from(*short),
        [0x30, long @ 0x81..=0x84] => {
            let mut length = 0;
            for _ in 0x80..*long {
                let byte = server.read_u8().await?;
                message.push(byte);
                length = length << 8 | usize::from(byte);
            }
            length
        }
        _ => return Err(malformed()),
    };
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an LDAP message longer than 8 MB"));
    }
    let read = server.take(length as u64).read_to_end(&mut message).await?;
    if read < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if is_shallow(&message) { Ok(message) } else { Err(malformed()) }
}

/// Whether BER of definite lengths is whole and nested no deeper than [`DEEPEST`]. Does not recurse.
pub fn is_shallow(bytes: &[u8]) -> bool {
    let (mut at, mut ends) = (0, vec![bytes.len()]);
    while let Some(&end) = ends.last() {
        if at == end {
            ends.pop();
            continue;
        }
        match header(bytes, at) {
            Some((_, _, stop)) if stop > end => return false,
            Some((true, _, _)) if ends.len() > DEEPEST => return false,
            Some((true, start, stop)) => {
                ends.push(stop);
                at = start;
            }
            Some((false, _, stop)) => at = stop,
            None => return false,
        }
    }
    true
}

/// Whether the element at `at` is constructed, and where its content starts and stops.
fn header(bytes: &[u8], at: usize) -> Option<(bool, usize, usize)> {
    let constructed = bytes.get(at)? & 0x20 != 0;
    let (start, length) = match *bytes.get(at + 1)? {
        short @ 0..=0x7f => (at + 2, usize::from(short)),
        long @ 0x81..=0x84 => {
            let start = at + 2 + usize::from(long - 0x80);
            (start, bytes.get(at + 2..start)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
        _ => return None,
    };
    Some((constructed, start, start.checked_add(length)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whole_and_shallow_passes_and_nothing_else() {
        for good in [&[][..], &[0x30, 0], &[0x30, 3, 2, 1, 5], &[0x30, 0x81, 2, 4, 0], &[4, 2, 0x30, 0x84]] {
            assert!(is_shallow(good), "{good:02x?}");
        }
        for bad in [&[0x30][..], &[0x30, 1, 2], &[0x30, 3, 2, 2, 5], &[0x30, 0x80, 0, 0], &[0x30, 0x85, 0, 0, 0, 0, 0], &[0x30, 1]] {
            assert!(!is_shallow(bad), "{bad:02x?}");
        }
        assert!(is_shallow(&super::super::tests::nested(DEEPEST)));
        assert!(!is_shallow(&super::super::tests::nested(DEEPEST + 1)));
        assert!(!is_shallow(&super::super::tests::nested(200_000)));
    }

    proptest! {
        #[test]
        fn what_passes_is_what_the_library_reads_whole(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0x30), 0u8..6], 0..40)) {
            if is_shallow(&bytes) && !bytes.is_empty() {
                prop_assert!(lber::parse::parse_tag(&bytes).is_ok());
            }
        }
    }

    #[test]
    fn fuzz_ber() {
        let seeds = vec![
            vec![0x30, 0x0c, 0x02, 0x01, 0x01, 0x61, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00],
            vec![0x30, 0x84, 0, 0, 0, 0x0a, 0xa0, 0x08, 0x30, 0x06, 0x04, 0x01, 0x61, 0x81, 0x01, 0x05],
            vec![0x30, 0x08, 0xa0, 0x03, 0x81, 0x01, 0x00, 0x81, 0x01, 0x01],
            super::super::tests::nested(DEEPEST),
        ];
        crate::fuzz::survives(crate::fuzz::hostile(seeds), |bytes| {
            if is_shallow(&bytes) && !bytes.is_empty() {
                prop_assert!(lber::parse::parse_tag(&bytes).is_ok());
            }
            let _ = super::super::ppolicy::read(&bytes);
            Ok(())
        });
    }
}
