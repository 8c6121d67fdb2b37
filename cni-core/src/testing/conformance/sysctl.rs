//! What every [`Sysctl`] must do and refuse.

use crate::error::ErrorKind;
use crate::host::Sysctl;

/// Runs the contract of [`Sysctl`] in a namespace with `lo` and IPv6. Parameters are as before at the end.
///
/// # Panics
/// Where the implementation differs, saying in what.
pub async fn sysctl(sysctl: &dyn Sysctl) {
    for key in [
        "net/ipv4/ip_forward",
        "net/ipv4/conf/lo/arp_notify",
        "net/ipv6/conf/default/accept_ra",
        "net/ipv6/conf/all/forwarding",
    ] {
        let before = read(sysctl, key).await.unwrap_or_default();
        assert!(before.parse::<i64>().is_ok(), "{key} is {before:?}");
        for value in ["1", "0", "0"] {
            write(sysctl, key, value).await;
            let found = read(sysctl, key).await;
            assert_eq!(found.as_deref(), Some(value), "{key} after writing");
        }
        write(sysctl, key, &before).await;
    }
    two_names_of_one_parameter(sysctl).await;

    for key in [
        "net/ipv4/no_such_parameter",
        "net/ipv4/conf/no-such-link/forwarding",
    ] {
        assert_eq!(read(sysctl, key).await, None, "{key} is missing");
        refuses(sysctl, key, "1", ErrorKind::Io).await;
    }
    refuses(sysctl, "net/ipv4/ip_forward", "many", ErrorKind::Io).await;
    for key in [
        "kernel/hostname",
        "net/../kernel/hostname",
        "/net/ipv4/ip_forward",
        "net",
        "",
    ] {
        refuses(sysctl, key, "1", ErrorKind::InvalidConfig).await;
        let kind = sysctl.read(key).await.map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::InvalidConfig), "{key:?} is outside");
    }
}

async fn two_names_of_one_parameter(sysctl: &dyn Sysctl) {
    let (one, other) = ("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding");
    let before = read(sysctl, one).await.unwrap_or_default();
    for value in ["1", "0"] {
        write(sysctl, one, value).await;
        let found = read(sysctl, other).await;
        assert_eq!(found.as_deref(), Some(value), "{other} after {one}");
        let lo = read(sysctl, "net/ipv4/conf/lo/forwarding").await;
        assert_eq!(lo.as_deref(), Some(value), "lo after {one}");
    }
    write(sysctl, one, &before).await;
}

async fn read(sysctl: &dyn Sysctl, key: &str) -> Option<String> {
    match sysctl.read(key).await {
        Ok(found) => found,
        Err(error) => panic!("reading {key}: {}", error.chain()),
    }
}

async fn write(sysctl: &dyn Sysctl, key: &str, value: &str) {
    if let Err(error) = sysctl.write(key, value).await {
        panic!("writing {value:?} to {key}: {}", error.chain());
    }
}

async fn refuses(sysctl: &dyn Sysctl, key: &str, value: &str, kind: ErrorKind) {
    match sysctl.write(key, value).await {
        Ok(()) => panic!("{value:?} could be written to {key:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{key:?}: {}", error.chain()),
    }
}
