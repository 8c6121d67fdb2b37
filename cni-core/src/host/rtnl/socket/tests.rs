use super::*;

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + payload.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The datagram's outcome for the request number 7, and how many objects it held.
fn outcome(datagram: &[u8], sent: &[u8]) -> (Result<bool, Failure>, Dump, usize) {
    let (mut dump, mut count) = (Dump::Whole, 0);
    let result = scan(datagram, sent, 7, &mut dump, &mut |_| count += 1);
    (result, dump, count)
}

#[test]
fn a_refusal_bears_the_sentence_and_the_attribute() {
    let sent = message(16, 5, 7, &[vec![0; 16], nla(0x8000 | 18, b"abcd")].concat());
    let culprit = u32::try_from(HEADER + 16).unwrap().to_ne_bytes();
    let details = [nla(1, b"no such thing\0"), nla(2, &culprit)].concat();
    let code = (-22_i32).to_ne_bytes();
    let expected = Failure::refused(22, "no such thing [attribute type 18]");
    // Capped: the request's header only; otherwise the whole request is repeated.
    let capped = [&code[..], &sent[..HEADER], &details].concat();
    let whole = [&code[..], &sent, &details].concat();
    for (payload, flags) in [(capped, 0x300), (whole, 0x200)] {
        let datagram = message(2, flags, 7, &payload);
        assert_eq!(outcome(&datagram, &sent).0, Err(expected.clone()));
    }
    // The end of a dump has neither.
    let done = message(3, 0x202, 7, &[&code[..], &details].concat());
    assert_eq!(outcome(&done, &sent).0, Err(expected));
}

#[test]
fn an_interrupted_dump_is_noticed_wherever_the_flag_is() {
    for (first, last) in [(0x12, 2), (2, 0x12)] {
        let datagram = [
            message(16, first, 7, &[0; 16]),
            message(3, last, 7, &0_i32.to_ne_bytes()),
        ]
        .concat();
        assert_eq!(outcome(&datagram, &[]), (Ok(true), Dump::Interrupted, 1));
    }
}

#[test]
fn replies_to_earlier_requests_are_skipped() {
    let datagram = [
        message(2, 0, 6, &(-19_i32).to_ne_bytes()),
        message(16, 2, 6, &[0; 16]),
        message(16, 2, 7, &[0; 16]),
    ]
    .concat();
    assert_eq!(outcome(&datagram, &[]), (Ok(false), Dump::Whole, 1));
}

#[test]
fn a_datagram_that_is_cut_off_is_an_error() {
    let datagram = message(16, 2, 7, &[0; 16]);
    for length in 1..datagram.len() {
        let (result, _, _) = outcome(&datagram[..length], &[]);
        assert_eq!(
            result,
            Err(Failure::local("the kernel's reply is cut off")),
            "{length}"
        );
    }
    let mut liar = datagram;
    liar[..4].copy_from_slice(&4_u32.to_ne_bytes());
    assert!(
        outcome(&liar, &[]).0.is_err(),
        "a length below the header's"
    );
}
