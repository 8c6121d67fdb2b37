use super::*;

/// An attribute, padded.
fn nla(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link_header(family: u8, index: u32, flags: u32) -> Vec<u8> {
    let mut bytes = vec![family, 0, 1, 0];
    bytes.extend(index.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn vlan_info(flags: u16, id: u16) -> Vec<u8> {
    nla(2, &[flags.to_ne_bytes(), id.to_ne_bytes()].concat())
}

#[test]
fn ranges_of_vlans_are_expanded_and_other_links_left_out() {
    let spec = [
        vlan_info(2 | 4, 1),
        vlan_info(8, 10),
        vlan_info(16, 13),
        vlan_info(8 | 4, 20),
        vlan_info(16 | 4, 21),
    ]
    .concat();
    let mut message = link_header(7, 3, 0);
    message.extend(nla(26, &spec));
    let mut found = Vec::new();
    vlans(&message, 4, &mut found);
    assert_eq!(found, [], "another link's");
    vlans(&message, 3, &mut found);
    let short: Vec<_> = found
        .iter()
        .map(|vlan| (vlan.id, vlan.pvid, vlan.untagged))
        .collect();
    assert_eq!(
        short,
        [
            (1, true, true),
            (10, false, false),
            (11, false, false),
            (12, false, false),
            (13, false, false),
            (20, false, true),
            (21, false, true)
        ]
    );
}

#[test]
fn a_bridge_tells_whether_it_filters_by_vlan() {
    for filtering in [0, 1] {
        let info = [nla(1, b"bridge\0"), nla(2, &nla(7, &[filtering]))].concat();
        let mut message = link_header(0, 3, 1);
        message.extend(nla(3, b"br0\0"));
        message.extend(nla(18, &info));
        let found = link(&message).unwrap();
        assert_eq!(
            (found.index, found.name.as_str(), found.up),
            (3, "br0", true)
        );
        assert_eq!(
            found.kind,
            LinkKind::Bridge {
                vlan_filtering: filtering == 1
            }
        );
    }
}

#[test]
fn settings_of_another_masters_port_are_not_taken_for_a_bridges() {
    let info = [nla(4, b"bond\0"), nla(5, &nla(4, &[1]))].concat();
    let mut message = link_header(0, 3, 0);
    message.extend(nla(3, b"a\0"));
    message.extend(nla(18, &info));
    assert_eq!(link(&message).unwrap().port, None);
}

#[test]
fn a_route_of_several_next_hops_is_one_route_for_each() {
    let mut message = vec![2, 24, 0, 0, 254, 3, 0, 1];
    message.extend([0; 4]);
    message.extend(nla(1, &[10, 0, 0, 0]));
    let mut hops = Vec::new();
    for (index, last, flags) in [(3_u32, 1, 0), (4, 2, 4)] {
        hops.extend(16_u16.to_ne_bytes());
        hops.extend([flags, 0]);
        hops.extend(index.to_ne_bytes());
        hops.extend(nla(5, &[192, 0, 2, last]));
    }
    message.extend(nla(9, &hops));
    let found: Vec<_> = routes(&message, 2)
        .into_iter()
        .map(|(index, route)| (index, route.gateway.unwrap().to_string(), route.onlink))
        .collect();
    assert_eq!(
        found,
        [
            (Some(3), "192.0.2.1".to_owned(), false),
            (Some(4), "192.0.2.2".to_owned(), true)
        ]
    );
    assert!(routes(&message, 10).is_empty(), "not of the other family");
}

#[test]
fn cut_off_replies_are_no_objects_and_no_panic() {
    let mut message = link_header(0, 3, 0);
    message.extend(nla(3, b"br0\0"));
    message.extend(nla(4, &1500_u32.to_ne_bytes()));
    message.extend(nla(18, &nla(1, b"bridge\0")));
    for length in 0..message.len() {
        let cut = &message[..length];
        let _ = link(cut);
        let _ = address(cut);
        let _ = routes(cut, 2);
        let _ = neighbour(cut, 2);
        vlans(cut, 3, &mut Vec::new());
    }
}
