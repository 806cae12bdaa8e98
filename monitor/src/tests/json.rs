//! A strict reader of JSON (RFC 8259), for answers to be read back with.

use std::string::String;
use std::vec::Vec;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Flag(bool),
    /// As written.
    Number(String),
    Text(String),
    Object(Vec<(String, Json)>),
}

/// Reads one value, to the end of the text.
pub(super) fn read(text: &str) -> Option<Json> {
    let mut reader = Reader(text);
    let value = reader.value()?;
    reader.0.is_empty().then_some(value)
}

struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn take(&mut self, token: &str) -> bool {
        self.0.strip_prefix(token).map(|rest| self.0 = rest).is_some()
    }

    fn char(&mut self) -> Option<char> {
        let c = self.0.chars().next()?;
        self.0 = &self.0[c.len_utf8()..];
        Some(c)
    }

    fn value(&mut self) -> Option<Json> {
        for (token, value) in [("null", Json::Null), ("true", Json::Flag(true)), ("false", Json::Flag(false))]
        {
            if self.take(token) {
                return Some(value);
            }
        }
        match self.0.chars().next()? {
            '"' => self.string().map(Json::Text),
            '{' => self.object(),
            _ => self.number(),
        }
    }

    fn object(&mut self) -> Option<Json> {
        let mut fields = Vec::new();
        self.take("{");
        while !self.take("}") {
            if !fields.is_empty() && !self.take(",") {
                return None;
            }
            let key = self.string()?;
            if !self.take(":") {
                return None;
            }
            fields.push((key, self.value()?));
        }
        Some(Json::Object(fields))
    }

    fn string(&mut self) -> Option<String> {
        if !self.take("\"") {
            return None;
        }
        let mut text = String::new();
        loop {
            match self.char()? {
                '"' => return Some(text),
                '\\' => text.push(match self.char()? {
                    c @ ('"' | '\\' | '/') => c,
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'u' => {
                        let code = self.0.get(..4)?;
                        self.0 = &self.0[4..];
                        char::from_u32(u32::from_str_radix(code, 16).ok()?)?
                    }
                    _ => return None,
                }),
                c if c < ' ' => return None,
                c => text.push(c),
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        let end = self.0.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.0.len());
        let (number, rest) = self.0.split_at(end);
        self.0 = rest;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let fine = !whole.is_empty() && (whole == "0" || !whole.starts_with('0')) && !fraction.is_empty();
        (fine && !fraction.contains('.')).then(|| Json::Number(number.into()))
    }
}

#[test]
fn reads_json_and_nothing_else() {
    let text = |text: &str| Json::Text(text.into());
    assert_eq!(read("\"a\\n\\u001b\\\"\""), Some(text("a\n\u{1b}\"")));
    assert_eq!(read("12.5"), Some(Json::Number("12.5".into())));
    assert_eq!(
        read("{\"a\":null,\"b\":true}"),
        Some(Json::Object(vec![("a".into(), Json::Null), ("b".into(), Json::Flag(true))]))
    );
    for bad in
        ["", "\"a", "\"\n\"", "\"\\x\"", "01", ".5", "1.", "1.2.3", "{\"a\":1,}", "{\"a\" 1}", "{} {}", "nul"]
    {
        assert_eq!(read(bad), None, "{bad}");
    }
}
