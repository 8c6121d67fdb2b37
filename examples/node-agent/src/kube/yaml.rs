//! YAML as JSON's values: what a kubeconfig is made of.

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// How deep a text may be nested.
const DEPTH: usize = 32;

/// The first document of a text; plain words are read as JSON does where they are `true`, `false`, `null` or whole numbers, and
/// as text else.
///
/// # Errors
/// A sentence that names the line, and nothing of what is in it.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text);
    loop {
        match next(&mut parser)? {
            (Event::StreamEnd | Event::DocumentEnd, _) => return Ok(Value::Null),
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (event, line) => return value(&mut parser, event, line, 0),
        }
    }
}

type Text<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

fn next<'a>(parser: &mut Text<'a>) -> Result<(Event<'a>, usize), String> {
    match parser.next() {
        None => Ok((Event::StreamEnd, 0)),
        Some(Ok((event, span))) => Ok((event, span.start.line())),
        // What the parser says of it may quote it.
        Some(Err(error)) => Err(format!("it is not YAML at line {}", error.marker().line())),
    }
}

fn value<'a>(
    parser: &mut Text<'a>,
    event: Event<'a>,
    line: usize,
    depth: usize,
) -> Result<Value, String> {
    if depth > DEPTH {
        return Err(format!("it is nested too deep at line {line}"));
    }
    match event {
        Event::Scalar(text, style, _, _) => Ok(scalar(text, style)),
        Event::SequenceStart(..) => {
            let mut all = Vec::new();
            loop {
                match next(parser)? {
                    (Event::SequenceEnd, _) => return Ok(Value::Array(all)),
                    (event, line) => all.push(value(parser, event, line, depth + 1)?),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut all = Map::new();
            loop {
                let key = match next(parser)? {
                    (Event::MappingEnd, _) => return Ok(Value::Object(all)),
                    (Event::Scalar(text, ..), _) => text.into_owned(),
                    (_, line) => return Err(format!("a key is no word at line {line}")),
                };
                let (event, line) = next(parser)?;
                let member = value(parser, event, line, depth + 1)?;
                if all.insert(key, member).is_some() {
                    return Err(format!("a key is there twice at line {line}"));
                }
            }
        }
        Event::Alias(_) => Err(format!(
            "an alias at line {line} is not understood: write out what it means"
        )),
        _ => Err(format!("it ends too early at line {line}")),
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.into_owned());
    }
    match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => Value::String(text.into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn block_flow_and_json_say_the_same() {
        let wanted = json!({"a": [{"b": "c d", "e": true}, null], "f": "x:y", "g": "line\n"});
        for text in [
            "a:\n- b: c d\n  e: true\n-\nf: x:y\ng: |\n  line\n",
            "# a remark\n---\na: [{b: 'c d', e: true}, ~]\nf: \"x:y\"\ng: \"line\\n\"\n",
            "{\"a\": [{\"b\": \"c d\", \"e\": true}, null], \"f\": \"x:y\", \"g\": \"line\\n\"}",
        ] {
            assert_eq!(parse(text).unwrap(), wanted, "{text}");
        }
        assert_eq!(parse("").unwrap(), Value::Null);
        // A token of digits is text, as every value of a kubeconfig is that is no switch.
        assert_eq!(parse("0123").unwrap(), json!("0123"));
    }

    #[test]
    fn what_is_not_understood_is_named_by_its_line_and_not_quoted() {
        for (text, words) in [
            ("a: &x secret\nb: *x", "alias at line 2"),
            ("a: 'secret", "line"),
            ("a: secret\na: secret", "twice at line 2"),
            ("? [secret]\n: b", "no word at line 1"),
            ("a: {b: secret", "line"),
            (&"[".repeat(100), "deep"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
