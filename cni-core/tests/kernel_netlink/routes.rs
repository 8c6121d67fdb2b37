//! Addresses, routes, neighbours, and what refusals say.

use crate::support::*;
use cni_core::host::netlink::*;

pub(crate) fn addresses_and_routes_come_back_as_they_were_made() {
    let host = KernelNetlink::open().unwrap();
    now(host.apply(&[
        NetlinkChange::LinkAdd(veth("a", "b", None)),
        up("a"),
        up("b"),
    ]))
    .unwrap();
    let mut v4 = Address::new("a", "10.1.2.3/24".parse().unwrap());
    v4.no_prefix_route = true;
    let v6 = Address::new("a", "fd00::3/64".parse().unwrap());
    let mut local = Address::new("a", "10.9.9.9/32".parse().unwrap());
    local.scope = 253;
    for address in [&v4, &v6, &local] {
        now(host.apply_one(NetlinkChange::AddressAdd(address.clone()))).unwrap();
    }
    let found = now(host.addresses(Some("a"))).unwrap();
    for address in [&v4, &v6, &local] {
        assert!(found.contains(address), "{address:?} in {found:?}");
    }
    assert!(now(host.addresses(None)).unwrap().contains(&v6));

    let mut on_link = Route::new("10.1.2.0/24".parse().unwrap(), "a");
    on_link.scope = Route::SCOPE_LINK;
    on_link.source = Some("10.1.2.3".parse().unwrap());
    let mut default = Route::new("0.0.0.0/0".parse().unwrap(), "a");
    default.gateway = Some("10.1.2.1".parse().unwrap());
    default.mtu = Some(1300);
    default.advmss = Some(1260);
    default.metric = 7;
    let mut far = Route::new("192.0.2.0/25".parse().unwrap(), "a");
    far.gateway = Some("198.51.100.1".parse().unwrap());
    far.onlink = true;
    far.table = 1000;
    far.protocol = 99;
    let mut six = Route::new("2001:db8::/32".parse().unwrap(), "a");
    six.gateway = Some("fd00::1".parse().unwrap());
    six.metric = 5;
    six.mtu = Some(1280);
    let mut mixed = Route::new("203.0.113.0/24".parse().unwrap(), "a");
    mixed.gateway = Some("fd00::1".parse().unwrap());
    let all = [on_link, default, far, six, mixed];
    for route in &all {
        now(host.apply_one(NetlinkChange::RouteAdd(route.clone()))).unwrap();
        let error = now(host.apply_one(NetlinkChange::RouteAdd(route.clone()))).unwrap_err();
        assert_eq!(error.errno, errno::EEXIST, "{error}");
    }
    for found in [
        now(host.routes(Some("a"))).unwrap(),
        now(host.routes(None)).unwrap(),
    ] {
        for route in &all {
            assert!(found.contains(route), "{route:?} in {found:#?}");
        }
        assert!(
            found.iter().all(|route| route.table != 255),
            "no local routes"
        );
    }
    assert!(
        !now(host.routes(Some("b")))
            .unwrap()
            .iter()
            .any(|route| all.contains(route)),
        "none through the other link"
    );
    for route in &all {
        now(host.apply_one(NetlinkChange::RouteDel(route.clone()))).unwrap();
        let error = now(host.apply_one(NetlinkChange::RouteDel(route.clone()))).unwrap_err();
        assert_eq!(error.errno, errno::ESRCH, "{error}");
    }
    for address in [&v4, &v6, &local] {
        now(host.apply_one(NetlinkChange::AddressDel(address.clone()))).unwrap();
        assert!(!now(host.addresses(Some("a"))).unwrap().contains(address));
    }
}

pub(crate) fn a_route_stands_beside_another_only_when_it_is_told_to() {
    let host = KernelNetlink::open().unwrap();
    let pair = NetlinkChange::LinkAdd(veth("a", "b", None));
    now(host.apply(&[pair, up("a"), up("b")])).unwrap();
    for (address, all, gateways) in [
        ("10.1.2.3/24", "0.0.0.0/0", ["10.1.2.1", "10.1.2.2"]),
        ("fd00::3/64", "::/0", ["fd00::1", "fd00::2"]),
    ] {
        let address = Address::new("a", address.parse().unwrap());
        now(host.apply_one(NetlinkChange::AddressAdd(address))).unwrap();
        let by = |gateway: &str| {
            let mut route = Route::new(all.parse().unwrap(), "a");
            route.gateway = Some(gateway.parse().unwrap());
            route
        };
        let [first, mut second] = gateways.map(by);
        now(host.apply_one(NetlinkChange::RouteAdd(first.clone()))).unwrap();
        let add = |route: &Route| now(host.apply_one(NetlinkChange::RouteAdd(route.clone())));
        assert_eq!(add(&second).unwrap_err().errno, errno::EEXIST);
        second.beside_others = true;
        add(&second).unwrap();
        assert_eq!(
            add(&second).unwrap_err().errno,
            errno::EEXIST,
            "the very same"
        );
        let gateways = || -> Vec<String> {
            let found = now(host.routes(Some("a"))).unwrap();
            let found = found
                .iter()
                .filter(|route| route.destination == first.destination)
                .map(|route| route.gateway.unwrap().to_string());
            found.collect()
        };
        assert_eq!(gateways().len(), 2, "{:?}", gateways());
        now(host.apply_one(NetlinkChange::RouteDel(second.clone()))).unwrap();
        assert_eq!(gateways(), [first.gateway.unwrap().to_string()]);
    }
}

pub(crate) fn refusals_bear_errno_command_and_the_kernels_sentence() {
    let host = KernelNetlink::open().unwrap();
    let add = NetlinkChange::LinkAdd(veth("a", "b", None));
    now(host.apply(&[add.clone(), up("a"), up("b")])).unwrap();

    let failed = now(host.apply(&[up("a"), add.clone(), up("b")])).unwrap_err();
    assert_eq!(failed.index, 1);
    assert_eq!(failed.error.errno, errno::EEXIST);
    assert_eq!(
        failed.to_string(),
        "`ip link add a type veth peer name b` failed (File exists (os error 17))"
    );

    let error = now(host.apply_one(up("nope"))).unwrap_err();
    assert_eq!(error.errno, errno::ENODEV);
    assert_eq!(
        error.to_string(),
        "`ip link set dev nope up` failed (No such device (os error 19))"
    );
    let address = Address::new("nope", "10.0.0.1/24".parse().unwrap());
    let error = now(host.apply_one(NetlinkChange::AddressAdd(address))).unwrap_err();
    assert_eq!(error.errno, errno::ENODEV);
    assert!(error.to_string().contains("no link nope"), "{error}");

    let mut route = Route::new("192.0.2.0/24".parse().unwrap(), "a");
    route.gateway = Some("10.0.0.1".parse().unwrap());
    let error = now(host.apply_one(NetlinkChange::RouteAdd(route))).unwrap_err();
    assert_eq!(error.errno, errno::ENETUNREACH);
    assert_eq!(
        error.message.as_deref(),
        Some("Nexthop has invalid gateway")
    );

    let mtu = set("a", |settings| settings.mtu = Some(1));
    let error = now(host.apply_one(mtu)).unwrap_err();
    assert_eq!(error.errno, errno::EINVAL);
    assert_eq!(
        error.message.as_deref(),
        Some("mtu less than device minimum")
    );

    let missing = set("a", |settings| settings.master = Some("br9".into()));
    let error = now(host.apply_one(missing)).unwrap_err();
    assert_eq!(error.errno, errno::ENODEV);
    assert!(error.to_string().contains("no link br9"), "{error}");

    let alias = set("a", |settings| settings.alias = Some("x".repeat(300)));
    let error = now(host.apply_one(alias)).unwrap_err();
    assert!(
        error
            .message
            .as_deref()
            .is_some_and(|text| text.contains("attribute type 20")),
        "names the attribute: {error}"
    );
}

pub(crate) fn neighbours_and_forwarding_entries_are_read() {
    let host = KernelNetlink::open().unwrap();
    let mac: MacAddr = "02:00:00:00:00:77".parse().unwrap();
    let mut a = veth("a", "b", None);
    a.master = Some("br0".into());
    a.mac = Some(mac);
    now(host.apply(&[bridge("br0"), NetlinkChange::LinkAdd(a), up("a"), up("b")])).unwrap();
    let found = now(host.neighbours(Some("a"))).unwrap();
    let own = found
        .iter()
        .find(|neighbour| neighbour.mac == Some(mac))
        .expect("the port's own address is in the forwarding table");
    assert_eq!((own.address, own.link.as_str()), (None, "a"));
    assert!(now(host.neighbours(None)).unwrap().contains(own));
}

pub(crate) fn a_link_is_found_by_the_address_that_it_leads_to() {
    let host = KernelNetlink::open().unwrap();
    now(host.apply(&[
        NetlinkChange::LinkAdd(veth("a", "b", None)),
        up("a"),
        up("b"),
        NetlinkChange::AddressAdd(Address::new("a", "10.1.2.3/24".parse().unwrap())),
        NetlinkChange::AddressAdd(Address::new("a", "fd00::3/64".parse().unwrap())),
    ]))
    .unwrap();
    let link = |address: &str| now(host.link_to(address.parse().unwrap())).unwrap();
    assert_eq!(link("10.1.2.9").as_deref(), Some("a"));
    assert_eq!(link("fd00::9").as_deref(), Some("a"));
    assert_eq!(link("10.1.2.3").as_deref(), Some("lo"));
    assert_eq!(link("192.0.2.1"), None);
    assert_eq!(link("2001:db8::1"), None);
}
