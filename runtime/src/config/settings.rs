//! What goes to librdkafka, and what must not be shown.

use crate::kafka::is_secret;
use std::fmt;

/// A text that shows itself to nobody who doesn't ask for it by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A table of librdkafka's settings in the config file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `[kafka]`: for every client.
    Kafka,
    /// `[pipelines.NAME.consumer]`.
    Consumer,
    /// `[pipelines.NAME.producer]`.
    Producer,
}

/// One setting.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// librdkafka's key.
    pub key: String,
    /// The value as librdkafka takes it. May be secret.
    pub value: String,
    /// The line in the config file; 0 if it isn't from one.
    pub line: usize,
    /// Whether the value must not be shown: it came out of a variable or a file, or the key's name says so.
    pub secret: bool,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.secret {
            true => write!(f, "{}=(secret)", self.key),
            false => write!(f, "{}={}", self.key, self.value),
        }
    }
}

/// Settings in the order of the file, each key once. `Debug` shows no secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<Setting>);

impl Settings {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let setting = self.0.iter().find(|setting| setting.key == key)?;
        Some(&setting.value)
    }

    /// The settings in order.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }

    /// These settings wherever they stand in the file, to be compared.
    pub fn unplaced(&self) -> Settings {
        let mut settings = self.clone();
        settings.0.iter_mut().for_each(|setting| setting.line = 0);
        settings
    }

    /// Sets a key that comes from the program rather than the file.
    pub fn set(&mut self, key: &str, value: &str) {
        self.put(Setting {
            key: key.to_string(),
            value: value.to_string(),
            line: 0,
            secret: is_secret(key),
        });
    }

    /// Adds a setting, or replaces the one of the same key where it stands.
    pub(super) fn put(&mut self, setting: Setting) {
        match self.0.iter_mut().find(|known| known.key == setting.key) {
            Some(known) => *known = setting,
            None => self.0.push(setting),
        }
    }

    /// These, and those of `over` after or instead of them.
    pub(super) fn merged(&self, over: &Settings) -> Settings {
        let mut merged = self.clone();
        over.0
            .iter()
            .cloned()
            .for_each(|setting| merged.put(setting));
        merged
    }
}

impl<'a> IntoIterator for &'a Settings {
    type Item = &'a Setting;
    type IntoIter = std::slice::Iter<'a, Setting>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
