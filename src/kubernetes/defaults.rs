//! What pods get that do not say otherwise.

use clap::{Args, ValueEnum};

use super::annotations::{ConfigMap, memory, processors};

/// What pods get that do not say otherwise in their annotations.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Defaults {
    /// The sidecar's image
    #[arg(long, value_name = "IMAGE", default_value = concat!("tollgate:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// The image of the init container that redirects, with nft or iptables [default: the sidecar's
    /// with -redirect after its name]
    #[arg(long, value_name = "IMAGE")]
    pub redirect_image: Option<String>,
    /// How calls come to the sidecar
    #[arg(long, value_enum, default_value_t = Mode::Env)]
    pub mode: Mode,
    /// The config map with the configuration, as NAME or NAME/KEY, in the pod's namespace [default:
    /// built-in defaults]
    #[arg(long, value_name = "NAME[/KEY]", value_parser = config_map)]
    pub config_map: Option<String>,
    /// Whether the sidecar is an init container that stays (Kubernetes 1.29 and later)
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub native_sidecar: bool,
    /// How much of a processor is set aside for it
    #[arg(long, value_name = "CPU", default_value = "50m", value_parser = processors)]
    pub cpu_request: String,
    /// How much of one it may use, where `tracing.resource_limits.max_cpu` does not say
    #[arg(long, value_name = "CPU", default_value = "1", value_parser = processors)]
    pub cpu_limit: String,
    /// How much memory is set aside for it
    #[arg(long, value_name = "SIZE", default_value = "64Mi", value_parser = memory)]
    pub memory_request: String,
    /// How much it may use, where `tracing.resource_limits.max_memory` does not say
    #[arg(long, value_name = "SIZE", default_value = "256Mi", value_parser = memory)]
    pub memory_limit: String,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            image: concat!("tollgate:", env!("CARGO_PKG_VERSION")).to_owned(),
            redirect_image: None,
            mode: Mode::Env,
            config_map: None,
            native_sidecar: true,
            cpu_request: "50m".to_owned(),
            cpu_limit: "1".to_owned(),
            memory_request: "64Mi".to_owned(),
            memory_limit: "256Mi".to_owned(),
        }
    }
}

/// How calls come to the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// SDKs' base-URL variables name it
    Env,
    /// It is the containers' HTTPS proxy, and they trust its certificates
    Proxy,
    /// The pod's connections to port 443 are redirected to it, and containers trust its certificates
    Transparent,
}

impl Mode {
    /// All of them, as annotations name them.
    pub(super) const NAMES: [(&'static str, Self); 3] = [
        ("env", Self::Env),
        ("proxy", Self::Proxy),
        ("transparent", Self::Transparent),
    ];

    /// Whether it opens connections, and so needs a certificate authority.
    pub(super) fn intercepts(self) -> bool {
        self != Self::Env
    }
}

/// What names a config map, as it is.
fn config_map(text: &str) -> Result<String, String> {
    ConfigMap::parse(text).map(|_good| text.to_owned())
}

/// The image that redirects beside `image`: `registry/tollgate-redirect:1` for `registry/tollgate:1`.
pub(super) fn redirect_image(image: &str) -> String {
    let after_host = image.rfind('/').map_or(0, |slash| slash + 1);
    let (before, name) = image.split_at_checked(after_host).unwrap_or(("", image));
    // A digest is that of one image only.
    let name = name.split_once('@').map_or(name, |(name, _digest)| name);
    match name.split_once(':') {
        Some((name, tag)) => format!("{before}{name}-redirect:{tag}"),
        None => format!("{before}{name}-redirect"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_that_redirects_has_the_name_of_the_other_and_its_tag() {
        for (image, expected) in [
            ("tollgate", "tollgate-redirect"),
            ("tollgate:1.2", "tollgate-redirect:1.2"),
            ("host:5000/a/tollgate:1", "host:5000/a/tollgate-redirect:1"),
            ("host:5000/tollgate", "host:5000/tollgate-redirect"),
            ("tollgate:1@sha256:abc", "tollgate-redirect:1"),
        ] {
            assert_eq!(redirect_image(image), expected);
        }
    }
}
