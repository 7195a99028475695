//! Manifests: which of their documents describe pods, and these with a sidecar. All else stays as it
//! is written, in its order.

use serde_json::{Value, json};

use super::{
    Asked, Defaults, Namespace, NotWanted, Owner, PREFIX, Refusal, Wish,
    pod::{list, text, texts},
    yaml,
};

/// What manifests are injected with.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// What pods get that do not say otherwise.
    pub defaults: &'a Defaults,
    /// The namespace of what does not say its own.
    pub namespace: &'a str,
    /// The text of the configuration, for `ConfigMap`s that are not among the manifests.
    pub config: Option<&'a str>,
}

/// What became of manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The manifests, as they are now.
    pub text: String,
    /// What may not be as its author thinks, with where it is.
    pub warnings: Vec<String>,
    /// What was refused, with where it is: then `text` is not what was asked for.
    pub refusals: Vec<String>,
    /// Pods that stay as they are, with where they are and why.
    pub left: Vec<String>,
    /// Whether any pod got the sidecar.
    pub injected: bool,
}

impl Outcome {
    /// Why no pod got the sidecar; none if one did.
    pub fn nothing(&self) -> Option<String> {
        if self.injected {
            return None;
        }
        let why = match &*self.left {
            [] if self.text.trim().is_empty() => " what was given is empty".to_owned(),
            [] => {
                let kinds: Vec<_> = WORKLOADS.iter().map(|(_, kind, _)| *kind).collect();
                let kinds = kinds.join(", ");
                format!(" what was given describes no pods; what does is one of {kinds}")
            },
            [one] => format!(" {one}"),
            several => format!("\n  {}", several.join("\n  ")),
        };
        Some(format!("nothing was injected:{why}"))
    }
}

/// What was done with a pod.
enum Done {
    /// It got the sidecar, with these warnings.
    Injected(Vec<String>),
    /// It stays as it is.
    Left(NotWanted),
}

/// A document as it is written.
struct Document<'a> {
    /// Where it is, for messages.
    place: String,
    /// Its text, with the line that separates it from the one before.
    text: &'a str,
    is_json: bool,
    value: Value,
}

/// Where pods are described in objects of a kind, and the group of the API that has it.
const WORKLOADS: &[(&str, &str, &str)] = &[
    ("", "Pod", ""),
    ("", "ReplicationController", "/spec/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
    ("batch", "Job", "/spec/template"),
];

/// Injects into every pod that manifests describe. `files`: what to call each, and its text: YAML of
/// any number of documents, or one of JSON.
///
/// # Errors
/// One of them is neither.
pub fn inject(files: &[(String, String)], options: &Options<'_>) -> Result<Outcome, String> {
    let mut documents = Vec::new();
    for (name, text) in files {
        documents.extend(parse(name, text)?);
    }
    let values: Vec<&Value> = documents.iter().map(|document| &document.value).collect();
    let around = Around {
        options,
        config_maps: of_kind(&values, "ConfigMap"),
        namespaces: of_kind(&values, "Namespace"),
    };
    let mut outcome = Outcome::default();
    for document in &documents {
        let mut value = document.value.clone();
        let changed = around.visit(&mut value, &document.place, &mut outcome);
        let text = if !changed {
            document.text.to_owned()
        } else if document.is_json {
            format!("{value:#}\n")
        } else {
            let starts = document.text.starts_with("---");
            let separator = if starts { "---\n" } else { "" };
            format!("{separator}{}", yaml::write(&value))
        };
        let follows = !outcome.text.is_empty();
        if follows && !outcome.text.ends_with('\n') {
            outcome.text.push('\n');
        }
        if follows && !text.starts_with("---") {
            outcome.text.push_str("---\n");
        }
        outcome.text.push_str(&text);
    }
    Ok(outcome)
}

/// The documents of a file.
fn parse<'a>(name: &str, text: &'a str) -> Result<Vec<Document<'a>>, String> {
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(vec![Document {
            place: name.to_owned(),
            text,
            is_json: true,
            value,
        }]);
    }
    let parts = split(text);
    let several = parts.len() > 1;
    let documents = (1_usize..).zip(parts).map(|(number, (line, text))| {
        let place = if several {
            format!("{name}, document {number} (line {line})")
        } else {
            name.to_owned()
        };
        let value = yaml::read(text).map_err(|error| format!("{place}: no YAML: {error}"))?;
        Ok(Document {
            place,
            text,
            is_json: false,
            value,
        })
    });
    documents.collect()
}

/// The documents of a text, each with its first line's number, and with the `---` above it.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let mut rest = text;
    let (mut at, mut begin) = (0, 1);
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        let separates = line
            .strip_prefix("---")
            .is_some_and(|after| after.is_empty() || after.starts_with([' ', '\t', '\r', '\n']));
        if separates && let Some((before, after)) = rest.split_at_checked(at) {
            if !before.is_empty() {
                parts.push((begin, before));
            }
            (rest, at, begin) = (after, 0, number);
        }
        at += line.len();
    }
    if !rest.is_empty() {
        parts.push((begin, rest));
    }
    parts
}

/// All objects of a kind of the API's own, in lists too.
fn of_kind<'a>(values: &[&'a Value], kind: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    for value in values {
        if text(value, "/apiVersion") == "v1" && text(value, "/kind") == kind {
            found.push(*value);
        }
        let items: Vec<&Value> = items(value).iter().collect();
        if !items.is_empty() {
            found.extend(of_kind(&items, kind));
        }
    }
    found
}

/// The objects that a list has.
fn items(value: &Value) -> &[Value] {
    if text(value, "/kind").ends_with("List") {
        list(value, "/items")
    } else {
        &[]
    }
}

/// Where a workload describes its pods.
fn template(value: &Value) -> Option<&'static str> {
    let version = text(value, "/apiVersion");
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let kind = text(value, "/kind");
    let mut known = WORKLOADS.iter();
    let known = known.find(|(of, name, _)| (*of, *name) == (group, kind));
    known.map(|(_, _, pointer)| *pointer)
}

/// All manifests, as far as one needs to know of others.
struct Around<'a> {
    options: &'a Options<'a>,
    config_maps: Vec<&'a Value>,
    namespaces: Vec<&'a Value>,
}

impl Around<'_> {
    /// Injects into what `value` describes. Says whether it has changed.
    fn visit(&self, value: &mut Value, place: &str, outcome: &mut Outcome) -> bool {
        if !items(value).is_empty() {
            let items = value.get_mut("items").and_then(Value::as_array_mut);
            let mut changed = false;
            for (index, item) in items.into_iter().flatten().enumerate() {
                let place = format!("{place}, item {index}");
                changed |= self.visit(item, &place, outcome);
            }
            return changed;
        }
        let Some(pointer) = template(value) else {
            return false;
        };
        let namespace = text(value, "/metadata/namespace");
        let namespace = if namespace.is_empty() {
            self.options.namespace
        } else {
            namespace
        }
        .to_owned();
        let name = match text(value, "/metadata/name") {
            "" => text(value, "/metadata/generateName"),
            name => name,
        };
        let place = format!("{place}: {} {namespace}/{name}", text(value, "/kind"));
        let misplaced = texts(value, "/metadata/annotations").into_keys();
        let misplaced = misplaced.filter(|key| !pointer.is_empty() && key.starts_with(PREFIX));
        outcome.warnings.extend(misplaced.map(|key| {
            let of = pointer.trim_start_matches('/').replace('/', ".");
            format!("{place}: annotation {key} belongs to {of}.metadata; here nothing reads it")
        }));
        match self.pod(value, pointer, &namespace) {
            Ok(Done::Left(why)) => {
                outcome.left.push(format!("{place}: {why}"));
                false
            },
            Ok(Done::Injected(warnings)) => {
                outcome.injected = true;
                let warnings = warnings.into_iter();
                outcome
                    .warnings
                    .extend(warnings.map(|warning| format!("{place}: {warning}")));
                true
            },
            Err(refusal) => {
                outcome.refusals.push(format!("{place}: {refusal}"));
                false
            },
        }
    }

    /// Injects into the pod at `pointer`, if that is wanted.
    fn pod(&self, object: &mut Value, pointer: &str, namespace: &str) -> Result<Done, Refusal> {
        let owner = Owner::of_workload(object);
        let Some(place) = object.pointer_mut(pointer) else {
            let pointer = pointer.trim_start_matches('/').replace('/', ".");
            return Err(Refusal::Malformed(format!("it has no {pointer}")));
        };
        let wish = match Wish::of(place, &self.namespace(namespace), self.options.defaults)? {
            Asked::For(wish) => wish,
            Asked::Not(why) => return Ok(Done::Left(why)),
        };
        let known = wish
            .config_map()
            .and_then(|name| self.config_map(namespace, name));
        let given = self.options.config.map(|text| {
            let key = wish.config_key();
            json!({"data": {key: text}})
        });
        let config_map = known.or(given.as_ref());
        let injected = wish.inject(place.take(), config_map, &owner)?;
        *place = injected.pod;
        Ok(Done::Injected(injected.warnings))
    }

    fn namespace(&self, name: &str) -> Namespace {
        let mut found = self.namespaces.iter();
        let found = found.find(|object| text(object, "/metadata/name") == name);
        let known = found.map(|object| Namespace::of(name, object));
        let known = known.unwrap_or_else(|| Namespace::of(name, &Value::Null));
        // Whoever runs this asks for it; a namespace that refuses still does.
        Namespace {
            assumed: true,
            ..known
        }
    }

    fn config_map(&self, namespace: &str, name: &str) -> Option<&Value> {
        let mut all = self.config_maps.iter();
        let found = all.find(|object| {
            let own = text(object, "/metadata/namespace");
            let own = if own.is_empty() {
                self.options.namespace
            } else {
                own
            };
            text(object, "/metadata/name") == name && own == namespace
        });
        found.copied()
    }
}
