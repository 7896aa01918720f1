//! Reads LDAP requests out of the bytes of one connection. TLS is no LDAP: of it nothing is read.

use super::proxy::Request;

/// What has come of the next request.
#[derive(Debug, Default)]
pub struct Requests {
    pending: Vec<u8>,
    /// These bytes are something else.
    other: bool,
}

impl Requests {
    /// The requests that these bytes complete.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Request> {
        let mut found = Vec::new();
        if self.other {
            return found;
        }
        self.pending.extend_from_slice(bytes);
        while let Some(&first) = self.pending.first() {
            if first != 0x30 {
                self.other = true;
                break;
            }
            let Some((start, stop)) = element(&self.pending) else { break };
            found.push(request(&self.pending[start..stop]));
            self.pending.drain(..stop);
        }
        found
    }
}

/// Where the content of the first element starts and stops, if all of it is there.
fn element(bytes: &[u8]) -> Option<(usize, usize)> {
    let (start, length) = match *bytes.get(1)? {
        short @ 0..=0x7f => (2, usize::from(short)),
        long => {
            let start = 2 + usize::from(long & 0x7f);
            (start, bytes.get(2..start)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
    };
    (start + length <= bytes.len()).then_some((start, start + length))
}

/// The content of an LDAPMessage: its number, then the operation. A BindRequest holds a version and a name.
fn request(message: &[u8]) -> Request {
    let bind = || {
        let operation = message.get(element(message)?.1..)?;
        if operation.first() != Some(&0x60) {
            return None;
        }
        let (start, stop) = element(operation)?;
        let fields = &operation[start..stop];
        let name = fields.get(element(fields)?.1..)?;
        let (start, stop) = element(name)?;
        Some(String::from_utf8_lossy(&name[start..stop]).into_owned())
    };
    bind().map_or(Request::Other, Request::Bind)
}
