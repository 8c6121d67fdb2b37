//! A list's objects one by one, as its text comes: a list of thousands of objects is never held as a whole.

/// Cuts the members of `items` out of a list's text.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// The list without its items.
    envelope: Vec<u8>,
    /// The item that has begun.
    item: Vec<u8>,
    depth: usize,
    in_items: bool,
    in_text: bool,
    escaped: bool,
}

/// What a list may have beside its items.
const MOST_ENVELOPE: usize = 64 << 10;

impl Items {
    /// Takes in the next part of the text, and hands out each item that ends in it.
    ///
    /// # Errors
    /// An item, or what is beside the items, has more than `most` bytes; or what `each` says.
    pub(super) fn take<E: From<TooLarge>>(
        &mut self,
        part: &[u8],
        most: usize,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for byte in part {
            let byte = *byte;
            if self.is_item(byte) {
                self.item.push(byte);
                if self.item.len() > most {
                    return Err(TooLarge.into());
                }
            } else if self.in_items && self.depth == 2 && byte != b']' {
                // What is between items.
            } else if !byte.is_ascii_whitespace() || self.in_text {
                self.envelope.push(byte);
                if self.envelope.len() > MOST_ENVELOPE {
                    return Err(TooLarge.into());
                }
            }
            self.step(byte);
            if self.in_items && self.depth == 2 && byte == b'}' && !self.item.is_empty() {
                each(&self.item)?;
                self.item.clear();
            }
        }
        Ok(())
    }

    /// The list without its items, once all of its text has come.
    pub(super) fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// Whether a byte belongs to an item: its braces and all between them do.
    fn is_item(&self, byte: u8) -> bool {
        self.in_items && (self.depth > 2 || (self.depth == 2 && byte == b'{'))
    }

    fn step(&mut self, byte: u8) {
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' => self.depth += 1,
            b'[' => {
                let begins = self.depth == 1 && self.envelope.ends_with(b"\"items\":[");
                self.in_items |= begins;
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.in_items &= self.depth > 1;
            }
            _ => {}
        }
    }
}

/// More than makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, size: usize) -> (Vec<String>, String) {
        let (mut items, mut all) = (Items::default(), Vec::new());
        for part in text.as_bytes().chunks(size) {
            items
                .take::<TooLarge>(part, 100, |item| {
                    all.push(String::from_utf8(item.to_vec()).unwrap());
                    Ok(())
                })
                .unwrap();
        }
        (all, String::from_utf8(items.envelope().to_vec()).unwrap())
    }

    #[test]
    fn items_are_cut_out_wherever_the_text_is_cut() {
        let text = r#"{"kind":"L", "x":{"items":[{"no":1}]}, "items" : [ {"a":{"b":[1,{}]}} , {"t":"]}\"{[\\"},{}],"metadata":{"continue":"a b"}}"#;
        for size in 1..text.len() {
            let (items, envelope) = cut(text, size);
            assert_eq!(
                items,
                [r#"{"a":{"b":[1,{}]}}"#, r#"{"t":"]}\"{[\\"}"#, "{}"]
            );
            assert_eq!(
                envelope,
                r#"{"kind":"L","x":{"items":[{"no":1}]},"items":[],"metadata":{"continue":"a b"}}"#
            );
        }
    }

    #[test]
    fn what_has_no_end_is_not_held() {
        let mut items = Items::default();
        let none = |_: &[u8]| Ok::<(), TooLarge>(());
        let text = format!("{{\"items\":[{{\"a\":\"{}", "x".repeat(200));
        assert_eq!(items.take(text.as_bytes(), 100, none), Err(TooLarge));
        let text = "[".repeat(MOST_ENVELOPE + 1);
        assert_eq!(
            Items::default().take(text.as_bytes(), 100, none),
            Err(TooLarge)
        );
    }
}
