//! Where calls come from, as the cluster knows it.

/// Where Tollgate itself runs, and with it whoever calls through it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The Kubernetes pod's name.
    pub pod: Option<Box<str>>,
    /// Its namespace.
    pub namespace: Option<Box<str>>,
    /// Its service account.
    pub service_account: Option<Box<str>>,
}
