use super::*;

fn admin(cluster: &MockCluster) -> Admin {
    let settings = admin_settings(&[("bootstrap.servers", &cluster.bootstrap_servers())]).unwrap();
    Admin::new(&settings, Duration::from_secs(10)).unwrap()
}

#[test]
fn topics_are_described_one_by_one() {
    let cluster = cluster(3);
    cluster.create_topic("other", 1).unwrap();
    let admin = admin(&cluster);
    let names = ["other", "in"].map(String::from);
    let topics = admin.topics(&names).unwrap();
    let topics: Vec<&Topic> = topics.iter().map(|topic| topic.as_ref().unwrap()).collect();
    assert_eq!(
        (topics[0].name.as_str(), topics[0].partitions),
        ("other", 1)
    );
    assert_eq!((topics[1].name.as_str(), topics[1].partitions), ("in", 3));
    assert_ne!(topics[0].id, topics[1].id);
    assert_eq!(admin.matching("^o.*").unwrap(), ["other"]);
    assert!(!admin.cluster_id().unwrap().is_empty());
}

#[test]
fn a_cluster_that_does_not_answer_is_an_error() {
    let settings = admin_settings(&[("bootstrap.servers", "127.0.0.1:1")]).unwrap();
    let admin = Admin::new(&settings, Duration::from_millis(200)).unwrap();
    assert!(admin.topics(&["in".to_string()]).is_err());
    assert!(admin.matching("^in").is_err());
    assert!(admin.cluster_id().is_err());
    assert!(admin.group_state("weir-test").is_err());
}

#[test]
fn offsets_are_looked_up_and_changed() {
    let cluster = cluster(2);
    Writer::new(&producer(&cluster, &[])).numbers(2, 0..10);
    let settings = group_settings(
        &[("bootstrap.servers", &cluster.bootstrap_servers())],
        "weir-test",
    )
    .unwrap();
    let group = GroupOffsets::new(&settings, "weir-test", PATIENCE).unwrap();
    let partitions = [partition(0), partition(1)];
    assert_eq!(group.committed(&partitions).unwrap(), [None, None]);
    assert_eq!(group.offsets(&partitions, Start::Earliest).unwrap(), [0, 0]);
    assert_eq!(group.offsets(&partitions, Start::Latest).unwrap(), [5, 5]);
    group.alter(&[(partition(1), 3)]).unwrap();
    assert_eq!(group.committed(&partitions).unwrap(), [None, Some(3)]);
}
