use proptest::prelude::*;
use russh::keys::ssh_key::PrivateKey;
use russh::keys::ssh_key::certificate::Builder;
use russh::keys::ssh_key::private::{Ed25519Keypair, RsaKeypair};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const T: u64 = 1_700_000_000;
const HOUR: u64 = 3600;

fn key(n: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[n; 32]))
}

fn people() -> People {
    let entry = |name: &str, n: u8| PersonEntry {
        name: name.parse().unwrap(),
        groups: vec![],
        keys: vec![key(n).public_key().clone()],
        accounts: vec![],
    };
    let gone = key(9).public_key().fingerprint(HashAlg::Sha256).to_string();
    let gone_ca = key(29).public_key().fingerprint(HashAlg::Sha256).to_string();
    let ca = |name: &str, n: u8| UserCa {
        name: name.into(),
        keys: vec![key(n).public_key().clone(), key(n + 9).public_key().clone()],
        longest: Duration::from_secs(16 * HOUR),
    };
    let serials = [("office".to_owned(), vec![7..=7, 100..=199])].into();
    let revoked = RevokedCertificates { serials, key_ids: ["alice@lost".to_owned()].into() };
    let people = People::new(vec![entry("alice", 1), entry("bob", 2)], &[gone, gone_ca]).unwrap();
    people.trusting(vec![ca("office", 20), ca("lab", 40)], revoked)
}

/// A certificate as the office's CA makes them for alice, changed by `edit`.
struct Made {
    subject: PrivateKey,
    ca: PrivateKey,
    kind: CertType,
    from: u64,
    to: u64,
    serial: u64,
    key_id: String,
    principals: Vec<String>,
    critical: Vec<(String, String)>,
}

fn made(edit: impl FnOnce(&mut Made)) -> Certificate {
    let mut made = Made {
        subject: key(3),
        ca: key(20),
        kind: CertType::User,
        from: T - 60,
        to: T + HOUR,
        serial: 1,
        key_id: "alice@laptop".into(),
        principals: vec!["alice".into()],
        critical: vec![],
    };
    edit(&mut made);
    let mut builder = Builder::new([5; 16], made.subject.public_key().key_data().clone(), made.from, made.to).unwrap();
    builder.serial(made.serial).unwrap().cert_type(made.kind).unwrap().key_id(made.key_id).unwrap();
    if made.principals.is_empty() {
        builder.all_principals_valid().unwrap();
    }
    for principal in made.principals {
        builder.valid_principal(principal).unwrap();
    }
    for (name, value) in made.critical {
        builder.critical_option(name, value).unwrap();
    }
    builder.sign(&made.ca).unwrap()
}

fn says(certificate: &Certificate) -> Result<String, BadCertificate> {
    person(&people(), certificate, "192.0.2.7".parse().unwrap(), NOW).map(|entry| entry.name.to_string())
}

#[test]
fn a_certificate_names_its_one_principal() {
    assert_eq!(says(&made(|_| {})), Ok("alice".into()));
    assert_eq!(says(&made(|c| c.principals = vec!["bob".into()])), Ok("bob".into()));
    assert_eq!(says(&made(|c| c.ca = key(40))), Ok("alice".into()), "another CA");
    for (serial, good) in [(0, true), (6, true), (7, false), (8, true), (99, true), (100, false), (199, false), (200, true)] {
        assert_eq!(says(&made(|c| c.serial = serial)).is_ok(), good, "{serial}");
        assert!(says(&made(|c| (c.serial, c.ca) = (serial, key(40)))).is_ok(), "a serial is one CA's");
    }
    for (from, to, good) in [(T, T + 1, true), (T + 1, T + HOUR, false), (T - HOUR, T, false), (T - HOUR, T + 15 * HOUR, true)] {
        assert_eq!(says(&made(|c| (c.from, c.to) = (from, to))).is_ok(), good, "{from} {to}");
    }
}

#[test]
fn what_is_not_exactly_right_is_refused() {
    use BadCertificate as Bad;
    let small = PrivateKey::from(RsaKeypair::random(&mut rand::rng(), 1024).unwrap());
    let fingerprint = |n| key(n).public_key().fingerprint(HashAlg::Sha256).to_string();
    let option = |name: &str, value: &str| {
        let pair = (name.to_owned(), value.to_owned());
        made(|c| c.critical = vec![pair])
    };
    let refused: Vec<(Certificate, Bad)> = vec![
        (made(|c| c.ca = key(21)), Bad::UnknownCa(fingerprint(21))),
        (made(|c| c.ca = key(3)), Bad::UnknownCa(fingerprint(3))),
        (made(|c| c.ca = key(1)), Bad::UnknownCa(fingerprint(1))),
        (made(|c| c.kind = CertType::Host), Bad::Host),
        (made(|c| c.to = T - 1), Bad::Expired(T - 1)),
        (made(|c| c.from = T + 30), Bad::NotYet(T + 30)),
        (made(|c| c.to = T - 60 + 16 * HOUR + 1), Bad::Lifetime(Duration::from_secs(16 * HOUR))),
        (made(|c| (c.from, c.to) = (0, i64::MAX as u64)), Bad::Lifetime(Duration::from_secs(16 * HOUR))),
        (made(|c| c.principals.clear()), Bad::Golden),
        (made(|c| c.principals.push("bob".into())), Bad::Principals(2)),
        (made(|c| c.principals.push("alice".into())), Bad::Principals(2)),
        (made(|c| c.principals = vec!["zoe".into()]), Bad::Nobody("zoe".into())),
        (made(|c| c.serial = 150), Bad::Revoked("serial 150 of office".into())),
        (made(|c| c.key_id = "alice@lost".into()), Bad::Revoked("key id \"alice@lost\"".into())),
        (made(|c| c.subject = key(9)), Bad::Revoked(fingerprint(9))),
        (made(|c| c.ca = key(29)), Bad::Revoked(fingerprint(29))),
        (made(|c| c.subject = small), Bad::Key("1024 bit RSA".into())),
        (option("force-command", "id"), Bad::Option("force-command".into())),
        (option("verify-required", ""), Bad::Option("verify-required".into())),
        (option("no-such@example.org", "x"), Bad::Option("no-such@example.org".into())),
        (option("source-address", "192.0.2.8"), Bad::Source("192.0.2.8".into(), "192.0.2.7".parse().unwrap())),
        (made(|c| c.key_id = "x".repeat(MAX_CERTIFICATE)), Bad::TooLong),
    ];
    for (certificate, why) in refused {
        assert_eq!(says(&certificate), Err(why));
    }
    for name in ["*", "?", "ALICE", "Alice", "alice ", " alice", "alice,bob", "!alice", "ａlice", "alice\0", "../alice", "root", "", "al*"]
    {
        assert_eq!(says(&made(|c| c.principals = vec![name.into()])), Err(Bad::Nobody(name.into())), "{name:?}");
    }
}

/// CVE-2025-49825: a certificate by an attacker's CA that itself carries our CA's key.
#[test]
fn a_certificate_in_the_place_of_a_cas_key_is_none() {
    let inner = made(|c| (c.subject, c.ca, c.principals) = (key(20), key(66), vec!["alice".into()]));
    let honest = made(|_| {});
    // The same certificate with the inner one as its signature key.
    let bytes = honest.to_bytes().unwrap();
    let ca = honest.signature_key().clone();
    let plain = PublicKey::new(ca, "").to_bytes().unwrap();
    let at = bytes.windows(plain.len()).rposition(|window| window == plain).unwrap();
    let nested = inner.to_bytes().unwrap();
    let length = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
    let forged = [&bytes[..at - 4], &length(nested.len()), &nested, &bytes[at + plain.len()..]].concat();
    // Not to read it at all is as good.
    if let Ok(forged) = Certificate::from_bytes(&forged) {
        assert_eq!(says(&forged), Err(BadCertificate::UnknownCa("a certificate".into())));
    }
}

/// The trusted CA's key named, the signature another's.
#[test]
fn a_signature_that_does_not_fit_is_refused() {
    let (ours, theirs) = (made(|_| {}), made(|c| c.ca = key(66)));
    let (ours_bytes, theirs_bytes) = (ours.to_bytes().unwrap(), theirs.to_bytes().unwrap());
    let forged = [&ours_bytes[..ours_bytes.len() - 64], &theirs_bytes[theirs_bytes.len() - 64..]].concat();
    assert_eq!(says(&Certificate::from_bytes(&forged).unwrap()), Err(BadCertificate::Signature));
    for at in 40..ours_bytes.len() {
        let mut changed = ours_bytes.clone();
        changed[at] ^= 1;
        if let Ok(changed) = Certificate::from_bytes(&changed) {
            assert!(says(&changed).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_source_address_is_held_to() {
    let holds = |list: &str, source: &str| is_in(list, source.parse::<IpAddr>().unwrap().to_canonical());
    for (list, source) in [
        ("192.0.2.7", "192.0.2.7"),
        ("10.0.0.0/8,192.0.2.0/24", "192.0.2.7"),
        ("0.0.0.0/0", "192.0.2.7"),
        ("192.0.2.7/32", "::ffff:192.0.2.7"),
        ("2001:db8::/32", "2001:db8::1"),
        ("::/0", "2001:db8::1"),
    ] {
        assert!(holds(list, source), "{list} {source}");
    }
    for (list, source) in [
        ("192.0.2.0/25", "192.0.2.200"),
        ("::/0", "192.0.2.7"),
        ("0.0.0.0/0", "2001:db8::1"),
        ("", "192.0.2.7"),
        ("192.0.2.7,", "192.0.2.7"),
        ("192.0.2.7, 192.0.2.8", "192.0.2.7"),
        ("192.0.2.7/33", "192.0.2.7"),
        ("192.0.2.7/24", "192.0.2.7"),
        ("192.0.2.0/+24", "192.0.2.7"),
        ("192.0.2.0/", "192.0.2.7"),
        ("!10.0.0.1,192.0.2.7", "192.0.2.7"),
        ("192.0.2.*", "192.0.2.7"),
        ("bastion", "192.0.2.7"),
    ] {
        assert!(!holds(list, source), "{list} {source}");
    }
}

proptest! {
    #[test]
    fn no_changed_certificate_names_anybody(at in any::<prop::sample::Index>(), cut in 0usize..40, put in prop::collection::vec(any::<u8>(), 0..40)) {
        let honest = made(|_| {}).to_bytes().unwrap();
        let at = at.index(honest.len());
        let end = (at + cut).min(honest.len());
        let changed = [&honest[..at], &put, &honest[end..]].concat();
        if let Ok(certificate) = Certificate::from_bytes(&changed) {
            prop_assert!(says(&certificate).is_err() || changed == honest);
        }
    }

    #[test]
    fn no_list_makes_the_reader_panic(list in "[0-9a-f:./,!*]{0,40}", v4 in any::<u32>(), v6 in any::<u128>()) {
        is_in(&list, IpAddr::from(std::net::Ipv4Addr::from(v4)));
        is_in(&list, IpAddr::from(std::net::Ipv6Addr::from(v6)));
    }

    #[test]
    fn a_network_holds_what_begins_alike(address in any::<u32>(), prefix in 0u32..=32, source in any::<u32>()) {
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        let list = format!("{}/{prefix}", std::net::Ipv4Addr::from(address & mask));
        prop_assert_eq!(is_in(&list, IpAddr::from(std::net::Ipv4Addr::from(source))), source & mask == address & mask);
    }
}
