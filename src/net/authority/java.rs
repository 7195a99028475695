//! Java's own file of trusted certificates (JKS), which every Java reads, without its tools.

use ring::digest;
use rustls::pki_types::CertificateDer;

/// What the file begins with, and its version.
const MAGIC: [u8; 8] = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
/// An entry that is a trusted certificate.
const TRUSTED: u32 = 2;
/// Goes into the checksum, after the password.
const SALT: &[u8] = b"Mighty Aphrodite";
/// The password of Java's own stores. It protects nothing: there are only certificates in the file.
const PASSWORD: &str = "changeit";

/// The file with these certificates.
pub(super) fn store<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count = 0_u32;
    for certificate in certificates {
        entries.extend(TRUSTED.to_be_bytes());
        text(&mut entries, &format!("root-{count}"));
        // When it was put in, in milliseconds: nobody asks.
        entries.extend(0_u64.to_be_bytes());
        text(&mut entries, "X.509");
        let length = u32::try_from(certificate.len()).unwrap_or(u32::MAX);
        entries.extend(length.to_be_bytes());
        entries.extend(certificate.as_ref());
        count += 1;
    }
    let mut store = MAGIC.to_vec();
    store.extend(count.to_be_bytes());
    store.extend(entries);
    let mut sum = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    let password: Vec<u8> = PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for part in [&password, SALT, &store] {
        sum.update(part);
    }
    store.extend(sum.finish().as_ref());
    store
}

/// A text, after its length.
fn text(into: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    into.extend(length.to_be_bytes());
    into.extend(text.as_bytes());
}
