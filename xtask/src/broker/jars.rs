//! Kafka's jars and the Java that runs them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, ensure};

use super::with_path;

const POM: &str = include_str!("../../kafka/pom.xml");

/// Kafka 4 needs it.
const JAVA_VERSION: u32 = 17;

/// The folder of Kafka's jars.
pub fn library() -> PathBuf {
    crate::root().join("target/kafka/lib")
}

/// Whether the jars of this version are all there.
pub fn is_downloaded() -> bool {
    fs::read_to_string(stamp()).is_ok_and(|pom| pom == POM)
}

/// Downloads Kafka's jars by Maven, unless they're there already, and returns their folder.
pub fn download() -> Result<PathBuf, Error> {
    let library = library();
    if is_downloaded() {
        return Ok(library);
    }
    let part = library.with_extension("part");
    let mut attempt = 1;
    loop {
        remove_folder(&part)?;
        let output = Command::new("mvn")
            .args(["--batch-mode", "--quiet", "--file"])
            .arg(crate::root().join("xtask/kafka/pom.xml"))
            .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(with_path("-DoutputDirectory=", &part))
            .stdin(Stdio::null())
            .output()
            .context("can't run `mvn`, which downloads Kafka's jars: apt-get install maven")?;
        if output.status.success() {
            break;
        }
        // Registries time out now and then.
        ensure!(
            attempt < 2,
            "can't download Kafka's jars by `mvn` ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        attempt += 1;
    }
    remove_folder(&library)?;
    fs::rename(&part, &library)
        .with_context(|| format!("can't move the jars to {}", library.display()))?;
    fs::write(stamp(), POM)?;
    Ok(library)
}

/// The Java to run, checked for its version.
pub fn java() -> Result<PathBuf, Error> {
    let java = match std::env::var_os("JAVA_HOME") {
        Some(home) if !home.is_empty() => Path::new(&home).join("bin/java"),
        _ => PathBuf::from("java"),
    };
    let install = "apt-get install openjdk-17-jre-headless";
    let output = Command::new(&java)
        .arg("-version")
        .output()
        .with_context(|| {
            format!(
                "can't run `{}`, which Kafka needs: {install}",
                java.display()
            )
        })?;
    let text = String::from_utf8_lossy(&output.stderr);
    let version = java_version(&text).with_context(|| {
        format!(
            "`{} -version` doesn't tell its version: {text}",
            java.display()
        )
    })?;
    ensure!(
        version >= JAVA_VERSION,
        "Kafka needs Java {JAVA_VERSION} or later, and `{}` is Java {version}: {install}",
        java.display()
    );
    Ok(java)
}

/// One of the command line tools in Kafka's jars, by its class, to be given its arguments.
pub fn tool(class: &str) -> Result<Command, Error> {
    let mut command = Command::new(java()?);
    command
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        // Without a configuration it logs errors only, and says on standard error that it has none.
        .arg("-Dlog4j2.StatusLogger.level=OFF")
        .arg("-cp")
        .arg(class_path()?)
        .arg(class)
        .stdin(Stdio::null());
    Ok(command)
}

/// What goes behind `-cp`.
pub(super) fn class_path() -> Result<OsString, Error> {
    ensure!(
        is_downloaded(),
        "Kafka's jars are not in {}: run `cargo xtask kafka`, or set WEIR_TEST_BOOTSTRAP to a broker that runs",
        library().display()
    );
    Ok(library().join("*").into_os_string())
}

/// Says which jars are there: a copy of the file that they were downloaded by.
fn stamp() -> PathBuf {
    library().join("pom.xml")
}

fn remove_folder(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The first number in `openjdk version "17.0.15" 2025-04-15`.
fn java_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("version \"")?;
    let digits = version.find(|c: char| !c.is_ascii_digit())?;
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_of_java() {
        let check = |text, expected| assert_eq!(java_version(text), expected);
        check("openjdk version \"17.0.15\" 2025-04-15\nmore", Some(17));
        check("openjdk version \"25\" 2025-09-16", Some(25));
        check("java version \"1.8.0_392\"", Some(1));
        check("command not found", None);
    }
}
