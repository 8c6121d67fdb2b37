//! The manifests as JSON's values.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// All documents of a text. Words are read as `kubectl` does, as far as the manifests have them.
///
/// # Panics
/// When it is no YAML, or has anchors.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let mut parser = Parser::new_from_str(text);
    let mut all = Vec::new();
    loop {
        match next(&mut parser) {
            Event::StreamEnd => return all,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            event => all.push(value(&mut parser, event)),
        }
    }
}

type Text<'a> = Parser<'a, StrInput<'a>>;

fn next<'a>(parser: &mut Text<'a>) -> Event<'a> {
    let event = parser.next().expect("an end of the stream");
    event.unwrap_or_else(|error| panic!("{error}")).0
}

fn value<'a>(parser: &mut Text<'a>, event: Event<'a>) -> Value {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, ..) => plain(&text),
        Event::Scalar(text, ..) => Value::String(text.into_owned()),
        Event::SequenceStart(..) => {
            let mut all = Vec::new();
            loop {
                match next(parser) {
                    Event::SequenceEnd => return all.into(),
                    event => all.push(value(parser, event)),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut all = Map::new();
            loop {
                let key = match next(parser) {
                    Event::MappingEnd => return all.into(),
                    Event::Scalar(text, ..) => text.into_owned(),
                    event => panic!("{event:?} is no key"),
                };
                let event = next(parser);
                let member = value(parser, event);
                assert!(!all.contains_key(&key), "{key} is there twice");
                all.insert(key, member);
            }
        }
        event => panic!("{event:?} is not what a manifest is made of"),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "null" | "~" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        text => text
            .parse::<i64>()
            .map_or_else(|_| text.into(), Value::from),
    }
}

#[test]
fn a_manifest_is_read() {
    let text = "# a remark\na: [{b: 'c', d: 7}, true]\ne: >-\n  two\n  words\n---\n'7': v1\n";
    let wanted = [
        serde_json::json!({ "a": [{ "b": "c", "d": 7 }, true], "e": "two words" }),
        serde_json::json!({ "7": "v1" }),
    ];
    assert_eq!(documents(text), wanted);
}
