//! A role as a rule writes it, with `${name}` for what the regular expression captured.

/// `${team}:${level}`, in pieces.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Capture(String),
}

impl Template {
    /// None where a `$` does not begin `${name}`.
    pub(super) fn parse(text: &str) -> Option<Template> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let (name, behind) = after.strip_prefix('{')?.split_once('}')?;
            if name.is_empty() || name.contains(['$', '{']) {
                return None;
            }
            pieces.push(Piece::Capture(name.to_owned()));
            rest = behind;
        }
        if !rest.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Some(Template { pieces })
    }

    /// The names of its captures.
    pub(super) fn captures(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Capture(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The role itself, where it has no capture.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [Piece::Text(role)] => Some(role),
            _ => None,
        }
    }

    /// What every role made of it begins with.
    pub(super) fn start(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// The role; an error names the capture that took no part in the match or is empty.
    pub(super) fn fill(&self, captures: Option<&regex::Captures<'_>>) -> Result<String, &str> {
        let mut role = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => role.push_str(text),
                Piece::Capture(name) => {
                    let value = captures.and_then(|all| all.name(name)).map_or("", |value| value.as_str());
                    if value.is_empty() {
                        return Err(name);
                    }
                    role.push_str(value);
                }
            }
        }
        Ok(role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        let captures = regex::Regex::new("(?<a>x)(?<b>y)?").unwrap();
        let captures = captures.captures("x");
        let fill = |text: &str| Template::parse(text).unwrap().fill(captures.as_ref()).map_err(str::to_owned);
        assert_eq!(fill("${a}:${a}-z"), Ok("x:x-z".to_owned()));
        assert_eq!(fill("role"), Ok("role".to_owned()));
        assert_eq!(fill("${b}:read"), Err("b".to_owned()));
        assert_eq!(Template::parse("t-${a}").unwrap().start(), "t-");
        assert_eq!(Template::parse("${a}").unwrap().literal(), None);
        for broken in ["$a", "${a", "${}", "a$", "${a${b}}"] {
            assert!(Template::parse(broken).is_none(), "{broken}");
        }
    }
}
