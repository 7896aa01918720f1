//! `application/x-www-form-urlencoded` parameters, as RFC 6749 section 3.2 wants them read.

use super::{OAuth2Error, Secret};

/// The parameters of one request. A parameter sent empty counts as missing, one sent twice is an error (RFC 6749 section 3.2),
/// save those named repeatable.
#[derive(Debug)]
pub struct Form {
    pairs: Vec<(String, Secret)>,
}

/// More parameters than any request of ours has. Each is compared with those before it, so there must be an end.
const MOST_PARAMETERS: usize = 64;

/// May be repeated: RFC 8707 section 2 and RFC 8693 section 2.1.
const REPEATABLE: [&str; 2] = ["resource", "audience"];

impl Form {
    /// Parses a body. Errors: `invalid_request` for bytes that are not UTF-8 once decoded, NUL, a repeated parameter, or too many.
    pub fn parse(body: &[u8]) -> Result<Form, OAuth2Error> {
        let mut pairs: Vec<(String, Secret)> = Vec::with_capacity(6);
        for pair in body.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
            if pairs.len() == MOST_PARAMETERS {
                return Err(OAuth2Error::invalid_request("the request has too many parameters"));
            }
            let mut halves = pair.splitn(2, |b| *b == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            if !REPEATABLE.contains(&name.as_str()) && pairs.iter().any(|(n, _)| *n == name) {
                return Err(OAuth2Error::invalid_request(format!("the parameter {name} is repeated")));
            }
            pairs.push((name, Secret::new(value)));
        }
        Ok(Form { pairs })
    }

    /// The value of `name`, None if it is missing or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, v)| n == name && !v.expose().is_empty()).map(|(_, v)| v.expose())
    }

    /// Every value of `name` that is not empty.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(n, v)| n == name && !v.expose().is_empty()).map(|(_, v)| v.expose())
    }

    /// The value of `name`, or `invalid_request` that names it.
    pub fn require(&self, name: &'static str) -> Result<&str, OAuth2Error> {
        self.get(name).ok_or_else(|| OAuth2Error::invalid_request(format!("the parameter {name} is missing")))
    }
}

/// Percent and plus decoding, strict: a broken escape, text that is not UTF-8, or a NUL is an error, never a replacement character.
pub fn decode(bytes: &[u8]) -> Result<String, OAuth2Error> {
    let broken = || OAuth2Error::invalid_request("a parameter is not well-formed urlencoded UTF-8");
    if !bytes.iter().any(|b| matches!(b, b'%' | b'+' | 0)) {
        return std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| broken());
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|d| char::from(*d).to_digit(16));
                let (high, low) = (digit().ok_or_else(broken)?, digit().ok_or_else(broken)?);
                (high * 16 + low) as u8
            }
            other => *other,
        });
    }
    if out.contains(&0) {
        return Err(broken());
    }
    String::from_utf8(out).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn empty_is_missing_and_repeated_is_an_error() {
        let form = Form::parse(b"a=1&b=&audience=x&audience=y").unwrap();
        assert_eq!((form.get("a"), form.get("b")), (Some("1"), None));
        assert_eq!(form.all("audience").collect::<Vec<_>>(), ["x", "y"]);
        assert!(Form::parse(b"a=1&a=2").is_err());
        assert!(Form::parse(b"a=&a=").is_err());
    }

    #[test]
    fn there_is_an_end_to_parameters() {
        let body = |n: usize| (0..n).map(|i| format!("p{i}=1")).collect::<Vec<_>>().join("&");
        assert!(Form::parse(body(MOST_PARAMETERS).as_bytes()).is_ok());
        assert!(Form::parse(body(MOST_PARAMETERS + 1).as_bytes()).is_err());
    }

    #[test]
    fn broken_escapes_nul_and_latin1_are_refused() {
        for bad in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%00", b"a=\xff", b"a=%e9"] {
            assert!(Form::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::parse(&body);
        }

        #[test]
        fn what_was_encoded_comes_back(value in "[^\0]{1,40}") {
            let body = form_urlencoded::Serializer::new(String::new()).append_pair("v", &value).finish();
            let form = Form::parse(body.as_bytes()).unwrap();
            prop_assert_eq!(form.get("v"), Some(value.as_str()));
        }
    }

    #[test]
    fn fuzz_forms() {
        let seeds: [&[u8]; 3] = [
            b"grant_type=password&username=al%C3%A9ce&password=p%2Bw+1&scope=a%20b",
            b"audience=x&audience=y&resource=https%3A%2F%2Fapi.test&client_id=a&client_secret=%26%3D",
            b"token=cs_at_AAAA&token_type_hint=&=&&a",
        ];
        crate::fuzz::survives(crate::fuzz::hostile(seeds.map(<[u8]>::to_vec).to_vec()), |body| {
            let Ok(form) = Form::parse(&body) else { return Ok(()) };
            prop_assert!(form.pairs.len() <= MOST_PARAMETERS);
            for (name, value) in &form.pairs {
                prop_assert!(!name.contains('\0') && !value.expose().contains('\0'));
                prop_assert_eq!(form.get(name).is_some(), form.all(name).next().is_some());
            }
            Ok(())
        });
    }
}
