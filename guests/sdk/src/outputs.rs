//! A pipeline's outputs, by name.

/// The names of the pipeline's outputs, of which there's at least one. A record that no transform chooses an output for
/// goes to the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outputs(Vec<String>);

/// One of the pipeline's outputs, looked up once: [`Record::send_to`](crate::Record::send_to) takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputId(pub(crate) u32);

impl OutputId {
    /// The first output, which every pipeline has.
    pub const FIRST: OutputId = OutputId(0);
}

impl Outputs {
    pub(crate) fn new(names: Vec<String>) -> Outputs {
        Outputs(names)
    }

    /// The names, in the pipeline's order.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The output of that name.
    ///
    /// # Errors
    /// There is none. The reason lists those that there are, and says which one was probably meant.
    pub fn find(&self, name: &str) -> Result<OutputId, String> {
        match self.0.iter().position(|output| output == name) {
            Some(index) => Ok(OutputId(index as u32)),
            None => Err(self.unknown(name)),
        }
    }

    #[cold]
    fn unknown(&self, name: &str) -> String {
        let names = self.0.join("`, `");
        let mut reason = match self.0.len() {
            1 => format!("no output is called `{name}`; the pipeline has one, `{names}`"),
            _ => format!("no output is called `{name}`; the pipeline's outputs are `{names}`"),
        };
        // A third of the letters may be wrong.
        let distance = |known: &String| strsim::osa_distance(&name.to_lowercase(), known);
        if let Some(near) = self.0.iter().min_by_key(|known| distance(known))
            && distance(near) <= 1.max(near.chars().count() / 3)
        {
            reason.push_str(&format!("; did you mean `{near}`?"));
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_those_that_there_are() {
        let outputs = |names: &[&str]| Outputs::new(names.iter().map(|&it| it.into()).collect());
        let several = outputs(&["stocks", "crypto", "Other"]);
        assert_eq!(several.find("crypto"), Ok(OutputId(1)));
        let unknown = |outputs: &Outputs, name| outputs.find(name).expect_err("there's none");
        assert_eq!(
            unknown(&several, "cripto"),
            "no output is called `cripto`; the pipeline's outputs are `stocks`, `crypto`, `Other`; did you mean `crypto`?"
        );
        assert_eq!(
            unknown(&several, "bonds"),
            "no output is called `bonds`; the pipeline's outputs are `stocks`, `crypto`, `Other`"
        );
        assert!(unknown(&several, "other").ends_with("did you mean `Other`?"));
        assert_eq!(
            unknown(&outputs(&["default"]), ""),
            "no output is called ``; the pipeline has one, `default`"
        );
    }
}
