//! `static`: the addresses that the configuration says.

use std::net::IpAddr;

use async_trait::async_trait;
use ipnetwork::IpNetwork;

use super::{Ipam, IpamRequest, requested};
use crate::error::{Error, ErrorKind, Result};
use crate::spec::ValidAttachments;
use crate::spec::config::{CniArgs, NetworkConfig, RequestedAddress};
use crate::spec::json::{Object, parse_prefix};
use crate::spec::{AddResult, Dns, IpConfig, NetworkName, Route};

/// The addresses that the configuration says, in this process. It keeps no state, and notices no duplicates.
///
/// Configuration keys (section `ipam`): `addresses` (a list of `address` with prefix length and `gateway`), `routes`,
/// `dns`. `IP` in `CNI_ARGS` (addresses with prefix length, separated by commas) adds to the list, `GATEWAY` there
/// (addresses separated by commas) sets the gateways of the addresses whose subnets hold them. `args.cni.ips`, and
/// before those the capability `ips`, replace the list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Static {}

impl Static {
    /// `static`; all it needs comes with each request.
    pub fn new() -> Self {
        Self {}
    }
}

#[async_trait]
impl Ipam for Static {
    async fn allocate(&self, request: &IpamRequest<'_>) -> Result<AddResult> {
        result(request.config, request.args)
    }

    async fn preview(&self, request: &IpamRequest<'_>) -> Result<Option<AddResult>> {
        result(request.config, request.args).map(Some)
    }

    async fn held(&self, request: &IpamRequest<'_>) -> Result<Option<Vec<IpNetwork>>> {
        // DEL asks as well, and must not fail for a configuration that could never have been added.
        Ok(result(request.config, request.args)
            .ok()
            .map(|result| result.ips.into_iter().map(|ip| ip.address).collect()))
    }

    async fn release(&self, _: &IpamRequest<'_>) -> Result<()> {
        Ok(())
    }

    async fn check(&self, request: &IpamRequest<'_>) -> Result<()> {
        let wanted = result(request.config, request.args)?;
        let Some(found) = request.config.prev_result()? else {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "static cannot check without `prevResult`: the runtime must pass the result of ADD",
            ));
        };
        let differences = differences(&wanted, &found);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Internal,
            format!(
                "the result of ADD is not what static is configured with: {}",
                differences.join("; ")
            ),
        ))
    }

    async fn gc(&self, _: &NetworkName, _: &NetworkConfig, _: &ValidAttachments) -> Result<()> {
        Ok(())
    }

    async fn status(&self, _: &NetworkName, config: &NetworkConfig) -> Result<()> {
        // The addresses may come with each ADD, so that an empty list says nothing.
        configured(config).map(|_| ())
    }
}

/// What `allocate` answers.
fn result(config: &NetworkConfig, args: &CniArgs) -> Result<AddResult> {
    args.reject_unknown(&["IP", "GATEWAY", "MAC"])?;
    let (mut ips, routes, dns) = configured(config)?;
    if let Some(list) = args.value("IP").filter(|list| !list.is_empty()) {
        for text in list.split(',') {
            ips.push(IpConfig::new(whole(
                "CNI_ARGS IP",
                requested::parse(text)?,
            )?));
        }
    }
    if let Some(list) = args.value("GATEWAY").filter(|list| !list.is_empty()) {
        for text in list.split(',') {
            set_gateway(&mut ips, text)?;
        }
    }
    // What stands further down in the list of sources comes later, and replaces.
    let by_args = RequestedAddress::list(&config.cni_args()?, "ips")?;
    for (source, asked) in [
        ("args.cni.ips", by_args),
        ("runtimeConfig.ips", requested::of_runtime(config)?),
    ] {
        if !asked.is_empty() {
            let all: Result<Vec<IpConfig>> = asked
                .into_iter()
                .map(|ip| whole(source, ip).map(IpConfig::new))
                .collect();
            ips = with_gateways(all?, &ips);
        }
    }
    if ips.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            "static has no address: give `ipam.addresses`, the capability `ips`, or IP in CNI_ARGS",
        ));
    }
    if let Some(ip) = repeated(&ips) {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("static is given the address {ip} twice: remove one"),
        ));
    }
    Ok(AddResult {
        ips,
        routes,
        dns,
        ..AddResult::default()
    })
}

fn configured(config: &NetworkConfig) -> Result<(Vec<IpConfig>, Vec<Route>, Dns)> {
    let Some(ipam) = config.ipam()? else {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            "the configuration has no `ipam` section, which static needs",
        ));
    };
    let ips: Result<Vec<IpConfig>> = ipam.objects("addresses")?.iter().map(address).collect();
    let routes: Result<Vec<Route>> = ipam.objects("routes")?.iter().map(Route::read).collect();
    let dns = ipam.object("dns")?.map(|dns| Dns::read(&dns)).transpose()?;
    Ok((ips?, routes?, dns.unwrap_or_default()))
}

fn address(object: &Object<'_>) -> Result<IpConfig> {
    let text = object
        .string("address")?
        .ok_or_else(|| object.missing("address"))?;
    let rule = "must be an IP address with its prefix length, such as 10.1.0.7/16";
    let address = parse_prefix(&text).ok_or_else(|| object.broken("address", &text, rule))?;
    let mut ip = IpConfig::new(address);
    ip.gateway = object.ip("gateway")?.map(|gateway| gateway.to_canonical());
    if let Some(gateway) = ip
        .gateway
        .filter(|gateway| gateway.is_ipv4() != address.is_ipv4())
    {
        let rule = format!("must be of the family of the address {address}");
        return Err(object.broken("gateway", gateway, &rule));
    }
    Ok(ip)
}

/// A requested address with the prefix length that it must have here.
fn whole(source: &str, asked: RequestedAddress) -> Result<IpNetwork> {
    let network = asked
        .prefix
        .and_then(|prefix| IpNetwork::new(asked.address, prefix).ok());
    network.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "{source} holds {} without a prefix length, which static needs: write {}/24, say",
                asked.address, asked.address
            ),
        )
    })
}

fn set_gateway(ips: &mut [IpConfig], text: &str) -> Result<()> {
    let gateway: IpAddr = text.trim().parse().map_err(|error| {
        let message = format!("CNI_ARGS holds GATEWAY={text}, which is no IP address");
        Error::new(ErrorKind::InvalidEnvironment, message).with_source(error)
    })?;
    let gateway = gateway.to_canonical();
    ips.iter_mut()
        .filter(|ip| ip.address.contains(gateway))
        .for_each(|ip| ip.gateway = Some(gateway));
    Ok(())
}

/// Requested addresses replace the configured ones; a configured gateway of the same subnet stays.
fn with_gateways(mut ips: Vec<IpConfig>, configured: &[IpConfig]) -> Vec<IpConfig> {
    for ip in &mut ips {
        let gateways = configured
            .iter()
            .filter_map(|configured| configured.gateway);
        ip.gateway = gateways
            .into_iter()
            .find(|gateway| ip.address.contains(*gateway));
    }
    ips
}

fn repeated(ips: &[IpConfig]) -> Option<IpAddr> {
    let all: Vec<IpAddr> = ips.iter().map(|ip| ip.address.ip()).collect();
    all.iter()
        .enumerate()
        .find(|(index, ip)| all.iter().skip(index + 1).any(|o| o == *ip))
        .map(|(_, ip)| *ip)
}

/// What of the configured addresses and routes the result does not have.
fn differences(wanted: &AddResult, found: &AddResult) -> Vec<String> {
    let mut differences = Vec::new();
    for ip in &wanted.ips {
        match found.ips.iter().find(|found| found.address == ip.address) {
            None => differences.push(format!("address {} is missing", ip.address)),
            Some(found) if ip.gateway.is_some() && found.gateway != ip.gateway => {
                differences.push(format!(
                    "address {} has the gateway {} instead of {}",
                    ip.address,
                    shown(found.gateway),
                    shown(ip.gateway)
                ));
            }
            Some(_) => {}
        }
    }
    for route in &wanted.routes {
        // A later plugin may have filled in the gateway; one that is configured must be there.
        let same =
            |found: &&Route| found.dst == route.dst && (route.gw.is_none() || found.gw == route.gw);
        if !found.routes.iter().any(|found| same(&found)) {
            differences.push(format!(
                "the route to {} via {} is missing",
                route.dst,
                shown(route.gw)
            ));
        }
    }
    differences
}

fn shown(gateway: Option<IpAddr>) -> String {
    gateway.map_or_else(|| "none".to_owned(), |gateway| gateway.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str, args: &str) -> Result<AddResult> {
        let config = NetworkConfig::parse(json.as_bytes()).unwrap();
        result(&config, &CniArgs::parse(args).unwrap())
    }

    fn shown_ips(result: &AddResult) -> Vec<String> {
        let show = |ip: &IpConfig| format!("{} {}", ip.address, shown(ip.gateway));
        result.ips.iter().map(show).collect()
    }

    const PLAIN: &str = r#"{"cniVersion":"1.0.0","name":"n","type":"t","ipam":{"type":"static",
        "addresses":[{"address":"10.1.0.7/24","gateway":"10.1.0.1"},{"address":"fd00::7/64"}],
        "routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1400}],"dns":{"nameservers":["10.1.0.1"]}}}"#;

    #[test]
    fn the_configured_addresses_routes_and_dns_are_the_answer() {
        let result = asked(PLAIN, "").unwrap();
        assert_eq!(
            shown_ips(&result),
            ["10.1.0.7/24 10.1.0.1", "fd00::7/64 none"]
        );
        assert_eq!(result.routes[0].mtu, 1400);
        assert_eq!(result.dns.nameservers, ["10.1.0.1"]);
    }

    #[test]
    fn environment_adds_addresses_and_sets_gateways_by_subnet() {
        let args = "IP=10.2.0.5/24,fd01::5/64;GATEWAY=10.2.0.1,fd00::1";
        let result = asked(PLAIN, args).unwrap();
        assert_eq!(
            shown_ips(&result),
            [
                "10.1.0.7/24 10.1.0.1",
                "fd00::7/64 fd00::1",
                "10.2.0.5/24 10.2.0.1",
                "fd01::5/64 none"
            ]
        );
    }

    #[test]
    fn requested_addresses_replace_and_the_capability_comes_last() {
        let json = PLAIN.replacen('{', r#"{"args":{"cni":{"ips":["10.1.0.8/24"]}},"#, 1);
        assert_eq!(
            shown_ips(&asked(&json, "").unwrap()),
            ["10.1.0.8/24 10.1.0.1"]
        );
        let json = json.replacen('{', r#"{"runtimeConfig":{"ips":["10.3.0.9/24"]},"#, 1);
        assert_eq!(shown_ips(&asked(&json, "").unwrap()), ["10.3.0.9/24 none"]);
    }

    #[test]
    fn what_is_no_address_with_prefix_length_is_refused() {
        for address in ["10.1.0.7", "10.1.0.7/33", "x/24", ""] {
            let json = format!(
                r#"{{"cniVersion":"1.0.0","name":"n","ipam":{{"type":"static","addresses":[{{"address":"{address}"}}]}}}}"#
            );
            assert_eq!(
                asked(&json, "").unwrap_err().kind(),
                ErrorKind::InvalidConfig
            );
        }
        assert!(asked(PLAIN, "IP=10.1.0.9").is_err());
        assert!(asked(PLAIN, "GATEWAY=x").is_err());
        assert!(asked(PLAIN, "FOO=1").is_err());
        assert!(
            asked(PLAIN, "IP=10.1.0.7/24")
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
        let none = r#"{"cniVersion":"1.0.0","name":"n","ipam":{"type":"static"}}"#;
        assert_eq!(
            asked(none, "").unwrap_err().kind(),
            ErrorKind::InvalidConfig
        );
    }

    #[test]
    fn a_result_without_a_configured_address_or_with_another_gateway_differs() {
        let wanted = asked(PLAIN, "").unwrap();
        assert!(differences(&wanted, &wanted).is_empty());
        let mut found = wanted.clone();
        found.ips.pop();
        found.ips[0].gateway = "10.1.0.9".parse().ok();
        found.routes.clear();
        let differences = differences(&wanted, &found);
        assert_eq!(differences.len(), 3, "{differences:?}");
    }
}
