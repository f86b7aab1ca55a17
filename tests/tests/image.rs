//! The container image, as people run it: on a root that can't be written, without a capability, as nobody in particular.

use std::fs;

use serde_json::{Value, json};
use weir_tests::{
    Contained, Finished, MINUTE, Pipeline, Record, Scratch, Topic, Weir, broker, config_in_image,
    engine, guest, seed,
};
use xtask::container::{IMAGE, Volume};

/// A volume for the data of containers that come one after the other, and the option that mounts it.
fn data() -> (Volume, String) {
    let volume = Volume::create(engine()).expect("a volume");
    let option = format!("--volume={}:/var/lib/weir", volume.name());
    (volume, option)
}

#[test]
fn it_does_the_seed_job_and_drains_when_it_is_stopped() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(4), Topic::create(4));
    let pipeline = Pipeline::new("stocks", &input, &output)
        .set("workers = 2")
        .set("delivery = \"exactly-once\"")
        .seed("");
    let config = config_in_image(&[&pipeline]);
    let (_volume, data) = data();
    let weir = Contained::start(&scratch, &config, &[&data]);
    weir.wait_ready();
    #[rustfmt::skip]
    let mut producing = Weir::start_command(&scratch, &[
        "produce", "realstock", "--bootstrap", broker().bootstrap(), "--topic", input.name(),
        "--rate", "5000", "--seed", "1",
    ]);
    weir.wait_until("records flow", MINUTE, |weir| {
        (weir.counter("weir_records_out_total") > 2_000).then_some(())
    });
    confined(&weir);
    // In the midst of it.
    assert_eq!(weir.stop(), 0, "{}", weir.log());
    let log = weir.log();
    assert!(!log.contains("a volume"), "all could be written: {log}");
    // What was in flight was seen through and committed: nothing of it was aborted.
    assert_eq!(output.consume(), output.consume_uncommitted());
    producing.terminate();

    let weir = Contained::start(&scratch, &config, &[&data]);
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.stop(), 0, "{}", weir.log());
    // Each once.
    seed::check(&input.consume(), &output.consume());
}

/// What the kernel says of the container's process.
#[track_caller]
fn confined(weir: &Contained) {
    let pid = weir.container().pid().expect("it runs");
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let status = read("status");
    let field = |name: &str| -> Vec<&str> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().split_whitespace().collect()
    };
    assert!(!field("Uid:").contains(&"0"), "{status}");
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    let mounts = read("mountinfo");
    let root = mounts.lines().find(|it| it.split(' ').nth(4) == Some("/"));
    let options = root.and_then(|it| it.split(' ').nth(5)).unwrap();
    assert!(options.split(',').any(|it| it == "ro"), "{mounts}");
}

#[test]
fn its_module_is_swapped_from_outside() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(2), Topic::create(2));
    let pipeline = Pipeline::new("p", &input, &output)
        .set("workers = 1")
        .transform("even", "filter", "config = { keep = \"true\" }");
    let token = "0123456789abcdef0123456789abcdef";
    let config = config_in_image(&[&pipeline]);
    let config = config.replace("[admin]\n", "[admin]\ntoken = \"${WEIR_ADMIN_TOKEN}\"\n");
    let (_volume, data) = data();
    let variable = format!("--env=WEIR_ADMIN_TOKEN={token}");
    // Versions are kept under the instance's name, and a container's host has a new one each time.
    let options = [&*data, &*variable, "--env=WEIR_INSTANCE=one"];
    let weir = Contained::start(&scratch, &config, &options);
    weir.wait_ready();

    // Another module as far as anyone can tell: the filter with a section of no meaning.
    let mut module = fs::read(guest("filter")).unwrap();
    module.extend(b"\x00\x05\x04test");
    scratch.write("odd.wasm", &module);
    scratch.write("token", token);
    let admin = format!("http://{}", weir.admin().unwrap());
    let swap = |more: &[&str]| -> Finished {
        let keep = r#"{"keep": "n % 2 == 1"}"#;
        let head = ["swap", "p/even", "--config", keep, "--admin", &admin];
        Weir::command(&scratch, MINUTE, &[&head[..], more].concat())
    };
    let refused = swap(&["odd.wasm"]);
    assert!(
        refused.code == Some(1) && refused.stderr.contains("token"),
        "{refused:?}"
    );
    let swapped = swap(&["odd.wasm", "--token-file", "token"]);
    assert_eq!(swapped.code, Some(0), "{swapped:?}");
    // From inside the token is there already.
    let inside = [
        "/usr/bin/weir",
        "versions",
        "p/even",
        "--admin",
        &admin,
        "--json",
    ];
    let versions = weir.container().exec(&inside).unwrap();
    assert!(versions.contains("n % 2 == 1"), "{versions}");

    let numbered = |n: u64| Record::new(None, Some(json!({ "n": n }).to_string().as_bytes()));
    input.produce((0..10).map(numbered));
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.stop(), 0);
    // The next container has the version from the volume.
    let weir = Contained::start(&scratch, &config, &options);
    weir.wait_ready();
    input.produce((10..20).map(numbered));
    weir.wait_done(&input, pipeline.group());
    assert_eq!(weir.stop(), 0);
    let mut out: Vec<u64> = output
        .consume()
        .iter()
        .map(|it| {
            let value: Value = serde_json::from_slice(it.value.as_deref().unwrap()).unwrap();
            value["n"].as_u64().unwrap()
        })
        .collect();
    out.sort_unstable();
    assert_eq!(out, (0..20).filter(|n| n % 2 == 1).collect::<Vec<u64>>());
}

#[test]
fn without_a_volume_it_says_what_to_do_and_runs() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let pipeline = Pipeline::new("stocks", &input, &output).seed("");
    let nothing = scratch.path().join("data");
    fs::create_dir(&nothing).unwrap();
    let data = format!("--volume={}:/var/lib/weir:ro", nothing.display());
    let weir = Contained::start(&scratch, &config_in_image(&[&pipeline]), &[&data]);
    weir.wait_ready();
    let log = weir.log();
    for words in ["/var/lib/weir", "in a container a volume"] {
        assert!(log.contains(words), "no {words:?} in {log}");
    }
    // What the image's health check asks, at another port.
    let admin = format!("http://{}", weir.admin().unwrap());
    let health = ["/usr/bin/weir", "health", "--ready", "--admin", &admin];
    assert_eq!(weir.container().exec(&health).unwrap(), "ready");
    assert_eq!(weir.stop(), 0);
}

#[test]
fn its_own_config_needs_a_kafka_and_nothing_else() {
    let engine = engine();
    let kafka = format!("WEIR_BOOTSTRAP={}", broker().bootstrap());
    let checked = engine.run(&["--env", &kafka], IMAGE, &["check", "--offline"]);
    let checked = checked.unwrap_or_else(|why| panic!("{why:#}"));
    assert!(checked.contains("all right"), "{checked}");
    let why = engine.run(&[], IMAGE, &["check", "--offline"]).unwrap_err();
    let why = format!("{why:#}");
    assert!(why.contains("WEIR_BOOTSTRAP isn't set"), "{why}");

    let inspected = engine.output(&["image", "inspect", IMAGE]);
    let inspected = inspected.unwrap_or_else(|why| panic!("{why:#}"));
    let image = &serde_json::from_str::<Value>(&inspected).unwrap()[0];
    let config = &image["Config"];
    assert_eq!(config["User"], "65532:65532");
    // Podman shows it beside the config, Docker within.
    let health = [&image["Healthcheck"], &config["Healthcheck"]].map(|it| it["Test"].to_string());
    assert!(
        health
            .iter()
            .any(|it| it.contains("/usr/bin/weir") && it.contains("health")),
        "{image}"
    );
    let labels = &config["Labels"];
    assert_eq!(labels["org.opencontainers.image.title"], "Weir");
    assert_ne!(labels["org.opencontainers.image.version"], "unknown");
}
