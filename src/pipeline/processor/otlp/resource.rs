//! Who spans and metrics come from, and the attributes of OTLP's messages.

use std::collections::BTreeMap;

use super::{
    attribute::{Attributes, Value},
    profile::Profile,
};
use crate::base::{
    id::hex_text,
    protobuf::{Field, Form},
};

/// The name of who made the spans.
const SCOPE: &str = "tollgate";

/// Who spans come from. It is told for each environment, since destinations look for it there.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    attributes: BTreeMap<String, String>,
    /// `tracing.environment`: of spans that do not say theirs.
    environment: Option<Box<str>>,
}

impl Resource {
    /// `own` goes before what is known otherwise.
    pub(super) fn new(
        service: &str,
        environment: Option<&str>,
        own: BTreeMap<String, String>,
    ) -> Self {
        let mut attributes = BTreeMap::from(
            [
                ("service.name", service),
                // What adds up metrics must tell the sidecars of one service apart.
                (
                    "service.instance.id",
                    &hex_text(&fastrand::u128(..).to_be_bytes()),
                ),
                ("telemetry.sdk.language", "rust"),
                ("telemetry.sdk.name", SCOPE),
                ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        attributes.extend(own);
        Self {
            attributes,
            environment: environment.map(Box::from),
        }
    }

    /// Writes the member `resource`, as of spans that say this environment.
    pub(super) fn write<F: Form>(&self, form: &mut F, environment: Option<&str>) {
        let name = "deployment.environment.name";
        let known = environment.or(self.environment.as_deref());
        let known = known.filter(|_| !self.attributes.contains_key(name));
        let known = known.map(|value| (name, value));
        let own = self.attributes.iter();
        let own = own.map(|(name, value)| (&**name, &**value));
        form.message(Field(1, "resource"), |resource| {
            resource.messages(ATTRIBUTES, own.chain(known), |item, (name, text)| {
                item.text(Field(1, "key"), name);
                item.message(Field(2, "value"), |any| any.text(STRING, text));
            });
        });
    }
}

const ATTRIBUTES: Field = Field(1, "attributes");
const STRING: Field = Field(1, "stringValue");

/// Writes the member `scope`.
pub(super) fn scope<F: Form>(form: &mut F) {
    form.message(Field(1, "scope"), |scope| {
        scope.text(Field(1, "name"), SCOPE);
        scope.text(Field(2, "version"), env!("CARGO_PKG_VERSION"));
    });
}

/// Writes the member `schemaUrl`, if the profile has one.
pub(super) fn schema<F: Form>(form: &mut F, profile: Profile) {
    if let Some(url) = profile.schema() {
        form.text(Field(3, "schemaUrl"), url);
    }
}

/// Writes attributes as the member of that number.
pub(super) fn attributes<F: Form>(form: &mut F, number: u32, attributes: &Attributes) {
    let field = Field(number, ATTRIBUTES.1);
    form.messages(field, attributes, |item, (name, value)| {
        item.text(Field(1, "key"), name);
        item.message(Field(2, "value"), |any| match value {
            Value::Text(text) => any.text(STRING, text),
            Value::Bool(flag) => any.flag(Field(2, "boolValue"), *flag),
            Value::Int(number) => any.int(Field(3, "intValue"), *number),
            Value::Float(number) => any.double(Field(4, "doubleValue"), *number),
            Value::Texts(texts) => any.message(Field(5, "arrayValue"), |list| {
                list.messages(Field(1, "values"), texts, |item, text| {
                    item.text(STRING, text);
                });
            }),
        });
    });
}
