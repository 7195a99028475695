//! Why a connection is not metered: what it is counted as, what that means, and what helps.

/// Why a connection is not metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unmetered {
    /// Its host is no provider's.
    Other,
    /// Its host is a provider's, its port is not.
    Port,
    /// Its host is a provider's, and what is spoken is not HTTP.
    Protocol,
    /// The client has refused our certificate before, and passes unread.
    Pinned,
    /// The client refuses our certificate.
    Refused,
    /// The client leaves after the TLS handshake without a word.
    Left,
    /// Our authority may not vouch for the host, or has ended.
    Unvouched,
    /// The host that the client means is encrypted (ECH), so that no certificate can be for it.
    Sealed,
    /// The TLS handshake fails in another way.
    Handshake,
}

impl Unmetered {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Other,
        Self::Port,
        Self::Protocol,
        Self::Pinned,
        Self::Refused,
        Self::Left,
        Self::Unvouched,
        Self::Sealed,
        Self::Handshake,
    ];

    /// The one that is counted as `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.name() == name)
    }

    /// What it is counted as.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Other => "tunnelled",
            Self::Port => "port",
            Self::Protocol => "protocol",
            Self::Pinned => "pinned",
            Self::Refused => "refused",
            Self::Left => "left",
            Self::Unvouched => "unvouched",
            Self::Sealed => "sealed",
            Self::Handshake => "handshake_failed",
        }
    }

    /// What it means.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Other => "passed unread",
            Self::Port => "it is no port of that provider's",
            Self::Protocol => "what it speaks is not HTTP",
            Self::Pinned => "passed unread, as the program refuses the certificate",
            Self::Refused => "the program does not trust the certificate, or pins another",
            Self::Left => "the program looked at the certificate and left",
            Self::Unvouched => {
                "the authority in intercept.ca_dir may not vouch for it, or has ended"
            },
            Self::Sealed => "the program encrypts whom it means (ECH)",
            Self::Handshake => "the TLS handshake failed",
        }
    }

    /// What helps.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Other | Self::Port => {
                "name the host with its port as a provider's base_url, or set intercept.others to `deny`"
            },
            Self::Protocol => "set intercept.others to `deny` to refuse it",
            Self::Pinned | Self::Refused | Self::Left => {
                "the program does not trust our certificate (tollgate ca env), or trusts no authority \
                 but its own; point it at Tollgate by its base URL"
            },
            Self::Unvouched => {
                "`tollgate ca show` says for whom, and `tollgate ca create --replace` makes another"
            },
            Self::Sealed => "turn ECH off in the program, or point it at Tollgate by its base URL",
            Self::Handshake => {
                "the program may speak TLS 1.1 or older, or was too slow (intercept.handshake_timeout)"
            },
        }
    }

    /// Whether such connections always fail, so that no call on them is missing from a sum.
    pub const fn has_failed(self) -> bool {
        matches!(self, Self::Refused | Self::Left | Self::Handshake)
    }

    /// At a place that is no provider's, whether or not its host is.
    pub(super) const fn elsewhere(is_providers: bool) -> Self {
        if is_providers {
            Self::Port
        } else {
            Self::Other
        }
    }

    /// Whether the place itself is a provider's, wherever it leads.
    pub(super) const fn is_of_place(self) -> bool {
        matches!(
            self,
            Self::Pinned | Self::Unvouched | Self::Sealed | Self::Protocol
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own() {
        for why in Unmetered::ALL {
            assert_eq!(Unmetered::named(why.name()), Some(why));
        }
        assert_eq!(Unmetered::named("other"), None);
    }
}
