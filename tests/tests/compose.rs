//! `compose.yaml` without Docker: what it says is right, and its services do as processes what they would do as containers.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use weir_tests::{Consumed, Influx, MINUTE, Scratch, Topic, Weir, broker, data_of, seed};

/// A file of the repository.
#[track_caller]
pub fn read(path: &str) -> String {
    let path = xtask::root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn yaml(path: &str) -> Value {
    serde_norway::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn services() -> BTreeMap<String, Value> {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().expect("services");
    let services = services.iter();
    services
        .map(|(name, it)| (name.clone(), it.clone()))
        .collect()
}

/// A list of strings of a service, or none.
fn list(service: &Value, key: &str) -> Vec<String> {
    let items = service[key].as_array().map(Vec::as_slice);
    let items = items.unwrap_or_default().iter();
    items
        .map(|it| it.as_str().expect("a string").to_string())
        .collect()
}

fn checks_health(service: &Value) -> bool {
    service["healthcheck"]["test"].is_array()
}

/// What of the services runs as processes of a test, from the files that the containers mount.
pub struct Seed {
    /// `weir run` with the mounted config.
    pub weir: Weir,
    /// Where the service `produce` writes.
    pub input: Topic,
    /// What the pipeline writes.
    pub output: Topic,
    /// Where it puts what it can't process.
    pub dead_letters: Topic,
    /// With the database that the service has.
    pub influx: Influx,
    group: String,
}

impl Seed {
    /// Starts them all, with topics of the test's own.
    #[track_caller]
    pub fn start(scratch: &Scratch) -> Seed {
        let influx = Influx::start(scratch);
        let services = services();
        let database = services["influxdb"]["environment"]["INFLUXDB_DB"].as_str();
        influx.create(database.expect("a database"));
        let mut topics = topics(&services["topics"]);
        let mut topic = |name: &str| topics.remove(name).expect("it's made by `topics`");
        let (input, output) = (topic("realstock"), topic("stocks"));
        let dead_letters = topic("stocks.dead");
        let group = Topic::unique_name();
        let config = config(
            scratch,
            &group,
            &influx.url(),
            [&input, &output, &dead_letters],
        );
        let mut weir = Weir::start(scratch, &config);
        weir.wait_ready();
        Seed {
            weir,
            input,
            output,
            dead_letters,
            influx,
            group,
        }
    }

    /// The service `produce`, with more arguments.
    #[track_caller]
    pub fn produce(&self, scratch: &Scratch, more: &[&str]) -> Weir {
        let command = list(&services()["produce"], "command");
        let command = command.iter().map(|it| match it.as_str() {
            "realstock" if command_is_topic(&command, it) => self.input.name(),
            it => it,
        });
        let bootstrap = ["--bootstrap", broker().bootstrap()];
        let arguments: Vec<&str> = command
            .chain(bootstrap)
            .chain(more.iter().copied())
            .collect();
        Weir::start_command(scratch, &arguments)
    }

    /// Records a second that it writes.
    pub fn rate(&self) -> f64 {
        let command = list(&services()["produce"], "command");
        let at = command.iter().position(|it| it == "--rate");
        let rate = at.and_then(|at| command.get(at + 1)?.parse().ok());
        rate.expect("a rate")
    }

    /// Waits until all that's in the input is done with.
    #[track_caller]
    pub fn wait_done(&mut self) {
        self.weir.wait_done(&self.input, &self.group);
    }

    /// Runs a command of compose.yaml's head, `weir swap …`, with its `--token-file`.
    #[track_caller]
    pub fn ask(&self, scratch: &Scratch, command: &[&str]) {
        let admin = format!("http://{}", self.weir.admin().expect("it has said where"));
        let options = ["--admin", &admin, "--token-file", "token"];
        let finished = Weir::command(scratch, MINUTE, &[command, &options].concat());
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    }
}

/// Whether it's the value behind `--topic`: the subject has the same name.
fn command_is_topic(command: &[String], word: &String) -> bool {
    let place = command.iter().position(|it| std::ptr::eq(it, word));
    place.is_some_and(|at| at > 0 && command[at - 1] == "--topic")
}

/// Makes the topics that the service makes by its script, under other names.
#[track_caller]
fn topics(service: &Value) -> BTreeMap<String, Topic> {
    let script = list(service, "command").pop().expect("a script");
    let calls = script.lines().filter_map(|it| it.strip_prefix("topic "));
    let topics = calls.map(|call| {
        let words: Vec<&str> = call.split(' ').collect();
        let pairs = words.chunks(2).map(|pair| match pair {
            [flag, value] => (*flag, *value),
            _ => panic!("flags and values: {call}"),
        });
        let of = |flag: &str| pairs.clone().find(|it| it.0 == flag).expect("the flag").1;
        let settings = pairs.clone().filter(|it| it.0 == "--config");
        let settings = settings.map(|it| it.1.split_once('=').expect("key=value"));
        let settings: Vec<_> = settings.collect();
        let partitions = of("--partitions").parse().expect("a number");
        (
            of("--topic").to_string(),
            Topic::create_with(partitions, &settings),
        )
    });
    topics.collect()
}

/// The mounted config, with what is only so in a container made what it is here, and nothing else changed.
#[track_caller]
fn config(scratch: &Scratch, group: &str, influx: &str, topics: [&Topic; 3]) -> String {
    scratch.write("token", "made by the test, not by the service");
    let guests = xtask::root().join("target/guests");
    let [input, output, dead_letters] = topics.map(|it| format!("{:?}", it.name()));
    let mut text = read("deploy/compose/weir.toml");
    for (from, to) in [
        ("\"/usr/share/weir/guests\"", format!("{guests:?}")),
        ("\"/var/lib/weir\"", format!("{:?}", data_of(group))),
        ("/run/weir/token", "token".to_string()),
        ("http://influxdb:8086", influx.to_string()),
        ("interval = \"5s\"", "interval = \"1s\"".to_string()),
        ("${WEIR_BOOTSTRAP}", broker().bootstrap().to_string()),
        (
            "[pipelines.stocks]\n",
            format!("[pipelines.stocks]\ngroup = {group:?}\n"),
        ),
        ("\"realstock\"", input),
        ("\"stocks\"", output),
        ("\"stocks.dead\"", dead_letters),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from} in the config");
        text = text.replace(from, &to);
    }
    text
}

#[test]
fn it_is_what_the_compose_specification_takes() {
    let schema: Value = serde_json::from_str(&read("tests/schemas/compose-spec.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let errors = |compose: &Value| -> Vec<String> {
        let errors = schema.iter_errors(compose);
        errors
            .map(|it| format!("{}: {it}", it.instance_path()))
            .collect()
    };
    let mut compose = yaml("compose.yaml");
    assert_eq!(errors(&compose), Vec::<String>::new());
    compose["services"]["weir"]["depends_on"]["kafka"]["condition"] = "hale".into();
    assert_ne!(errors(&compose), Vec::<String>::new());
}

#[test]
fn images_have_versions_and_kafka_s_is_that_of_the_tests() {
    let services = services();
    let built = services["weir"]["image"].as_str();
    let dockerfile = services["weir"]["build"]["dockerfile"].as_str().unwrap();
    assert!(read(dockerfile).contains("ENTRYPOINT"));
    for (name, service) in &services {
        let image = service["image"].as_str();
        if image == built {
            assert!(
                name == "weir" || service["pull_policy"] == "never",
                "{name}"
            );
            continue;
        }
        let (image, tag) = image.and_then(|it| it.split_once(':')).expect("a tag");
        let numbers: Vec<&str> = tag.trim_start_matches('v').split('.').collect();
        let pinned = numbers.len() == 3 && numbers.iter().all(|it| it.parse::<u32>().is_ok());
        assert!(pinned, "{name}: {image}:{tag}");
        if image == "apache/kafka" {
            let pom = read("xtask/kafka/pom.xml");
            assert!(
                pom.contains(&format!("<kafka.version>{tag}<")),
                "{name}: {tag}"
            );
        }
    }
}

#[test]
fn what_is_mounted_is_there_and_stays_as_it_is() {
    let volumes = yaml("compose.yaml")["volumes"].clone();
    for (name, service) in services() {
        for volume in list(&service, "volumes") {
            let parts: Vec<&str> = volume.split(':').collect();
            if let Some(path) = parts[0].strip_prefix("./") {
                assert!(xtask::root().join(path).exists(), "{name}: {path}");
                assert_eq!(parts.get(2), Some(&"ro"), "{name}: {volume}");
            } else {
                assert!(volumes.get(parts[0]).is_some(), "{name}: {volume}");
            }
        }
    }
}

#[test]
fn services_wait_for_health_or_for_an_end() {
    let services = services();
    for (name, service) in &services {
        let Some(waits) = service["depends_on"].as_object() else {
            continue;
        };
        for (other, how) in waits {
            let awaited = &services[other];
            let ends = awaited["restart"] == "no";
            assert!(ends || checks_health(awaited), "{name}: {other}");
            let condition = match ends {
                true => "service_completed_successfully",
                false => "service_healthy",
            };
            assert_eq!(how["condition"], condition, "{name}: {other}");
        }
    }
    let all = services.iter();
    let lasting = all.filter(|(name, it)| it["restart"] != "no" && *name != "produce");
    for (name, service) in lasting {
        assert!(checks_health(service), "{name}");
    }
}

#[test]
fn only_this_machine_reaches_them() {
    let services = services();
    let ports = services.values().flat_map(|it| list(it, "ports"));
    let ports: Vec<String> = ports.collect();
    assert!(!ports.is_empty());
    let elsewhere = ports.iter().find(|it| !it.starts_with("127.0.0.1:"));
    assert_eq!(elsewhere, None);
}

#[test]
fn weir_has_no_rights() {
    for name in ["weir", "produce"] {
        let service = &services()[name];
        let user = service["user"].as_str().expect("a user");
        let ids: Vec<u32> = user
            .split(':')
            .map(|it| it.parse().expect("a number"))
            .collect();
        assert!(ids.len() == 2 && !ids.contains(&0), "{name}: {user}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(list(service, "cap_drop"), ["ALL"], "{name}");
        assert_eq!(
            list(service, "security_opt"),
            ["no-new-privileges:true"],
            "{name}"
        );
    }
    let volumes = list(&services()["weir"], "volumes");
    assert!(
        volumes.contains(&"weir-data:/var/lib/weir".to_string()),
        "{volumes:?}"
    );
}

#[test]
fn the_files_agree_on_addresses_and_names() {
    let services = services();
    let has = |path: &str, text: &str| assert!(read(path).contains(text), "{path} lacks {text}");
    let weir = "deploy/compose/weir.toml";
    let sources = "deploy/grafana/provisioning/datasources/weir.yml";
    let database = services["influxdb"]["environment"]["INFLUXDB_DB"].as_str();
    let database = database.expect("a database");
    has(weir, &format!("database = {database:?}"));
    has(weir, "url = \"http://influxdb:8086\"");
    has(weir, "listen = \"0.0.0.0:8080\"");
    has("deploy/prometheus/prometheus.yml", "[\"weir:8080\"]");
    has(sources, &format!("dbName: {database}\n"));
    for source in yaml(sources)["datasources"].as_array().expect("a list") {
        let uid = source["uid"].as_str().expect("a uid");
        // The dashboard of each has the same uid.
        has(
            &format!("deploy/grafana/dashboards/{uid}.json"),
            &format!("\"value\": {uid:?}"),
        );
        let url = source["url"]
            .as_str()
            .and_then(|it| it.strip_prefix("http://"));
        let (host, port) = url
            .and_then(|it| it.split_once(':'))
            .expect("host and port");
        let inside = format!(":{port}");
        let ports = list(&services[host], "ports");
        assert!(
            ports.iter().any(|it| it.ends_with(&inside)),
            "{host}: {ports:?}"
        );
    }
    let providers = yaml("deploy/grafana/provisioning/dashboards/weir.yml");
    let path = providers["providers"][0]["options"]["path"]
        .as_str()
        .expect("a path");
    let mounted = list(&services["grafana"], "volumes");
    assert!(
        mounted.contains(&format!("./deploy/grafana/dashboards:{path}:ro")),
        "{mounted:?}"
    );
    let home = &services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    assert_eq!(*home, format!("{path}/weir-prometheus.json"));
}

#[test]
fn the_mounted_config_is_right() {
    let scratch = Scratch::new();
    let topics = ["realstock", "stocks", "stocks.dead"].map(|it| Topic::existing(it, 1));
    let [input, output, dead_letters] = &topics;
    let group = Topic::unique_name();
    let topics = [input, output, dead_letters];
    let config = config(&scratch, &group, "http://127.0.0.1:8086", topics);
    scratch.write("weir.toml", config);
    let arguments = ["check", "-c", "weir.toml", "--offline"];
    let checked = Weir::command(&scratch, MINUTE, &arguments);
    assert_eq!(
        checked.code,
        Some(0),
        "{}{}",
        checked.stdout,
        checked.stderr
    );
}

#[test]
fn its_services_do_the_seed_job_as_processes() {
    const RECORDS: usize = 10_000;
    let scratch = Scratch::new();
    let mut services = Seed::start(&scratch);
    let count = RECORDS.to_string();
    let more = ["--count", &count, "--seed", "1"];
    let mut producing = services.produce(&scratch, &more);
    assert_eq!(producing.wait_exit(MINUTE), Some(0), "{}", producing.log());
    services.wait_done();
    let letters = services.dead_letters.consume();
    assert!(!letters.is_empty(), "--bad makes some of them malformed");
    let (mut inputs, mut outputs) = (services.input.consume(), services.output.consume());
    assert_eq!(inputs.len(), RECORDS);
    // Some of the bad ones have no value, and go through as they are.
    let tombstones = |all: &[Consumed]| all.iter().filter(|it| it.value.is_none()).count();
    assert_eq!(tombstones(&inputs), tombstones(&outputs));
    inputs.retain(|it| it.value.is_some() && !letters.iter().any(|bad| bad.value == it.value));
    outputs.retain(|it| it.value.is_some());
    seed::check(&inputs, &outputs);
    assert_eq!(services.weir.terminate(), Some(0));
}
