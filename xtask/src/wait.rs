//! Waiting for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, bail};

/// How long to pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks at a condition until it gives a value, or fails with what was waited for once the deadline is over.
///
/// The condition is looked at at least once, and an error from it ends the wait.
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {deadline:?} in vain: {what}");
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_value_once_it_is_there() {
        let mut looks = 0;
        let value = eventually("the third look", Duration::from_secs(60), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn says_what_it_waited_for() {
        let error = eventually::<()>("a thing", Duration::ZERO, || Ok(None)).unwrap_err();
        assert!(error.to_string().contains("a thing"), "{error}");
    }

    #[test]
    fn an_error_ends_the_wait() {
        let error = eventually::<()>("a thing", Duration::from_secs(60), || bail!("broken"));
        assert_eq!(error.unwrap_err().to_string(), "broken");
    }
}
