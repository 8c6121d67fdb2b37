//! As much of YAML as the manifests of this project are written in: mappings and lists in block style, scalars plain or
//! quoted, `{}`, `[]` and flat lists in brackets, folded and literal text. Anything else is a panic.

use serde_json::{Map, Value};

struct Lines<'a> {
    all: Vec<(usize, &'a str)>,
    at: usize,
}

/// All documents of a text.
///
/// # Panics
/// When it is written otherwise.
pub(super) fn documents(text: &str) -> Vec<Value> {
    let parts = text.split("\n---").map(|part| {
        let lines = part.lines().filter(|line| *line != "---");
        let all = lines.map(|line| (line.len() - line.trim_start().len(), line.trim()));
        let mut lines = Lines {
            all: all.collect(),
            at: 0,
        };
        let value = block(&mut lines, 0);
        assert!(
            lines.peek().is_none(),
            "not the YAML that is read here: {:?}",
            lines.peek()
        );
        value
    });
    parts.filter(|value| !value.is_null()).collect()
}

impl<'a> Lines<'a> {
    fn peek(&mut self) -> Option<(usize, &'a str)> {
        while let Some((_, line)) = self.all.get(self.at) {
            if !line.is_empty() && !line.starts_with('#') {
                break;
            }
            self.at += 1;
        }
        self.all.get(self.at).copied()
    }

    /// Replaces the line at hand by what is left of it.
    fn replace(&mut self, line: (usize, &'a str)) {
        self.all[self.at] = line;
    }
}

/// A mapping, a list or a scalar that is indented at least so much.
fn block(lines: &mut Lines<'_>, least: usize) -> Value {
    let Some((indent, line)) = lines.peek() else {
        return Value::Null;
    };
    if indent < least {
        return Value::Null;
    }
    if line == "-" || line.starts_with("- ") {
        return list(lines, indent);
    }
    match key(line) {
        Some(_) => mapping(lines, indent),
        None => {
            lines.at += 1;
            scalar(line)
        }
    }
}

fn list(lines: &mut Lines<'_>, indent: usize) -> Value {
    let mut items = Vec::new();
    while let Some((here, line)) = lines.peek() {
        if here != indent || !(line == "-" || line.starts_with("- ")) {
            break;
        }
        let rest = line[1..].trim_start();
        if rest.is_empty() {
            lines.at += 1;
            items.push(block(lines, indent + 1));
        } else {
            let inner = indent + line.len() - rest.len();
            lines.replace((inner, rest));
            items.push(block(lines, inner));
        }
    }
    Value::Array(items)
}

fn mapping(lines: &mut Lines<'_>, indent: usize) -> Value {
    let mut map = Map::new();
    while let Some((here, line)) = lines.peek() {
        let Some((name, rest)) = key(line).filter(|_| here == indent) else {
            break;
        };
        lines.at += 1;
        let value = match rest {
            ">-" | ">" | "|" | "|-" => text(lines, indent, rest),
            "" => {
                // A list may be as far left as its key.
                let listed = lines.peek().is_some_and(|(here, line)| {
                    here == indent && (line == "-" || line.starts_with("- "))
                });
                block(lines, if listed { indent } else { indent + 1 })
            }
            _ => scalar(rest),
        };
        assert!(
            map.insert(name.clone(), value).is_none(),
            "{name} is there twice"
        );
    }
    Value::Object(map)
}

fn text(lines: &mut Lines<'_>, indent: usize, style: &str) -> Value {
    let mut words = Vec::new();
    let mut first = None;
    while let Some((here, line)) = lines.all.get(lines.at).copied() {
        if !line.is_empty() && here <= indent {
            break;
        }
        let first = *first.get_or_insert(here);
        words.push(format!("{}{line}", " ".repeat(here.saturating_sub(first))));
        lines.at += 1;
    }
    while words.last().is_some_and(|line| line.trim().is_empty()) {
        words.pop();
    }
    let separator = if style.starts_with('>') { " " } else { "\n" };
    let mut text = words.join(separator);
    if !style.ends_with('-') {
        text.push('\n');
    }
    Value::String(text)
}

/// The key that a line begins with, and what follows it.
fn key(line: &str) -> Option<(String, &str)> {
    if line.starts_with(['"', '\'']) {
        let end = line[1..].find(&line[..1])? + 1;
        let rest = line[end + 1..].strip_prefix(':')?;
        return Some((line[1..end].to_owned(), bare(rest)));
    }
    if line.starts_with(['[', '{']) {
        return None;
    }
    let end = line
        .find(": ")
        .or_else(|| line.ends_with(':').then(|| line.len() - 1))?;
    Some((line[..end].to_owned(), bare(&line[end + 1..])))
}

/// Without a comment behind it.
fn bare(text: &str) -> &str {
    let text = text.trim();
    match text.find(" #") {
        Some(end) if !text.starts_with(['"', '\'']) => text[..end].trim_end(),
        _ if text.starts_with('#') => "",
        _ => text,
    }
}

fn refuse(text: &str) -> ! {
    panic!("not the YAML that is read here: {text}")
}

fn scalar(text: &str) -> Value {
    let text = bare(text);
    if text.starts_with('"') {
        return serde_json::from_str(text).unwrap_or_else(|_| refuse(text));
    }
    if let Some(rest) = text.strip_prefix('\'') {
        let inner = rest.strip_suffix('\'').unwrap_or_else(|| refuse(text));
        return Value::String(inner.replace("''", "'"));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let inner = rest.strip_suffix(']').unwrap_or_else(|| refuse(text));
        let items = inner.split(',').map(str::trim);
        return items.filter(|item| !item.is_empty()).map(scalar).collect();
    }
    match text {
        "{}" => return Value::Object(Map::new()),
        "null" | "~" => return Value::Null,
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    if text.starts_with(['&', '*', '!', '{', '|', '>', '%', '@', '`']) {
        refuse(text);
    }
    match text.parse::<i64>() {
        Ok(number) => number.into(),
        Err(_) => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_manifests_are_written_in_is_read() {
        let text = "# a comment\na:\n  b: 1   # one\n  'c d': \"x: y\"\n  list:\n  - p: q\n    r: [s, \"t\"]\n  - u\n\
                    e: {}\nf: >-\n  long\n  words\n---\ng: '^it''s$'\nh: |\n  one\n    two\n";
        assert_eq!(
            documents(text),
            [
                json!({
                    "a": { "b": 1, "c d": "x: y", "list": [{ "p": "q", "r": ["s", "t"] }, "u"] },
                    "e": {}, "f": "long words",
                }),
                json!({ "g": "^it's$", "h": "one\n  two\n" }),
            ]
        );
    }
}
