//! Child processes that never outlive the one who started them, even when that one is killed.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Error};

/// Waits for the end of its input: a line says that all is well, the end of the file that the starter is gone. It
/// stays through the signals that a terminal sends to the whole process group.
///
/// The folder is tried several times, since the killed process may still be writing there.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
read -r line
[ "$line" = done ] && exit
kill -9 "$1" 2>/dev/null
[ -n "$2" ] || exit
for try in 1 2 3 4 5 6 7 8; do
    rm -rf -- "$2" 2>/dev/null && exit
    sleep 0.2
done
"#;

/// A small shell process that kills a child when this process ends without having called [`Watchdog::dismiss`],
/// however it ends. It learns of that by the end of a pipe, so there's nothing to clean up.
#[derive(Debug)]
pub struct Watchdog(Child);

impl Watchdog {
    /// Watches over `child`, and over a folder to remove after it, if there is one.
    pub fn over(child: &Child, folder: Option<&Path>) -> Result<Watchdog, Error> {
        let watchdog = Command::new("sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(child.id().to_string())
            .args(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start `sh` to watch over a child process")?;
        Ok(Watchdog(watchdog))
    }

    /// Ends the watch. Call it once the child was waited for, since its process id may go to another one then.
    pub fn dismiss(mut self) {
        if let Some(mut input) = self.0.stdin.take() {
            // A watchdog that is gone already watches over nothing, which is all that is asked for here.
            let _ = input.write_all(b"done\n");
        }
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::wait::eventually;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    #[test]
    fn kills_the_child_and_removes_the_folder_when_the_starter_is_gone() {
        let folder = tempfile::tempdir().unwrap().keep();
        fs::write(folder.join("file"), "x").unwrap();
        let mut child = sleeper();
        let mut watchdog = Watchdog::over(&child, Some(&folder)).unwrap();
        // The kernel does this when a process ends.
        drop(watchdog.0.stdin.take());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), None, "ended by a signal: {status}");
        watchdog.0.wait().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn leaves_everything_alone_when_dismissed() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper();
        Watchdog::over(&child, Some(folder.path()))
            .unwrap()
            .dismiss();
        assert!(child.try_wait().unwrap().is_none(), "still running");
        assert!(folder.path().exists());
        child.kill().unwrap();
        eventually("the child's end", Duration::from_secs(60), || {
            Ok(child.try_wait()?)
        })
        .unwrap();
    }
}
