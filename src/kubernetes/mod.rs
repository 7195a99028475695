//! What injection makes of a pod: the sidecar, its volumes, and the variables that lead calls to it.
//!
//! Pure, but for the [`webhook`]: a pod, its namespace, its owner and its `ConfigMap` go in; the
//! changed pod and warnings, or a refusal that says why, come out. Pods stay JSON all the way, so
//! that what this build does not know of them stays as it is.

mod annotations;
mod budgets;
mod container;
mod defaults;
mod inject;
pub mod manifest;
mod namespace;
mod owner;
mod pod;
mod refusal;
mod resources;
mod settings;
mod unfit;
mod variables;
pub mod webhook;
mod wish;
mod yaml;

#[cfg(test)]
mod tests;

pub use self::{
    defaults::{Defaults, Mode},
    inject::Injected,
    namespace::Namespace,
    owner::{Owner, Replicas},
    refusal::Refusal,
    wish::{Asked, NotWanted, Wish},
};

/// What the names of all our annotations and labels begin with.
const PREFIX: &str = "tollgate.dev/";
/// The annotation or label that asks for injection, or asks to be left alone.
const INJECT: &str = "tollgate.dev/inject";
/// The annotation of pods that have our sidecar: the version that injected it.
const INJECTED: &str = "tollgate.dev/injected";

/// The sidecar's name.
const SIDECAR: &str = "tollgate";
/// The init container that makes the pod's certificate authority.
const AUTHORITY: &str = "tollgate-ca";
/// The init container that redirects connections.
const REDIRECT: &str = "tollgate-redirect";

/// Whom the sidecar runs as, user and group.
const USER: u32 = 4100;

/// The proxy's port.
const PROXY: u16 = 4100;
/// The port of probes and metrics.
const HEALTH: u16 = 4101;
/// The admin listener's port: 3001, which it has elsewhere, is one that agents like.
const ADMIN: u16 = 4102;
/// The port to which connections are redirected.
const TRANSPARENT: u16 = 4143;
