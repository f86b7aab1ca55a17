//! What a pipeline asks of the clusters that it reads from and writes to, with clusters inside this process.

use std::path::Path;

use weir::cli::permitted;
use weir::cluster::Cluster;
use weir::config::{Config, Surroundings};
use weir::kafka::MockCluster;

#[test]
fn outputs_are_looked_for_on_the_producers_cluster() {
    let (from, to) = (
        MockCluster::start(1).unwrap(),
        MockCluster::start(1).unwrap(),
    );
    from.create_topic("in", 3).unwrap();
    to.create_topic("out", 5).unwrap();
    let text = format!(
        r#"
        [kafka]
        "bootstrap.servers" = "{}"

        [pipelines.copy]
        input = "in"
        output = "out"

        [pipelines.copy.producer]
        "bootstrap.servers" = "{}"
        "#,
        from.bootstrap_servers(),
        to.bootstrap_servers()
    );
    let surroundings = Surroundings {
        variable: &|_| None,
        setting: &permitted,
    };
    let config = Config::parse(Path::new("weir.toml"), &text, surroundings).unwrap();
    let cluster = Cluster::look(&config.pipelines[0]).unwrap();
    let partitions = |topics: &[weir::cluster::Topic]| -> Vec<(String, usize)> {
        topics
            .iter()
            .map(|it| (it.name.clone(), it.partitions))
            .collect()
    };
    assert_eq!(partitions(&cluster.inputs), [("in".to_string(), 3)]);
    assert_eq!(partitions(&cluster.outputs), [("out".to_string(), 5)]);
}
