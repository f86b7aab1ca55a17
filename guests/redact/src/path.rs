//! Paths with arrays on the way: `customer.email`, `items[*].card`.

/// A step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An object's field, by its name as the JSON scanner's paths write it: a dot and a backslash in it are escaped.
    Field(String),
    /// Every element of an array.
    Each,
}

/// The steps of a path.
///
/// # Errors
/// What is wrong with it.
pub fn steps(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = path;
    if !rest.starts_with("[*]") {
        rest = field(rest, &mut steps)?;
    }
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[*]") {
            steps.push(Step::Each);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            rest = field(after, &mut steps)?;
        } else if rest.starts_with('[') {
            return Err(
                "`[` begins `[*]`, every element of an array; single elements have no path, and a bracket in a name \
                 is `\\[`"
                    .to_owned(),
            );
        } else {
            return Err("after `[*]` comes a dot, another `[*]`, or nothing".to_owned());
        }
    }
    Ok(steps)
}

/// Takes a name off the front.
fn field<'p>(path: &'p str, steps: &mut Vec<Step>) -> Result<&'p str, String> {
    let mut name = String::new();
    let mut chars = path.char_indices();
    let mut end = path.len();
    while let Some((at, char)) = chars.next() {
        match char {
            '.' | '[' => {
                end = at;
                break;
            }
            '\\' => match chars.next() {
                Some((_, '[')) => name.push('['),
                Some((_, escaped @ ('.' | '\\'))) => name.extend(['\\', escaped]),
                _ => {
                    return Err(
                        "a backslash must stand before a dot, a bracket or a backslash".to_owned(),
                    );
                }
            },
            char => name.push(char),
        }
    }
    if name.is_empty() {
        return Err("a name is empty; write `name`, `object.name` or `array[*].name`".to_owned());
    }
    steps.push(Step::Field(name));
    Ok(&path[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str) -> String {
        match steps(path) {
            Ok(steps) => {
                let steps = steps.into_iter().map(|step| match step {
                    Step::Field(name) => name,
                    Step::Each => "*".to_owned(),
                });
                steps.collect::<Vec<_>>().join("|")
            }
            Err(what) => what,
        }
    }

    #[test]
    fn a_path_is_names_and_arrays() {
        for (path, expected) in [
            ("a", "a"),
            ("a.b.c", "a|b|c"),
            ("items[*].card", "items|*|card"),
            ("a[*]", "a|*"),
            ("a[*][*].b[*]", "a|*|*|b|*"),
            ("[*].a", "*|a"),
            ("[*]", "*"),
            ("*.a", "*|a"),
            (r"a\.b.c", r"a\.b|c"),
            (r"a\\.b", r"a\\|b"),
            (r"a\[*].b", "a[*]|b"),
            ("ä]", "ä]"),
        ] {
            assert_eq!(shown(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for (path, expected) in [
            ("", "a name is empty"),
            (".", "a name is empty"),
            ("a.", "a name is empty"),
            ("a..b", "a name is empty"),
            ("a[*].", "a name is empty"),
            ("a.[*]", "a name is empty"),
            ("a[0]", "`[` begins `[*]`, every element of an array;"),
            ("a[", "`[` begins `[*]`"),
            ("[", "a name is empty"),
            ("a[*]b", "after `[*]` comes a dot"),
            (r"a\b", "a backslash must stand before"),
            (r"a\", "a backslash must stand before"),
        ] {
            assert!(shown(path).starts_with(expected), "{path}: {}", shown(path));
        }
    }
}
