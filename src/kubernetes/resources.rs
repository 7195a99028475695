//! What the sidecar asks of its node: `tracing.resource_limits` are its limits.

use serde_json::{Value, json};

use super::{pod::containers, wish::Wish};
use crate::{config::Config, pipeline::ResourceLimits};

/// Its `resources`.
pub(super) fn resources(pod: &Value, wish: &Wish, config: &Config) -> Value {
    let ResourceLimits {
        max_memory,
        max_cpu,
    } = config.tracing.resource_limits;
    let said = |name: &str| wish.said.resources.get(name).cloned();
    let defaults = &wish.defaults;
    let cpu_limit = said("cpu-limit").or_else(|| max_cpu.map(|cpu| cpu.to_string()));
    let cpu_limit = cpu_limit.unwrap_or_else(|| defaults.cpu_limit.clone());
    let memory_limit =
        said("memory-limit").or_else(|| max_memory.map(|size| quantity(size.as_u64())));
    let memory_limit = memory_limit.unwrap_or_else(|| defaults.memory_limit.clone());
    // A pod all of whose containers have what they may use set aside stays one of the last that a node
    // in need of memory ends.
    if is_guaranteed(pod) {
        return json!({
            "requests": {"cpu": cpu_limit, "memory": memory_limit},
            "limits": {"cpu": cpu_limit, "memory": memory_limit},
        });
    }
    let cpu = said("cpu-request").unwrap_or_else(|| defaults.cpu_request.clone());
    let memory = said("memory-request").unwrap_or_else(|| defaults.memory_request.clone());
    json!({
        "requests": {
            "cpu": least(&cpu, &cpu_limit),
            "memory": least(&memory, &memory_limit),
        },
        "limits": {"cpu": cpu_limit, "memory": memory_limit},
    })
}

/// So many bytes as Kubernetes writes them.
fn quantity(bytes: u64) -> String {
    let units = [("Gi", 1_u64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    let fits = units
        .iter()
        .find(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale));
    fits.map_or_else(
        || bytes.to_string(),
        |(unit, scale)| format!("{}{unit}", bytes / scale),
    )
}

/// A request, which must not be above the limit.
fn least<'a>(request: &'a str, limit: &'a str) -> &'a str {
    match (amount(request), amount(limit)) {
        (Some(request), Some(most)) if request > most => limit,
        _ => request,
    }
}

/// An amount, in thousandths. `None`: it is written in a way that we need not know.
fn amount(text: &str) -> Option<u128> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let scale: u128 = match text.strip_prefix(digits)? {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "Ki" => 1_000 << 10,
        "Mi" => 1_000 << 20,
        "Gi" => 1_000 << 30,
        _ => return None,
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.parse::<u128>().ok()?.checked_mul(scale)?;
    let part = format!("{part:0<9}").get(..9)?.parse::<u128>().ok()?;
    whole.checked_add(part.checked_mul(scale)? / 1_000_000_000)
}

/// Whether every container has limits of both kinds, and asks for no less.
fn is_guaranteed(pod: &Value) -> bool {
    containers(pod).all(|container| {
        ["cpu", "memory"].iter().all(|kind| {
            let of = |what: &str| match container.pointer(&format!("/resources/{what}/{kind}")) {
                Some(Value::String(text)) => text.clone(),
                // Manifests may have it as a number: `cpu: 1`.
                Some(Value::Number(number)) => number.to_string(),
                _ => String::new(),
            };
            let (limit, request) = (of("limits"), of("requests"));
            !limit.is_empty() && (request.is_empty() || amount(&request) == amount(&limit))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_kubernetes_writes_them() {
        for (bytes, expected) in [
            (256 << 20, "256Mi"),
            (2 << 30, "2Gi"),
            (1_000, "1000"),
            (0, "0"),
        ] {
            assert_eq!(quantity(bytes), expected);
        }
    }

    #[test]
    fn a_request_is_never_above_its_limit() {
        for (request, limit, expected) in [
            ("50m", "1", "50m"),
            ("2", "100m", "100m"),
            ("64Mi", "32Mi", "32Mi"),
            ("0.5", "500m", "0.5"),
            ("1e3", "1", "1e3"),
        ] {
            assert_eq!(least(request, limit), expected);
        }
    }

    #[test]
    fn pods_that_have_what_they_may_use_are_known() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
        let whole = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        assert!(is_guaranteed(&pod(whole)));
        let same = json!({
            "limits": {"cpu": "1", "memory": "1Gi"},
            "requests": {"cpu": "1000m", "memory": "1024Mi"}
        });
        assert!(is_guaranteed(&pod(same)));
        let numbers = json!({
            "limits": {"cpu": 1, "memory": 1_073_741_824}, "requests": {"cpu": "1000m"}
        });
        assert!(is_guaranteed(&pod(numbers)));
        let less = json!({"limits": {"cpu": 1.5, "memory": "1Gi"}, "requests": {"cpu": 1}});
        assert!(!is_guaranteed(&pod(less)));
        let less = json!({
            "limits": {"cpu": "1", "memory": "1Gi"},
            "requests": {"cpu": "500m"}
        });
        assert!(!is_guaranteed(&pod(less)));
        assert!(!is_guaranteed(&pod(json!({"limits": {"cpu": "1"}}))));
    }
}
