//! Why a pod is not injected into: what is wrong, where, and what to do.

/// Why nothing was injected, though it was asked for. Says what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What should be a pod is none.
    #[error("this is no pod: {0}")]
    Malformed(String),
    /// An annotation is unknown, or its value makes no sense.
    #[error("annotation {name}: {problem}")]
    Annotation {
        /// The annotation.
        name: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The pod has the network of its node.
    #[error(
        "the pod has `hostNetwork: true`: the sidecar's ports would be the node's, and so would be \
         what it redirects; take hostNetwork away, or annotate the pod with tollgate.dev/inject: \
         disabled and point it to a Tollgate that runs by itself"
    )]
    HostNetwork,
    /// The pod runs on Windows.
    #[error(
        "the pod is for Windows ({0}), where Tollgate does not run; annotate it with \
         tollgate.dev/inject: disabled and point it to a Tollgate that runs by itself"
    )]
    Windows(&'static str),
    /// A container listens where the sidecar does.
    #[error(
        "container {container}: port {port} is the sidecar's ({}–{} and {} are); have it listen on \
         another",
        super::PROXY,
        super::ADMIN,
        super::TRANSPARENT
    )]
    Port {
        /// The container.
        container: String,
        /// The port.
        port: u64,
    },
    /// Something in the pod has a name that the sidecar needs.
    #[error(
        "{what} {name} is not injected, and has the name of what would be; call it something else, \
         or, if the pod has a sidecar of your own, annotate it with tollgate.dev/inject: disabled"
    )]
    Name {
        /// `container`, `volume`, or `a mount of` a volume.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A container runs as the sidecar's user.
    #[error(
        "container {0} runs as user {user}, which is the sidecar's: its connections would not be \
         redirected, and it could read the certificate authority's key; give it another runAsUser",
        user = super::USER
    )]
    User(String),
    /// The namespace does not allow what redirecting needs.
    #[error(
        "mode transparent needs NET_ADMIN in an init container, which namespace {namespace} forbids \
         (pod-security.kubernetes.io/enforce: {level}); use mode proxy or env, or set that label to \
         privileged"
    )]
    Privilege {
        /// The namespace.
        namespace: String,
        /// Its level of pod security.
        level: String,
    },
    /// The configuration is not there.
    #[error(
        "there is no ConfigMap {name} in namespace {namespace}, which {asked} names; create it with: \
         kubectl create configmap {name} -n {namespace} --from-file=config.yaml"
    )]
    NoConfigMap {
        /// Its name.
        name: String,
        /// Where it should be.
        namespace: String,
        /// Who names it.
        asked: &'static str,
    },
    /// The configuration is not in the `ConfigMap`.
    #[error("ConfigMap {name}: {problem}")]
    ConfigMap {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The configuration cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// Budgets would not hold what they promise.
    #[error("{0}")]
    Budget(String),
}

impl Refusal {
    /// One word for it, for machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "Malformed",
            Self::Annotation { .. } => "BadAnnotation",
            Self::HostNetwork => "HostNetwork",
            Self::Windows(_) => "Windows",
            Self::Port { .. } => "PortTaken",
            Self::Name { .. } => "NameTaken",
            Self::User(_) => "UserTaken",
            Self::Privilege { .. } => "PrivilegeForbidden",
            Self::NoConfigMap { .. } => "NoConfigMap",
            Self::ConfigMap { .. } => "BadConfigMap",
            Self::Configuration(_) => "BadConfiguration",
            Self::Budget(_) => "BudgetPerPod",
        }
    }

    /// The annotation `name` (without prefix) is wrong.
    pub(super) fn annotation(name: &str, problem: impl Into<String>) -> Self {
        Self::Annotation {
            name: format!("{}{name}", super::PREFIX),
            problem: problem.into(),
        }
    }
}
