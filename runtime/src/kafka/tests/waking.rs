use super::*;

#[test]
fn a_wake_ends_the_next_wait_once() {
    let waker = Waker::new().unwrap();
    assert!(!waker.wait(Duration::ZERO).unwrap());
    let handle = waker.clone();
    handle.wake();
    handle.wake();
    assert!(waker.wait(PATIENCE).unwrap());
    assert!(!waker.wait(Duration::ZERO).unwrap());
    let other = std::thread::spawn(move || handle.wake());
    assert!(waker.wait(PATIENCE).unwrap());
    other.join().unwrap();
}

/// A record to and fro, each read only after a wake-up: had one been lost, the wait would time out.
#[test]
fn no_wake_up_is_lost() {
    let cluster = cluster(3);
    let waker = Waker::new().unwrap();
    let topics = ["in".to_string()];
    let mut source =
        KafkaSource::new(&consumer(&cluster, &[]), &topics, Start::Earliest, &waker).unwrap();
    let mut sink = KafkaSink::new(&producer(&cluster, &[]), &topics, &waker).unwrap();
    let headers = Headers::default();
    let mut assigned = Vec::new();
    let (mut sent, mut delivered, mut read) = (0u64, 0u64, 0u64);
    loop {
        while let Some(event) = source.event() {
            match event {
                Event::Assigned(partitions) => {
                    source.assign(&partitions).unwrap();
                    assigned.extend(partitions);
                }
                Event::Statistics(_) => {}
                Event::Trouble(error) => panic!("{error:#}"),
                other => panic!("{other:?}"),
            }
        }
        sink.deliveries(&mut |(_, result)| {
            result.unwrap();
            delivered += 1;
        })
        .unwrap();
        for partition in &assigned {
            while let Some(batch) = source.read(partition, EVERYTHING).unwrap() {
                read += batch.len() as u64;
            }
        }
        if read == 500 && delivered == 500 {
            return;
        }
        if !assigned.is_empty() && read == sent && delivered == sent {
            let partition = Some((sent % 3) as i32);
            sink.send(&outgoing(partition, b"value", &headers, sent))
                .unwrap();
            sent += 1;
        }
        assert!(
            waker.wait(PATIENCE).unwrap(),
            "sent {sent}, delivered {delivered}, read {read}"
        );
    }
}
