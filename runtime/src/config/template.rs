//! A transform's config: as it was typed, and with `${…}` filled in.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::document::fill_in;
use super::settings::Secret;

/// What a guest is set up with: a JSON object whose strings may hold references to variables and files. What they stand for
/// may be secret, so what's shown and stored is what was typed.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    typed: Value,
    filled: Value,
    /// What each reference of the text stands for.
    references: BTreeMap<String, Secret>,
}

impl Template {
    pub(super) fn new(
        typed: Value,
        filled: Value,
        references: BTreeMap<String, Secret>,
    ) -> Template {
        Template {
            typed,
            filled,
            references,
        }
    }

    /// As it was typed, `${…}` and all.
    pub fn typed(&self) -> &Value {
        &self.typed
    }

    /// With `${…}` filled in: for the guest, and for nobody else.
    pub fn filled(&self) -> &Value {
        &self.filled
    }

    /// An error's text, with what references stand for hidden again: a guest may have quoted its config.
    pub fn hide(&self, why: &anyhow::Error) -> anyhow::Error {
        let mut text = format!("{why:#}");
        let mut secrets: Vec<(&String, &Secret)> = self.references.iter().collect();
        // A longer one first: it may hold a shorter one.
        secrets.sort_by_key(|(_, secret)| std::cmp::Reverse(secret.reveal().len()));
        for (reference, secret) in secrets {
            // A guest quotes with escapes.
            let escaped = serde_json::Value::from(secret.reveal()).to_string();
            let escaped = escaped.trim_matches('"');
            for quoted in [secret.reveal(), escaped] {
                if !quoted.is_empty() {
                    text = text.replace(quoted, &format!("${{{reference}}}"));
                }
            }
        }
        anyhow::Error::msg(text)
    }

    /// Fills in another text of this config. It may refer to what this one refers to and to nothing else, so that who sets
    /// it can read no more of the process's variables and files. The error says what is wrong with it.
    pub fn fill_in(&self, typed: &Value) -> Result<Template, String> {
        let mut resolve = |reference: &str| match self.references.get(reference) {
            Some(secret) => Ok(secret.reveal().to_string()),
            None => Err(format!(
                "${{{reference}}} isn't in the config file's config of this transform, and only what is there can be referred to; write $${{ for a plain ${{"
            )),
        };
        if !typed.is_object() {
            return Err(format!("it must be a JSON object, not {}", kind(typed)));
        }
        Ok(Template {
            typed: typed.clone(),
            filled: filled(typed, &mut resolve)?,
            references: self.references.clone(),
        })
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.typed, f)
    }
}

fn filled(
    typed: &Value,
    resolve: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Value, String> {
    Ok(match typed {
        Value::String(text) => fill_in(text, resolve)?.into(),
        Value::Array(items) => {
            let items = items.iter().map(|it| filled(it, resolve));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, it)| Ok((key.clone(), filled(it, resolve)?)));
            Value::Object(fields.collect::<Result<_, String>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => typed.clone(),
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn another_text_may_refer_to_what_the_first_one_does() {
        let secrets = [("KEY".to_string(), Secret::new("s3cret".into()))];
        let template = Template::new(
            json!({ "key": "${KEY}" }),
            json!({ "key": "s3cret" }),
            secrets.into(),
        );
        let typed = json!({ "hash": [{ "key": "a ${KEY}" }], "plain": "$${KEY}", "n": 1 });
        let other = template.fill_in(&typed).unwrap();
        assert_eq!(other.typed(), &typed);
        let filled = json!({ "hash": [{ "key": "a s3cret" }], "plain": "${KEY}", "n": 1 });
        assert_eq!(other.filled(), &filled);
        assert!(!format!("{other:?}").contains("s3cret"));
        let why = anyhow::anyhow!("near \"s3cret\"").context("its config");
        let hidden = template.hide(&why);
        assert_eq!(format!("{hidden:#}"), "its config: near \"${KEY}\"");

        for (wrong, why) in [
            (
                json!({ "a": "${PATH}" }),
                "${PATH} isn't in the config file's",
            ),
            (
                json!({ "a": "${file:/etc/passwd}" }),
                "${file:/etc/passwd} isn't in",
            ),
            (json!({ "a": "${" }), "without its }"),
            (json!([]), "must be a JSON object, not a list"),
        ] {
            let said = template.fill_in(&wrong).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }
}
