//! How a configuration names a kernel parameter.

/// The path below `/proc/sys` of a key such as `net.ipv4.conf.IFNAME.arp_filter`, with the interface's name put in.
///
/// As sysctl(8) has it, the first separator says which one separates: in a key with dots a slash stands for a dot of a name
/// (`net.ipv4.conf.eth0/100.arp_filter`), in one with slashes a dot is a dot.
///
/// # Errors
/// The rule that the key breaks.
pub(super) fn path(key: &str, interface: &str) -> Result<String, &'static str> {
    let parts = parts(key)?;
    // In one part, and after the key was taken apart: an interface's name may have a dot.
    let mut placed = false;
    let parts: Vec<String> = parts
        .into_iter()
        .map(|part| {
            if placed || !part.contains(PLACEHOLDER) {
                return part;
            }
            placed = true;
            part.replacen(PLACEHOLDER, interface, 1)
        })
        .collect();
    Ok(parts.join("/"))
}

/// The key as sysctl(8) prints it, with dots.
pub(super) fn dotted(key: &str) -> Option<String> {
    let parts = parts(key).ok()?;
    let parts: Vec<String> = parts
        .into_iter()
        .map(|part| part.replace('.', "/"))
        .collect();
    Some(parts.join("."))
}

const PLACEHOLDER: &str = "IFNAME";

fn parts(key: &str) -> Result<Vec<String>, &'static str> {
    let key = key.trim_start_matches('/');
    let dots_separate = key
        .find(['.', '/'])
        .is_some_and(|at| key.get(at..).is_some_and(|rest| rest.starts_with('.')));
    let parts: Vec<String> = match dots_separate {
        true => key.split('.').map(|part| part.replace('/', ".")).collect(),
        false => key.split('/').map(str::to_owned).collect(),
    };
    let is_plain =
        |part: &String| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    match parts.split_first() {
        Some((first, rest)) if first == "net" && !rest.is_empty() => {
            match parts.iter().all(is_plain) {
                true => Ok(parts),
                false => Err("must not have empty, '.' and '..' parts"),
            }
        }
        _ => Err(
            "must be below net, such as net.ipv4.conf.IFNAME.arp_filter: other parameters are not the container's alone",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_separates() {
        for (key, wanted) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net/core/somaxconn", "net/core/somaxconn"),
            ("/net/core/somaxconn", "net/core/somaxconn"),
            ("net.ipv4.conf.a/1.rp_filter", "net/ipv4/conf/a.1/rp_filter"),
            ("net/ipv4/conf/a.1/rp_filter", "net/ipv4/conf/a.1/rp_filter"),
        ] {
            assert_eq!(path(key, "eth0").as_deref(), Ok(wanted), "{key}");
        }
    }

    #[test]
    fn the_interface_is_put_in_whole_and_once() {
        for key in [
            "net.ipv4.conf.IFNAME.arp_filter",
            "net/ipv4/conf/IFNAME/arp_filter",
        ] {
            let found = path(key, "eth0.100");
            assert_eq!(found.as_deref(), Ok("net/ipv4/conf/eth0.100/arp_filter"));
        }
        assert_eq!(
            path("net.IFNAME.IFNAME", "a").as_deref(),
            Ok("net/a/IFNAME")
        );
    }

    #[test]
    fn what_is_not_below_net_is_refused() {
        for key in [
            "",
            "net",
            "net.",
            "kernel.hostname",
            "kernel/hostname",
            "network.x",
            "net/../kernel/hostname",
            "net..ipv4",
            "vm.swappiness",
            "net/ipv4/./x",
            "net.ipv4.//.x",
        ] {
            assert!(path(key, "eth0").is_err(), "{key}");
        }
    }

    #[test]
    fn a_key_has_one_form_with_dots() {
        for key in ["net/ipv4/conf/a.1/x", "net.ipv4.conf.a/1.x"] {
            assert_eq!(dotted(key).as_deref(), Some("net.ipv4.conf.a/1.x"));
        }
        assert_eq!(dotted("kernel.hostname"), None);
    }
}
