//! Reading and changing pods as JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Refusal;

/// The text at `pointer`, empty if there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

/// The texts of the mapping at `pointer`.
pub(super) fn texts(value: &Value, pointer: &str) -> BTreeMap<String, String> {
    let found = value.pointer(pointer).and_then(Value::as_object);
    let texts = found.into_iter().flatten();
    let texts = texts.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    texts.collect()
}

/// The list at `pointer`, empty if there is none.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.map_or(&[], Vec::as_slice)
}

/// All containers of the pod with what they are called there: those that run first, too.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let first = list(pod, "/spec/initContainers").iter();
    first.chain(list(pod, "/spec/containers"))
}

/// A container's or volume's name.
pub(super) fn name(named: &Value) -> &str {
    text(named, "/name")
}

/// Whether an init container stays while the pod runs.
pub(super) fn stays(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

/// The mapping below `key`, made if it is not there.
pub(super) fn map_in<'a>(
    value: &'a mut Value,
    key: &str,
) -> Result<&'a mut Map<String, Value>, Refusal> {
    match entry(value, key, || Value::Object(Map::new()))? {
        Value::Object(map) => Ok(map),
        _ => Err(Refusal::Malformed(format!("its {key} is no mapping"))),
    }
}

/// The list below `key`, made if it is not there.
pub(super) fn list_in<'a>(value: &'a mut Value, key: &str) -> Result<&'a mut Vec<Value>, Refusal> {
    match entry(value, key, || Value::Array(Vec::new()))? {
        Value::Array(list) => Ok(list),
        _ => Err(Refusal::Malformed(format!("its {key} is no list"))),
    }
}

fn entry<'a>(
    value: &'a mut Value,
    key: &str,
    empty: impl FnOnce() -> Value,
) -> Result<&'a mut Value, Refusal> {
    let no_mapping = || Refusal::Malformed(format!("what holds its {key} is no mapping"));
    let map = value.as_object_mut().ok_or_else(no_mapping)?;
    let entry = map.entry(key).or_insert(Value::Null);
    // An empty key means the same as none.
    if entry.is_null() {
        *entry = empty();
    }
    Ok(entry)
}

/// Whether it is as much of a pod as injection needs: a mapping with containers that have names.
pub(super) fn check(pod: &Value) -> Result<(), Refusal> {
    let malformed = |what: &str| Err(Refusal::Malformed(what.to_owned()));
    if !pod.get("spec").is_some_and(Value::is_object) {
        return malformed("it has no spec");
    }
    for (key, needed) in [("containers", true), ("initContainers", false)] {
        let Some(found) = pod
            .pointer(&format!("/spec/{key}"))
            .filter(|it| !it.is_null())
        else {
            if needed {
                return malformed("it has no containers");
            }
            continue;
        };
        let Some(containers) = found.as_array() else {
            return malformed(&format!("its {key} are no list"));
        };
        if containers
            .iter()
            .any(|container| name(container).is_empty())
        {
            return malformed(&format!("one of its {key} has no name"));
        }
    }
    Ok(())
}
