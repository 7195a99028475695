//! What the certificate of an authority says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rcgen::{KeyPair, PublicKeyData as _};
use ring::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, GeneralSubtree},
    prelude::FromDer as _,
};

use super::{NOWHERE, create::ROOT};
use crate::base::clock::Timestamp;

/// What the certificate of an authority says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Whose it is, as certificates write names: `O=Tollgate, CN=…`.
    pub subject: String,
    /// When it begins to hold.
    pub begins: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// The hosts that it may vouch for, with all names below each, and ranges of addresses; empty:
    /// any.
    pub hosts: Vec<String>,
}

impl About {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is none, or may not sign others, or is not of that key.
    pub(super) fn read(der: &CertificateDer<'_>, key: &KeyPair) -> Result<Self, String> {
        let found = parsed(der)?;
        let usage = found.key_usage().ok().flatten();
        if !found.is_ca() || usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            return Err("its certificate may not sign others: it is no authority's".to_owned());
        }
        if *found.public_key().subject_public_key.data != *key.der_bytes() {
            return Err("its key is not that of its certificate".to_owned());
        }
        let constraints = found.name_constraints().ok().flatten();
        let permitted = constraints.and_then(|found| found.value.permitted_subtrees.as_ref());
        Ok(Self {
            subject: found.subject().to_string(),
            begins: moment(found.validity().not_before.timestamp()),
            ends: moment(found.validity().not_after.timestamp()),
            hosts: hosts(permitted.into_iter().flatten()),
        })
    }
}

/// When a certificate ends.
///
/// # Errors
/// It is none.
pub(super) fn end(der: &CertificateDer<'_>) -> Result<Timestamp, String> {
    parsed(der).map(|found| moment(found.validity().not_after.timestamp()))
}

/// Whether a certificate is a root that was made here.
pub(super) fn is_root_of_ours(der: &CertificateDer<'_>) -> bool {
    parsed(der).is_ok_and(|found| {
        let mut names = found.subject().iter_common_name();
        names.any(|name| name.as_str().is_ok_and(|name| name.starts_with(ROOT)))
    })
}

/// The fingerprint of a certificate: its SHA-256, as programs that show certificates write it.
pub fn fingerprint(der: &CertificateDer<'_>) -> String {
    let hash = digest::digest(&digest::SHA256, der);
    let bytes = hash.as_ref().iter().map(|byte| format!("{byte:02X}"));
    bytes.collect::<Vec<_>>().join(":")
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let found = X509Certificate::from_der(der);
    let (_rest, found) =
        found.map_err(|error| format!("its certificate cannot be read: {error}"))?;
    Ok(found)
}

/// Seconds since the epoch; the epoch for what is before it.
fn moment(secs: i64) -> Timestamp {
    Timestamp::from_secs(u64::try_from(secs).unwrap_or(0))
}

/// The hosts that may be vouched for. The name that stands for no name is shown only where nothing else
/// is: without any it would be read as any host.
fn hosts<'a>(permitted: impl Iterator<Item = &'a GeneralSubtree<'a>>) -> Vec<String> {
    let mut hosts: Vec<_> = permitted.filter_map(host).collect();
    if hosts.len() > 1 {
        hosts.retain(|host| host != NOWHERE);
    }
    hosts
}

/// A host that may be vouched for; none for names that are no hosts'.
fn host(subtree: &GeneralSubtree<'_>) -> Option<String> {
    match subtree.base {
        GeneralName::DNSName(name) => Some(name.trim_start_matches('.').to_owned()),
        GeneralName::IPAddress(range) => addresses(range),
        _ => None,
    }
}

/// A range of addresses: an address and as many bytes of its mask. One address is itself.
fn addresses(range: &[u8]) -> Option<String> {
    let (address, mask) = range.split_at_checked(range.len() / 2)?;
    let bits: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let address = match <[u8; 4]>::try_from(address) {
        Ok(four) => IpAddr::from(Ipv4Addr::from(four)),
        Err(_) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
    };
    let all = if address.is_ipv4() { 32 } else { 128 };
    Some(if bits == all {
        address.to_string()
    } else {
        format!("{address}/{bits}")
    })
}
