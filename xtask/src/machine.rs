//! What has to be installed on the machine, checked before anything else starts.

use std::process::{Command, Stdio};

use anyhow::{Error, bail};
use xtask::broker;
use xtask::container::Engine;

/// What a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A compiler and the libraries that librdkafka is built with.
    Build,
    /// Java and Maven, which bring and run Kafka.
    Kafka,
    /// Podman or docker.
    Containers,
    /// Prometheus and InfluxDB, which the tests start beside it.
    Monitoring,
}

/// Fails with the line that installs what is missing, if something is.
pub fn check(needs: &[Need]) -> Result<(), Error> {
    let mut packages = Vec::new();
    for need in needs {
        match need {
            Need::Build => build_packages(&mut packages),
            Need::Kafka => kafka_packages(&mut packages)?,
            Need::Containers => container_packages(&mut packages)?,
            Need::Monitoring => monitoring_packages(&mut packages),
        }
    }
    if packages.is_empty() {
        return Ok(());
    }
    bail!(
        "this machine lacks what Weir is built or tested with; install it (on Debian or Ubuntu) by\n  \
         apt-get install {}",
        packages.join(" ")
    )
}

/// librdkafka's own build is `./configure` and `make`, in C and C++; OpenSSL and zlib are the system's.
fn build_packages(packages: &mut Vec<&str>) {
    let programs = [
        ("cc", "gcc"),
        ("c++", "g++"),
        ("make", "make"),
        ("pkg-config", "pkg-config"),
    ];
    for (program, package) in programs {
        if !runs(program, &["--version"]) {
            packages.push(package);
        }
    }
    for (library, package) in [("openssl", "libssl-dev"), ("zlib", "zlib1g-dev")] {
        if !runs("pkg-config", &["--exists", library]) {
            packages.push(package);
        }
    }
}

fn kafka_packages(packages: &mut Vec<&str>) -> Result<(), Error> {
    match broker::java() {
        // No package mends a JAVA_HOME that leads elsewhere.
        Err(error) if std::env::var_os("JAVA_HOME").is_some() => {
            return Err(error.context("JAVA_HOME leads to no Java that Kafka runs on"));
        }
        Err(_) => packages.push("openjdk-17-jre-headless"),
        Ok(_) => {}
    }
    if !broker::is_downloaded() && !runs("mvn", &["--version"]) {
        packages.push("maven");
    }
    Ok(())
}

/// An engine that's there and doesn't work isn't mended by a package.
fn container_packages(packages: &mut Vec<&str>) -> Result<(), Error> {
    let there = |program| runs(program, &["--version"]);
    if !there("podman") && !there("docker") {
        packages.extend(["podman", "runc", "mmdebstrap"]);
        return Ok(());
    }
    Engine::find().map(|_| ())
}

fn monitoring_packages(packages: &mut Vec<&str>) {
    if !runs("prometheus", &["--version"]) || !runs("promtool", &["--version"]) {
        packages.push("prometheus");
    }
    if !runs("influxd", &["version"]) {
        packages.push("influxdb");
    }
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
