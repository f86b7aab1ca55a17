//! `cargo xtask test tidy`: formatting, lints, documentation, and rules about the source tree that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, bail, ensure};

use crate::cargo::{self, Workspace};

/// A word that may stand in some places only.
struct Rule {
    /// The name of a crate or module, or an attribute: looked for as a whole word, outside of comments.
    word: &'static str,
    /// The files that it holds for: those that begin with one of these, from the workspace's folder.
    within: &'static [&'static str],
    /// Files where it may stand: those that begin with one of these.
    except: &'static [&'static str],
    /// What to do instead.
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        word: "wasmtime::",
        within: &["runtime/", "tests/", "xtask/", "bench/", "chaos/"],
        except: &["runtime/src/guest/"],
        why: "wasmtime is named only under runtime/src/guest",
    },
    Rule {
        word: "rdkafka::",
        within: &["runtime/", "xtask/"],
        except: &["runtime/src/kafka/"],
        why: "rdkafka is named only under runtime/src/kafka (and by the tests' harness, the chaos runs and the yardstick)",
    },
    Rule {
        word: "rdkafka_sys::",
        within: &["runtime/", "xtask/"],
        except: &["runtime/src/kafka/"],
        why: "rdkafka-sys is named only under runtime/src/kafka (and by the tests' harness, the chaos runs and the yardstick)",
    },
    Rule {
        word: "axum::",
        within: &["runtime/", "tests/", "xtask/", "bench/", "chaos/"],
        except: &["runtime/src/admin/"],
        why: "axum is named only under runtime/src/admin",
    },
    Rule {
        word: "kafka::",
        within: &["runtime/src/guest/", "runtime/src/chain"],
        except: &[],
        why: "guests and chains don't know that Kafka exists",
    },
    Rule {
        word: "guest::",
        within: &["runtime/src/kafka/"],
        except: &[],
        why: "Kafka's side doesn't know that Wasm exists",
    },
    Rule {
        word: "chain::",
        within: &["runtime/src/kafka/"],
        except: &[],
        why: "Kafka's side doesn't know that Wasm exists",
    },
    Rule {
        word: "#[ignore",
        within: &[""],
        except: &[],
        why: "a test that doesn't run proves nothing: fix it or remove it",
    },
    Rule {
        word: "sleep(",
        within: &["tests/", "runtime/tests/"],
        except: &[],
        why: "tests don't sleep: wait for the condition with `eventually`",
    },
];

type Check = fn() -> Result<(), Error>;

/// This file names every word that it looks for.
const THIS_FILE: &str = "xtask/src/tidy.rs";

/// Runs all checks whose name contains the filter, and shows what each finds.
pub fn run(filter: Option<&str>) -> Result<(), Error> {
    let checks: [(&str, Check); 5] = [
        ("rules", || verdict(broken_rules(&xtask::root())?)),
        ("links", || verdict(dead_links(&xtask::root())?)),
        ("fmt", fmt),
        ("clippy", clippy),
        ("doc", doc),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        if filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        match check() {
            Ok(()) => println!("check tidy::{name} ... ok"),
            Err(error) => {
                eprintln!("{error:#}");
                println!("check tidy::{name} ... FAILED");
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn fmt() -> Result<(), Error> {
    both(|workspace| cargo::run(workspace.cargo().args(["fmt", "--all", "--check"])))
}

fn clippy() -> Result<(), Error> {
    both(|workspace| {
        cargo::run(workspace.cargo().args([
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })
}

/// Broken links between items, mostly.
fn doc() -> Result<(), Error> {
    both(|workspace| {
        cargo::run(
            workspace
                .cargo()
                .args(["doc", "--release", "--workspace", "--no-deps"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    })
}

/// Both workspaces, the second also after the first failed.
fn both(check: impl Fn(Workspace) -> Result<(), Error>) -> Result<(), Error> {
    let main = check(Workspace::Main);
    let guests = check(Workspace::Guests);
    main.and(guests)
}

fn verdict(findings: Vec<String>) -> Result<(), Error> {
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{}", findings.join("\n"))
}

/// `path:line: why` for each line that breaks a rule.
fn broken_rules(root: &Path) -> Result<Vec<String>, Error> {
    let mut findings = Vec::new();
    for path in files(root, "rs")? {
        if path == THIS_FILE {
            continue;
        }
        let text = read(root, &path)?;
        for rule in RULES {
            let starts = |with: &[&str]| with.iter().any(|start| path.starts_with(start));
            if !starts(rule.within) || starts(rule.except) {
                continue;
            }
            for (index, line) in text.lines().enumerate() {
                if has_word(code(line), rule.word) {
                    findings.push(format!("{path}:{}: {}", index + 1, rule.why));
                }
            }
        }
    }
    Ok(findings)
}

/// `path:line: …` for each link of a Markdown page to a file that isn't there.
fn dead_links(root: &Path) -> Result<Vec<String>, Error> {
    let mut findings = Vec::new();
    for path in files(root, "md")? {
        let text = read(root, &path)?;
        let folder = Path::new(&path).parent().unwrap_or(Path::new(""));
        for (index, line) in text.lines().enumerate() {
            for link in links(line) {
                let file = link.split('#').next().unwrap_or_default();
                let elsewhere = link.contains("://") || link.starts_with("mailto:");
                if !elsewhere && !file.is_empty() && !root.join(folder).join(file).exists() {
                    findings.push(format!("{path}:{}: there's no {file}", index + 1));
                }
            }
        }
    }
    Ok(findings)
}

/// The targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
}

/// A line without its comment. A string that holds `//` is cut too, which no rule minds.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether the word stands in the line, and not as the end of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// All files of a kind below the root that are the project's own, as paths with `/`, sorted.
fn files(root: &Path, extension: &str) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let here = root.join(&folder);
        let entries =
            fs::read_dir(&here).with_context(|| format!("can't read {}", here.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let path = folder.join(&name);
            if entry.file_type()?.is_dir() {
                let name = name.to_string_lossy();
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(root: &Path, path: &str) -> Result<String, Error> {
    fs::read_to_string(root.join(path)).with_context(|| format!("can't read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn check_rules(path: &str, text: &str, expected: &[&str]) {
        let root = tree(&[(path, text)]);
        assert_eq!(broken_rules(root.path()).unwrap(), expected, "{path}");
    }

    #[test]
    fn foreign_libraries_stay_in_their_folders() {
        let wasmtime = "use wasmtime::Engine;\n";
        check_rules("runtime/src/guest/host.rs", wasmtime, &[]);
        check_rules(
            "runtime/src/worker.rs",
            wasmtime,
            &["runtime/src/worker.rs:1: wasmtime is named only under runtime/src/guest"],
        );
        check_rules("runtime/src/worker.rs", "// as wasmtime::Engine\n", &[]);
        check_rules("runtime/src/worker.rs", "use not_wasmtime::X;\n", &[]);
        check_rules("tests/src/topic.rs", "use rdkafka::ClientConfig;\n", &[]);
        check_rules(
            "runtime/src/admin/mod.rs",
            "use axum::Router;\n\nuse rdkafka::ClientConfig;\n",
            &[
                "runtime/src/admin/mod.rs:3: rdkafka is named only under runtime/src/kafka \
               (and by the tests' harness, the chaos runs and the yardstick)",
            ],
        );
    }

    #[test]
    fn neither_side_knows_the_other() {
        check_rules(
            "runtime/src/chain.rs",
            "use crate::guest::Guest;\nuse crate::kafka::Reader;\n",
            &["runtime/src/chain.rs:2: guests and chains don't know that Kafka exists"],
        );
        check_rules(
            "runtime/src/kafka/source.rs",
            "let guest = crate::guest::Guest::new();\n",
            &["runtime/src/kafka/source.rs:1: Kafka's side doesn't know that Wasm exists"],
        );
    }

    #[test]
    fn links_lead_to_files() {
        let root = tree(&[
            (
                "README.md",
                "[a](docs/a.md) [b](docs/b.md#x)\n[c](#c) [d](https://example.org/d)",
            ),
            ("docs/a.md", "[up](../README.md \"title\") [gone](gone.md)"),
            ("target/x.md", "[gone](gone.md)"),
        ]);
        assert_eq!(
            dead_links(root.path()).unwrap(),
            [
                "README.md:1: there's no docs/b.md",
                "docs/a.md:1: there's no gone.md"
            ]
        );
    }
}
