//! JSON (RFC 8259) read once from front to back, so that every error knows its place.
//!
//! There is no recursion, and nothing is skipped: whoever reads knows what may stand where.

use std::borrow::Cow;
use std::fmt::Display;

/// What is wrong, and at which byte.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) sentence: String,
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// Values longer than this many characters are cut in messages.
const SHOWN: usize = 80;

pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Fault {
    pub(super) fn new(at: usize, sentence: impl Into<String>) -> Self {
        Self {
            at,
            sentence: sentence.into(),
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Where the next value, key or sign stands.
    pub(super) fn place(&mut self) -> usize {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let spaces = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        self.at += spaces.count();
        self.at
    }

    /// Opens an object; `what` names the value in errors.
    pub(super) fn object(&mut self, what: &dyn Display) -> Result<usize> {
        self.open(b'{', what, &"an object in braces")
    }

    /// Opens an array.
    pub(super) fn array(&mut self, what: &dyn Display, of: &str) -> Result<usize> {
        self.open(b'[', what, &format_args!("a list of {of} in brackets"))
    }

    /// The next key of an object and its place, the value following; `None` at its end.
    pub(super) fn key(&mut self, first: &mut bool) -> Result<Option<(Cow<'a, str>, usize)>> {
        if !self.another(first, b'}', "an object")? {
            return Ok(None);
        }
        let at = self.place();
        if self.peek() != Some(b'"') {
            return Err(self.unexpected(&"a key in double quotes"));
        }
        let key = self.quoted()?;
        self.place();
        if self.peek() != Some(b':') {
            let what = format!("a colon after the key `{}`", cut(&key));
            return Err(self.unexpected(&what));
        }
        self.at += 1;
        Ok(Some((key, at)))
    }

    /// Whether an array has another element, which follows.
    pub(super) fn element(&mut self, first: &mut bool) -> Result<bool> {
        self.another(first, b']', "a list")
    }

    /// A string and its place.
    pub(super) fn string(&mut self, what: &dyn Display) -> Result<(Cow<'a, str>, usize)> {
        let at = self.place();
        if self.peek() != Some(b'"') {
            return Err(self.wrong_type(what, &"a string in double quotes"));
        }
        Ok((self.quoted()?, at))
    }

    /// An integer without sign, from `min` to `max`.
    pub(super) fn integer(&mut self, what: &dyn Display, min: u32, max: u32) -> Result<u32> {
        let at = self.place();
        let word = self.word();
        if !word.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Err(self.wrong_type(what, &"a number"));
        }
        if word.starts_with('0') && word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(Fault::new(
                at,
                format!("{word} is not JSON: a number does not begin with 0"),
            ));
        }
        let number = word
            .parse()
            .ok()
            .filter(|number| (min..=max).contains(number));
        let Some(number) = number else {
            let sentence = format!(
                "{what} is {}, and must be a whole number from {min} to {max}",
                cut(word)
            );
            return Err(Fault::new(at, sentence));
        };
        self.at += word.len();
        Ok(number)
    }

    /// Makes sure that nothing follows.
    pub(super) fn end(&mut self) -> Result<()> {
        self.place();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected(&"the end of the file after the last brace")),
        }
    }

    fn open(&mut self, sign: u8, what: &dyn Display, expected: &dyn Display) -> Result<usize> {
        let at = self.place();
        if self.peek() != Some(sign) {
            return Err(self.wrong_type(what, expected));
        }
        self.at += 1;
        Ok(at)
    }

    fn another(&mut self, first: &mut bool, end: u8, what: &str) -> Result<bool> {
        self.place();
        let was_first = std::mem::replace(first, false);
        let sign = char::from(end);
        match self.peek() {
            Some(byte) if byte == end => {
                self.at += 1;
                return Ok(false);
            }
            None => return Err(self.unexpected(&format_args!("`{sign}`"))),
            Some(_) if was_first => return Ok(true),
            Some(b',') => {}
            Some(_) => return Err(self.unexpected(&format_args!("a comma or `{sign}`"))),
        }
        let comma = self.at;
        self.at += 1;
        self.place();
        if self.peek() == Some(end) {
            let sentence =
                format!("{what} does not end with a comma before `{sign}`; take the comma out");
            return Err(Fault::new(comma, sentence));
        }
        Ok(true)
    }

    /// A string whose opening quote is next.
    fn quoted(&mut self) -> Result<Cow<'a, str>> {
        let start = self.at;
        let rest = self.text.get(start + 1..).unwrap_or_default();
        let (mut escapes, mut escaped) = (false, false);
        for (offset, byte) in rest.bytes().enumerate() {
            match byte {
                0..0x20 => {
                    let sentence =
                        "a string goes to the end of the line; close it with a double quote";
                    let other =
                        format!("a string has the control character U+{byte:04X}; take it out");
                    let line_end = matches!(byte, b'\n' | b'\r');
                    let at = if line_end { start } else { start + 1 + offset };
                    return Err(Fault::new(
                        at,
                        if line_end { sentence.to_owned() } else { other },
                    ));
                }
                _ if escaped => escaped = false,
                b'\\' => (escapes, escaped) = (true, true),
                b'"' => {
                    self.at = start + offset + 2;
                    let inner = rest.get(..offset).unwrap_or_default();
                    return if escapes {
                        self.unescaped(start)
                    } else {
                        Ok(Cow::Borrowed(inner))
                    };
                }
                _ => {}
            }
        }
        let sentence = "a string goes to the end of the file; close it with a double quote";
        Err(Fault::new(start, sentence))
    }

    fn unescaped(&self, start: usize) -> Result<Cow<'a, str>> {
        let raw = self.text.get(start..self.at).unwrap_or_default();
        serde_json::from_str::<String>(raw)
            .map(Cow::Owned)
            .map_err(|_| {
                let sentence = format!(
                    "the string {} has an escape that JSON does not know",
                    cut(raw)
                );
                Fault::new(start, sentence)
            })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// What stands here up to the next sign or space: a number, a literal, or none of them.
    fn word(&self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.find(|c: char| c.is_whitespace() || "{}[],:\"".contains(c));
        rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
    }

    /// A value that is not of the type, or no value at all.
    fn wrong_type(&mut self, what: &dyn Display, expected: &dyn Display) -> Fault {
        let at = self.at;
        let word = self.word();
        let is = match self.peek() {
            Some(b'{') => "an object".to_owned(),
            Some(b'[') => "a list".to_owned(),
            Some(b'"') => match self.quoted() {
                Ok(text) => format!("the string {}", quote(&text)),
                Err(fault) => return fault,
            },
            Some(_) if word == "null" => {
                "null; where nothing is to be said, leave the key out".to_owned()
            }
            Some(_) if matches!(word, "true" | "false") => word.to_owned(),
            Some(_) if word.parse::<f64>().is_ok() => format!("the number {}", cut(word)),
            _ => return self.unexpected(expected),
        };
        Fault::new(at, format!("{what} must be {expected}, and is {is}"))
    }

    fn unexpected(&self, expected: &dyn Display) -> Fault {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let Some(first) = rest.chars().next() else {
            return Fault::new(
                self.at,
                format!("the file ends where {expected} must be; it may be cut off"),
            );
        };
        let word = self.word();
        let hint = match first {
            '/' | '#' => "; JSON has no comments",
            '\'' | '\u{201c}' | '\u{201d}' => "; JSON has the double quote `\"` only",
            _ => "",
        };
        let here = match word {
            "" => first.to_string(),
            word => cut(word).into_owned(),
        };
        Fault::new(
            self.at,
            format!(
                "here must be {expected}, and is {}{hint}",
                quote_sign(&here)
            ),
        )
    }
}

/// A text in quotes, cut where it is long.
pub(super) fn quote(text: &str) -> String {
    format!("{:?}", cut(text))
}

/// A sign or word of the text in backticks; a control character by its number.
fn quote_sign(text: &str) -> String {
    let shown: String = text
        .chars()
        .flat_map(|c| {
            let escape = c.is_control().then(|| c.escape_unicode());
            let plain = escape.is_none().then_some(c);
            escape.into_iter().flatten().chain(plain)
        })
        .collect();
    format!("`{shown}`")
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default())),
    }
}
