//! The text of a name, read byte by byte (RFC 4514 section 3).

use super::{Attribute, DnError, hex, short_name};

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Reader<'a> {
        Reader { bytes: text.as_bytes(), at: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    pub(super) fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// One `type=value`; stops before the separator that follows it, or at the end.
    pub(super) fn attribute(&mut self) -> Result<Attribute, DnError> {
        let kind = self.kind()?;
        self.skip_spaces();
        if self.peek() == Some(b'#') {
            return self.hex_string(kind);
        }
        let bytes = self.value()?;
        Ok(Attribute::new(kind, bytes))
    }

    fn kind(&mut self) -> Result<String, DnError> {
        self.skip_spaces();
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.') {
            self.at += 1;
        }
        let name = self.bytes.get(start..self.at).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        let short = short_name(name);
        let well_formed = match short.bytes().next() {
            Some(b'0'..=b'9') => short.split('.').all(|arc| !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit())),
            Some(b'a'..=b'z') => !short.contains('.'),
            _ => false,
        };
        self.skip_spaces();
        if !well_formed || self.next() != Some(b'=') {
            return Err(DnError::AttributeType(start));
        }
        Ok(short)
    }

    fn value(&mut self) -> Result<Vec<u8>, DnError> {
        let mut value = Vec::new();
        // Spaces before a separator do not belong to the value, unless they were escaped.
        let mut kept = 0;
        while let Some(byte) = self.peek() {
            let here = self.at;
            match byte {
                b',' | b'+' => break,
                b'"' | b';' | b'<' | b'>' => return Err(DnError::Unescaped(here, char::from(byte))),
                0 => return Err(DnError::Nul(here)),
                b'\\' => {
                    self.at += 1;
                    value.push(self.escape(here)?);
                    kept = value.len();
                }
                _ => {
                    self.at += 1;
                    value.push(byte);
                    if byte != b' ' {
                        kept = value.len();
                    }
                }
            }
        }
        value.truncate(kept);
        Ok(value)
    }

    fn escape(&mut self, backslash: usize) -> Result<u8, DnError> {
        let first = self.next().ok_or(DnError::Escape(backslash))?;
        if matches!(first, b'\\' | b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'=' | b'#' | b' ') {
            return Ok(first);
        }
        let pair = hex_digit(first).zip(self.next().and_then(hex_digit));
        pair.map(|(high, low)| high << 4 | low).ok_or(DnError::Escape(backslash))
    }

    /// `#` and the BER encoding of a value. Strings are decoded, so that they equal the same value written as text.
    fn hex_string(&mut self, kind: String) -> Result<Attribute, DnError> {
        let start = self.at;
        self.at += 1;
        let mut ber = Vec::new();
        while let Some(high) = self.peek().and_then(hex_digit) {
            self.at += 1;
            let low = self.next().and_then(hex_digit).ok_or(DnError::HexString(start))?;
            ber.push(high << 4 | low);
        }
        self.skip_spaces();
        if ber.is_empty() || !matches!(self.peek(), None | Some(b',' | b'+')) {
            return Err(DnError::HexString(start));
        }
        Ok(match string_in_ber(&ber) {
            Some(value) => Attribute::new(kind, value.to_vec()),
            None => Attribute { normalised: format!("{kind}=#{}", hex(&ber, "")), kind, text: None },
        })
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The content of a definite-length OCTET STRING, UTF8String, PrintableString or IA5String that fills `ber` (X.690).
fn string_in_ber(ber: &[u8]) -> Option<&[u8]> {
    let (tag, rest) = ber.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, content) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (length, content) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)), content)
        }
        _ => return None,
    };
    (matches!(tag, 0x04 | 0x0c | 0x13 | 0x16) && content.len() == length).then_some(content)
}
