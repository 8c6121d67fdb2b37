//! Base64 (RFC 4648).

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// With the usual digits, and padding.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() {
                char::from(DIGITS[value as usize])
            } else {
                '='
            });
        }
    }
    text
}

/// With digits that mean nothing in an URL, and no padding.
pub(crate) fn encode_for_url(bytes: &[u8]) -> String {
    let text = encode(bytes).replace('+', "-").replace('/', "_");
    text.trim_end_matches('=').to_owned()
}

/// Either; what is no digit is left out.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let values = text.bytes().filter_map(|byte| {
        let byte = match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => byte,
        };
        DIGITS.iter().position(|digit| *digit == byte)
    });
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for value in values {
        bits = bits << 6 | u32::try_from(value).expect("six bits");
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_goes_both_ways() {
        for text in ["", "a", "ab", "abc", "abcd", "/cni/net/nodes/n1", "??>>~~"] {
            assert_eq!(decode(&encode(text.as_bytes())), text.as_bytes());
            assert_eq!(decode(&encode_for_url(text.as_bytes())), text.as_bytes());
        }
        assert_eq!(encode(b"/a/1"), "L2EvMQ==");
        assert_eq!(encode_for_url(b"/a/1?>"), "L2EvMT8-");
    }
}
