//! Which addresses may be called. A receiver's URL is what somebody wrote, and its name means what somebody's DNS says just
//! now; without a rule, a server could be made to call what only it can reach (SSRF).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), bits)
}

const fn v6(a: u16, b: u16, c: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits)
}

/// What is not global by IANA's registry of special-purpose addresses (RFC 6890), and what is no unicast.
const SPECIAL_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 88, 99, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    v4(224, 0, 0, 4),
    v4(240, 0, 0, 4),
];

/// The same. `::/96` holds the unspecified address, loopback and the old IPv4-compatible ones; 6to4 and Teredo carry an
/// IPv4 address that nobody has looked at.
const SPECIAL_V6: [Ipv6Net; 11] = [
    v6(0, 0, 0, 96),
    v6(0x64, 0xff9b, 1, 48),
    v6(0x100, 0, 0, 64),
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0xdb8, 0, 32),
    v6(0x2002, 0, 0, 16),
    v6(0x3fff, 0, 0, 20),
    v6(0xfc00, 0, 0, 7),
    v6(0xfe80, 0, 0, 10),
    v6(0xfec0, 0, 0, 10),
    v6(0xff00, 0, 0, 8),
];

/// NAT64 (RFC 6052): the last four bytes are an IPv4 address.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

/// Which receivers may be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Also private addresses: loopback, the organisation's own, link-local.
    pub allow_private: bool,
    /// Also these, private or not.
    pub allow: Vec<IpNet>,
    /// Also without TLS.
    pub allow_http: bool,
}

impl AddressPolicy {
    /// Whether this address may be called; an error says why not.
    pub fn check(&self, address: IpAddr) -> Result<(), String> {
        let address = embedded(address);
        if self.allow_private || self.allow.iter().any(|net| net.contains(&address)) || !is_special(address) {
            return Ok(());
        }
        Err(format!(
            "{address} is a private or special address: allow it with push.allow = [\"{address}/{}\"] (or \
             push.allow_private = true)",
            if address.is_ipv4() { 32 } else { 128 }
        ))
    }
}

/// The IPv4 address that is meant by an IPv6 one.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    if NAT64.contains(&v6) {
        let [.., a, b, c, d] = v6.octets();
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    address.to_canonical()
}

fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => SPECIAL_V4.iter().any(|net| net.contains(&v4)),
        IpAddr::V6(v6) => SPECIAL_V6.iter().any(|net| net.contains(&v6)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    fn allowed(policy: &AddressPolicy, addresses: &[&str]) -> Vec<bool> {
        addresses.iter().map(|a| policy.check(a.parse().unwrap()).is_ok()).collect()
    }

    #[test]
    fn only_public_addresses_are_called_unless_others_are_allowed() {
        let private = [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
            "2002:a00:1::",
        ];
        let public =
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"];
        let strict = AddressPolicy::default();
        assert_eq!(allowed(&strict, &private), [false; 18]);
        assert_eq!(allowed(&strict, &public), [true; 6]);
        let open = AddressPolicy { allow_private: true, ..AddressPolicy::default() };
        assert_eq!(allowed(&open, &private), [true; 18]);
        let some = AddressPolicy { allow: vec!["10.1.0.0/16".parse().unwrap()], ..AddressPolicy::default() };
        assert_eq!(allowed(&some, &["10.1.2.3", "::ffff:10.1.2.3", "10.2.0.1"]), [true, true, false]);
        let reason = strict.check("10.2.0.1".parse().unwrap()).unwrap_err();
        assert!(reason.contains("push.allow = [\"10.2.0.1/32\"]"), "{reason}");
    }
}
