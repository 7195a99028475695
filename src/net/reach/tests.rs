//! Tests of what may be reached.

use proptest::prelude::*;

use super::*;

fn reach(allowed: &[&str], own: &[&str]) -> Reach {
    Reach::new(
        allowed.iter().map(|text| text.parse().unwrap()).collect(),
        own.iter().map(|text| text.parse().unwrap()).collect(),
    )
}

fn found(reach: &Reach, host: &str, address: &str) -> Option<Sort> {
    let checked = reach.check(host, address.parse().unwrap());
    checked.err().map(|forbidden| forbidden.sort)
}

#[test]
fn only_the_internet_is_reached_in_whatever_way_an_address_is_written() {
    let reach = reach(&[], &[]);
    for (address, expected) in [
        ("104.18.6.192:443", None),
        ("[2606:4700::6812:7c0]:443", None),
        ("127.0.0.1:443", Some(Sort::Loopback)),
        ("127.9.9.9:443", Some(Sort::Loopback)),
        ("0.0.0.0:443", Some(Sort::Loopback)),
        ("[::1]:443", Some(Sort::Loopback)),
        ("[::]:443", Some(Sort::Loopback)),
        ("[::ffff:127.0.0.1]:443", Some(Sort::Loopback)),
        ("[::127.0.0.1]:443", Some(Sort::Loopback)),
        ("[64:ff9b::7f00:1]:443", Some(Sort::Loopback)),
        ("[2002:7f00:1::]:443", Some(Sort::Loopback)),
        ("169.254.1.1:443", Some(Sort::LinkLocal)),
        ("[fe80::1]:443", Some(Sort::LinkLocal)),
        ("169.254.169.254:80", Some(Sort::Metadata)),
        ("[::ffff:169.254.169.254]:80", Some(Sort::Metadata)),
        ("[64:ff9b::a9fe:a9fe]:80", Some(Sort::Metadata)),
        ("[fd00:ec2::254]:80", Some(Sort::Metadata)),
        ("168.63.129.16:80", Some(Sort::Metadata)),
        ("100.100.100.200:80", Some(Sort::Metadata)),
        ("10.0.0.1:443", Some(Sort::Private)),
        ("172.31.255.255:443", Some(Sort::Private)),
        ("172.32.0.1:443", None),
        ("192.168.1.1:443", Some(Sort::Private)),
        ("100.64.0.1:443", Some(Sort::Private)),
        ("[fd12::1]:443", Some(Sort::Private)),
        ("[fec0::1]:443", Some(Sort::Private)),
        ("224.0.0.1:443", Some(Sort::Reserved)),
        ("255.255.255.255:443", Some(Sort::Reserved)),
        ("[ff02::1]:443", Some(Sort::Reserved)),
        ("[2001::1]:443", Some(Sort::Reserved)),
    ] {
        assert_eq!(found(&reach, "x.example", address), expected, "{address}");
    }
}

#[test]
fn what_is_allowed_is_so_by_name_or_range_and_at_its_port() {
    let reach = reach(
        &[
            "10.0.0.0/8",
            "[fd00::/8]:443",
            "vllm.internal:8000",
            "*.svc",
        ],
        &[],
    );
    for (host, address, expected) in [
        ("x", "10.1.2.3:9", None),
        ("x", "192.168.0.1:9", Some(Sort::Private)),
        ("x", "[fd00::1]:443", None),
        ("x", "[fd00::1]:444", Some(Sort::Private)),
        ("VLLM.internal.", "127.0.0.1:8000", None),
        ("vllm.internal", "127.0.0.1:8001", Some(Sort::Loopback)),
        ("a.b.svc", "192.168.0.1:1", None),
        (".svc", "192.168.0.1:1", Some(Sort::Private)),
        ("asvc", "192.168.0.1:1", Some(Sort::Private)),
    ] {
        assert_eq!(found(&reach, host, address), expected, "{host} {address}");
    }
}

#[test]
fn an_address_that_somebody_has_chosen_is_allowed_by_no_name() {
    let reach = reach(&["db.internal", "*.svc", "10.0.0.0/8", "127.0.0.2"], &[]);
    for (address, expected) in [
        ("168.63.129.16:80", Some(Sort::Metadata)),
        ("127.0.0.1:443", Some(Sort::Loopback)),
        ("127.0.0.2:443", None),
        ("10.1.2.3:443", None),
        ("104.18.6.192:443", None),
    ] {
        let checked = reach.check_address(address.parse().unwrap());
        let found = checked.err().map(|forbidden| forbidden.sort);
        assert_eq!(found, expected, "{address}");
    }
}

#[test]
fn our_own_listeners_are_never_reached() {
    let reach = reach(&["0.0.0.0/0", "::/0"], &["127.0.0.1:4100", "0.0.0.0:3001"]);
    for reach in [&reach, &reach.anywhere()] {
        for address in [
            "127.0.0.1:4100",
            "127.0.0.2:4100",
            "[::1]:4100",
            "[::ffff:127.0.0.1]:4100",
            "0.0.0.0:4100",
            "127.0.0.1:3001",
        ] {
            assert_eq!(found(reach, "x", address), Some(Sort::Own), "{address}");
        }
        assert_eq!(found(reach, "x", "127.0.0.1:4101"), None);
    }
}

#[test]
fn an_address_of_the_internet_that_is_this_machine_s_is_reached_if_it_is_allowed() {
    let listening = ["0.0.0.0:3001", "127.0.0.1:4100"];
    let nothing = reach(&[], &listening);
    let some = reach(&["203.0.113.9/32", "*.internal"], &listening);
    let (here, own) = (Some(Sort::Loopback), Some(Sort::Own));
    for (reach, host, to, expected) in [
        (&nothing, "x", "203.0.113.9:443", here),
        (&nothing, "x", "203.0.113.9:4100", here),
        (&nothing, "x", "203.0.113.9:3001", own),
        (&nothing, "x", "[::ffff:203.0.113.9]:443", here),
        (&nothing, "x", "203.0.113.7:443", None),
        (&nothing, "x", "203.0.113.7:3001", None),
        (&some, "x", "203.0.113.9:443", None),
        (&some, "x.internal", "203.0.113.9:443", None),
        (&some, "x", "203.0.113.9:3001", own),
        (&nothing.anywhere(), "x", "203.0.113.9:443", None),
        (&nothing.anywhere(), "x", "203.0.113.9:4100", None),
        (&nothing.anywhere(), "x", "203.0.113.9:3001", own),
        (&nothing.anywhere(), "x", "127.0.0.2:4100", own),
    ] {
        let ends = ("203.0.113.9:55555".parse().unwrap(), to.parse().unwrap());
        let checked = reach.check_made(host, ends);
        let found = checked.err().map(|forbidden| forbidden.sort);
        assert_eq!(found, expected, "{host} {to}");
    }
}

#[test]
fn this_machine_s_addresses_are_known_before_anything_is_sent() {
    let at = |text: &str| text.parse().unwrap();
    assert!(is_here(at("127.0.0.1:443")) && is_here(at("[::ffff:127.0.0.1]:443")));
    for elsewhere in ["192.0.2.1:443", "[2001:db8::9]:443", "255.255.255.255:1"] {
        assert!(!is_here(at(elsewhere)), "{elsewhere}");
    }
}

#[test]
fn what_is_no_place_is_refused() {
    for text in [
        "",
        ":80",
        "a b",
        "host:port",
        "[::1",
        "*",
        "*.",
        "http://x/",
        "10.0.0.0/33",
    ] {
        assert!(text.parse::<Allowed>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn an_address_is_judged_alike_however_ipv6_holds_it(bits: u32, port: u16) {
        let reach = reach(&[], &[]);
        let plain = Ipv4Addr::from_bits(bits);
        let judged = |ip: IpAddr| {
            let checked = reach.check("x", SocketAddr::new(ip, port));
            checked.err().map(|forbidden| forbidden.sort)
        };
        let [high, low] = [(bits >> 16) as u16, (bits & 0xffff) as u16];
        let expected = judged(plain.into());
        prop_assert_eq!(judged(plain.to_ipv6_mapped().into()), expected);
        let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
        prop_assert_eq!(judged(nat64.into()), expected);
        prop_assert_eq!(judged(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into()), expected);
    }

    #[test]
    fn a_place_is_read_as_it_is_written(text in "[a-z*.0-9:/\\[\\]]{0,20}") {
        if let Ok(place) = text.parse::<Allowed>() {
            prop_assert_eq!(place.to_string().parse::<Allowed>().unwrap(), place);
        }
    }
}
