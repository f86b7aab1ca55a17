//! What a container of the image costs: its start, to the first record that comes out, and memory.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, ensure};
use tempfile::{Builder, NamedTempFile};
use xtask::broker::{self, Broker};
use xtask::container::{Container, Engine, IMAGE, Volume};
use xtask::http;
use xtask::wait::eventually;

use crate::bench::peak_rss_bytes;

/// For what takes seconds on an idle machine.
const DEADLINE: Duration = Duration::from_secs(60);

const RECORDS: u32 = 100_000;

/// Starts the image without a Kafka, first with nothing compiled and then with all, and prints when it answered.
pub(super) fn start(engine: Engine) -> Result<(), Error> {
    let volume = Volume::create(engine)?;
    let answers = || {
        let weir = Weir::start(engine, &volume, "127.0.0.1:1", "start")?;
        let time = weir.wait("/healthz", |_| true)?;
        weir.container.stop()?;
        Ok::<f64, Error>(time)
    };
    let (cold, warm) = (answers()?, answers()?);
    println!("until it answers: {cold:.2} s cold, with three guests to compile; {warm:.2} s warm");
    Ok(())
}

/// Runs the seed job with two workers, and prints when its first record came out and what memory it took.
pub(super) fn seed_job(engine: Engine) -> Result<(), Error> {
    broker::download()?;
    let folder = Builder::new().prefix("weir-image-").tempdir()?;
    let broker = Broker::start(&broker::Options {
        folder: folder.path().join("kafka"),
        port: None,
        remove_folder: true,
        authorizer: false,
    })?;
    let kafka = broker.bootstrap();
    for topic in ["realstock", "stocks"] {
        broker::create_topic(&kafka, topic, 4, &[])?;
    }
    #[rustfmt::skip]
    engine.run(&[], IMAGE, &[
        "produce", "realstock", "--bootstrap", &kafka, "--topic", "realstock",
        "--count", &RECORDS.to_string(), "--rate", "max", "--seed", "1",
    ])?;
    // The first group of a broker waits for the topic that holds offsets.
    let elsewhere = Volume::create(engine)?;
    Weir::start(engine, &elsewhere, &kafka, "before")?.wait("/metrics", any_out)?;

    let volume = Volume::create(engine)?;
    let weir = Weir::start(engine, &volume, &kafka, "cold")?;
    let cold = weir.wait("/metrics", any_out)?;
    weir.container.stop()?;
    let weir = Weir::start(engine, &volume, &kafka, "warm")?;
    let warm = weir.wait("/metrics", any_out)?;
    weir.wait("/metrics", |metrics| {
        let read = http::counter(metrics, "weir_records_in_total", &[]);
        read.is_some_and(|read| read >= f64::from(RECORDS))
    })?;
    let busy = weir.peak_megabytes()?;
    weir.container.stop()?;
    // In the same group nothing is left to read.
    let weir = Weir::start(engine, &volume, &kafka, "warm")?;
    weir.wait("/readyz", |_| true)?;
    let idle = weir.peak_megabytes()?;
    weir.container.stop()?;
    println!("until the first record is out: {cold:.2} s cold, {warm:.2} s warm");
    println!("most memory: {idle:.0} MB idle, {busy:.0} MB in the seed job with 2 workers");
    Ok(())
}

fn any_out(metrics: &str) -> bool {
    http::counter(metrics, "weir_records_out_total", &[]).is_some_and(|out| out > 0.0)
}

/// A container with the image's own config, but for its port, group and workers.
struct Weir {
    container: Container,
    admin: SocketAddr,
    start: Instant,
    _config: NamedTempFile,
}

impl Weir {
    fn start(engine: Engine, volume: &Volume, kafka: &str, group: &str) -> Result<Weir, Error> {
        let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let path = xtask::root().join("deploy/weir.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        let pipeline = format!("[pipelines.stocks]\ngroup = {group:?}\nworkers = 2\n");
        let text = text
            .replace("0.0.0.0:8080", &admin.to_string())
            .replace("[pipelines.stocks]\n", &pipeline);
        let config = readable_by_all(&text)?;
        let mounted = format!("{}:/etc/weir/weir.toml:ro", config.path().display());
        let data = format!("{}:/var/lib/weir", volume.name());
        let kafka = format!("WEIR_BOOTSTRAP={kafka}");
        let options = ["--volume", &mounted, "--volume", &data, "--env", &kafka];
        let start = Instant::now();
        let container = Container::start(engine, &options, IMAGE, &[])?;
        Ok(Weir {
            container,
            admin,
            start,
            _config: config,
        })
    }

    /// Asks an endpoint until its answer is well and has what is looked for; how many seconds that was after the start.
    fn wait(&self, path: &str, found: impl Fn(&str) -> bool) -> Result<f64, Error> {
        eventually(&format!("what {path} answers"), DEADLINE, || {
            if let Ok(answer) = http::get(self.admin, path)
                && answer.status == 200
                && found(&answer.body)
            {
                return Ok(Some(self.start.elapsed().as_secs_f64()));
            }
            ensure!(
                self.container.is_running()?,
                "the container ended; its log says:\n{}",
                self.container.log()?
            );
            Ok(None)
        })
    }

    /// Resident, with code and libraries.
    fn peak_megabytes(&self) -> Result<f64, Error> {
        Ok(peak_rss_bytes(self.container.pid()?)? as f64 / 1e6)
    }
}

/// A file that a container's user may read.
fn readable_by_all(text: &str) -> Result<NamedTempFile, Error> {
    let file = NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    fs::set_permissions(file.path(), Permissions::from_mode(0o644))?;
    Ok(file)
}
