//! An authority: what it makes, what clients think of it, what it refuses.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion,
    server::ResolvesServerCert,
    version::{TLS12, TLS13},
};

use super::*;
use crate::base::clock::Clock;

const DAY: Duration = Duration::from_hours(24);
/// Clients in these tests ask the real clock.
fn now() -> Timestamp {
    crate::base::clock::SystemClock.wall()
}

fn terms() -> Terms {
    Terms::of(["api.openai.com", "*.openai.azure.com", "10.1.2.3", "::1"]).unwrap()
}

fn made(terms: &Terms) -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(&dir.path().join("ca"), terms, &[], now()).unwrap();
    (dir, authority)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A handshake of a client that trusts `roots` and asks for `host`.
fn handshake(
    roots: &[CertificateDer<'static>],
    server: Arc<dyn ResolvesServerCert>,
    host: &str,
    version: &'static SupportedProtocolVersion,
) -> Result<(), rustls::Error> {
    let provider = || Arc::new(ring::default_provider());
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(server);
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn a_client_that_trusts_the_root_accepts_what_is_made_for_its_host() {
    let (_dir, authority) = made(&terms());
    let roots = authority.roots().to_vec();
    let leaves = Arc::new(Leaves::new(
        authority,
        8,
        Arc::new(crate::base::clock::SystemClock),
    ));
    let serve = || -> Arc<dyn ResolvesServerCert> { Arc::<Leaves>::clone(&leaves) };
    for version in [&TLS13, &TLS12] {
        for host in ["api.openai.com", "acme.openai.azure.com", "API.OpenAI.com"] {
            handshake(&roots, serve(), host, version).unwrap();
        }
        let (_dir, other) = made(&terms());
        let error = handshake(other.roots(), serve(), "api.openai.com", version).unwrap_err();
        let unknown = CertificateError::UnknownIssuer;
        assert_eq!(error, rustls::Error::InvalidCertificate(unknown));
    }
    assert_eq!(leaves.counts().minted, 2, "for each host one");
    // Clients name no address when they ask.
    let single = |host: &str| {
        let key = leaves.get(host).unwrap();
        Arc::new(rustls::sign::SingleCertAndKey::from(key))
    };
    for host in ["10.1.2.3", "::1"] {
        handshake(&roots, single(host), host, &TLS13).unwrap();
    }
}

#[test]
fn no_certificate_is_made_that_clients_would_refuse() {
    let (_dir, authority) = made(&terms());
    for (host, why) in [
        ("example.com", "may not vouch"),
        ("openai.com", "may not vouch"),
        ("xapi.openai.com", "may not vouch"),
        ("10.1.2.4", "may not vouch"),
        ("::2", "may not vouch"),
        ("", "is no name"),
        ("*.openai.azure.com", "is no name"),
        ("a b", "is no name"),
        ("api.openai.com\0.evil.example", "is no name"),
    ] {
        let error = authority.leaf(host, now()).unwrap_err().to_string();
        assert!(error.contains(why), "{host}: {error}");
    }
    let long = format!("{}openai.azure.com", "a.".repeat(100));
    assert!(
        authority.leaf(&long, now()).is_ok(),
        "longer than a common name"
    );
    let (_dir, any) = made(&Terms::default());
    assert!(any.about().hosts.is_empty());
    for host in ["example.com", "192.168.0.1", "localhost"] {
        any.leaf(host, now()).unwrap();
    }
    let (_dir, names) = made(&Terms::of(["a.example"]).unwrap());
    assert!(
        names.leaf("127.0.0.1", now()).is_err(),
        "an address is no name"
    );
    let (_dir, addresses) = made(&Terms::of(["10.0.0.1"]).unwrap());
    assert!(addresses.leaf("a.example", now()).is_err());
    addresses.leaf("10.0.0.1", now()).unwrap();
}

#[test]
fn a_leaf_holds_for_a_day_and_no_longer_than_the_authority() {
    let short = Terms {
        lifetime: Duration::from_hours(5),
        ..terms()
    };
    let (_dir, authority) = made(&short);
    let now = now();
    let leaf = authority.leaf("api.openai.com", now).unwrap();
    assert_eq!(leaf.ends, authority.about().ends);
    let (_dir, authority) = made(&terms());
    let leaf = authority.leaf("api.openai.com", now).unwrap();
    assert_eq!(leaf.ends.since(leaf.begins), DAY);
    let written = about::end(&leaf.key.cert[0]).unwrap();
    assert_eq!(written.as_secs(), leaf.ends.as_secs());
}

#[test]
fn an_authority_says_when_it_ends_and_makes_nothing_then() {
    let (dir, authority) = made(&terms());
    let ends = authority.about().ends;
    let begins = authority.about().begins;
    assert_eq!(authority.trouble(now()), None);
    assert_eq!(authority.trouble(ends - DAY), Some(Trouble::EndsSoon(ends)));
    assert_eq!(authority.trouble(ends), Some(Trouble::Ended(ends)));
    assert_eq!(
        authority.trouble(begins - DAY),
        Some(Trouble::NotYet(begins))
    );
    let error = authority.leaf("api.openai.com", ends + DAY).unwrap_err();
    assert!(error.to_string().contains("ended at"), "{error}");
    let error = authority.leaf("api.openai.com", begins - DAY).unwrap_err();
    assert!(error.to_string().contains("holds only from"), "{error}");
    // One that has ended can still be looked at.
    let past = Timestamp::from_secs(1_500_000_000);
    let old = Terms {
        before: Before::Keep,
        ..terms()
    };
    let dir = dir.path().join("ca");
    let authority = Authority::create(&dir, &old, &[], past).unwrap();
    assert!(matches!(authority.trouble(now()), Some(Trouble::Ended(_))));
}

#[test]
fn only_the_owner_can_read_the_key() {
    let (dir, authority) = made(&terms());
    let dir = dir.path().join("ca");
    assert_eq!(mode(&dir), 0o700);
    let issuer = dir.join(ISSUER);
    assert_eq!(mode(&issuer), 0o600);
    for name in [ROOTS, BUNDLE, JAVA] {
        assert_eq!(mode(&dir.join(name)), 0o644, "{name}");
        let bytes = fs::read(dir.join(name)).unwrap();
        assert!(
            !String::from_utf8_lossy(&bytes).contains("PRIVATE"),
            "{name}"
        );
    }
    let text = fs::read_to_string(&issuer).unwrap();
    let key = text.split("PRIVATE KEY-----").nth(1).unwrap().trim();
    let shown = format!("{authority:?}");
    assert!(
        !shown.contains(key.get(..20).unwrap()) && shown.contains("Tollgate issuer"),
        "{shown}"
    );
    for wide in [0o640, 0o604, 0o660] {
        fs::set_permissions(&issuer, fs::Permissions::from_mode(wide)).unwrap();
        let error = Authority::open(&dir).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, AuthorityError::Exposed { .. }), "{said}");
        assert!(
            said.contains("chmod 600") && said.contains(&format!("{wide:o}")),
            "{said}"
        );
    }
}

#[test]
fn a_directory_that_others_can_write_holds_no_authority() {
    let (dir, _) = made(&terms());
    let (dir, empty) = (dir.path().join("ca"), dir.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    let set = |mode| {
        for dir in [&dir, &empty] {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    for wide in [0o777, 0o770, 0o702, 0o2775] {
        set(wide);
        let opened = Authority::open(&dir).unwrap_err();
        let looked = Authority::look(&dir).unwrap_err();
        let made = Authority::create(&empty, &terms(), &[], now()).unwrap_err();
        for (error, dir) in [(opened, &dir), (looked, &dir), (made, &empty)] {
            let said = error.to_string();
            assert!(matches!(error, AuthorityError::Shared { .. }), "{said}");
            for part in [&*dir.to_string_lossy(), &format!("{wide:04o}"), "chmod 700"] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    }
    for fine in [0o700, 0o755, 0o750, 0o1777, 0o3777] {
        set(fine);
        Authority::open(&dir).unwrap();
    }
}

/// As Kubernetes mounts a secret: everyone could write there, but for the sticky bit (and for its being
/// read-only), files are links, and `fsGroup` lets the group read them.
#[test]
fn a_volume_of_secrets_is_a_directory_like_any_other() {
    let (dir, made) = made(&terms());
    let (from, dir) = (dir.path().join("ca"), dir.path().join("volume"));
    let data = dir.join("..2026_11_26");
    fs::create_dir_all(&data).unwrap();
    std::os::unix::fs::symlink("..2026_11_26", dir.join("..data")).unwrap();
    for file in [ISSUER, ROOTS] {
        fs::copy(from.join(file), data.join(file)).unwrap();
        std::os::unix::fs::symlink(Path::new("..data").join(file), dir.join(file)).unwrap();
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o3777)).unwrap();
    assert!(Authority::open(&dir).unwrap().is_same(&made));
}

#[test]
fn what_belongs_to_somebody_else_is_trusted_by_none_but_root_and_only_where_it_asks() {
    const NOBODY: Option<u32> = Some(65_534);
    let (dir, _) = made(&terms());
    let dir = dir.path().join("ca");
    if std::os::unix::fs::chown(&dir, NOBODY, None).is_err() {
        return; // Only root can give things away.
    }
    let again = Terms {
        before: Before::Keep,
        ..terms()
    };
    let opened = Authority::open(&dir).unwrap_err();
    let made = Authority::create(&dir, &again, &[], now()).unwrap_err();
    for error in [opened, made] {
        let said = error.to_string();
        assert!(matches!(error, AuthorityError::Foreign { .. }), "{said}");
        assert!(said.contains("65534") && said.contains("chown"), "{said}");
    }
    Authority::look(&dir).unwrap();
    // In a directory where everyone makes files, it is whose the file is that counts.
    std::os::unix::fs::chown(&dir, Some(0), None).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).unwrap();
    Authority::open(&dir).unwrap();
    for file in [ISSUER, ROOTS] {
        std::os::unix::fs::chown(dir.join(file), NOBODY, None).unwrap();
        let said = Authority::look(&dir).unwrap_err().to_string();
        assert!(said.contains(file) && said.contains("65534"), "{said}");
        std::os::unix::fs::chown(dir.join(file), Some(0), None).unwrap();
    }
}

#[test]
fn an_authority_is_not_replaced_by_mistake_and_its_root_stays_trusted() {
    let (dir, before) = made(&terms());
    let dir = dir.path().join("ca");
    let error = Authority::create(&dir, &terms(), &[], now()).unwrap_err();
    assert!(error.to_string().contains("--replace"), "{error}");
    let again = Terms {
        before: Before::Keep,
        ..terms()
    };
    let after = Authority::create(&dir, &again, &[], now()).unwrap();
    assert_eq!(after.roots().len(), 2);
    assert_eq!(after.roots()[1], before.roots()[0]);
    assert_ne!(after.about().subject, before.about().subject);
    for _ in 0..4 {
        Authority::create(&dir, &again, &[], now()).unwrap();
    }
    let last = Authority::open(&dir).unwrap();
    assert_eq!(last.roots().len(), 4, "not more and more");
    // Those that have ended go, and those that are not to be trusted.
    let later = last.about().ends + DAY;
    let alone = Authority::create(&dir, &again, &[], later).unwrap();
    assert_eq!(alone.roots().len(), 1);
    let stolen = Terms {
        before: Before::Distrust,
        ..terms()
    };
    // Not even where the system trusts it by now.
    let system = [alone.roots()[0].clone()];
    let fresh = Authority::create(&dir, &stolen, &system, now()).unwrap();
    assert_eq!(fresh.roots().len(), 1);
    let bundle = files::certificates(&dir.join(BUNDLE)).unwrap();
    assert_eq!(bundle, fresh.roots());
}

#[test]
fn what_does_not_fit_together_is_refused_by_name() {
    let (dir, _) = made(&terms());
    let (other, _) = made(&terms());
    let [dir, other] = [&dir, &other].map(|dir| dir.path().join("ca"));
    let issuer = fs::read_to_string(dir.join(ISSUER)).unwrap();
    let foreign = fs::read_to_string(other.join(ISSUER)).unwrap();
    let said = || Authority::open(&dir).unwrap_err().to_string();
    let split = |text: &str| {
        let (certificate, key) = text.split_at(text.find("-----BEGIN PRIVATE").unwrap());
        (certificate.to_owned(), key.to_owned())
    };
    let (certificate, key) = split(&issuer);
    let write = |text: &str| fs::write(dir.join(ISSUER), text).unwrap();
    write(&[&*certificate, &split(&foreign).1].concat());
    assert!(said().contains("not that of its certificate"), "{}", said());
    write(&certificate);
    assert!(said().contains("no key"), "{}", said());
    write(&key);
    assert!(said().contains("no certificate"), "{}", said());
    let encrypted = key.replace(" PRIVATE KEY", " ENCRYPTED PRIVATE KEY");
    write(&[&*certificate, &encrypted].concat());
    assert!(said().contains("is encrypted"), "{}", said());
    write(&format!(
        "{certificate}-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
    ));
    assert!(said().contains("is encrypted"), "{}", said());
    write("");
    assert!(said().contains("no key"), "{}", said());
    write(&foreign);
    assert!(
        said().contains("ca.pem") && said().contains("of another"),
        "{}",
        said()
    );
    write(&issuer);
    fs::write(dir.join(ROOTS), "").unwrap();
    assert!(said().contains("no certificate in it"), "{}", said());
    fs::remove_file(dir.join(ROOTS)).unwrap();
    let again = Authority::create(&dir, &terms(), &[], now()).unwrap_err();
    for said in [said(), again.to_string()] {
        assert!(
            said.contains("ca.pem") && said.contains("create --replace"),
            "{said}"
        );
    }
    fs::remove_file(dir.join(ISSUER)).unwrap();
    assert!(said().contains("tollgate ca create"), "{}", said());
}

#[test]
fn a_certificate_of_a_host_is_no_authority() {
    let (dir, authority) = made(&terms());
    let dir = dir.path().join("ca");
    let mut params = CertificateParams::new(["api.openai.com".to_owned()]).unwrap();
    hold(&mut params, now() - DAY, now() + DAY);
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &authority.issuer).unwrap();
    fs::write(dir.join(ISSUER), [leaf.pem(), key.serialize_pem()].concat()).unwrap();
    let error = Authority::open(&dir).unwrap_err().to_string();
    assert!(error.contains("may not sign others"), "{error}");
}

#[test]
fn an_organisations_own_authority_is_used_as_it_is() {
    // A root that signs by itself, made by other hands: RSA would do as well.
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Example root");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    hold(&mut params, now() - DAY, now() + DAY);
    let root = params.self_signed(&key).unwrap();
    fs::write(dir.path().join(ROOTS), root.pem()).unwrap();
    let issuer = dir.path().join(ISSUER);
    fs::write(&issuer, [key.serialize_pem(), root.pem()].concat()).unwrap();
    fs::set_permissions(&issuer, fs::Permissions::from_mode(0o400)).unwrap();
    let authority = Authority::open(dir.path()).unwrap();
    assert!(authority.about().hosts.is_empty());
    let leaf = authority.leaf("example.com", now()).unwrap();
    let server = Arc::new(rustls::sign::SingleCertAndKey::from(leaf.key));
    handshake(authority.roots(), server, "example.com", &TLS13).unwrap();
}

/// A clock that is set by hand.
struct Hands(AtomicU64);

impl Clock for Hands {
    fn wall(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Relaxed))
    }
}

#[test]
fn ten_thousand_names_take_no_more_room_than_there_is() {
    let (_dir, authority) = made(&terms());
    let leaves = Leaves::new(authority, 64, Arc::new(crate::base::clock::SystemClock));
    let first = leaves.get("api.openai.com").unwrap();
    for number in 0..10_000_u32 {
        let host = format!("n{number}.openai.azure.com");
        assert!(leaves.of(&host).is_some());
        // What is asked for all the time stays.
        assert!(Arc::ptr_eq(&leaves.get("api.openai.com").unwrap(), &first));
    }
    let counts = leaves.counts();
    assert_eq!((counts.minted, counts.evicted), (10_001, 10_001 - 64));
    assert!(leaves.of("example.com").is_none());
    assert!(leaves.of("example.com").is_none());
    assert_eq!(leaves.counts().refused, 1, "that is remembered");
}

#[test]
fn a_leaf_is_made_anew_before_it_ends_and_when_the_clock_is_set_back() {
    let (_dir, authority) = made(&terms());
    let clock = Arc::new(Hands(AtomicU64::new(now().as_nanos())));
    let leaves = Leaves::new(authority, 8, Arc::<Hands>::clone(&clock));
    let get = || leaves.get("api.openai.com").unwrap();
    let first = get();
    let turn = |by: Duration| {
        let by = u64::try_from(by.as_nanos()).unwrap();
        clock.0.fetch_add(by, Relaxed);
    };
    turn(Duration::from_hours(20));
    assert!(Arc::ptr_eq(&get(), &first));
    turn(Duration::from_hours(1));
    let second = get();
    assert!(!Arc::ptr_eq(&second, &first));
    clock
        .0
        .fetch_sub(DAY.as_nanos().try_into().unwrap(), Relaxed);
    assert!(!Arc::ptr_eq(&get(), &second));
    assert_eq!(leaves.counts().minted, 3);
}
