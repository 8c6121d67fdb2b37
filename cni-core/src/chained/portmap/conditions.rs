//! `conditionsV4`, `conditionsV6`: which packets a port is published for, in the words of iptables or of nft.
//!
//! Both languages have more than a published port can be asked for. What is read here is what people write: addresses,
//! interfaces, protocol, mark. Anything else is one error that names the word.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use crate::host::firewall::{Family, Field, Match, Value};

/// Alternatives, of each of which all conditions must hold. Without conditions there is one that is empty.
pub type Alternatives = Vec<Vec<Match>>;

/// No more rules for one attachment.
const MOST: usize = 64;

/// Reads the words of one `conditionsV4` or `conditionsV6`.
///
/// # Errors
/// What is not understood, as the end of a sentence that begins with the key and its value.
pub(super) fn parse(words: &[String], family: Family) -> Result<Alternatives, String> {
    let text = words.join(" ");
    let tokens = tokens(&text)?;
    let mut reader = Reader {
        tokens: &tokens,
        family,
        alternatives: vec![Vec::new()],
    };
    match tokens.first().map(String::as_str) {
        None => {}
        Some(first) if first.starts_with('-') || first == "!" => reader.iptables()?,
        Some(_) => reader.nft()?,
    }
    Ok(reader.alternatives)
}

struct Reader<'a> {
    tokens: &'a [String],
    family: Family,
    alternatives: Alternatives,
}

/// What a word is compared with.
#[derive(Clone, Copy)]
enum Subject {
    Source,
    Destination,
    Input,
    Output,
    Protocol,
    Mark,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.tokens.first().is_some_and(|first| first == word);
        if found {
            self.next();
        }
        found
    }

    fn iptables(&mut self) -> Result<(), String> {
        while let Some(word) = self.next() {
            let (negated, option) = match word {
                "!" => (true, self.next().ok_or("\"!\" needs an option behind it")?),
                option => (false, option),
            };
            let subject = match option {
                "-s" | "--source" | "--src" => Subject::Source,
                "-d" | "--destination" | "--dst" => Subject::Destination,
                "-i" | "--in-interface" => Subject::Input,
                "-o" | "--out-interface" => Subject::Output,
                "-p" | "--protocol" => Subject::Protocol,
                other => {
                    return Err(format!(
                        "{other:?} is not understood: of iptables' options there are -s, -d, -i, -o and -p, each with ! \
                         before it or not"
                    ));
                }
            };
            // iptables takes "! -s" as well as the older "-s !".
            let negated = negated | self.eat("!");
            let mut values = vec![self.value(option)?];
            while self.eat(",") {
                values.push(self.value(option)?);
            }
            self.condition(subject, negated, &values)?;
        }
        Ok(())
    }

    fn nft(&mut self) -> Result<(), String> {
        while let Some(word) = self.next() {
            let subject = self.nft_subject(word)?;
            let negated = self.eat("!=");
            if !negated {
                self.eat("==");
            }
            let mut values = Vec::new();
            if self.eat("{") {
                while !self.eat("}") {
                    values.push(self.value(word)?);
                    self.eat(",");
                }
                if values.is_empty() {
                    return Err("the set { } is empty".to_owned());
                }
            } else {
                values.push(self.value(word)?);
            }
            self.condition(subject, negated, &values)?;
        }
        Ok(())
    }

    fn nft_subject(&mut self, word: &str) -> Result<Subject, String> {
        let network = match self.family {
            Family::Ip6 => "ip6",
            _ => "ip",
        };
        let (word, of) = match word {
            "ip" | "ip6" if word != network => {
                return Err(format!("{word:?} is of the other family"));
            }
            "ip" | "ip6" | "meta" => (self.next().unwrap_or_default(), word),
            other => (other, "meta"),
        };
        match (of, word) {
            ("ip" | "ip6", "saddr") => Ok(Subject::Source),
            ("ip" | "ip6", "daddr") => Ok(Subject::Destination),
            ("meta", "iifname" | "iif") => Ok(Subject::Input),
            ("meta", "oifname" | "oif") => Ok(Subject::Output),
            ("meta", "l4proto") => Ok(Subject::Protocol),
            ("meta", "mark") => Ok(Subject::Mark),
            _ => Err(format!(
                "{word:?} is not understood: of nft's expressions there are {network} saddr, {network} daddr, iifname, \
                 oifname, meta l4proto and meta mark, each with a value, != and a value, or a set {{ a, b }}"
            )),
        }
    }

    fn value(&mut self, of: &str) -> Result<&'a str, String> {
        match self.next() {
            None => Err(format!("{of:?} has no value")),
            Some(word) if matches!(word, "!" | "{" | "}" | "," | "!=" | "==") => {
                Err(format!("{of:?} has {word:?} where a value should be"))
            }
            Some(word) => Ok(word),
        }
    }

    /// One of several values is an alternative; none of several is a condition for each.
    fn condition(
        &mut self,
        subject: Subject,
        negated: bool,
        values: &[&str],
    ) -> Result<(), String> {
        let matches: Vec<Match> = values
            .iter()
            .map(|value| self.one(subject, negated, value))
            .collect::<Result<_, _>>()?;
        if negated {
            for alternative in &mut self.alternatives {
                alternative.extend(matches.iter().cloned());
            }
            return Ok(());
        }
        let with = |alternative: &Vec<Match>, one: &Match| {
            let mut all = alternative.clone();
            all.push(one.clone());
            all
        };
        let product = self
            .alternatives
            .iter()
            .flat_map(|alternative| matches.iter().map(|one| with(alternative, one)));
        let product: Alternatives = product.take(MOST + 1).collect();
        if product.len() > MOST {
            return Err(format!(
                "that is more than {MOST} combinations: use prefixes that cover more, or fewer values"
            ));
        }
        self.alternatives = product;
        Ok(())
    }

    fn one(&self, subject: Subject, negated: bool, value: &str) -> Result<Match, String> {
        let is = |field, value| Match::Is {
            field,
            value,
            negated,
        };
        let (source, destination) = match self.family {
            Family::Ip6 => (Field::Ipv6Source, Field::Ipv6Destination),
            _ => (Field::Ipv4Source, Field::Ipv4Destination),
        };
        let prefix = |field| {
            self.prefix(value).map(|prefix| Match::Prefix {
                field,
                prefix,
                negated,
            })
        };
        match subject {
            Subject::Source => prefix(source),
            Subject::Destination => prefix(destination),
            Subject::Input => Ok(is(Field::InputInterface, interface(value)?)),
            Subject::Output => Ok(is(Field::OutputInterface, interface(value)?)),
            Subject::Protocol => Ok(is(Field::Protocol, protocol(value)?)),
            Subject::Mark => Ok(is(Field::Mark, mark(value)?)),
        }
    }

    fn prefix(&self, text: &str) -> Result<IpNetwork, String> {
        let wrong = || {
            let (family, example) = match self.family {
                Family::Ip6 => ("IPv6", "2001:db8::/32"),
                _ => ("IPv4", "192.0.2.0/24"),
            };
            format!("{text:?} is no {family} address or prefix such as {example}")
        };
        let parsed = match text.split_once('/') {
            None => text.parse::<IpAddr>().ok().map(IpNetwork::from),
            Some((address, length)) => {
                let address: IpAddr = address.parse().map_err(|_| wrong())?;
                let length = match length.parse::<Ipv4Addr>() {
                    // iptables' 10.0.0.0/255.0.0.0
                    Ok(mask) if address.is_ipv4() => {
                        ipnetwork::ipv4_mask_to_prefix(mask).map_err(|_| wrong())?
                    }
                    _ => length.parse().map_err(|_| wrong())?,
                };
                IpNetwork::new(address, length).ok()
            }
        };
        parsed
            .filter(|prefix| prefix.is_ipv6() == (self.family == Family::Ip6))
            .ok_or_else(wrong)
    }
}

fn interface(name: &str) -> Result<Value, String> {
    if name.ends_with(['+', '*']) {
        return Err(format!(
            "{name:?} stands for many interfaces, which is not understood: name each"
        ));
    }
    match name.parse::<crate::spec::InterfaceName>() {
        Ok(_) => Ok(Value::Interface(name.to_owned())),
        Err(_) => Err(format!("{name:?} is no interface name")),
    }
}

fn protocol(text: &str) -> Result<Value, String> {
    let number = match text.to_ascii_lowercase().as_str() {
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        other => other.parse().ok(),
    };
    number
        .map(Value::Protocol)
        .ok_or_else(|| format!("{text:?} is no protocol: tcp, udp, sctp or a number"))
}

fn mark(text: &str) -> Result<Value, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number
        .map(Value::Mark)
        .map_err(|_| format!("{text:?} is no mark: a number of 32 bits, such as 0x2000"))
}

/// Words, and the signs that need no space around them. Quotes hold one word together.
fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut end = |word: &mut String| {
        if !word.is_empty() {
            all.push(std::mem::take(word));
        }
    };
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            _ if quoted => word.push(character),
            '{' | '}' | ',' => {
                end(&mut word);
                end(&mut character.to_string());
            }
            _ if character.is_whitespace() => end(&mut word),
            _ => word.push(character),
        }
    }
    end(&mut word);
    match quoted {
        true => Err("a quote is not closed".to_owned()),
        false => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, family: Family) -> Result<Vec<String>, String> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let join = |all: &Vec<Match>| {
            let words: Vec<String> = all.iter().map(Match::to_string).collect();
            words.join(" ")
        };
        parse(&words, family).map(|alternatives| alternatives.iter().map(join).collect())
    }

    fn v4(text: &str) -> Vec<String> {
        read(text, Family::Ip).unwrap()
    }

    #[test]
    fn iptables_options_are_read() {
        assert_eq!(v4("-s 192.0.2.0/24"), ["ip saddr 192.0.2.0/24"]);
        assert_eq!(
            v4("! -s 192.0.2.7 -d 10.0.0.0/255.0.0.0"),
            ["ip saddr != 192.0.2.7/32 ip daddr 10.0.0.0/8"]
        );
        assert_eq!(
            v4("-i eth0 ! -o eth1 -p TCP"),
            [r#"iifname "eth0" oifname != "eth1" meta l4proto 6"#]
        );
        assert_eq!(
            v4("-s 10.0.0.1,10.0.0.2 -d 10.1.0.0/16"),
            [
                "ip saddr 10.0.0.1/32 ip daddr 10.1.0.0/16",
                "ip saddr 10.0.0.2/32 ip daddr 10.1.0.0/16"
            ]
        );
        assert_eq!(
            v4("! -s 10.0.0.1,10.0.0.2"),
            ["ip saddr != 10.0.0.1/32 ip saddr != 10.0.0.2/32"]
        );
    }

    #[test]
    fn nft_expressions_are_read() {
        assert_eq!(v4("ip saddr 192.0.2.0/24"), ["ip saddr 192.0.2.0/24"]);
        assert_eq!(
            v4("ip saddr != { 10.0.0.0/8, 192.168.0.0/16 } iifname eth0"),
            [r#"ip saddr != 10.0.0.0/8 ip saddr != 192.168.0.0/16 iifname "eth0""#]
        );
        assert_eq!(
            v4(r#"meta iifname {"a","b"} ip daddr == 192.0.2.1 meta mark 0x10"#),
            [
                r#"iifname "a" ip daddr 192.0.2.1/32 meta mark 0x00000010"#,
                r#"iifname "b" ip daddr 192.0.2.1/32 meta mark 0x00000010"#
            ]
        );
        assert_eq!(
            read("ip6 daddr != fd00::/8", Family::Ip6).unwrap(),
            ["ip6 daddr != fd00::/8"]
        );
    }

    #[test]
    fn no_condition_is_one_alternative_that_asks_nothing() {
        assert_eq!(v4(""), [""]);
        assert_eq!(parse(&[], Family::Ip).unwrap(), [Vec::new()]);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, word) in [
            ("-m conntrack --ctstate NEW", "\"-m\""),
            ("-s", "\"-s\" has no value"),
            ("!", "\"!\" needs"),
            ("-s fd00::/8", "\"fd00::/8\" is no IPv4"),
            ("-s 10.0.0.0/33", "\"10.0.0.0/33\""),
            ("-i eth+", "\"eth+\" stands for many"),
            ("ip6 saddr fd00::/8", "\"ip6\" is of the other family"),
            ("tcp dport 80", "\"tcp\" is not understood"),
            ("ip protocol tcp", "\"protocol\" is not understood"),
            ("ip saddr { }", "empty"),
            ("ip saddr { 10.0.0.1", "has no value"),
            ("ip saddr 10.0.0.1-10.0.0.9", "\"10.0.0.1-10.0.0.9\""),
            ("meta mark x", "\"x\" is no mark"),
            ("iifname \"eth0", "quote"),
        ] {
            let error = read(text, Family::Ip).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn combinations_are_bounded() {
        let many: Vec<String> = (0..9).map(|n| format!("10.0.0.{n}")).collect();
        let text = format!("-s {} -d {}", many.join(","), many.join(","));
        assert!(read(&text, Family::Ip).unwrap_err().contains("64"));
    }
}
