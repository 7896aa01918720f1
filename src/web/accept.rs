//! What a caller wants to have, by its Accept headers (RFC 9110 section 12.5.1).

use http::{HeaderMap, header};

/// How much the caller wants `media` (in lower case), in thousandths: by the most specific range that matches it. None if the headers
/// name no range that does; Some(0) if they refuse it.
pub fn quality(headers: &HeaderMap, media: &str) -> Option<u16> {
    let kind = media.split('/').next().unwrap_or_default();
    let values = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let ranges = values.flat_map(|value| value.split(',')).filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next()?.to_ascii_lowercase();
        let specific = match name.as_str() {
            "*/*" => 0,
            name if name == media => 2,
            name if name.strip_suffix("/*") == Some(kind) => 1,
            _ => return None,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some((specific, weight.map_or(1000, thousandths)))
    });
    ranges.max_by_key(|(specific, _)| *specific).map(|(_, weight)| weight)
}

/// Whether the caller names `media` itself and wants it at least as much as JSON.
pub fn prefers(headers: &HeaderMap, media: &str) -> bool {
    // A wildcard asks for nothing special.
    let named = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let named = named.filter_map(|range| range.split(';').next()).any(|name| name.trim().eq_ignore_ascii_case(media));
    let wanted = quality(headers, media).unwrap_or(0);
    named && wanted > 0 && wanted >= quality(headers, "application/json").unwrap_or(0)
}

/// `qvalue` of RFC 9110 section 12.4.2; what is malformed is as good as refused.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().unwrap_or(0);
    if whole == "0" { fraction } else { 1000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "application/token-introspection+jwt";

    fn asks(accept: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, value.parse().unwrap());
        }
        prefers(&headers, JWT)
    }

    #[test]
    fn a_special_form_must_be_named_and_wanted() {
        for yes in [
            JWT,
            "Application/Token-Introspection+JWT",
            "application/json, application/token-introspection+jwt",
            "application/token-introspection+jwt;q=0.5, application/json;q=0.4",
            "application/token-introspection+jwt; q=0.001",
            "text/html, application/token-introspection+jwt;q=0.9, */*;q=0.1",
            "application/token-introspection+jwt, application/*;q=0.8",
        ] {
            assert!(asks(&[yes]), "{yes}");
        }
        for no in [
            "",
            "*/*",
            "application/*",
            "application/json",
            "application/token-introspection+jwt;q=0",
            "application/token-introspection+jwt;q=0.000",
            "application/token-introspection+jwt;q=x",
            "application/token-introspection+jwt;q=2",
            "application/token-introspection+jwt;q=0.5, application/json",
            "application/token-introspection+jwt;q=0.5, */*",
            "application/token-introspection+jwtx",
        ] {
            assert!(!asks(&[no]), "{no}");
        }
        assert!(!asks(&[]));
        assert!(asks(&["text/html", JWT]), "headers are joined");
    }

    #[test]
    fn the_most_specific_range_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, "*/*;q=0.1, text/*;q=0.25, text/event-stream;q=0".parse().unwrap());
        let weight = |media| quality(&headers, media);
        assert_eq!((weight("text/event-stream"), weight("text/html"), weight("application/json")), (Some(0), Some(250), Some(100)));
        assert_eq!(quality(&HeaderMap::new(), "text/html"), None);
    }
}
