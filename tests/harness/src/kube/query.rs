//! What a request asks for: path, parameters, selectors.

use serde_json::Value;

use super::resource::Resource;
use super::status::Refusal;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) resource: Resource,
    pub(super) name: Option<String>,
    pub(super) status: bool,
}

/// The parameters that are understood.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    all: Vec<(String, String)>,
}

/// Which objects are asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    labels: Vec<(String, Test)>,
    name: Option<String>,
}

#[derive(Debug, Clone)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    There,
    NotThere,
}

impl Place {
    pub(super) fn of(path: &str) -> Option<Self> {
        for resource in Resource::ALL {
            let Some(rest) = path.strip_prefix(resource.path()) else {
                continue;
            };
            let mut parts = rest.split('/');
            if parts.next() != Some("") {
                continue;
            }
            let (name, sub, more) = (parts.next(), parts.next(), parts.next());
            if more.is_some() || sub.is_some_and(|sub| sub != "status") {
                return None;
            }
            return Some(Self {
                resource,
                name: name.map(decode).filter(|name| !name.is_empty()),
                status: sub.is_some(),
            });
        }
        None
    }
}

impl Query {
    pub(super) fn of(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&');
        let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self {
            all: pairs.collect(),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let found = self.all.iter().find(|(have, _)| have == key);
        found.map(|(_, value)| value.as_str())
    }

    /// Given, and not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    pub(super) fn is_set(&self, key: &str) -> bool {
        matches!(self.get(key), Some("true" | "1"))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        let number = text.parse().map_err(|_| {
            let message = format!("invalid {key} {text:?}: not a number");
            Refusal::bad_request(message)
        })?;
        Ok(Some(number))
    }

    pub(super) fn selection(&self) -> Result<Selection, Refusal> {
        let mut selection = Selection::default();
        for part in self
            .text("fieldSelector")
            .into_iter()
            .flat_map(|all| all.split(','))
        {
            let pair = part.split_once('=');
            match pair.map(|(key, value)| (key, value.trim_start_matches('='))) {
                Some(("metadata.name", name)) => selection.name = Some(name.to_owned()),
                _ => {
                    let message = format!("field label not supported: {part}");
                    return Err(Refusal::bad_request(message));
                }
            }
        }
        for part in requirements(self.text("labelSelector").unwrap_or_default()) {
            selection.labels.push(requirement(&part)?);
        }
        Ok(selection)
    }
}

/// Commas separate requirements, but not within parentheses.
fn requirements(text: &str) -> Vec<String> {
    let (mut all, mut depth) = (vec![String::new()], 0_u32);
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = all.last_mut() {
            last.push(letter);
        }
    }
    all.retain(|part| !part.trim().is_empty());
    all
}

fn requirement(text: &str) -> Result<(String, Test), Refusal> {
    let list = |rest: &str| {
        let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(
            inner
                .split(',')
                .map(|value| value.trim().to_owned())
                .collect(),
        )
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    let text = text.trim();
    let (key, test) = if let Some((key, rest)) = text.split_once(" notin ") {
        (key, list(rest).map(Test::NotIn))
    } else if let Some((key, rest)) = text.split_once(" in ") {
        (key, list(rest).map(Test::In))
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Some(Test::NotIn(one(value))))
    } else if let Some((key, value)) = text.split_once('=') {
        (key, Some(Test::In(one(value.trim_start_matches('=')))))
    } else if let Some(key) = text.strip_prefix('!') {
        (key, Some(Test::NotThere))
    } else {
        (text, Some(Test::There))
    };
    let key = key.trim();
    match test {
        Some(test) if !key.is_empty() && !key.contains(' ') => Ok((key.to_owned(), test)),
        _ => Err(Refusal::bad_request(format!(
            "unable to parse requirement: {text:?}"
        ))),
    }
}

impl Selection {
    pub(super) fn selects(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let label = |key: &str| metadata["labels"].get(key).and_then(Value::as_str);
        self.name
            .as_ref()
            .is_none_or(|name| metadata["name"] == **name)
            && self
                .labels
                .iter()
                .all(|(key, test)| match (test, label(key)) {
                    (Test::In(all), Some(value)) => all.iter().any(|one| one == value),
                    (Test::NotIn(all), Some(value)) => all.iter().all(|one| one != value),
                    (Test::There, Some(_)) | (Test::NotThere | Test::NotIn(_), None) => true,
                    _ => false,
                })
    }

    /// Whether everything is asked for.
    pub(super) fn is_all(&self) -> bool {
        self.labels.is_empty() && self.name.is_none()
    }
}

/// Takes the escapes of an URL out.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).unwrap_or_default();
                bytes.push(u8::from_str_radix(digits, 16).unwrap_or(b'%'));
            }
            b'+' => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
