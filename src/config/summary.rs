//! A configuration in a few lines: what Tollgate understood.

use super::Config;

impl Config {
    /// What it means, as subjects and what is said of them; a subject may come several times.
    pub fn summary(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        let listen = &self.listen;
        lines.push(("proxy", format!("http://{}", listen.proxy)));
        lines.push(("admin", format!("http://{}", listen.admin)));
        if let Some(health) = listen.health {
            lines.push(("health", format!("http://{health}")));
        }
        lines
    }
}
