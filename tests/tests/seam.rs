use std::time::{Duration, Instant};

use weir::io::{
    Delivery, Event, Outgoing, Progress, SendError, Sink, Source, TopicPartition, TransactionError,
    Undelivered,
};
use weir::kafka::{
    Admin, ConsumerOptions, KafkaSink, KafkaSource, ProducerOptions, Start, Waker, admin_settings,
    consumer_settings, producer_settings,
};
use weir::record::Headers;
use weir_tests::{MINUTE, Record, Topic, broker};

/// A member of a group with a producer, as a worker has them.
struct Member {
    waker: Waker,
    source: KafkaSource,
    sink: KafkaSink,
    assigned: Vec<TopicPartition>,
    deliveries: Vec<Delivery>,
}

impl Member {
    fn new(input: &Topic, output: &Topic, name: &str, user: &[(&str, &str)]) -> Member {
        let waker = Waker::new().unwrap();
        let mut all = vec![("bootstrap.servers", broker().bootstrap())];
        all.extend(user);
        let consumer = ConsumerOptions {
            user: &all,
            group: input.name(),
            instance_id: Some(name),
            buffer: 16 << 20,
        };
        let source = KafkaSource::new(
            &consumer_settings(&consumer).unwrap(),
            &[input.name().to_string()],
            Start::Earliest,
            &waker,
        );
        Member {
            source: source.unwrap(),
            sink: sink(output, Some(name), &waker),
            waker,
            assigned: Vec::new(),
            deliveries: Vec::new(),
        }
    }

    fn join(&mut self, partitions: usize) {
        let deadline = Instant::now() + MINUTE;
        while self.assigned.len() < partitions {
            assert!(Instant::now() < deadline, "{:?}", self.assigned);
            match self.source.event() {
                Some(Event::Assigned(more)) => {
                    self.source.assign(&more).unwrap();
                    self.assigned.extend(more);
                }
                Some(Event::Trouble(_)) => {}
                Some(other) => panic!("{other:?}"),
                None => {
                    self.waker.wait(Duration::from_secs(1)).unwrap();
                }
            }
        }
    }

    /// Calls until it's done, as a worker does: when it's woken.
    fn finish(
        &mut self,
        mut step: impl FnMut(&mut KafkaSink) -> Result<Progress, TransactionError>,
    ) -> Result<(), TransactionError> {
        let deadline = Instant::now() + MINUTE;
        while let Progress::Pending = step(&mut self.sink)? {
            assert!(Instant::now() < deadline, "it's pending for ever");
            self.deliveries()?;
            self.waker.wait(MINUTE).unwrap();
        }
        self.deliveries()
    }

    fn deliveries(&mut self) -> Result<(), TransactionError> {
        let deliveries = &mut self.deliveries;
        self.sink.deliveries(&mut |it| deliveries.push(it))
    }

    fn open(&mut self) {
        self.finish(|sink| sink.open(Duration::ZERO)).unwrap();
    }

    fn begin(&mut self, values: std::ops::Range<u64>) -> Result<(), TransactionError> {
        self.sink.begin()?;
        for value in values {
            send(&mut self.sink, value.to_string().as_bytes(), value).unwrap();
        }
        Ok(())
    }

    fn commit(&mut self, offset: u64) -> Result<(), TransactionError> {
        let offsets: Vec<_> = self
            .assigned
            .iter()
            .map(|it| (it.clone(), offset))
            .collect();
        let membership = self.source.membership().unwrap();
        self.finish(|sink| sink.commit(&offsets, &membership, Duration::ZERO))
    }
}

fn sink(output: &Topic, transactional_id: Option<&str>, waker: &Waker) -> KafkaSink {
    let user = [("bootstrap.servers", broker().bootstrap())];
    let settings = producer_settings(&ProducerOptions {
        user: &user,
        in_flight: 16 << 20,
        transactional_id,
        max_message_bytes: &[],
    });
    KafkaSink::new(&settings.unwrap(), &[output.name().to_string()], waker).unwrap()
}

fn send(sink: &mut KafkaSink, value: &[u8], tag: u64) -> Result<(), SendError> {
    sink.send(&Outgoing {
        output: 0,
        partition: None,
        key: None,
        value: Some(value),
        timestamp: -1,
        headers: &Headers::default(),
        header_range: (0, 0),
        appended: &[],
        tag,
    })
}

/// The numbers that a topic holds, sorted.
fn numbers(topic: &Topic) -> Vec<u64> {
    let values = topic.consume().into_iter();
    let mut numbers: Vec<u64> = values
        .map(|it| String::from_utf8(it.value.unwrap()).unwrap())
        .map(|it| it.parse().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Records and offsets of a transaction count together or not at all.
fn together(user: &[(&str, &str)]) {
    let (input, output) = (Topic::create(3), Topic::create(3));
    input.produce((0..30).map(|n: i32| Record::new(None, Some(b"value")).partition(n % 3)));
    let mut one = Member::new(&input, &output, &format!("{input}-0"), user);
    one.open();
    one.join(3);
    one.begin(0..100).unwrap();
    assert!(numbers(&output).is_empty());
    one.commit(4).unwrap();
    assert_eq!(numbers(&output), (0..100).collect::<Vec<_>>());
    assert_eq!(input.committed(input.name()), [Some(4); 3]);
    let partitions = one.assigned.clone();
    assert_eq!(one.source.committed(&partitions).unwrap(), [Some(4); 3]);
    assert_eq!(one.deliveries.len(), 100);
    assert!(one.deliveries.iter().all(|(_, result)| result.is_ok()));

    one.begin(100..200).unwrap();
    one.finish(|sink| sink.abort(Duration::ZERO)).unwrap();
    assert_eq!(one.deliveries.len(), 200);
    assert_eq!(numbers(&output), (0..100).collect::<Vec<_>>());
    one.begin(200..300).unwrap();
    one.commit(5).unwrap();
    let expected: Vec<u64> = (0..100).chain(200..300).collect();
    assert_eq!(numbers(&output), expected);
    assert_eq!(input.committed(input.name()), [Some(5); 3]);

    // Another comes in its place while a transaction is open: nothing of that counts any more.
    one.begin(300..400).unwrap();
    let waker = Waker::new().unwrap();
    let mut two = sink(&output, Some(&format!("{input}-0")), &waker);
    while let Progress::Pending = two.open(MINUTE).unwrap() {}
    match one.commit(6) {
        Err(TransactionError::Fenced(_)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(numbers(&output), expected);
    assert_eq!(one.source.committed(&partitions).unwrap(), [Some(5); 3]);
    // It comes back with a new client, whose turn it is then.
    drop(two);
    one.open();
    one.begin(400..401).unwrap();
    one.commit(7).unwrap();
    assert_eq!(numbers(&output).last(), Some(&400));
    assert_eq!(input.committed(input.name()), [Some(7); 3]);
}

#[test]
fn a_transaction_counts_with_its_offsets_or_not_at_all() {
    together(&[]);
}

#[test]
fn a_transaction_counts_under_the_new_group_protocol_too() {
    together(&[("group.protocol", "consumer")]);
}

/// A member that the group has put out can't commit any more, whoever fenced its producer or didn't.
#[test]
fn offsets_of_a_generation_that_is_over_are_refused() {
    let (input, output) = (Topic::create(2), Topic::create(1));
    let mut one = Member::new(&input, &output, &format!("{input}-0"), &[]);
    one.open();
    one.join(2);
    let old = one.source.membership().unwrap();
    let mut two = Member::new(&input, &output, &format!("{input}-1"), &[]);
    let deadline = Instant::now() + MINUTE;
    while two.assigned.is_empty() {
        assert!(Instant::now() < deadline);
        match one.source.event() {
            Some(Event::Revoked { partitions, .. }) => one.source.unassign(&partitions).unwrap(),
            Some(Event::Assigned(more)) => one.source.assign(&more).unwrap(),
            _ => {}
        }
        match two.source.event() {
            Some(Event::Assigned(more)) => {
                two.source.assign(&more).unwrap();
                two.assigned.extend(more);
            }
            _ => {
                one.waker.wait(Duration::from_millis(20)).unwrap();
            }
        }
    }
    one.begin(0..10).unwrap();
    let offsets = [(two.assigned[0].clone(), 1)];
    let refused = one.finish(|sink| sink.commit(&offsets, &old, Duration::ZERO));
    assert!(
        matches!(refused, Err(TransactionError::Abort(_))),
        "{refused:?}"
    );
    one.finish(|sink| sink.abort(Duration::ZERO)).unwrap();
    assert!(numbers(&output).is_empty());
    assert_eq!(input.committed(input.name()), [None, None]);
}

/// What the size of a record is taken for is what the broker measures, to the byte.
#[test]
fn a_topic_takes_a_record_of_its_bound_and_none_larger() {
    const BOUND: u64 = 10_000;
    let output = Topic::create_with(1, &[("max.message.bytes", &BOUND.to_string())]);
    let user = [("bootstrap.servers", broker().bootstrap())];
    let admin = Admin::new(&admin_settings(&user).unwrap(), MINUTE).unwrap();
    let bounds = admin
        .max_message_bytes(&[
            output.name().into(),
            "no.such.topic".into(),
            output.name().into(),
        ])
        .unwrap();
    assert_eq!(bounds, [Some(BOUND), None, Some(BOUND)]);

    let waker = Waker::new().unwrap();
    // 61 of the batch, and 3 + 1 + 1 + 1 + 1 + 3 + 1 of the record: two lengths of three bytes each.
    let largest = BOUND as usize - 61 - 11;
    let mut bounded = sink(&output, None, &waker).bounded(&bounds[..1]);
    match send(&mut bounded, &vec![b'x'; largest + 1], 1) {
        Err(SendError::Record(why)) => {
            let why = why.to_string();
            assert!(
                why.contains("takes 10001 bytes, and the topic takes 10000"),
                "{why}"
            );
        }
        other => panic!("{other:?}"),
    }
    send(&mut bounded, &vec![b'x'; largest], 2).unwrap();
    assert!(matches!(&settled(&mut bounded, &waker)[..], [(2, Ok(()))]));
    let mut unbounded = sink(&output, None, &waker);
    send(&mut unbounded, &vec![b'x'; largest + 1], 3).unwrap();
    assert!(matches!(
        &settled(&mut unbounded, &waker)[..],
        [(3, Err(Undelivered::Refused(_)))]
    ));
}

fn settled(sink: &mut KafkaSink, waker: &Waker) -> Vec<Delivery> {
    let deadline = Instant::now() + MINUTE;
    let mut all = Vec::new();
    while all.is_empty() {
        assert!(Instant::now() < deadline);
        sink.deliveries(&mut |it| all.push(it)).unwrap();
        waker.wait(Duration::from_millis(100)).unwrap();
    }
    all
}
