//! Certificates that we make: a root, and a leaf that it vouches for. The root's key is thrown away
//! at once, so that whoever gets hold of what is kept can show this certificate and no other.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::{
    Place,
    pair::{self, Pair},
};
use crate::base::{clock::Timestamp, secret::Secret};

/// How long before it is made a certificate holds already, for servers whose clocks are behind.
const BACKDATED: Duration = Duration::from_hours(1);

/// A leaf, its key, and the root that vouches for it, as texts (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) root: String,
    pub(super) leaf: String,
    pub(super) key: Secret,
}

impl Made {
    /// Makes one.
    pub(super) fn new(place: &Place, now: Timestamp) -> Result<Self, rcgen::Error> {
        let (begins, ends) = (now - BACKDATED, now + place.lifetime);
        let root_key = KeyPair::generate()?;
        // No two have one name, so that a client that trusts several tries the right one.
        let root_name = format!("Tollgate webhook root {:08x}", fastrand::u32(..));
        let mut root = params(&root_name, Vec::new(), (begins, ends))?;
        root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let vouches = root.self_signed(&root_key)?;
        let key = KeyPair::generate()?;
        let mut leaf = params("Tollgate webhook", place.names().into(), (begins, ends))?;
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&root, &root_key))?;
        Ok(Self {
            root: vouches.pem(),
            leaf: leaf.pem(),
            key: Secret::new(key.serialize_pem()),
        })
    }

    /// When the leaf begins to hold, if it is one.
    pub(super) fn begins(&self) -> Option<Timestamp> {
        let leaf = CertificateDer::from_pem_slice(self.leaf.as_bytes()).ok()?;
        pair::holds(&leaf).ok().map(|(begins, _ends)| begins)
    }

    /// As it is shown, if the API server will accept it.
    ///
    /// # Errors
    /// It has ended, is another Service's, or was tampered with.
    pub(super) fn pair(&self, place: &Place, now: Timestamp) -> Result<Pair, String> {
        let pair = Pair::read(self.leaf.as_bytes(), self.key.expose().as_bytes())?;
        let root = CertificateDer::from_pem_slice(self.root.as_bytes());
        let root = root.map_err(|error| format!("the root: {error}"))?;
        let [host, ..] = place.names();
        pair.accepted(&root, &host, now)?;
        Ok(pair)
    }
}

fn params(
    common_name: &str,
    names: Vec<String>,
    (begins, ends): (Timestamp, Timestamp),
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Tollgate");
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(begins.as_secs());
    params.not_after = epoch + Duration::from_secs(ends.as_secs());
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    pub(super) fn place() -> Place {
        Place {
            namespace: "tollgate".to_owned(),
            service: "hook".to_owned(),
            secret: "hook-certificate".to_owned(),
            configuration: "hook".to_owned(),
            lifetime: Duration::from_hours(24),
            settle: Duration::from_mins(2),
        }
    }

    #[test]
    fn it_is_accepted_for_the_names_of_the_service_while_it_holds() {
        let made = Made::new(&place(), NOW).unwrap();
        let pair = made.pair(&place(), NOW).unwrap();
        let root = CertificateDer::from_pem_slice(made.root.as_bytes()).unwrap();
        for host in [
            "hook.tollgate.svc",
            "hook.tollgate.svc.cluster.local",
            "hook.tollgate",
        ] {
            assert_eq!(pair.accepted(&root, host, NOW), Ok(()), "{host}");
        }
        assert!(pair.accepted(&root, "hook.other.svc", NOW).is_err());
        assert!(made.pair(&place(), NOW - Duration::from_mins(50)).is_ok());
        let after = made.pair(&place(), NOW + Duration::from_hours(25));
        assert!(after.is_err(), "it has ended");
    }

    #[test]
    fn another_services_or_anothers_root_is_not_accepted() {
        let made = Made::new(&place(), NOW).unwrap();
        let other = Place {
            service: "other".to_owned(),
            ..place()
        };
        assert!(made.pair(&other, NOW).is_err());
        let foreign = Made {
            root: Made::new(&place(), NOW).unwrap().root,
            ..made.clone()
        };
        assert!(foreign.pair(&place(), NOW).is_err());
        let mixed = Made {
            key: Made::new(&place(), NOW).unwrap().key,
            ..made
        };
        let error = mixed.pair(&place(), NOW).unwrap_err();
        assert!(error.contains("not that of the certificate"), "{error}");
    }
}
