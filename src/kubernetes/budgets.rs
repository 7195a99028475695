//! Whether budgets hold what they promise: a ledger in a pod counts that pod's calls alone, and is
//! gone when its volume is.

use serde_json::Value;

use super::{
    Owner, PREFIX, Refusal, Replicas, annotations::Annotations, pod, settings::BUDGET_RULE,
};
use crate::{config::Config, policy::OnExhausted};

/// What keeps the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ledger {
    /// Something that outlives the pod.
    Kept,
    /// Something that goes with it.
    Lost,
}

/// The kinds of volumes whose content stays when a pod goes, and comes to the next one.
const KEPT: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "fc",
    "flexVolume",
    "gcePersistentDisk",
    "glusterfs",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "portworxVolume",
    "rbd",
    "vsphereVolume",
];

impl Ledger {
    /// That in the pod's volume called `name`; without a name, in one of ours.
    ///
    /// # Errors
    /// There is no such volume.
    pub(super) fn of(pod: &Value, name: Option<&str>, owner: &Owner) -> Result<Self, Refusal> {
        let Some(name) = name else {
            return Ok(Self::Lost);
        };
        let volumes = pod::list(pod, "/spec/volumes");
        let volume = volumes.iter().find(|volume| pod::name(volume) == name);
        let claims = owner.claims.iter().map(String::as_str);
        if let Some(volume) = volume {
            let kept = KEPT.iter().any(|kind| volume.get(kind).is_some());
            return Ok(if kept { Self::Kept } else { Self::Lost });
        }
        if claims.clone().any(|claim| claim == name) {
            return Ok(Self::Kept);
        }
        let known: Vec<&str> = volumes.iter().map(pod::name).chain(claims).collect();
        let known = match known.as_slice() {
            [] => "it has none".to_owned(),
            known => format!("it has {}", known.join(", ")),
        };
        let problem = format!("the pod has no volume `{name}`; {known}");
        Err(Refusal::annotation("ledger-volume", problem))
    }
}

/// Refuses budgets in US dollars that would hold for less than they seem to, unless the pod says that
/// it means them so.
pub(super) fn check(
    config: &Config,
    owner: &Owner,
    ledger: Ledger,
    said: &Annotations,
) -> Result<(), Refusal> {
    let meant = said.budget_for_each_pod;
    let names = in_dollars(config, said.budget.is_some());
    let kind = &owner.kind;
    let why = match (owner.replicas, ledger) {
        _ if meant || names.is_empty() || config.ledger.url.is_some() => return Ok(()),
        (Replicas::One, Ledger::Kept) => return Ok(()),
        (Replicas::One, Ledger::Lost) => {
            "would begin anew with each pod: what was spent is on a volume that goes with the pod"
                .to_owned()
        },
        (Replicas::Several, ledger) => {
            let and = match ledger {
                Ledger::Kept => "",
                Ledger::Lost => ", and begin anew with each",
            };
            format!("would hold for each pod of the {kind} alone, however many there are{and}")
        },
    };
    let (what, names) = match names.as_slice() {
        [one] => ("budget", one.clone()),
        several => ("budgets", several.join(", ")),
    };
    let remedy = match owner.replicas {
        Replicas::One => {
            "keep it on a persistent volume of the pod, tollgate.dev/ledger-volume: NAME; or say \
             that it is meant for each pod, tollgate.dev/budget-scope: pod"
        },
        Replicas::Several => {
            "if it is meant for each pod, with a share of the amount, say so: \
             tollgate.dev/budget-scope: pod; for one budget that all share, run one Tollgate with a \
             persistent volume as a service and point the pods to it, without sidecars"
        },
    };
    Err(Refusal::Budget(format!("{what} {names} {why}; {remedy}")))
}

/// The names of the budgets in US dollars that stop anybody. `annotated`: whether one of them is that
/// of the annotation.
fn in_dollars(config: &Config, annotated: bool) -> Vec<String> {
    let budgets = config.limits_in_force();
    let whole = [
        ("daily", budgets.daily),
        ("monthly", budgets.monthly),
        ("per_user", budgets.per_user),
    ];
    let whole = whole.into_iter().filter(|(_, limit)| limit.is_some());
    let whole = whole.map(|(name, _)| name.to_owned());
    let rules = budgets.rules.iter();
    let rules = rules
        .filter(|rule| rule.limit.usd.is_some() && rule.on_exhausted != OnExhausted::Shadow)
        .map(|rule| match rule.name.as_str() {
            // As its author wrote it.
            BUDGET_RULE if annotated => format!("{PREFIX}budget (annotation)"),
            name => name.to_owned(),
        });
    whole.chain(rules).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Sources, parse};

    fn checked(yaml: &str, replicas: Replicas, ledger: Ledger, meant: bool) -> Result<(), String> {
        let sources = Sources {
            variable: &|_| None,
            file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        };
        let config = parse("t.yaml", yaml, &sources).unwrap().config;
        let owner = Owner {
            kind: "Deployment".to_owned(),
            name: "web".to_owned(),
            replicas,
            claims: Vec::new(),
        };
        let said = Annotations {
            budget_for_each_pod: meant,
            ..Annotations::default()
        };
        check(&config, &owner, ledger, &said).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_budget_for_one_pod_that_reads_as_one_for_all_is_refused() {
        use Ledger::{Kept, Lost};
        use Replicas::{One, Several};
        let daily = "budgets: {daily: 5}";
        let rules = "budgets: {rules: [{name: a, window: day, limit: {usd: 1}}, {name: b, window: \
                     total, limit: {usd: 1}}]}";
        for (yaml, replicas, ledger, expected) in [
            (daily, One, Lost, "budget daily would begin anew"),
            (
                daily,
                Several,
                Kept,
                "each pod of the Deployment alone, however many there are;",
            ),
            (rules, Several, Lost, "budgets a, b would hold for each pod"),
        ] {
            let said = checked(yaml, replicas, ledger, false).unwrap_err();
            assert!(said.contains(expected), "{said}");
            assert!(said.contains("tollgate.dev/budget-scope: pod"), "{said}");
            assert_eq!(checked(yaml, replicas, ledger, true), Ok(()));
        }
        assert_eq!(checked(daily, One, Kept, false), Ok(()));
        for harmless in [
            "{}",
            "budgets: {rules: [{name: t, window: day, limit: {tokens: 1}}]}",
            "budgets: {rules: [{name: s, window: day, limit: {usd: 1}, on_exhausted: shadow}]}",
        ] {
            assert_eq!(checked(harmless, Several, Lost, false), Ok(()));
        }
    }

    #[test]
    fn what_stays_is_told_from_what_goes() {
        let pod = json!({"spec": {"volumes": [
            {"name": "claim", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "ephemeral", "ephemeral": {}}
        ]}});
        let owner = Owner::of_workload(&json!({
            "kind": "StatefulSet",
            "spec": {"volumeClaimTemplates": [{"metadata": {"name": "template"}}]}
        }));
        for name in ["claim", "template"] {
            assert_eq!(Ledger::of(&pod, Some(name), &owner), Ok(Ledger::Kept));
        }
        for name in [Some("scratch"), Some("ephemeral"), None] {
            assert_eq!(Ledger::of(&pod, name, &owner), Ok(Ledger::Lost));
        }
        let said = Ledger::of(&pod, Some("x"), &owner).unwrap_err().to_string();
        assert!(
            said.ends_with("it has claim, scratch, ephemeral, template"),
            "{said}"
        );
    }
}
