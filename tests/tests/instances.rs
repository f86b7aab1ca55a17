//! Several processes on one host: each has a name and a port of its own.

use weir_tests::{MINUTE, Pipeline, Scratch, Topic, Weir, config, seed};

/// The name that a process says it has.
fn name(weir: &mut Weir) -> String {
    let before = "the name of this process instance=";
    weir.wait_log(&[before]);
    weir.wait_until("its name", MINUTE, |weir| {
        let log = weir.log();
        let (_, after) = log.split_once(before)?;
        let (name, _) = after.split_once('\n')?;
        Some(name.trim_matches('"').to_string())
    })
}

#[test]
fn a_name_that_is_taken_is_refused_and_its_holder_named() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(1), Topic::create(1));
    let pipeline = Pipeline::new("copy", &input, &output);
    let mine = |name: &str| format!("{name}-{}", std::process::id());
    let (blue, green) = (mine("blue"), mine("green"));
    let text = format!("instance = \"{blue}\"\n{}", config(&[&pipeline]));
    let file = scratch.write("weir.toml", &text);
    let run = |arguments: &[&str]| {
        let run = [
            "run",
            "--listen",
            "127.0.0.1:0",
            "-c",
            file.to_str().unwrap(),
        ];
        Weir::command(&scratch, MINUTE, &[&run[..], arguments].concat())
    };

    let mut first = Weir::start(&scratch, &text);
    assert_eq!(name(&mut first), blue);
    let refused = run(&[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let process = format!("process {}", first.pid());
    for words in [&blue, &process, "give this process another name"] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    // The command line wins over the file, and what it says is checked.
    let mut second = Weir::start_with(&scratch, &text, &["--instance", &green]);
    assert_eq!(name(&mut second), green);
    let wrong = run(&["--instance", "a/b"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("letters, digits"), "{}", wrong.stderr);

    // Whoever looks takes no name.
    let check = ["check", "-c", file.to_str().unwrap()];
    let checked = Weir::command(&scratch, MINUTE, &check);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    // However a process ends, its name is free.
    first.kill();
    let mut third = Weir::start(&scratch, &text);
    assert_eq!(name(&mut third), blue);
    third.wait_ready();
}

#[test]
fn processes_that_nobody_named_or_gave_a_port_get_along() {
    let scratch = Scratch::new();
    let (input, output) = (Topic::create(2), Topic::create(2));
    input.produce(seed::records(0..1_000));
    let pipeline = Pipeline::new("stocks", &input, &output)
        .seed("")
        .set("workers = 1\ndelivery = \"exactly-once\"\nstatic_membership = true");
    let text = config(&[&pipeline]);
    let mut processes = [
        Weir::start_plain(&scratch, &text, &[]),
        Weir::start_plain(&scratch, &text, &[]),
    ];
    let mut places = Vec::new();
    // Once both are ready, both have joined.
    for weir in &mut processes {
        weir.wait_ready();
        let admin = weir.admin().unwrap();
        assert!(admin.ip().is_loopback(), "{admin}");
        assert!((8080..8090).contains(&admin.port()), "{admin}");
        places.push((name(weir), admin));
    }
    assert_ne!(places[0].0, places[1].0);
    assert_ne!(places[0].1, places[1].1);
    // They share the work, and neither shuts the other out of the group or of its transactions.
    processes[0].wait_done(&input, pipeline.group());
    seed::check(&input.consume(), &output.consume());
    // A port that was asked for is another matter.
    let file = scratch.write("weir.toml", &text);
    let listen = places[0].1.to_string();
    let run = ["run", "-c", file.to_str().unwrap(), "--listen", &listen];
    let refused = Weir::command(&scratch, MINUTE, &run);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains(&listen), "{}", refused.stderr);
    for weir in &mut processes {
        assert_eq!(weir.terminate(), Some(0));
        assert!(!weir.log().contains("ERROR"), "{}", weir.log());
    }
}
