//! Configuration: built-in defaults < YAML file < environment < flags.
//!
//! A program's configuration is a struct whose `Default` is the built-in values. The default, seen as a tree, is
//! also the schema: it says which keys there are and what an environment variable's text is to be read as.

mod clear;
pub mod duration;
mod kubernetes;
mod secret;
mod sections;

use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use serde_yaml::{Mapping, Value};

pub use self::{
    clear::{check_clear, is_local},
    secret::Secret,
    sections::{ClientTls, Database, Log, LogFormat, Metrics, QueueType, Rabbitmq, ServerTls, Shutdown},
};

/// What every environment variable of ours starts with.
pub const PREFIX: &str = "JALUR_";

/// Variables with our prefix that are not configuration: the local stack's own, and those in the `env` file that it
/// writes, so that sourcing that file never upsets a program. `JALUR_CONFIG` names the file and is no key of it.
const RESERVED: &[&str] = &[
    "JALUR_CONFIG",
    "JALUR_SERVICES",
    "JALUR_POSTGRES_IMAGE",
    "JALUR_RABBITMQ_IMAGE",
    "JALUR_URL",
    "JALUR_GRPC",
    "JALUR_ADMIN_TOKEN",
    "JALUR_DATABASE_URL",
    "JALUR_AMQP_URL",
    "JALUR_RABBITMQ_MANAGEMENT_URL",
    "JALUR_CONTROL_PLANE_ADMIN",
    "JALUR_DAEMON_ADMINS",
    "JALUR_PIDS",
];

/// A program's configuration.
pub trait Config: Default + Serialize + DeserializeOwned {
    /// Dotted keys that hold secrets. Each may also be given as `KEY_file`, the path of a file that holds it.
    const SECRETS: &[&str];

    /// Dotted keys of the other program, so that one file and one environment do for both. They are passed over; a flag
    /// is meant for the program that it is given to.
    const FOREIGN: &[&str] = &[];

    /// What the types cannot say: what must not be empty, and ranges.
    fn validate(&self) -> Result<(), Error>;
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key has a value that will not do, or there is no such key.
    #[error("configuration: {key}{origin}: {message}", origin = if from.is_empty() { String::new() } else { format!(" (from {from})") })]
    Key {
        /// The dotted key.
        key: String,
        /// Where its value came from; empty when that is not known.
        from: String,
        /// What is wrong and what would do.
        message: String,
    },
    /// The file cannot be read, or is no YAML.
    #[error("configuration file {path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl Error {
    /// A key whose value will not do.
    pub fn key(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Key {
            key: key.into(),
            from: String::new(),
            message: message.into(),
        }
    }

    fn from_source(key: impl Into<String>, from: &str, message: impl Into<String>) -> Self {
        Self::Key {
            key: key.into(),
            from: from.into(),
            message: message.into(),
        }
    }
}

/// Loads a configuration: `file`, then `env` (variables that do not start with [`PREFIX`] are passed over), then
/// `flags` (dotted key and text).
pub fn load<C: Config>(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<C, Error> {
    let mut tree =
        serde_yaml::to_value(C::default()).map_err(|error| Error::key("(defaults)", error.to_string()))?;
    blank_secrets::<C>(&mut tree);
    let schema = tree.clone();

    if let Some(path) = file {
        let failed = |message: String| Error::File {
            path: path.into(),
            message,
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let layer: Value = serde_yaml::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let from = path.display().to_string();
        for (key, value) in leaves(&schema, layer) {
            if !is_foreign::<C>(&key, value.is_null()) {
                set::<C>(&mut tree, &schema, &key, value, &from)?;
            }
        }
    }

    let mut variables: Vec<_> = env
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !RESERVED.contains(&name.as_str()))
        .collect();
    variables.sort();
    for (name, text) in variables {
        let key = name[PREFIX.len()..].to_lowercase().replace("__", ".");
        if is_foreign::<C>(&key, false) || kubernetes::is_injected(&name, &text) {
            continue;
        }
        let value = parse(&schema, &key, text, &name)?;
        set::<C>(&mut tree, &schema, &key, value, &name)?;
    }

    for (key, text) in flags {
        let value = parse(&schema, key, text.clone(), "a flag")?;
        set::<C>(&mut tree, &schema, key, value, "a flag")?;
    }

    let config: C = serde_path_to_error::deserialize(tree)
        .map_err(|error| Error::key(error.path().to_string(), error.inner().to_string()))?;
    config.validate()?;
    Ok(config)
}

/// Whether a key is the other program's alone; or one of its sections, where `empty` says that nothing stands in it.
fn is_foreign<C: Config>(key: &str, empty: bool) -> bool {
    let within = |known: &str| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    C::FOREIGN
        .iter()
        .any(|&known| known == key || empty && within(known))
}

/// Secrets print masked, so their defaults must not be taken over from the printed tree.
fn blank_secrets<C: Config>(tree: &mut Value) {
    for key in C::SECRETS {
        if let Some(slot) = slot(tree, key) {
            *slot = Value::String(String::new());
        }
    }
}

fn slot<'a>(tree: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    key.split('.')
        .try_fold(tree, |node, part| node.as_mapping_mut()?.get_mut(part))
}

fn at<'a>(tree: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.')
        .try_fold(tree, |node, part| node.as_mapping()?.get(part))
}

/// The dotted keys of a layer, down to where the schema has no more keys.
fn leaves(schema: &Value, layer: Value) -> Vec<(String, Value)> {
    fn walk(schema: Option<&Value>, prefix: &str, layer: Value, into: &mut Vec<(String, Value)>) {
        match layer {
            Value::Mapping(mapping) if schema.is_none_or(Value::is_mapping) => {
                for (name, value) in mapping {
                    let name = name.as_str().map_or_else(|| format!("{name:?}"), str::to_owned);
                    let schema = schema
                        .and_then(Value::as_mapping)
                        .and_then(|schema| schema.get(name.as_str()));
                    let key = if prefix.is_empty() {
                        name
                    } else {
                        format!("{prefix}.{name}")
                    };
                    walk(schema, &key, value, into);
                }
            }
            // An empty section, `database:`, says nothing.
            Value::Null if schema.is_some_and(Value::is_mapping) => {}
            value => into.push((prefix.to_owned(), value)),
        }
    }
    let mut into = Vec::new();
    walk(Some(schema), "", layer, &mut into);
    into
}

/// Reads the text of a variable or flag as what its key holds by default.
fn parse(schema: &Value, key: &str, text: String, from: &str) -> Result<Value, Error> {
    Ok(match at(schema, key) {
        Some(Value::Number(_) | Value::Bool(_)) => serde_yaml::from_str(&text)
            .map_err(|error| Error::from_source(key, from, format!("cannot be read: {error}")))?,
        // More than words, such as a list of sections.
        Some(Value::Sequence(_)) if text.trim_start().starts_with('[') => serde_yaml::from_str(&text)
            .map_err(|error| Error::from_source(key, from, format!("cannot be read: {error}")))?,
        Some(Value::Sequence(_)) => text
            .split(',')
            .map(|item| Value::String(item.trim().to_owned()))
            .collect(),
        _ => Value::String(text),
    })
}

fn set<C: Config>(
    tree: &mut Value,
    schema: &Value,
    key: &str,
    value: Value,
    from: &str,
) -> Result<(), Error> {
    if let Some(secret) = key
        .strip_suffix("_file")
        .filter(|secret| C::SECRETS.contains(secret))
    {
        let path = value
            .as_str()
            .ok_or_else(|| Error::from_source(key, from, "must be a path"))?;
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::from_source(key, from, format!("{path} cannot be read: {error}")))?;
        return set::<C>(
            tree,
            schema,
            secret,
            Value::String(text.trim_end().to_owned()),
            path,
        );
    }
    match (at(schema, key), slot(tree, key)) {
        (Some(known), Some(slot)) if !known.is_mapping() => *slot = value,
        (Some(known), _) => {
            let names = names(known.as_mapping());
            return Err(Error::from_source(
                key,
                from,
                format!("is a section; its keys are {names}"),
            ));
        }
        _ => {
            let section = key
                .rsplit_once('.')
                .map_or(Some(schema), |(section, _)| at(schema, section));
            let section = section
                .and_then(Value::as_mapping)
                .or_else(|| schema.as_mapping());
            return Err(Error::from_source(
                key,
                from,
                format!("there is no such key; known are {}", names(section)),
            ));
        }
    }
    Ok(())
}

fn names(section: Option<&Mapping>) -> String {
    let mut names: Vec<_> = section
        .into_iter()
        .flatten()
        .filter_map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    names.join(", ")
}

/// Checks that a URL is there and has one of `schemes`.
pub fn validate_url(key: &str, url: &Secret, schemes: &[&str]) -> Result<(), Error> {
    let example = schemes[0];
    if url.is_empty() {
        let variable = format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"));
        return Err(Error::key(
            key,
            format!("is missing; set it in the file, as {variable} or as {variable}_FILE"),
        ));
    }
    match url.expose().split_once("://") {
        Some((scheme, rest)) if schemes.contains(&scheme) && !rest.is_empty() => Ok(()),
        _ => Err(Error::key(
            key,
            format!("{url} is no {example}://user:pass@host/… URL"),
        )),
    }
}

#[cfg(test)]
mod tests;
