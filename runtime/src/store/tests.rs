use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;

use chrono::{DateTime, TimeZone, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::folder::Folder;
use super::*;
use crate::chain::Unit;

const FROZEN: &str = include_str!("testdata/record-1.json");

fn at(month: u32, day: u32, hour: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, month, day, hour, 0, 0).unwrap()
}

/// A data folder, and what's in it.
struct Data(TempDir);

impl Data {
    fn new() -> Data {
        Data(tempfile::tempdir().unwrap())
    }

    fn path(&self, inner: &str) -> PathBuf {
        self.0.path().join(inner)
    }

    fn store(&self, instance: &str) -> Store {
        Store::open(self.0.path(), instance).unwrap()
    }

    fn module_path(&self, digest: &Digest) -> PathBuf {
        self.path(&format!("modules/{digest}.wasm"))
    }

    /// The names of the files in a folder.
    fn names(&self, folder: &str) -> Vec<String> {
        let names = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> = names
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Lets two hours go by for a file.
    fn age(&self, path: PathBuf) {
        let then = SystemTime::now() - UNNAMED * 2;
        File::open(path).unwrap().set_modified(then).unwrap();
    }
}

fn record(module: &Digest) -> Record {
    let content = Content {
        digest: *module,
        config: json!({ "field": "id" }),
    };
    let mut history = History::default();
    history.at_start(&content, at(11, 30, 8));
    let mut record = Record::default();
    record.transforms.insert("ids".to_string(), history);
    record
}

fn entry(outcome: &str) -> Entry {
    Entry {
        time: at(11, 30, 8),
        action: "swap".to_string(),
        pipeline: "orders".to_string(),
        transform: Some("ids".to_string()),
        version: Some(2),
        digest: Some(Digest::of(b"module")),
        by: Cause::Api.into(),
        note: None,
        outcome: outcome.to_string(),
    }
}

#[track_caller]
fn says(error: anyhow::Error, parts: &[&str]) {
    let said = format!("{error:#}");
    for part in parts {
        assert!(said.contains(part), "no \"{part}\" in: {said}");
    }
}

#[test]
fn what_was_kept_is_there_after_a_restart() {
    let data = Data::new();
    let store = data.store("blue");
    assert!(store.is_kept());
    assert_eq!(store.load("orders").unwrap(), Record::default());
    let digest = store.put_module(b"module").unwrap();
    store.save("orders", &record(&digest)).unwrap();
    store.save("orders", &record(&digest)).unwrap();
    let store = data.store("blue");
    assert_eq!(store.load("orders").unwrap(), record(&digest));
    assert_eq!(store.module(&digest).unwrap(), b"module");
    assert_eq!(store.load("other").unwrap(), Record::default());
}

#[test]
fn nobody_else_can_read_it() {
    let data = Data::new();
    let store = data.store("blue");
    let digest = store.put_module(b"module").unwrap();
    store.save("orders", &Record::default()).unwrap();
    store.audit(&entry("done")).unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in ["modules", "instances", "instances/blue"] {
        assert_eq!(mode(data.path(folder)), 0o700, "{folder}");
    }
    assert_eq!(mode(data.module_path(&digest)), 0o600);
    assert_eq!(mode(data.path("instances/blue/orders.json")), 0o600);
    assert_eq!(mode(data.path("instances/blue/audit.jsonl")), 0o600);
    assert_eq!(data.names("instances/blue"), ["audit.jsonl", "orders.json"]);
}

#[test]
fn instances_share_modules_and_nothing_else() {
    let data = Data::new();
    let (blue, green) = (data.store("blue"), data.store("green"));
    let digest = blue.put_module(b"module").unwrap();
    assert_eq!(green.module(&digest).unwrap(), b"module");
    blue.save("orders", &record(&digest)).unwrap();
    assert_eq!(green.load("orders").unwrap(), Record::default());
    green.save("orders", &Record::default()).unwrap();
    green.audit(&entry("done")).unwrap();
    assert_eq!(blue.load("orders").unwrap(), record(&digest));
    assert_eq!(data.names("instances/blue"), ["orders.json"]);
}

#[test]
fn without_a_folder_there_is_no_store() {
    let data = Data::new();
    fs::write(data.path("file"), "").unwrap();
    let why = Store::open(&data.path("file"), "blue").unwrap_err();
    says(why, &["opening the folder", "file"]);
    for in_the_way in ["modules", "instances", "instances/blue"] {
        let data = Data::new();
        let path = data.path(in_the_way);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        let why = Store::open(data.0.path(), "blue").unwrap_err();
        says(why, &[in_the_way, "must be a folder"]);
    }
    let data = Data::new();
    for name in ["", ".", "..", ".x", "a/b", "/tmp", "a\0"] {
        let why = Store::open(data.0.path(), name).unwrap_err();
        says(why, &["can't be a file's"]);
    }
}

#[test]
fn a_folder_that_was_removed_is_made_again() {
    let data = Data::new();
    let store = data.store("blue");
    fs::remove_dir_all(data.path("modules")).unwrap();
    fs::remove_dir_all(data.path("instances")).unwrap();
    let digest = store.put_module(b"module").unwrap();
    store.save("orders", &record(&digest)).unwrap();
    assert_eq!(store.load("orders").unwrap(), record(&digest));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let data = Data::new();
    let store = data.store("blue");
    for name in ["", ".", "..", "../green/orders", "/etc/x", ".hidden", "a/b"] {
        says(store.load(name).unwrap_err(), &["can't be a file's"]);
        let why = store.save(name, &Record::default()).unwrap_err();
        says(why, &["can't be a file's"]);
    }
    assert_eq!(data.names("instances"), ["blue"]);
}

#[test]
fn links_are_not_followed() {
    let data = Data::new();
    let elsewhere = Data::new();
    symlink(elsewhere.0.path(), data.path("modules")).unwrap();
    let why = Store::open(data.0.path(), "blue").unwrap_err();
    says(why, &["modules", "not a link"]);
    fs::remove_file(data.path("modules")).unwrap();
    fs::create_dir_all(data.path("instances")).unwrap();
    symlink(elsewhere.0.path(), data.path("instances/blue")).unwrap();
    let why = Store::open(data.0.path(), "blue").unwrap_err();
    says(why, &["instances/blue", "not a link"]);
    assert!(elsewhere.names("").is_empty());

    let store = data.store("green");
    let precious = elsewhere.path("precious");
    fs::write(&precious, "precious").unwrap();
    let digest = Digest::of(b"module");
    symlink(&precious, data.module_path(&digest)).unwrap();
    for name in ["orders.json", "audit.jsonl"] {
        symlink(&precious, data.path("instances/green").join(name)).unwrap();
    }
    says(store.load("orders").unwrap_err(), &["it's a link"]);
    says(store.module(&digest).unwrap_err(), &["it's a link"]);
    says(store.audit(&entry("done")).unwrap_err(), &["it's a link"]);
    // A link is replaced, and what it led to is left alone.
    store.save("orders", &record(&digest)).unwrap();
    store.put_module(b"module").unwrap();
    assert_eq!(store.load("orders").unwrap(), record(&digest));
    assert_eq!(store.module(&digest).unwrap(), b"module");
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
}

#[test]
fn a_crash_at_any_time_leaves_the_old_record_or_the_new_one() {
    let data = Data::new();
    let store = data.store("blue");
    let old = record(&Digest::of(b"old"));
    let new = record(&Digest::of(b"new"));
    let text = new.text().unwrap();
    let open = |name| Folder::open(&data.path(name)).unwrap();
    store.save("orders", &old).unwrap();

    // As Folder::write goes on, and never further.
    let folder = open("instances/blue");
    for written in 0..=text.len() {
        let mut part = folder.part("orders.json").unwrap();
        part.fill(&text[..written]).unwrap();
        mem::forget(part);
        assert_eq!(store.load("orders").unwrap(), old);
        store.prune();
    }
    let mut part = folder.part("orders.json").unwrap();
    part.fill(&text).unwrap();
    part.replace("orders.json").unwrap();
    assert_eq!(store.load("orders").unwrap(), new);
    folder.sync().unwrap();
    assert_eq!(data.store("blue").load("orders").unwrap(), new);

    // What crashes left is removed once it's old; before that it may be a write under way.
    let mut parts = data.names("instances/blue");
    parts.retain(|it| it != "orders.json");
    assert_eq!(parts.len(), text.len() + 1);
    let young = parts.pop().unwrap();
    for part in parts {
        data.age(data.path("instances/blue").join(part));
    }
    data.store("blue");
    assert_eq!(data.names("instances/blue"), ["orders.json", &young]);
}

#[test]
fn who_reads_a_record_while_it_is_replaced_reads_the_old_one_to_its_end() {
    let data = Data::new();
    let store = data.store("blue");
    let old = record(&Digest::of(b"old"));
    store.save("orders", &old).unwrap();
    let reader = File::open(data.path("instances/blue/orders.json")).unwrap();
    store.save("orders", &Record::default()).unwrap();
    let text = io::read_to_string(reader).unwrap();
    assert_eq!(text.as_bytes(), old.text().unwrap());
}

#[test]
fn a_write_that_fails_leaves_everything_as_it_was() {
    let data = Data::new();
    let store = data.store("blue");
    let digest = Digest::of(b"module");
    // Nothing can take the place of a folder.
    fs::create_dir(data.path("instances/blue/orders.json")).unwrap();
    fs::create_dir(data.module_path(&digest)).unwrap();
    fs::create_dir(data.path("instances/blue/audit.jsonl")).unwrap();
    let why = store.save("orders", &record(&digest)).unwrap_err();
    says(why, &["writing the history", "orders.json"]);
    says(store.load("orders").unwrap_err(), &["it isn't a file"]);
    let why = store.put_module(b"module").unwrap_err();
    says(why, &["writing the module"]);
    says(store.audit(&entry("done")).unwrap_err(), &["audit.jsonl"]);
    assert_eq!(data.names("instances/blue"), ["audit.jsonl", "orders.json"]);
    assert_eq!(data.names("modules"), [format!("{digest}.wasm")]);
}

#[test]
fn a_record_that_could_not_be_read_again_is_not_written() {
    let data = Data::new();
    let store = data.store("blue");
    let digest = Digest::of(b"module");
    store.save("orders", &record(&digest)).unwrap();
    let refused = |change: fn(&mut History)| {
        let mut record = record(&digest);
        change(record.transforms.get_mut("ids").unwrap());
        let why = store.save("orders", &record).unwrap_err();
        says(why, &["orders.json", "couldn't be read again"]);
    };
    refused(|it| it.versions.clear());
    refused(|it| {
        let deep = (0..125).fold(Value::Null, |inner, _| json!([inner]));
        it.versions[0].content.config = deep;
    });
    refused(|it| {
        it.trial = Some(Trial {
            version: 1,
            since: at(11, 30, 8),
            by: Cause::Api.into(),
            note: None,
            kind: TrialKind::Canary {
                percent: f64::NAN,
                unit: Unit::Partitions,
            },
        });
    });
    assert_eq!(store.load("orders").unwrap(), record(&digest));
    assert_eq!(data.names("instances/blue"), ["orders.json"]);
}

#[test]
fn a_record_that_can_not_be_understood_is_named_and_left_alone() {
    let data = Data::new();
    let store = data.store("blue");
    let path = data.path("instances/blue/orders.json");
    let whole = String::from_utf8(record(&Digest::of(b"module")).text().unwrap()).unwrap();
    let broken = ["restore the file", "move it away"];
    let wrong = [
        (String::new(), broken),
        (whole[..whole.len() / 2].to_string(), broken),
        ("{}".to_string(), broken),
        (whole.replace("config-file", "weather"), broken),
        (
            whole.replace("\"number\": 1", "\"number\": 2"),
            ["names version 1", "\"ids\""],
        ),
        (whole.replace("\"format\": 1", "\"format\": 0"), broken),
        (
            r#"{"format": 2, "transforms": "another shape"}"#.to_string(),
            ["has format 2", "run the Weir that wrote it"],
        ),
    ];
    for (text, parts) in wrong {
        fs::write(&path, &text).unwrap();
        let why = store.load("orders").unwrap_err();
        says(why, &["orders.json can't be used", parts[0], parts[1]]);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, whole).unwrap();
    store.load("orders").unwrap();
}

/// Its file never changes: whoever has one like it must be able to go on with it.
#[test]
fn format_1_is_read_as_it_was_meant() {
    let data = Data::new();
    let store = data.store("blue");
    fs::write(data.path("instances/blue/orders.json"), FROZEN).unwrap();
    let record = store.load("orders").unwrap();

    let digest = |digit: &str| digit.repeat(64).parse::<Digest>().unwrap();
    let by = |cause, who: Option<&str>| By {
        cause,
        who: who.map(str::to_string),
    };
    let known = |number, digit, config, first| Known {
        number,
        content: Content {
            digest: digest(digit),
            config,
        },
        first,
    };
    let activation =
        |version, since, by, note: Option<&str>, ended: Option<(_, &str)>| Activation {
            version,
            since,
            by,
            note: note.map(str::to_string),
            ended: ended.map(|(at, why)| Ended {
                at,
                why: why.to_string(),
            }),
        };
    let one = known(1, "1", json!({ "field": "id" }), at(11, 1, 9));
    let since = at(11, 1, 9) + chrono::TimeDelta::seconds(1);
    let ids = History {
        next: 2,
        versions: vec![one.clone()],
        activations: vec![activation(
            1,
            since,
            by(Cause::ConfigFile, None),
            None,
            None,
        )],
        file: Some(one.content),
        trial: None,
        probation: None,
    };
    let config = json!({
        "threshold": 0.25,
        "token": "${TOKEN}",
        "limits": [1, -2, u64::MAX],
        "nothing": null,
    });
    let two = known(2, "2", config, at(11, 2, 10));
    let route = History {
        next: 7,
        versions: vec![
            two.clone(),
            known(4, "4", json!({}), at(11, 4, 10)),
            known(6, "6", json!({}), at(11, 6, 10)),
        ],
        activations: vec![
            activation(
                2,
                at(11, 2, 10),
                by(Cause::ModuleFile, None),
                None,
                Some((at(11, 4, 10), "swapped")),
            ),
            activation(
                4,
                at(11, 4, 10),
                by(Cause::Promotion, Some("anna")),
                Some("looked good on a tenth"),
                Some((at(11, 5, 10), "too many failures")),
            ),
            activation(
                2,
                at(11, 5, 10),
                by(Cause::Probation, None),
                None,
                Some((at(11, 5, 11), "swapped")),
            ),
            activation(4, at(11, 5, 11), by(Cause::Rollback, None), None, None),
        ],
        file: Some(two.content),
        trial: Some(Trial {
            version: 6,
            since: at(11, 6, 10),
            by: by(Cause::Api, Some("bo")),
            note: Some("a few keys first".to_string()),
            kind: TrialKind::Canary {
                percent: 12.5,
                unit: Unit::Keys,
            },
        }),
        probation: None,
    };
    let redact = History {
        next: 2,
        versions: vec![known(1, "1", json!({}), at(11, 1, 9))],
        activations: Vec::new(),
        file: None,
        trial: Some(Trial {
            version: 1,
            since: at(11, 1, 9),
            by: by(Cause::Api, None),
            note: None,
            kind: TrialKind::Shadow,
        }),
        probation: None,
    };
    let transforms = [("ids", ids), ("route", route), ("redact", redact)];
    let expected = Record {
        format: 1,
        paused: Some(Paused {
            since: at(11, 30, 8) + chrono::TimeDelta::milliseconds(250),
            by: by(Cause::Api, Some("anna")),
        }),
        transforms: transforms
            .into_iter()
            .map(|(name, it)| (name.to_string(), it))
            .collect(),
    };
    assert_eq!(record, expected);
    let route = &record.transforms["route"];
    assert_eq!(route.active().map(|it| it.number), Some(4));
    assert_eq!(route.before().map(|it| it.number), Some(2));

    // And it's written with the same meaning.
    store.save("copy", &record).unwrap();
    assert_eq!(store.load("copy").unwrap(), record);
}

#[test]
fn a_module_that_was_changed_is_an_error_until_it_is_put_again() {
    let data = Data::new();
    let store = data.store("blue");
    let digest = store.put_module(b"module").unwrap();
    let path = data.module_path(&digest);
    let shown = path.display().to_string();
    for wrong in ["", "modul", "Module", "module and more"] {
        fs::write(&path, wrong).unwrap();
        let is = Digest::of(wrong.as_bytes()).to_string();
        let why = store.module(&digest).unwrap_err();
        says(why, &[&shown, &is, "swap to another version"]);
        assert_eq!(store.put_module(b"module").unwrap(), digest);
        assert_eq!(store.module(&digest).unwrap(), b"module");
    }
    fs::remove_file(&path).unwrap();
    says(store.module(&digest).unwrap_err(), &[&shown, "is gone"]);
}

#[test]
fn a_module_that_is_there_is_not_written_again() {
    let data = Data::new();
    let digest = data.store("blue").put_module(b"module").unwrap();
    let number = || fs::metadata(data.module_path(&digest)).unwrap().ino();
    let before = number();
    data.store("green").put_module(b"module").unwrap();
    assert_eq!(number(), before);
}

#[test]
fn modules_that_no_record_names_are_removed_after_an_hour() {
    let data = Data::new();
    let (blue, green) = (data.store("blue"), data.store("green"));
    let put = |bytes: &[u8]| {
        let digest = blue.put_module(bytes).unwrap();
        data.age(data.module_path(&digest));
        digest
    };
    let [named, by_file, unnamed, again] = [b"1", b"2", b"3", b"4"].map(|it| put(it));
    let young = blue.put_module(b"5").unwrap();
    // Put again by another, which is about to name it.
    green.put_module(b"4").unwrap();
    let mut record = record(&named);
    let history = record.transforms.get_mut("ids").unwrap();
    history.file = Some(Content {
        digest: by_file,
        config: json!({}),
    });
    green.save("orders", &record).unwrap();
    fs::write(data.path("modules/README"), "not a module").unwrap();
    data.age(data.path("modules/README"));
    fs::write(data.path("instances/blue.lock"), "1").unwrap();

    blue.prune();
    let mut kept: Vec<String> = [named, by_file, again, young]
        .map(|it| format!("{it}.wasm"))
        .to_vec();
    kept.push("README".to_string());
    kept.sort();
    assert_eq!(data.names("modules"), kept);
    blue.module(&unnamed).unwrap_err();
}

#[test]
fn no_module_is_removed_while_a_record_can_not_be_read() {
    let data = Data::new();
    let (blue, green) = (data.store("blue"), data.store("green"));
    let digest = blue.put_module(b"module").unwrap();
    let path = data.module_path(&digest);
    green.save("orders", &Record::default()).unwrap();
    let record = data.path("instances/green/orders.json");
    for text in ["", "{\"format\": 2}"] {
        fs::write(&record, text).unwrap();
        data.age(path.clone());
        blue.prune();
        assert!(path.exists());
    }
    fs::remove_file(&record).unwrap();
    symlink(data.path("instances/green"), data.path("instances/red")).unwrap();
    blue.prune();
    assert!(path.exists());
    fs::remove_file(data.path("instances/red")).unwrap();
    blue.prune();
    assert!(!path.exists());
}

#[test]
fn what_was_done_is_a_line_each() {
    let data = Data::new();
    let path = data.path("instances/blue/audit.jsonl");
    let lines = || -> Vec<String> {
        let text = fs::read_to_string(&path).unwrap();
        text.lines().map(str::to_string).collect()
    };
    let store = data.store("blue");
    store.audit(&entry("done")).unwrap();
    assert_eq!(
        lines(),
        [format!(
            r#"{{"time":"2026-11-30T08:00:00Z","action":"swap","pipeline":"orders","transform":"ids","version":2,"digest":"{}","by":{{"cause":"api"}},"outcome":"done"}}"#,
            Digest::of(b"module")
        )]
    );
    let two_lines = entry("refused:\nit can't be compiled");
    store.audit(&two_lines).unwrap();
    // A crash in the middle of a line.
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    data.store("blue").audit(&two_lines).unwrap();
    store.audit(&entry("done")).unwrap();
    let read: Vec<Option<Entry>> = lines()
        .iter()
        .map(|it| serde_json::from_str(it).ok())
        .collect();
    let done = Some(entry("done"));
    assert_eq!(read, [done.clone(), None, Some(two_lines), done]);
}

#[test]
fn the_lines_of_what_was_done_do_not_fill_the_disk() {
    let data = Data::new();
    let store = data.store("blue");
    let path = data.path("instances/blue/audit.jsonl");
    let old = data.path("instances/blue/audit.1.jsonl");
    store.audit(&entry("done")).unwrap();
    let line = fs::metadata(&path).unwrap().len();
    let room = |bytes| {
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(audit::MAX_BYTES - bytes).unwrap();
    };
    for _ in 0..2 {
        // With what ends the half line.
        room(line + 1);
        store.audit(&entry("done")).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= audit::MAX_BYTES);
        let full = fs::metadata(&path).unwrap().ino();
        store.audit(&entry("done")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), line);
        assert_eq!(fs::metadata(&old).unwrap().ino(), full);
    }
}

#[test]
fn no_line_is_lost_where_many_meet_a_full_file() {
    let data = Data::new();
    let store = data.store("blue");
    let path = data.path("instances/blue/audit.jsonl");
    for _ in 0..20 {
        let file = File::options().create(true).append(true).open(&path);
        file.unwrap().set_len(audit::MAX_BYTES).unwrap();
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    store.audit(&entry("done")).unwrap();
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 4);
    }
}

#[test]
fn without_a_folder_it_is_known_while_the_process_lives() {
    let store = Store::in_memory();
    assert!(!store.is_kept());
    assert_eq!(store.load("orders").unwrap(), Record::default());
    let named = store.put_module(b"named").unwrap();
    let other = store.put_module(b"other").unwrap();
    store.save("orders", &record(&named)).unwrap();
    store.audit(&entry("done")).unwrap();
    let clone = store.clone();
    assert_eq!(clone.load("orders").unwrap(), record(&named));
    clone.prune();
    assert_eq!(clone.module(&other).unwrap(), b"other");
    let Place::Memory(memory) = &*clone.0 else {
        unreachable!()
    };
    memory.prune(Instant::now() + UNNAMED * 2);
    assert_eq!(clone.module(&named).unwrap(), b"named");
    says(clone.module(&other).unwrap_err(), &["bring its file again"]);
    says(
        Store::in_memory().module(&named).unwrap_err(),
        &["isn't there"],
    );
}

#[test]
fn a_store_can_be_used_by_many_threads() {
    let data = Data::new();
    let store = data.store("blue");
    thread::scope(|scope| {
        for thread in 0..4u8 {
            let store = store.clone();
            scope.spawn(move || {
                for turn in 0..20u8 {
                    let digest = store.put_module(&[turn]).unwrap();
                    assert_eq!(store.module(&digest).unwrap(), [turn]);
                    store.save("orders", &record(&digest)).unwrap();
                    store.load("orders").unwrap();
                    store.audit(&entry(&thread.to_string())).unwrap();
                    store.prune();
                }
            });
        }
    });
    let text = fs::read_to_string(data.path("instances/blue/audit.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 80);
    for line in text.lines() {
        serde_json::from_str::<Entry>(line).unwrap();
    }
    assert_eq!(data.names("instances/blue"), ["audit.jsonl", "orders.json"]);
}

fn config() -> impl Strategy<Value = Value> {
    // Decimals as people type them: a restart mustn't find another number than the config file has.
    let decimal = (-999_999_999i64..999_999_999, 0..9i32)
        .prop_map(|(digits, places)| json!(digits as f64 / 10f64.powi(places)));
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        decimal,
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((any::<String>(), inner), 0..5)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_config_comes_back(config in config()) {
        let mut record = record(&Digest::of(b"module"));
        let history = record.transforms.get_mut("ids").unwrap();
        let content = Content { digest: Digest::of(b"module"), config };
        history.at_start(&content, at(11, 30, 9));
        let mut read = Record::read(&record.text().unwrap()).unwrap();
        prop_assert_eq!(&read, &record);
        let history = read.transforms.get_mut("ids").unwrap();
        prop_assert_eq!(history.at_start(&content, at(11, 30, 10)), Start::Kept);
    }

    #[test]
    fn any_text_is_a_record_or_an_error(text in ".*", from in 0..FROZEN.len(), length in 0..40usize) {
        let _ = Record::read(text.as_bytes());
        let mut bytes = FROZEN.as_bytes().to_vec();
        let to = bytes.len().min(from + length);
        bytes.splice(from..to, text.bytes());
        if let Ok(mut record) = Record::read(&bytes) {
            for history in record.transforms.values_mut() {
                history.before();
                let content = Content { digest: Digest::of(b"new"), config: json!(null) };
                history.at_start(&content, at(11, 30, 9));
                history.end_trial();
            }
            record.text().unwrap();
        }
    }
}

#[test]
fn a_float_of_a_config_is_the_same_after_it_was_kept() {
    let config = json!({ "floats": [0.1, 1.0 / 3.0, 8.289_046_058_458_095e69, 5e-324, f64::MAX] });
    let text = serde_json::to_vec(&config).unwrap();
    let again: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(again, config);
}
