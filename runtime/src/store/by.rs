//! Who or what made a change.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What made a change, and who, if that's known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct By {
    /// What made it.
    pub cause: Cause,
    /// The person or program, as it named itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
}

impl From<Cause> for By {
    fn from(cause: Cause) -> By {
        By { cause, who: None }
    }
}

/// `api`, or `api (anna)`.
impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        match &self.who {
            Some(who) => write!(f, " ({who})"),
            None => Ok(()),
        }
    }
}

/// What makes a change. One more is a new format of records: a Weir without it couldn't read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The config file said something new, at a start or a reload.
    ConfigFile,
    /// A module's file changed.
    ModuleFile,
    /// The admin API was asked for it.
    Api,
    /// It was gone back by hand.
    Rollback,
    /// What was tried became what runs.
    Promotion,
    /// It was gone back because a new version did worse.
    Probation,
}

impl Cause {
    /// Whether it goes back to a version instead of taking one up.
    pub fn goes_back(self) -> bool {
        matches!(self, Cause::Rollback | Cause::Probation)
    }

    /// Whether the config file, or a module that it names, is what changed.
    pub fn is_file(self) -> bool {
        matches!(self, Cause::ConfigFile | Cause::ModuleFile)
    }
}

/// As in JSON.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::ConfigFile => "config-file",
            Cause::ModuleFile => "module-file",
            Cause::Api => "api",
            Cause::Rollback => "rollback",
            Cause::Promotion => "promotion",
            Cause::Probation => "probation",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_shown_as_it_is_in_json() {
        let causes = [
            Cause::ConfigFile,
            Cause::ModuleFile,
            Cause::Api,
            Cause::Rollback,
            Cause::Promotion,
            Cause::Probation,
        ];
        for cause in causes {
            let json = serde_json::to_string(&cause).unwrap();
            assert_eq!(json, format!("\"{cause}\""));
        }
        let who = Some("anna".to_string());
        let by = By {
            cause: Cause::Api,
            who,
        };
        assert_eq!(by.to_string(), "api (anna)");
        assert_eq!(By::from(Cause::ModuleFile).to_string(), "module-file");
    }
}
